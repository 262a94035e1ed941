//! HTTP/2 server connections: a task for each request beside the connection's own.

mod respond;

use std::future::{Future, poll_fn};
use std::pin::pin;

use super::{Handler, ServerConfig};
use crate::h2::{Config, Role};
use crate::message::{InterimSink, content_length};
use crate::streams::{Claim, Driver, Pace, Shared, StreamBody};
use crate::transport::Transport;
use crate::{Body, Error, Interim, Method, Request, RequestHead, ResponseHead, Upgrade};
use respond::Answer;

/// Serves a connection.
pub(super) async fn serve<H: Handler>(
    transport: Transport,
    config: ServerConfig,
    handler: H,
    drain: impl Future<Output = ()>,
) -> Result<(), Error> {
    let codec = Config {
        max_concurrent_streams: config.max_concurrent_streams,
        max_head_bytes: u32::try_from(config.max_head_bytes).unwrap_or(u32::MAX),
        max_fields: u32::try_from(config.max_head_fields).unwrap_or(u32::MAX),
        ..Config::default()
    };
    let pace = Pace {
        idle: config.idle_timeout,
        head: config.head_timeout,
        keepalive: None,
    };
    let shared = Shared::new(Role::Server, codec);
    let mut driver = Driver::new(transport, shared.clone(), Role::Server, pace);
    let mut drain = pin!(drain);
    let mut drained = false;
    let mut arrived = |claim: Claim, head| start(claim, head, &handler);
    poll_fn(|cx| {
        if !drained && drain.as_mut().poll(cx).is_ready() {
            drained = true;
            shared.lock().codec.graceful();
        }
        driver.poll(cx, &mut arrived)
    })
    .await
}

/// Gives a request to the handler, in a task that ends where the client gives up.
fn start<H: Handler>(claim: Claim, head: RequestHead, handler: &H) {
    let Some(body) = body(&claim, &head) else {
        return;
    };
    let (upgrade_tx, upgrade) = match head.method {
        Method::CONNECT => {
            let (tx, upgrade) = Upgrade::pair();
            (Some(tx), Some(upgrade))
        }
        _ => (None, None),
    };
    let answer = Answer::new(claim.clone(), head.method.clone(), upgrade_tx);
    let request = Request {
        head,
        body,
        upgrade,
        interim: Some(Interim::new(claim.shared.clone(), claim.id.get())),
    };
    let handler = handler.clone();
    // Boxed, since the runtime would move the room that a request takes about with the task.
    let room = Box::new_uninit();
    let exchange = Box::write(room, async move {
        // On every way out, the end of this task included, the answer ends its stream.
        let answer = answer;
        if let Ok(response) = handler.handle(request).await {
            answer.send(response).await;
        }
    });
    let task = tokio::spawn(Box::into_pin(exchange));
    claim.lock().stream(claim.id).task = Some(task.abort_handle());
}

/// The request's body: as a whole where it came with its head. None where the client has given up
/// already.
fn body(claim: &Claim, head: &RequestHead) -> Option<Body> {
    let state = &mut *claim.lock();
    let stream = state.stream(claim.id);
    if stream.failure.is_some() {
        return None;
    }
    if head.method == Method::CONNECT {
        // What comes belongs to whoever takes the stream over.
        return Some(Body::empty());
    }
    if let Some((data, trailers)) = stream.inbox.take_whole() {
        state.release(claim.id, data.len());
        return Some(Body::whole(data, trailers));
    }
    // The new claim, without the lock that we hold.
    stream.add_claim();
    let claim = Claim::first(&claim.shared, claim.id);
    let expected = content_length(&head.headers);
    let body = StreamBody::new(claim, Role::Server, expected);
    Some(Body::from_source(
        body.with_continue(head.expects_continue()),
    ))
}

impl InterimSink for Shared {
    fn send(&self, stream: u32, head: &ResponseHead) {
        let mut state = self.lock();
        // After the response's head, or where the stream is gone, there is nobody to tell.
        let sent = state.codec.send_informational(stream.into(), head);
        if sent.is_ok() {
            state.stir();
        }
    }
}
