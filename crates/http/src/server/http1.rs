//! HTTP/1 server connections: one exchange after the other.
//!
//! The handler runs in the connection's own task. While it does, the task watches the socket, so
//! that a client that goes away ends the exchange, as Envoy does it: the end of the client's
//! direction counts as its leaving.

mod body;
mod respond;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Handler, ServerConfig};
use crate::h1::{self, BodyDecoder, Framing, HeadParser, Limits, ParseError, ParsedRequest};
use crate::message::InterimSink;
use crate::timer::{Timer, after};
use crate::transport::Transport;
use crate::turn::Late;
use crate::upgrade::Upgraded;
use crate::{
    Body, Error, Interim, Known, Method, Request, Response, ResponseHead, Upgrade, Value, Version,
};
use body::RequestBody;

/// Bytes of requests behind the one under way that are read before the client has to wait.
const PIPELINED: usize = 32 * 1024;

/// How long one piece of a response may wait for a client that does not read. Five minutes, as in
/// HTTP/2; Envoy's default for a stream without progress.
const STALL: Duration = Duration::from_secs(300);

/// What the connection's task shares with the body of the request under way.
pub(super) struct Shared(Mutex<State>);

pub(super) struct State {
    transport: Transport,
    /// The body of the request under way.
    body: BodyDecoder,
    /// The client waits for a word before it sends the body.
    continue_due: bool,
    /// The head of the final response is out, so that nothing may stand before it any more.
    responded: bool,
    /// Informational responses may be sent at all.
    takes_interim: bool,
    /// Interim heads that another task has queued.
    interim: Vec<u8>,
    /// Wakes the connection's task.
    waker: Option<Waker>,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InterimSink for Shared {
    fn send(&self, _stream: u32, head: &ResponseHead) {
        let mut state = self.lock();
        if state.takes_interim && !state.responded && head.is_informational() {
            h1::encode_informational(head, &mut state.interim);
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        }
    }
}

impl Late for Shared {
    fn flush_late(&self) {
        self.lock().transport.flush_late();
    }
}

impl State {
    /// Sends what stands before the response, and what is left of the one before.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let failed = |error| Error::io(&error);
        if !self.interim.is_empty() {
            let heads = std::mem::take(&mut self.interim);
            let write = |out: &mut Vec<u8>| out.extend_from_slice(&heads);
            self.transport
                .send(cx, write, bytes::Bytes::new(), b"", false)
                .map_err(failed)?;
        }
        if self.transport.is_flushed() {
            return Poll::Ready(Ok(()));
        }
        self.transport.poll_flush(cx).map_err(failed)
    }

    /// Ready where the client is gone.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        // Whoever reads the body will meet the end.
        if !self.body.is_done() {
            return Poll::Pending;
        }
        while self.transport.read.len() < PIPELINED {
            match self.transport.poll_read(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Error::Closed("the client went away".to_owned()));
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Error::io(&error)),
            }
        }
        self.transport.settle();
        Poll::Pending
    }
}

/// A request under way, as far as its response depends on it.
pub(super) struct Exchange {
    method: Method,
    version: Version,
    keep_alive: bool,
    /// Some of the request's body was still to come when the request was handed over.
    body_left: bool,
    /// Takes the stream after a response that switches protocols.
    upgrade: Option<oneshot::Sender<Upgraded>>,
}

/// What becomes of the connection after an exchange.
pub(super) enum Next {
    Request,
    Close,
    /// The stream belongs to somebody else now.
    Gone,
}

struct Connection<H> {
    shared: Arc<Shared>,
    config: ServerConfig,
    limits: Limits,
    handler: H,
    parser: HeadParser,
    timer: Timer,
}

/// Serves a connection. What the future is made of is what an idle connection costs, and it is made
/// here, as arguments of an `async fn` would take their room in it beside what became of them.
pub(super) fn serve<H: Handler>(
    transport: Transport,
    config: ServerConfig,
    handler: H,
    drain: impl Future<Output = ()>,
) -> impl Future<Output = Result<(), Error>> {
    let state = State {
        transport,
        body: BodyDecoder::new(Framing::None),
        continue_due: false,
        responded: true,
        takes_interim: false,
        interim: Vec::new(),
        waker: None,
    };
    let mut connection = Connection {
        shared: Arc::new(Shared(Mutex::new(state))),
        limits: Limits {
            max_bytes: config.max_head_bytes,
            max_fields: config.max_head_fields,
        },
        config,
        handler,
        parser: HeadParser::default(),
        timer: Timer::default(),
    };
    async move {
        let mut drain = pin!(drain);
        let refused = loop {
            let parsed = match connection.head(drain.as_mut()).await {
                Ok(Some(parsed)) => parsed,
                Ok(None) => break None,
                Err(HeadError::Closed(error)) => return Err(error),
                Err(HeadError::Refused(status, error)) => break Some((status, error)),
            };
            // Boxed: the room that a request takes would be part of every idle connection. It is
            // made before what is put into it, or some kilobytes would be copied.
            let room = Box::new_uninit();
            let exchange = Box::write(room, connection.exchange(parsed));
            match Box::into_pin(exchange).await? {
                Next::Request => {}
                Next::Close => break None,
                Next::Gone => return Ok(()),
            }
        };
        Box::pin(connection.end(refused)).await
    }
}

enum HeadError {
    /// There is nobody to answer.
    Closed(Error),
    /// The client is told with this status.
    Refused(u16, Error),
}

