//! The way of a response to its client, and what it leaves of the connection.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;

use super::{Exchange, Next, STALL, Shared};
use crate::h1::{self, Framing};
use crate::head::list_has;
use crate::timer::{Timer, after};
use crate::transport::Transport;
use crate::turn;
use crate::upgrade::Upgraded;
use crate::writer::MessageWriter;
use crate::{Body, Error, Frame, Known, Method, Response, ResponseHead, Value, Version};

/// Bytes of an unread request body that are read away so that the connection can go on.
const DRAIN_BYTES: usize = 256 * 1024;
/// Time for that, and for a client to read the last response before the socket is closed.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// Sends a response.
pub(super) async fn respond(
    shared: &Arc<Shared>,
    mut exchange: Exchange,
    response: Response,
) -> Result<Next, Error> {
    let Response {
        mut head, mut body, ..
    } = response;
    if let Some(upgrade) = exchange.upgrade.take()
        && is_switch(&exchange, &head)
    {
        let mut nothing = Body::empty();
        send(shared, &exchange, &head, Framing::None, &mut nothing).await?;
        let flushed = poll_fn(|cx| shared.lock().transport.poll_flush(cx)).await;
        flushed.map_err(|error| Error::io(&error))?;
        return Ok(hand_over(shared, upgrade));
    }
    let framing = framing(&exchange, &head, &body);
    let keep_alive = settle_connection(shared, &exchange, &mut head, framing);
    if let Err(error) = send(shared, &exchange, &head, framing, &mut body).await {
        return match error {
            // Nothing is out yet, so that the client can be told.
            Error::Body(text) if !shared.lock().responded => {
                bad_gateway(shared, &exchange, &text, body).await
            }
            error => Err(error),
        };
    }
    if !keep_alive {
        return Ok(Next::Close);
    }
    if exchange.body_left {
        return drain_request(shared).await;
    }
    Ok(Next::Request)
}

/// Stands in for a response whose body was faulty from its beginning, and tells it so.
async fn bad_gateway(
    shared: &Arc<Shared>,
    exchange: &Exchange,
    fault: &str,
    mut faulty: Body,
) -> Result<Next, Error> {
    let Response {
        mut head, mut body, ..
    } = Response::text(502, fault);
    let close = Value::from_static("close");
    head.headers.set_value(Known::CONNECTION, &close);
    faulty.replaced(&head, body.remaining().unwrap_or(0));
    drop(faulty);
    let framing = framing(exchange, &head, &body);
    send(shared, exchange, &head, framing, &mut body).await?;
    Ok(Next::Close)
}

fn is_switch(exchange: &Exchange, head: &ResponseHead) -> bool {
    match exchange.method {
        Method::CONNECT => (200..300).contains(&head.status),
        _ => head.status == 101,
    }
}

/// Gives the stream to whoever waits for it.
fn hand_over(shared: &Shared, upgrade: tokio::sync::oneshot::Sender<Upgraded>) -> Next {
    let mut state = shared.lock();
    let empty = Transport::new(Box::new(tokio::io::empty()), BytesMut::new());
    let (io, read) = std::mem::replace(&mut state.transport, empty).into_parts();
    // Nobody may wait any more; then the stream ends here.
    let _ = upgrade.send(Upgraded::new(io, read));
    Next::Gone
}

fn framing(exchange: &Exchange, head: &ResponseHead, body: &Body) -> Framing {
    if exchange.method == Method::HEAD || matches!(head.status, 100..200 | 204 | 304) {
        return Framing::None;
    }
    match body.framed_length(&head.headers) {
        Some(0) if body.is_whole() => Framing::None,
        Some(length) => Framing::Length(length),
        None if exchange.version == Version::Http10 => Framing::UntilClose,
        None => Framing::Chunked,
    }
}

/// Decides whether the connection goes on, and says so in the head.
fn settle_connection(
    shared: &Shared,
    exchange: &Exchange,
    head: &mut ResponseHead,
    framing: Framing,
) -> bool {
    let close = list_has(&head.headers, Known::CONNECTION, b"close");
    // A client that was never told to go on may or may not send its body now.
    let unsure = exchange.body_left && shared.lock().continue_due;
    let keep = exchange.keep_alive && !close && !unsure && framing != Framing::UntilClose;
    if !keep && !close {
        let value = Value::from_static("close");
        head.headers.set_value(Known::CONNECTION, &value);
    } else if keep && exchange.version == Version::Http10 {
        let value = Value::from_static("keep-alive");
        head.headers.set_value(Known::CONNECTION, &value);
    }
    keep
}

