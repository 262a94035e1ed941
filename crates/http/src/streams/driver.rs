//! The task of an HTTP/2 connection: reads what is there, lets the streams know, writes what they
//! have said.

use std::io::IoSlice;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::pace::{Clock, Due, Facts};
use super::{Claim, Pace, Shared, State, remember};
use crate::h2::{Code, Role};
use crate::timer::Timer;
use crate::transport::Transport;
use crate::{Error, RequestHead};

/// Bytes that are read in one turn; then it is the others' turn.
const READ_IN_TURN: usize = 256 * 1024;
/// Pieces of one vectored write.
const PIECES: usize = 64;
/// Bytes that are read and thrown away so that the peer gets to read our last words, and the time
/// for that.
const LINGER_BYTES: usize = 256 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);

/// Owns the socket of a connection.
pub(crate) struct Driver {
    transport: Transport,
    shared: Arc<Shared>,
    role: Role,
    clock: Clock,
    /// Input waits until the peer has read.
    held_back: bool,
    /// What the peer did not do in time.
    timeout: Option<&'static str>,
    ending: Option<Ending>,
}

/// The last steps.
struct Ending {
    deadline: Instant,
    timer: Timer,
    bytes_left: usize,
    shut: bool,
    result: Option<Error>,
}

impl Driver {
    pub(crate) fn new(transport: Transport, shared: Arc<Shared>, role: Role, pace: Pace) -> Self {
        Driver {
            transport,
            shared,
            role,
            clock: Clock::new(pace),
            held_back: false,
            timeout: None,
            ending: None,
        }
    }