impl<H: Handler> Connection<H> {
    /// The next request's head; none where the connection ends between requests.
    async fn head(
        &mut self,
        mut drain: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Option<ParsedRequest>, HeadError> {
        let idle = after(self.config.idle_timeout);
        let mut started: Option<Instant> = None;
        let mut stalled: Option<Instant> = None;
        poll_fn(|cx| {
            let state = &mut *self.shared.lock();
            loop {
                let transport = &mut state.transport;
                if !transport.is_flushed() {
                    // The socket did not take all of the last response at the end of its turn.
                    match transport.poll_flush(cx) {
                        Poll::Ready(Ok(())) => stalled = None,
                        Poll::Ready(Err(error)) => {
                            return Poll::Ready(Err(HeadError::Closed(Error::io(&error))));
                        }
                        Poll::Pending => {
                            let deadline = *stalled.get_or_insert_with(|| after(STALL));
                            ready!(self.timer.poll_until(cx, deadline));
                            let error = Error::Timeout("the client does not read");
                            return Poll::Ready(Err(HeadError::Closed(error)));
                        }
                    }
                }
                let head = self.parser.request(&mut transport.read, &self.limits);
                match head {
                    Ok(Some(parsed)) => return Poll::Ready(Ok(Some(parsed))),
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Err(refused(error))),
                }
                match transport.poll_read(cx) {
                    Poll::Ready(Ok(0)) if transport.read.is_empty() => {
                        return Poll::Ready(Ok(None));
                    }
                    Poll::Ready(Ok(0)) => {
                        return Poll::Ready(Err(refused(ParseError::Truncated)));
                    }
                    Poll::Ready(Ok(_)) => continue,
                    Poll::Ready(Err(error)) => {
                        return Poll::Ready(Err(HeadError::Closed(Error::io(&error))));
                    }
                    Poll::Pending => {}
                }
                transport.settle();
                let between = transport.read.is_empty();
                if between && drain.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Ok(None));
                }
                let deadline = if between {
                    idle
                } else {
                    *started.get_or_insert_with(|| after(self.config.head_timeout))
                };
                return match self.timer.poll_until(cx, deadline) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(()) if between => Poll::Ready(Ok(None)),
                    Poll::Ready(()) => {
                        let error = Error::Timeout("the head did not come in time");
                        Poll::Ready(Err(HeadError::Refused(408, error)))
                    }
                };
            }
        })
        .await
    }

    /// One request and its response.
    async fn exchange(&mut self, parsed: ParsedRequest) -> Result<Next, Error> {
        let (request, exchange) = self.begin(parsed);
        match self.answer(request).await? {
            Ok(response) => respond::respond(&self.shared, exchange, response).await,
            Err(super::Abort) => Ok(Next::Gone),
        }
    }

    /// What the handler answers, unless the client goes away before.
    async fn answer(&self, request: Request) -> Result<Result<Response, super::Abort>, Error> {
        let mut answer = pin!(self.handler.handle(request));
        poll_fn(|cx| {
            if let Poll::Ready(response) = answer.as_mut().poll(cx) {
                return Poll::Ready(Ok(response));
            }
            let state = &mut *self.shared.lock();
            if state.takes_interim
                && !state
                    .waker
                    .as_ref()
                    .is_some_and(|w| w.will_wake(cx.waker()))
            {
                state.waker = Some(cx.waker().clone());
            }
            if let Poll::Ready(Err(error)) = state.poll_interim(cx) {
                return Poll::Ready(Err(error));
            }
            state.poll_gone(cx).map(Err)
        })
        .await
    }

    fn begin(&self, parsed: ParsedRequest) -> (Request, Exchange) {
        let ParsedRequest {
            head,
            framing,
            keep_alive,
            expect_continue,
        } = parsed;
        let mut state = self.shared.lock();
        state.body = BodyDecoder::new(framing);
        state.continue_due = expect_continue && framing != Framing::None;
        state.responded = false;
        state.takes_interim = head.version == Version::Http11;
        let body = self.body(&mut state);
        let body_left = !state.body.is_done();
        drop(state);
        let (upgrade_tx, upgrade) = if head.upgrade_type().is_some() {
            let (tx, upgrade) = Upgrade::pair();
            (Some(tx), Some(upgrade))
        } else {
            (None, None)
        };
        let exchange = Exchange {
            method: head.method.clone(),
            version: head.version,
            keep_alive,
            body_left,
            upgrade: upgrade_tx,
        };
        let request = Request {
            head,
            body,
            upgrade,
            interim: Some(Interim::new(self.shared.clone(), 0)),
        };
        (request, exchange)
    }

    /// The request's body: as a whole where it came with its head.
    fn body(&self, state: &mut State) -> Body {
        if state.body.is_done() {
            return Body::empty();
        }
        let length = state.body.remaining();
        if let Some(length) = length
            && length <= state.transport.read.len() as u64
            && let Ok(h1::Decoded::Data(data)) = state.body.decode(&mut state.transport.read)
        {
            state.continue_due = false;
            return Body::from(data);
        }
        Body::from_source(RequestBody::new(self.shared.clone()))
    }

    /// Ends the connection. The client is told first where its request is refused.
    async fn end(&self, refused: Option<(u16, Error)>) -> Result<(), Error> {
        let Some((status, error)) = refused else {
            return self.close().await;
        };
        let mut response = Response::text(status, error.to_string());
        let close = Value::from_static("close");
        response.head.headers.set_value(Known::CONNECTION, &close);
        let exchange = Exchange {
            method: Method::GET,
            version: Version::Http11,
            keep_alive: false,
            body_left: false,
            upgrade: None,
        };
        respond::respond(&self.shared, exchange, response).await?;
        self.close().await?;
        Err(error)
    }

    /// Ends our direction, then lets the client read what is on its way: a socket that is closed
    /// with unread bytes resets the connection, and the reset overtakes the response.
    async fn close(&self) -> Result<(), Error> {
        respond::close(&self.shared).await
    }
}

fn refused(error: ParseError) -> HeadError {
    HeadError::Refused(error.status(), Error::parse(error))
}
