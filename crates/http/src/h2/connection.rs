//! The connection: its state, and what needs neither frames nor messages.

use std::collections::VecDeque;
use std::io::IoSlice;

use super::event::{ConnectionError, Event, ResetBy, StreamId};
use super::floods::{Floods, calm, limits};
use super::frame::{self, PREFACE, flag};
use super::head_in::HeadLimits;
use super::output::Output;
use super::settings::{self, PeerSettings};
use super::streams::{ClosedStreams, Streams};
use super::window::{DEFAULT, Receive};
use super::{Code, Config, Role};
use crate::hpack::{Decoder, Encoder};

/// Output that is made at once. Beyond it bodies wait in their streams, so that heads and control
/// frames do not queue behind them and a stream that comes late gets its turn.
const OUTPUT_TARGET: usize = 256 * 1024;

/// Events and lists are kept at this capacity between bursts.
const KEPT_EVENTS: usize = 16;

/// The payload of the PING that finds out when the peer has seen our first GOAWAY.
pub(super) const GRACEFUL_PING: [u8; 8] = *b"graceful";
/// The payload of the PINGs that the driver asks for.
pub(super) const DRIVER_PING: [u8; 8] = *b"alive ok";

/// A header block of which the end has not come.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) id: u32,
    pub(super) end: bool,
    pub(super) depends_on_itself: bool,
    pub(super) n_continuations: u32,
    pub(super) block: Vec<u8>,
}

/// How far our own end of the connection's life is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Going {
    /// Not at all.
    No,
    /// GOAWAY with the largest number was sent; streams on their way are still taken.
    Announced,
    /// GOAWAY with this last stream was sent.
    Final(u32),
}

/// One HTTP/2 connection, of either role.
///
/// The order of calls that a driver makes: [`clock`](Self::clock) and [`receive`](Self::receive) with
/// what was read, [`next_event`](Self::next_event) until there is none, any `send_…`, then
/// [`output_slices`](Self::output_slices) and [`advance_output`](Self::advance_output) while there
/// [is output](Self::has_output). It reads only while the connection [wants
/// input](Self::wants_input).
#[derive(Debug)]
pub struct Connection {
    pub(super) role: Role,
    pub(super) config: Config,
    pub(super) decoder: Decoder,
    pub(super) encoder: Encoder,
    pub(super) output: Output,
    pub(super) events: VecDeque<Event>,
    pub(super) streams: Streams,
    pub(super) closed: ClosedStreams,
    pub(super) floods: Floods,
    pub(super) peer: PeerSettings,
    /// SETTINGS of ours that the peer has not acknowledged.
    pub(super) settings_unacked: bool,
    /// Bytes of the client's preface that must still come.
    pub(super) preface_left: usize,
    pub(super) partial: Option<Partial>,
    pub(super) send_window: i64,
    pub(super) receive: Receive,
    /// Streams that have something to send and room in their window, in the order of their turns.
    pub(super) ready: VecDeque<u32>,
    /// Bytes queued in all streams.
    pub(super) queued: usize,
    /// Something entered an empty queue since the driver has asked.
    pub(super) queued_anew: bool,
    /// Client: the number of the next stream.
    pub(super) next_id: u32,
    /// Server: the highest stream that came.
    pub(super) last_peer_id: u32,
    pub(super) going: Going,
    pub(super) peer_going: bool,
    pub(super) failed: Option<ConnectionError>,
    pub(super) at_eof: bool,
    pub(super) head_limits: HeadLimits,
    control_mark: u64,
    n_control: u32,
}

impl Connection {
    /// A connection whose preface and settings are its first output.
    pub fn new(role: Role, config: Config) -> Self {
        let config = config.bounded();
        let mut connection = Connection {
            role,
            decoder: Decoder::new(),
            encoder: Encoder::new(config.huffman),
            output: Output::default(),
            events: VecDeque::new(),
            streams: Streams::default(),
            closed: ClosedStreams::default(),
            floods: Floods::default(),
            peer: PeerSettings::new(),
            settings_unacked: true,
            preface_left: if role == Role::Server {
                PREFACE.len()
            } else {
                0
            },
            partial: None,
            send_window: i64::from(DEFAULT),
            receive: Receive::new(DEFAULT),
            ready: VecDeque::new(),
            queued: 0,
            queued_anew: false,
            next_id: 1,
            last_peer_id: 0,
            going: Going::No,
            peer_going: false,
            failed: None,
            at_eof: false,
            head_limits: HeadLimits {
                max_bytes: config.max_head_bytes as usize,
                max_fields: config.max_fields as usize,
                likely_bytes: 256,
                likely_fields: 12,
            },
            control_mark: 0,
            n_control: 0,
            config,
        };
        connection.greet();
        connection
    }