/// Sends head and body. The first piece of the body leaves together with the head where it is there
/// already; each other one when the one before has left.
async fn send(
    shared: &Arc<Shared>,
    exchange: &Exchange,
    head: &ResponseHead,
    framing: Framing,
    body: &mut Body,
) -> Result<(), Error> {
    let mut writer = MessageWriter::new(framing);
    let mut unsent = Some(head);
    let (mut timer, mut stalled) = (Timer::default(), None);
    poll_fn(|cx| {
        loop {
            let Poll::Ready(room) = poll_room(shared, cx) else {
                let deadline = *stalled.get_or_insert_with(|| after(STALL));
                ready!(timer.poll_until(cx, deadline));
                return Poll::Ready(Err(Error::Timeout("the client does not read")));
            };
            room?;
            stalled = None;
            if writer.is_ended() {
                return Poll::Ready(Ok(()));
            }
            let frame = match framing {
                Framing::None => Poll::Ready(None),
                _ => body.poll_next(cx),
            };
            let last = body.is_end();
            let state = &mut *shared.lock();
            let transport = &mut state.transport;
            let mut write = |out: &mut Vec<u8>| {
                if let Some(head) = unsent.take() {
                    h1::encode_response(head, framing, &exchange.method, exchange.version, out);
                }
            };
            match frame {
                Poll::Ready(frame) => {
                    // Where the body fails the head stays back too, or the connection breaks off:
                    // the client must not take the response for complete.
                    let frame = frame.transpose();
                    let frame = frame.map_err(|error| Error::Body(error.to_string()))?;
                    state.responded = true;
                    writer.send(transport, cx, write, frame, last)?;
                    if transport.is_late() {
                        turn::wait(shared.clone());
                    }
                    if writer.is_ended() && transport.is_flushed() {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Pending => {
                    state.responded = true;
                    writer.send_head(transport, cx, &mut write)?;
                    if !transport.is_flushed() {
                        // The body may wake us much later than the socket.
                        let flushed = transport.poll_flush(cx);
                        if let Poll::Ready(Err(error)) = flushed {
                            return Poll::Ready(Err(Error::io(&error)));
                        }
                    }
                    return state.poll_gone(cx).map(Err);
                }
            }
        }
    })
    .await
}

/// Waits until the socket has taken what was sent.
fn poll_room(shared: &Shared, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
    shared.lock().poll_interim(cx)
}

/// Reads away what is left of a request's body, within bounds.
async fn drain_request(shared: &Shared) -> Result<Next, Error> {
    if shared.lock().body.is_done() {
        return Ok(Next::Request);
    }
    let mut left = DRAIN_BYTES;
    let draining = poll_fn(|cx| {
        loop {
            match ready!(shared.lock().poll_body(cx)) {
                Some(Ok(Frame::Data(data))) => match left.checked_sub(data.len()) {
                    Some(rest) => left = rest,
                    None => return Poll::Ready(Next::Close),
                },
                Some(Ok(Frame::Trailers(_))) | None => return Poll::Ready(Next::Request),
                Some(Err(_)) => return Poll::Ready(Next::Close),
            }
        }
    });
    Ok(tokio::time::timeout(DRAIN_TIME, draining)
        .await
        .unwrap_or(Next::Close))
}

/// Ends our direction and lets the client read: see `Connection::close`.
pub(super) async fn close(shared: &Shared) -> Result<(), Error> {
    let ending = async {
        poll_fn(|cx| shared.lock().transport.poll_shutdown(cx)).await?;
        let mut left = DRAIN_BYTES;
        poll_fn(|cx| {
            loop {
                let mut state = shared.lock();
                state.transport.read.clear();
                let read = ready!(state.transport.poll_read(cx))?;
                match left.checked_sub(read) {
                    Some(rest) if read > 0 => left = rest,
                    _ => return Poll::Ready(Ok::<(), std::io::Error>(())),
                }
            }
        })
        .await
    };
    match tokio::time::timeout(DRAIN_TIME, ending).await {
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotConnected => Ok(()),
        Ok(result) => result.map_err(|error: std::io::Error| Error::io(&error)),
        Err(_) => Ok(()),
    }
}
