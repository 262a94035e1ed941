//! HTTP/2 client connections: many exchanges at once, served by a task of the connection.

mod exchange;
mod tunnel;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::{ClientConfig, Outgoing};
use crate::h2::{CannotSend, Config, Role, StreamId};
use crate::streams::{Claim, Driver, Pace, Pump, Shared, State};
use crate::transport::Transport;
use crate::{Body, Error, RequestHead, Response, SendError};
use exchange::Exchange;
use tokio::time::Instant;

/// How long a new connection is spared a second stream while the server has not said how many it
/// takes. Servers say so first of all (RFC 9113, 3.4); one that does not is taken at its silence.
const SETTINGS_WAIT: Duration = Duration::from_secs(1);

/// A handle. The connection ends once there is none any more and its last stream has ended.
pub(crate) struct Connection {
    shared: Arc<Shared>,
    opened: Instant,
}

pub(super) fn connect(transport: Transport, config: &ClientConfig) -> Connection {
    let codec = Config {
        max_head_bytes: u32::try_from(config.max_head_bytes).unwrap_or(u32::MAX),
        max_fields: u32::try_from(config.max_head_fields).unwrap_or(u32::MAX),
        ..Config::default()
    };
    let shared = Shared::new(Role::Client, codec);
    {
        let mut state = shared.lock();
        state.handles = 1;
        state.local = config.local;
        state.max_streams = config.max_streams as usize;
        state.requests_left = match config.max_requests {
            0 => usize::MAX,
            most => most as usize,
        };
    }
    let pace = Pace {
        keepalive: config.keepalive,
        ..Pace::default()
    };
    let mut driver = Driver::new(transport, shared.clone(), Role::Client, pace);
    tokio::spawn(async move {
        // Servers send no requests; the codec sees to it.
        let mut none = |_, _| {};
        if let Err(error) = poll_fn(|cx| driver.poll(cx, &mut none)).await {
            tracing::debug!(%error, "HTTP/2 connection ended");
        }
    });
    Connection {
        shared,
        opened: Instant::now(),
    }
}

impl Clone for Connection {
    fn clone(&self) -> Self {
        self.shared.lock().handles += 1;
        Connection {
            shared: self.shared.clone(),
            opened: self.opened,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.handles -= 1;
        if state.handles == 0 {
            state.stir_always();
        }
    }
}

impl Connection {
    /// True where the peer allows one more stream. Each handle beside the pool's is a request that
    /// is about to be sent. Before the server has said how many streams it takes, there is one: more
    /// of them may be refused, and a request whose body is under way cannot be sent elsewhere.
    pub(super) fn is_ready(&self) -> bool {
        self.has_room(&self.shared.lock())
    }

    fn has_room(&self, state: &State) -> bool {
        if state.codec.settings_known() || self.opened.elapsed() >= SETTINGS_WAIT {
            return state.capacity() >= state.handles.max(1);
        }
        state.handles <= 1 && state.is_unused() && state.capacity() > 0
    }

    /// True where the peer allows one more stream; else the task is woken when one ends.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> bool {
        let mut state = self.shared.lock();
        let ready = self.has_room(&state);
        if !ready {
            state.await_change(cx);
        }
        ready
    }

    /// Waits until the server has said how many streams it takes, or has had its time to.
    pub(super) async fn settled(&self) {
        // Whether it spoke or not, `is_ready` knows.
        let _ = tokio::time::timeout_at(self.opened + SETTINGS_WAIT, self.settings()).await;
    }

    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        self.shared.lock().local
    }

    pub(super) fn is_closed(&self) -> bool {
        let state = self.shared.lock();
        state.codec.is_going() || state.requests_left == 0
    }

    fn takes_extended_connect(&self) -> bool {
        self.shared.lock().codec.peer_takes_extended_connect()
    }

    /// Waits until the server has said what it takes.
    async fn settings(&self) {
        poll_fn(|cx| {
            let mut state = self.shared.lock();
            if state.codec.settings_known() || state.codec.is_going() {
                return Poll::Ready(());
            }
            state.await_change(cx);
            Poll::Pending
        })
        .await;
    }
}

/// Sends a request and waits for the head of its response.
pub(super) async fn exchange(
    connection: Connection,
    outgoing: Outgoing<'_>,
    reused: bool,
) -> Result<Response, SendError> {
    let Outgoing {
        head,
        body,
        interim,
    } = outgoing;
    if head.upgrade_type().is_some() {
        // Rare and large.
        let tunnel = tunnel::exchange(connection, head, body, interim);
        return Box::pin(tunnel)
            .await
            .map_err(|failed| failed.error(reused));
    }
    // A body that is here can be given back where the request was provably not processed.
    let spare = body.duplicate();
    let sent = open(&connection.shared, head, body);
    // The stream itself keeps the connection from here on.
    drop(connection);
    let mut exchange = match sent {
        Ok((claim, pump)) => Exchange::new(claim, pump),
        Err(failed) => return Err(failed.error(reused)),
    };
    match poll_fn(|cx| exchange.poll_head(cx, interim)).await {
        Ok(response_head) => Ok(exchange.response(&head.method, response_head)),
        Err(error) => Err(Failed {
            unsent: spare.filter(|_| error.is_safe_to_retry()),
            error,
        }
        .error(reused)),
    }
}

/// A request that got no response.
struct Failed {
    error: Error,
    unsent: Option<Body>,
}

impl Failed {
    fn error(self, reused: bool) -> SendError {
        SendError {
            error: self.error,
            unsent: self.unsent,
            reused,
        }
    }
}

/// Opens a stream with a request, and sends the body where it is here as a whole.
fn open(
    shared: &Arc<Shared>,
    head: &RequestHead,
    body: Body,
) -> Result<(Claim, Option<Pump>), Failed> {
    let whole = body.into_whole();
    let state = &mut *shared.lock();
    let end = matches!(&whole, Ok((data, None)) if data.is_empty());
    let id = match state.codec.send_request(head, end) {
        Ok(id) => id,
        Err(error) => {
            let body = match whole {
                Ok((data, trailers)) => Body::whole(data, trailers),
                Err(body) => body,
            };
            return Err(unsent(state, error, body));
        }
    };
    state.enter(id);
    let body = send_body(state, id, whole, end);
    state.stir();
    let claim = Claim::first(shared, id);
    let pump = body.map(|body| {
        state.stream(id).add_claim();
        Pump::new(Claim::first(shared, id), body)
    });
    Ok((claim, pump))
}

/// Sends a body that is whole; another one is given back.
fn send_body(
    state: &mut State,
    id: StreamId,
    whole: Result<(bytes::Bytes, Option<crate::Headers>), Body>,
    ended: bool,
) -> Option<Body> {
    match whole {
        Ok((data, trailers)) => {
            if !ended {
                let sent = state.send_whole(id, data, trailers);
                sent.expect("a stream that was just opened takes its body");
            }
            state.finish_sending(id);
            None
        }
        Err(body) => Some(body),
    }
}

/// Not one byte of the request was written.
fn unsent(state: &State, error: CannotSend, body: Body) -> Failed {
    let error = match error {
        CannotSend::Full => Error::Refused(error.to_string()),
        CannotSend::GoingAway if state.is_lost() => state.connection_failure().into_error(),
        CannotSend::GoingAway => Error::Refused(error.to_string()),
        CannotSend::Unsendable(_) | CannotSend::Order(_) | CannotSend::Ended => {
            Error::Unsendable(error.to_string())
        }
    };
    Failed {
        error,
        unsent: Some(body),
    }
}
