//! HTTP/2 over tokio, what both roles share.
//!
//! A connection has one task, the [`Driver`], which alone reads and writes the socket. Codec and
//! stream table lie behind one lock. Whoever has something to send locks, lets the codec encode it,
//! and wakes the driver where nobody has done so yet: it runs behind the tasks that are queued
//! already, so that what all streams said in one turn of the loop leaves in one write.
//!
//! Invariants: the lock is not held across an await nor while anything but the codec and the socket
//! is called; a stream stays in the table as long as a [`Claim`] on it exists.

mod body;
mod dispatch;
mod driver;
mod inbox;
mod pace;
mod pump;
mod tunnel;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use bytes::Bytes;
use tokio::task::AbortHandle;

use crate::h2::{CannotSend, Code, Config, Connection, Role, StreamId};
use crate::message::sanitize_trailers;
use crate::{BodyError, BodyFault, Error, Headers, RequestHead, ResponseHead};

pub(crate) use body::StreamBody;
pub(crate) use driver::Driver;
pub(crate) use inbox::Inbox;
pub(crate) use pace::Pace;
pub(crate) use pump::{Pump, Stop};
pub(crate) use tunnel::Tunnel;

/// What the driver and the streams of one connection share.
pub(crate) struct Shared(Mutex<State>);

/// Behind the lock.
pub(crate) struct State {
    pub codec: Connection,
    table: HashMap<u32, Stream, BuildHasherDefault<IdHasher>>,
    /// Wakes the driver.
    driver: Option<Waker>,
    /// The driver is awake, or will be.
    stirred: bool,
    /// Requests that came and were not given to the handler yet.
    arrived: Vec<(StreamId, RequestHead)>,
    /// Handles by which further streams may be opened (client).
    pub handles: usize,
    /// The address that the socket comes from, where somebody may want to log it (client).
    pub local: Option<SocketAddr>,
    /// Streams at once, where the peer would take more (client).
    pub max_streams: usize,
    /// Streams that may still be opened (client).
    pub requests_left: usize,
    /// The peer has answered our PING.
    answered: bool,
    /// Who waits for the peer's settings, or for the end of a stream.
    awaiting_change: Vec<Waker>,
    /// Why the socket is not there any more.
    lost: Option<String>,
}

/// What the driver keeps of a stream beside what the codec does.
#[derive(Default)]
pub(crate) struct Stream {
    pub inbox: Inbox,
    /// The head of the response, until somebody takes it (client).
    pub head: Option<ResponseHead>,
    /// Heads before it.
    pub interim: Vec<ResponseHead>,
    /// The codec has let go of the stream before its end.
    pub failure: Option<Failure>,
    /// Waits for the head or the next piece of the body.
    pub reader: Option<Waker>,
    /// Waits for room to send, or for the end of it.
    pub writer: Option<Waker>,
    /// What answers the request (server).
    pub task: Option<AbortHandle>,
    /// Nobody will read the body.
    pub unread: bool,
    /// Our message is complete.
    pub sent: bool,
    n_claims: usize,
}

impl Stream {
    /// For one more [`Claim::first`], by somebody who holds the lock.
    pub(crate) fn add_claim(&mut self) {
        self.n_claims += 1;
    }
}

/// Why a stream ended before its end.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// Not processed by the peer.
    Refused(&'static str),
    /// Reset by the peer.
    Reset(Code),
    /// The peer broke the protocol.
    Protocol(String),
    /// The connection is gone.
    Closed(String),
    /// The peer did not in time what it had to do.
    Timeout(&'static str),
    /// We reset it ourselves.
    Dropped,
}

impl Failure {
    pub(crate) fn into_error(self) -> Error {
        match self {
            Failure::Refused(text) => Error::Refused(text.to_owned()),
            Failure::Reset(code) => Error::Reset(code.to_string()),
            Failure::Protocol(text) => Error::Protocol(text),
            Failure::Closed(text) => Error::Closed(text),
            Failure::Timeout(text) => Error::Timeout(text),
            Failure::Dropped => Error::Closed("the exchange was given up".to_owned()),
        }
    }

    pub(crate) fn into_body_error(self) -> BodyError {
        let fault = match &self {
            Failure::Refused(_) | Failure::Reset(_) => BodyFault::Reset,
            Failure::Protocol(_) => BodyFault::Protocol,
            Failure::Closed(_) => BodyFault::Closed,
            Failure::Timeout(_) | Failure::Dropped => BodyFault::Local,
        };
        BodyError::new(fault, self.into_error().to_string())
    }
}

/// Stream numbers grow by two and nobody chooses them; a multiplication spreads them.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, id: u32) {
        let mixed = (self.0 ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed.rotate_left(26);
    }
}