    /// One turn. Ready once the connection is over. `arrived` gets the requests that came, after
    /// all that came with them has been seen.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        arrived: &mut impl FnMut(Claim, RequestHead),
    ) -> Poll<Result<(), Error>> {
        if self.ending.is_none() {
            self.begin(cx);
            let more = self.read(cx);
            self.deliver(arrived);
            let flushed = self.write(cx);
            let again = more || (self.held_back && self.shared.lock().codec.wants_input());
            if self.is_over(flushed) {
                self.ending = Some(self.end());
            } else {
                if self.poll_time(cx).is_ready() || again {
                    cx.waker().wake_by_ref();
                }
                return Poll::Pending;
            }
        }
        self.poll_end(cx)
    }

    fn begin(&self, cx: &Context<'_>) {
        let state = &mut *self.shared.lock();
        remember(&mut state.driver, cx);
        state.stirred = true;
    }

    /// Reads until there is nothing more or it was much. True where there may be more.
    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        let mut left = READ_IN_TURN;
        // Whoever told the protocol by the first bytes has left them here.
        if !self.transport.read.is_empty() {
            self.receive();
        }
        loop {
            self.held_back = !self.shared.lock().codec.wants_input();
            if self.held_back {
                return false;
            }
            let lost = match self.transport.poll_read(cx) {
                Poll::Pending => {
                    self.transport.settle();
                    return false;
                }
                Poll::Ready(Ok(0)) => "the peer closed the connection".to_owned(),
                Poll::Ready(Err(error)) => error.to_string(),
                Poll::Ready(Ok(n)) => {
                    self.clock.active();
                    self.receive();
                    left = left.saturating_sub(n);
                    if left == 0 {
                        return true;
                    }
                    continue;
                }
            };
            self.shared.lock().lose(lost);
            return false;
        }
    }

    fn receive(&mut self) {
        let state = &mut *self.shared.lock();
        state.codec.clock(self.clock.seconds());
        // An error stays in the codec, which has told everybody.
        let _ = state.codec.receive(&mut self.transport.read);
        state.dispatch();
    }

    fn deliver(&mut self, arrived: &mut impl FnMut(Claim, RequestHead)) {
        let mut requests = std::mem::take(&mut self.shared.lock().arrived);
        for (id, head) in requests.drain(..) {
            // Not under the lock: this starts tasks.
            arrived(Claim::first(&self.shared, id), head);
        }
        self.shared.lock().arrived = requests;
    }

    /// Writes what there is. True where nothing is left.
    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        let shared = self.shared.clone();
        let state = &mut *shared.lock();
        if state.codec.take_queued_anew() {
            self.clock.active();
        }
        if self.role == Role::Client && state.is_forlorn(self.role) {
            state.codec.go_away(Code::NO_ERROR);
        }
        let written = self.write_out(cx, state);
        if let Poll::Ready(Err(error)) = &written {
            state.lose(error.to_string());
        }
        // From here on a stream that says something must wake us.
        state.stirred = false;
        written.is_ready()
    }

    fn write_out(&mut self, cx: &mut Context<'_>, state: &mut State) -> Poll<std::io::Result<()>> {
        while state.codec.has_output() {
            self.clock.active();
            let mut slices = [IoSlice::new(&[]); PIECES];
            let n = state.codec.output_slices(&mut slices);
            let written = ready!(self.transport.poll_write_slices(cx, &slices[..n]))?;
            self.clock.wrote();
            state.codec.advance_output(written);
            // Streams that waited for room have it now.
            state.dispatch();
        }
        self.transport.poll_flush(cx)
    }

    fn is_over(&self, flushed: bool) -> bool {
        let state = self.shared.lock();
        state.lost.is_some() || (flushed && state.codec.is_closed())
    }

    /// Ready where something was done that the next turn must look after.
    fn poll_time(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let facts = |second| facts(&mut self.shared.lock(), self.role, second);
            let due = ready!(self.clock.poll(cx, facts));
            let state = &mut *self.shared.lock();
            match due {
                Due::Quiet => state.give_back(),
                Due::Idle if !state.codec.is_going() => state.codec.graceful(),
                Due::Leave => state.codec.go_away(Code::NO_ERROR),
                Due::Idle => state.lose("idle timeout".to_owned()),
                Due::Head => self.timeout = Some("the head did not come in time"),
                Due::Stuck { since } => state.give_up_stuck(since),
                Due::Stalled => self.timeout = Some("the peer does not read"),
                Due::Ping => {
                    state.answered = false;
                    state.codec.ping();
                }
                Due::Dead => self.timeout = Some("the peer does not answer"),
            }
            if let Some(text) = self.timeout {
                state.lose(text.to_owned());
            }
            if due != Due::Quiet {
                return Poll::Ready(());
            }
        }
    }

    /// The connection is over; what is left is to close it.
    fn end(&mut self) -> Ending {
        let state = &mut *self.shared.lock();
        let result = match (state.codec.error(), &state.lost) {
            _ if self.timeout.is_some() => self.timeout.map(Error::Timeout),
            (Some(error), _) => Some(Error::Protocol(error.to_string())),
            (None, Some(lost)) if !state.table.is_empty() => Some(Error::Closed(lost.clone())),
            _ => None,
        };
        let gone = state.lost.is_some();
        state.lose("the connection has ended".to_owned());
        Ending {
            deadline: Instant::now() + LINGER_TIME,
            timer: Timer::default(),
            bytes_left: if gone { 0 } else { LINGER_BYTES },
            shut: false,
            result,
        }
    }

    /// Ends our direction, then lets the peer read: a socket that is closed with unread bytes resets
    /// the connection, and the reset overtakes what is on its way.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let ending = self.ending.as_mut().expect("the caller has set it");
        let over = |ending: &mut Ending| Poll::Ready(ending.result.take().map_or(Ok(()), Err));
        if ending.timer.poll_until(cx, ending.deadline).is_ready() {
            return over(ending);
        }
        if !ending.shut {
            // A peer that is gone is no failure of the end.
            let shut = ready!(self.transport.poll_shutdown(cx));
            ending.shut = true;
            if shut.is_err() {
                return over(ending);
            }
        }
        while ending.bytes_left > 0 {
            self.transport.read.clear();
            match ready!(self.transport.poll_read(cx)) {
                Ok(n) if n > 0 => ending.bytes_left = ending.bytes_left.saturating_sub(n),
                _ => break,
            }
        }
        over(ending)
    }
}

fn facts(state: &mut State, role: Role, second: u64) -> Facts {
    let codec = &mut state.codec;
    Facts {
        answered: state.answered,
        idle: codec.active_streams() == 0,
        held_up: codec.is_held_up(),
        stuck_since: codec.stuck_since(second),
        mid_head: role == Role::Server && (codec.is_mid_head() || !codec.settings_known()),
        leaving: codec.is_leaving(),
    }
}

/// However the task ends, its streams learn of it.
impl Drop for Driver {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.lose("the connection was given up".to_owned());
    }
}

impl State {
    /// Gives back memory that only a busy connection needs.
    fn give_back(&mut self) {
        self.codec.shrink();
        self.table.shrink_to_fit();
        self.arrived = Vec::new();
    }
}