    fn greet(&mut self) {
        if self.role == Role::Client {
            self.output.frame(PREFACE);
        }
        settings::announce(self.output.buffer(), self.role, &self.config);
        let increment = self.receive.widen(self.config.connection_window);
        if increment > 0 {
            self.output.frame(&frame::window_update(0, increment));
        }
    }

    /// The next thing that happened.
    #[inline]
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The time in whole seconds from any start. Without it the bounds against floods hold for the
    /// life of the connection.
    pub fn clock(&mut self, seconds: u64) {
        self.floods.clock(seconds);
    }

    /// The peer closed its side of the transport: what is still open will not end.
    pub fn receive_eof(&mut self) {
        if self.at_eof {
            return;
        }
        self.at_eof = true;
        self.drop_streams(Code::CANCEL);
    }

    /// Tells the peer that we stop, with the last stream that we processed. Streams up to it may
    /// end; the client's later ones are ignored, and are safe to be tried elsewhere.
    pub fn go_away(&mut self, code: Code) {
        if self.failed.is_some() || matches!(self.going, Going::Final(_)) {
            return;
        }
        self.output.frame(&frame::go_away(self.last_peer_id, code));
        self.going = Going::Final(self.last_peer_id);
    }

    /// Stops in two steps: the peer is asked to open no more streams, and those that it opened
    /// before it knew are still taken (RFC 9113, section 6.8). A peer that never answers the PING in
    /// between needs [`go_away`](Self::go_away) after a while.
    pub fn graceful(&mut self) {
        if self.role == Role::Client {
            return self.go_away(Code::NO_ERROR);
        }
        if self.going == Going::No && self.failed.is_none() {
            let most = i32::MAX as u32;
            self.output.frame(&frame::go_away(most, Code::NO_ERROR));
            self.output.frame(&frame::ping(GRACEFUL_PING, 0));
            self.going = Going::Announced;
        }
    }

    /// Asks for a sign of life: [`Event::Pong`].
    pub fn ping(&mut self) {
        if self.failed.is_none() {
            self.output.frame(&frame::ping(DRIVER_PING, 0));
        }
    }

    /// True where there is something to write.
    #[inline]
    pub fn has_output(&self) -> bool {
        !self.output.is_empty() || (!self.ready.is_empty() && self.send_window > 0)
    }

    /// Fills `slices` with what to write next and returns how many it filled.
    pub fn output_slices<'a>(&'a mut self, slices: &mut [IoSlice<'a>]) -> usize {
        self.pump();
        self.output.slices(slices)
    }

    /// So many of the shown bytes were written.
    pub fn advance_output(&mut self, n: usize) {
        self.output.advance(n);
    }

    /// True where more output may be made now.
    #[inline]
    pub(super) fn output_has_room(&self) -> bool {
        self.output.pending() < OUTPUT_TARGET
    }

    /// False where the peer should not be read from until it reads what we have to say.
    #[inline]
    pub fn wants_input(&self) -> bool {
        self.failed.is_none() && self.output.staged() < 2 * OUTPUT_TARGET
    }

    /// Streams that are open, in any state.
    #[inline]
    pub fn active_streams(&self) -> usize {
        self.streams.len()
    }

    /// No stream is open, nothing waits to be written or to be told.
    pub fn is_idle(&self) -> bool {
        self.streams.len() == 0 && !self.has_output() && self.events.is_empty()
    }

    /// Nothing more will come or go: the transport can be closed.
    pub fn is_closed(&self) -> bool {
        let over = self.peer_going || matches!(self.going, Going::Final(_));
        self.at_eof
            || (self.failed.is_some() || (over && self.streams.len() == 0)) && !self.has_output()
    }

    /// How many streams a client may open now.
    pub fn capacity(&self) -> usize {
        if self.role == Role::Server || self.is_going() {
            return 0;
        }
        (self.peer.max_concurrent_streams as usize).saturating_sub(self.streams.len())
    }

    /// True where no stream can be opened any more.
    pub fn is_going(&self) -> bool {
        self.peer_going
            || self.going != Going::No
            || self.failed.is_some()
            || self.at_eof
            || self.next_id > i32::MAX as u32
    }

    /// True once the peer's settings came.
    pub fn settings_known(&self) -> bool {
        self.peer.known
    }