impl Shared {
    pub(crate) fn new(role: Role, config: Config) -> Arc<Shared> {
        Arc::new(Shared(Mutex::new(State {
            codec: Connection::new(role, config),
            table: HashMap::default(),
            driver: None,
            stirred: true,
            arrived: Vec::new(),
            handles: 0,
            local: None,
            max_streams: usize::MAX,
            requests_left: usize::MAX,
            answered: false,
            awaiting_change: Vec::new(),
            lost: None,
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a waker that will wake this task.
pub(crate) fn remember(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

fn wake(slot: &mut Option<Waker>) {
    if let Some(waker) = slot.take() {
        waker.wake();
    }
}

impl State {
    /// A stream on which somebody has a claim.
    pub(crate) fn stream(&mut self, id: StreamId) -> &mut Stream {
        let stream = self.table.get_mut(&id.get());
        stream.expect("a claim keeps its stream in the table")
    }

    /// Takes a stream into the table; the claim on it is made by [`Claim::first`].
    pub(crate) fn enter(&mut self, id: StreamId) -> &mut Stream {
        self.requests_left = self.requests_left.saturating_sub(1);
        let stream = self.table.entry(id.get()).or_default();
        stream.n_claims = 1;
        stream
    }

    /// Tells the driver that the codec may have output, or something to wait for. To be called after whatever makes some.
    pub(crate) fn stir(&mut self) {
        if !self.stirred && (self.codec.has_output() || self.codec.has_queued_anew()) {
            self.stir_always();
        }
    }

    /// Wakes the driver, output or not.
    pub(crate) fn stir_always(&mut self) {
        if !self.stirred {
            self.stirred = true;
            if let Some(driver) = &self.driver {
                driver.wake_by_ref();
            }
        }
    }

    /// Sends a body that is here as a whole, after its head.
    pub(crate) fn send_whole(
        &mut self,
        id: StreamId,
        data: Bytes,
        trailers: Option<Headers>,
    ) -> Result<(), CannotSend> {
        let trailers = trailers.map(|mut trailers| {
            sanitize_trailers(&mut trailers);
            trailers
        });
        match trailers.filter(|trailers| !trailers.is_empty()) {
            None => self.codec.send_data(id, data, true),
            Some(trailers) => {
                self.codec.send_data(id, data, false)?;
                self.codec.send_trailers(id, &trailers)
            }
        }
    }

    /// Ends a stream before its end, and tells those who wait on it.
    pub(crate) fn reset(&mut self, id: StreamId, code: Code) {
        self.codec.reset(id, code);
        if let Some(stream) = self.table.get_mut(&id.get()) {
            stream.failure.get_or_insert(Failure::Dropped);
            wake(&mut stream.reader);
            wake(&mut stream.writer);
        }
        self.stir();
    }

    /// Ends the streams of which the peer has taken nothing since this second.
    fn give_up_stuck(&mut self, since: u64) {
        for id in self.codec.stuck_streams(since) {
            tracing::debug!(stream = id.get(), "the peer does not read");
            if let Some(stream) = self.table.get_mut(&id.get()) {
                let failure = Failure::Timeout("the peer does not read");
                stream.failure.get_or_insert(failure);
            }
            self.reset(id, Code::CANCEL);
        }
    }

    /// The body has been taken out of the inbox: the peer may send as much again.
    pub(crate) fn release(&mut self, id: StreamId, n: usize) {
        if n > 0 {
            self.codec.release(id, n);
            self.stir();
        }
    }

    /// Nobody will read what the peer still sends on this stream. A response that is under way goes
    /// on, and after it the client is told to stop (RFC 9113, 8.1); else the stream ends here.
    pub(crate) fn stop_reading(&mut self, id: StreamId, role: Role) {
        let stream = self.stream(id);
        let unread = stream.inbox.clear();
        let open = !stream.inbox.is_ended() && stream.failure.is_none();
        let waits = role == Role::Server && !stream.sent;
        stream.unread = true;
        self.codec.credit(unread);
        if open && !waits {
            let code = match role {
                Role::Server => Code::NO_ERROR,
                Role::Client => Code::CANCEL,
            };
            self.reset(id, code);
        }
        self.stir();
    }

    /// Our message is complete.
    pub(crate) fn finish_sending(&mut self, id: StreamId) {
        let stream = self.stream(id);
        stream.sent = true;
        if stream.unread && !stream.inbox.is_ended() && stream.failure.is_none() {
            self.codec.reset(id, Code::NO_ERROR);
        }
        self.stir();
    }

    /// How many streams a client may open now.
    pub(crate) fn capacity(&self) -> usize {
        let own = self.max_streams.saturating_sub(self.codec.active_streams());
        self.codec.capacity().min(own).min(self.requests_left)
    }

    /// Wakes this task when the peer's settings have come, a stream has ended, or there is no
    /// connection any more.
    pub(crate) fn await_change(&mut self, cx: &Context<'_>) {
        let waits = |waker: &Waker| waker.will_wake(cx.waker());
        if !self.awaiting_change.iter().any(waits) {
            self.awaiting_change.push(cx.waker().clone());
        }
    }

    fn tell_change(&mut self) {
        for waker in self.awaiting_change.drain(..) {
            waker.wake();
        }
    }

    /// The socket is not there any more.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// No stream is under way.
    pub(crate) fn is_unused(&self) -> bool {
        self.table.is_empty()
    }

    /// No stream is left and none can be opened: there is nothing more to do.
    fn is_forlorn(&self, role: Role) -> bool {
        role == Role::Client && self.handles == 0 && self.table.is_empty()
    }
}

/// Keeps a stream in the table. What becomes of the stream itself is up to its owner.
pub(crate) struct Claim {
    pub shared: Arc<Shared>,
    pub id: StreamId,
}

impl Claim {
    /// The claim of a stream that was just [entered](State::enter).
    pub(crate) fn first(shared: &Arc<Shared>, id: StreamId) -> Claim {
        let shared = shared.clone();
        Claim { shared, id }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }
}

impl Clone for Claim {
    fn clone(&self) -> Self {
        self.lock().stream(self.id).add_claim();
        Claim::first(&self.shared, self.id)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let state = &mut *self.shared.lock();
        let stream = state.stream(self.id);
        stream.n_claims -= 1;
        if stream.n_claims == 0 {
            let unread = stream.inbox.clear();
            state.codec.credit(unread);
            state.table.remove(&self.id.get());
            state.tell_change();
            if state.table.is_empty() && state.handles == 0 {
                // The driver of a client ends then.
                state.stir_always();
            }
        }
    }
}
