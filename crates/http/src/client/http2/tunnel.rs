//! Requests that leave HTTP: CONNECT, and the upgrades of HTTP/1 as extended CONNECT (RFC 8441).

use std::borrow::Cow;
use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;

use super::exchange::Exchange;
use super::{Connection, Failed, unsent};
use crate::streams::{Claim, Shared, Tunnel};
use crate::upgrade::Upgraded;
use crate::{Body, Error, Interim, Known, Method, RequestHead, Response, ResponseHead, Upgrade};
use crate::{InvalidHeader, websocket};

/// Sends such a request and waits for the head of its response. It has no body: what follows the
/// head is of the other protocol.
pub(super) async fn exchange(
    connection: Connection,
    head: &RequestHead,
    body: Body,
    interim: Option<&Interim>,
) -> Result<Response, Failed> {
    let refused = |text: String, body| Failed {
        error: Error::Unsendable(text),
        unsent: Some(body),
    };
    let asked = match translate(head) {
        Ok(asked) => asked,
        Err(error) => return Err(refused(error.to_string(), body)),
    };
    if asked.protocol().is_some() {
        connection.settings().await;
        if !connection.takes_extended_connect() {
            let text = "the server takes no extended CONNECT, which an upgrade needs in HTTP/2";
            return Err(refused(text.to_owned(), body));
        }
    }
    let mut exchange = open(&connection.shared, &asked, body)?;
    drop(connection);
    match poll_fn(|cx| exchange.poll_head(cx, interim)).await {
        Ok(answer) if (200..300).contains(&answer.status) => Ok(switch(exchange, head, answer)),
        Ok(answer) => Ok(refusal(exchange, answer)),
        Err(error) => Err(Failed {
            error,
            unsent: None,
        }),
    }
}

/// An upgrade of HTTP/1 as the extended CONNECT that stands for it; others are that already.
fn translate(head: &RequestHead) -> Result<Cow<'_, RequestHead>, InvalidHeader> {
    if head.method == Method::CONNECT {
        return Ok(Cow::Borrowed(head));
    }
    let protocol = head.upgrade_type().unwrap_or_default().to_owned();
    let mut head = head.clone();
    head.method = Method::CONNECT;
    head.set_protocol(Some(&protocol))?;
    // The key has no counterpart; the other fields of HTTP/1 alone are left out by the codec.
    head.headers.remove(Known::SEC_WEBSOCKET_KEY);
    head.headers.remove(Known::CONTENT_LENGTH);
    Ok(Cow::Owned(head))
}

fn open(shared: &Arc<Shared>, head: &RequestHead, body: Body) -> Result<Exchange, Failed> {
    let state = &mut *shared.lock();
    let id = match state.codec.send_request(head, false) {
        Ok(id) => id,
        Err(error) => return Err(unsent(state, error, body)),
    };
    state.enter(id);
    state.stir();
    Ok(Exchange::new(Claim::first(shared, id), None))
}

/// The stream leaves HTTP. Whoever asked by HTTP/1 gets the answer that he understands.
fn switch(exchange: Exchange, asked: &RequestHead, mut head: ResponseHead) -> Response {
    if asked.method != Method::CONNECT {
        head.status = 101;
        let protocol = asked.upgrade_type().unwrap_or_default();
        websocket::to_switch(protocol, &asked.headers, &mut head.headers);
    }
    let tunnel = Tunnel::new(exchange.into_claim());
    let stream = Upgraded::new(Box::new(tunnel), Default::default());
    Response {
        head,
        body: Body::empty(),
        upgrade: Some(Upgrade::ready(stream)),
    }
}

/// An ordinary response, after which our side of the stream has no purpose.
fn refusal(exchange: Exchange, head: ResponseHead) -> Response {
    exchange.with_stream(|state, id| {
        // Where the stream is gone it needs no end.
        let _ = state.codec.send_data(id, Bytes::new(), true);
        state.finish_sending(id);
    });
    exchange.response(&Method::CONNECT, head)
}