    /// The peer takes extended CONNECT.
    pub fn peer_takes_extended_connect(&self) -> bool {
        self.peer.connect_protocol
    }

    /// A header block has begun and its end has not come.
    pub fn is_mid_head(&self) -> bool {
        self.partial.is_some()
    }

    /// The peer was told that we stop, and not yet which stream is the last.
    pub fn is_leaving(&self) -> bool {
        self.going == Going::Announced
    }

    /// The socket or the connection's window keeps back what there is to write, whatever the
    /// windows of the streams are.
    pub fn is_held_up(&self) -> bool {
        !self.output.is_empty() || !self.ready.is_empty()
    }

    /// Something was put into a queue that was empty: its time runs from now on.
    pub fn has_queued_anew(&self) -> bool {
        self.queued_anew
    }

    /// Asks so, and forgets it.
    pub fn take_queued_anew(&mut self) -> bool {
        std::mem::take(&mut self.queued_anew)
    }

    /// The error that ended the connection.
    pub fn error(&self) -> Option<ConnectionError> {
        self.failed
    }

    /// Gives back all memory but what the compression tables hold. To be called when nothing
    /// happened for a while; while streams are open it does what it can.
    pub fn shrink(&mut self) {
        self.output.shrink();
        self.streams.shrink();
        self.closed.shrink();
        self.decoder.shrink();
        self.encoder.shrink();
        self.events.shrink_to(0);
        self.ready.shrink_to(0);
    }

    /// Bytes of memory owned beside the struct itself, without bodies.
    pub fn memory(&self) -> usize {
        self.output.memory()
            + self.streams.memory()
            + self.closed.memory()
            + self.decoder.memory()
            + self.encoder.memory()
            + self.events.capacity() * size_of::<Event>()
            + self.ready.capacity() * size_of::<u32>()
            + self.partial.as_ref().map_or(0, |p| p.block.capacity())
    }

    /// Ends the connection: GOAWAY, and every stream is told.
    pub(super) fn fail(&mut self, error: ConnectionError) {
        let goodbye = frame::go_away(self.last_peer_id, error.code);
        self.output.frame(&goodbye);
        self.failed = Some(error);
        self.drop_streams(error.code);
    }

    fn drop_streams(&mut self, code: Code) {
        for slot in self.streams.slots() {
            let id = StreamId(self.streams.remove(slot).id);
            self.events.push_back(Event::Reset {
                id,
                code,
                by: ResetBy::Connection,
            });
        }
        self.ready.clear();
        self.queued = 0;
        self.partial = None;
    }

    /// Counts a control frame that answers the peer, which may not be reading.
    pub(super) fn answer(&mut self, frame: &[u8]) -> Result<(), ConnectionError> {
        if self.output.position_written() >= self.control_mark {
            self.control_mark = self.output.position_end() + 1;
            self.n_control = 0;
        }
        self.n_control += 1;
        if self.n_control > limits::PENDING_CONTROL_FRAMES {
            return Err(calm("control frames are not read"));
        }
        self.output.frame(frame);
        Ok(())
    }

    /// The peer must read what it makes us say.
    pub(super) fn check_pending(&self) -> Result<(), ConnectionError> {
        if self.output.staged() > limits::PENDING_BYTES {
            return Err(calm("output is not read"));
        }
        Ok(())
    }

    /// Ends a stream on our initiative, without an event.
    pub(super) fn reset_slot(&mut self, slot: usize, code: Code) {
        let id = self.remove(slot, true);
        self.output.frame(&frame::rst_stream(id, code));
    }

    /// Takes a stream out and forgets what it had queued; returns its number.
    pub(super) fn remove(&mut self, slot: usize, by_us: bool) -> u32 {
        let stream = self.streams.remove(slot);
        self.queued -= stream.queued;
        if stream.ready {
            self.ready.retain(|id| *id != stream.id);
        }
        self.closed.add(stream.id, by_us);
        stream.id
    }

    /// Keeps bursts from leaving large queues behind.
    pub(super) fn trim(&mut self) {
        if self.events.is_empty() && self.events.capacity() > 64 * KEPT_EVENTS {
            self.events.shrink_to(KEPT_EVENTS);
        }
    }

    pub(super) fn acknowledge_settings(&mut self) -> Result<(), ConnectionError> {
        let header = frame::Header {
            length: 0,
            kind: frame::kind::SETTINGS,
            flags: flag::ACK,
            id: 0,
        };
        self.answer(&header.bytes())
    }
}
