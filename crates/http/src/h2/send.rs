//! Messages out: heads at once, bodies as the windows allow, streams taking turns.

use bytes::Bytes;

use super::event::{CannotSend, Event, StreamId};
use super::frame::{self, Header, flag, kind};
use super::head_out;
use super::streams::Stream;
use super::{Code, Connection, Role};
use crate::{Headers, Method, RequestHead, ResponseHead};

/// A sender that waits is told when so much room is there.
const WORTH_WAKING: usize = 8 * 1024;

impl Connection {
    /// Opens a stream with this request. `end`: there is neither body nor trailers.
    ///
    /// # Errors
    /// [`CannotSend::Full`], [`CannotSend::GoingAway`], or the head has no form in HTTP/2. Nothing
    /// was sent then.
    pub fn send_request(&mut self, head: &RequestHead, end: bool) -> Result<StreamId, CannotSend> {
        if self.role == Role::Server {
            return Err(CannotSend::Order("a server sends no requests"));
        }
        if self.is_going() {
            return Err(CannotSend::GoingAway);
        }
        if self.capacity() == 0 {
            return Err(CannotSend::Full);
        }
        head_out::check_request(head, self.peer.connect_protocol)?;
        let id = self.next_id;
        self.next_id += 2;
        self.floods.opened();
        let max_frame = self.peer.max_frame_size as usize;
        let encoder = &mut self.encoder;
        head_out::frames(self.output.buffer(), (id, end), max_frame, |out| {
            head_out::request(encoder, out, head);
        });
        let slot = self.open(id);
        let stream = self.streams.at_mut(slot);
        stream.head_sent = true;
        stream.end_queued = end;
        stream.send_ended = end;
        stream.bodiless = head.method == Method::HEAD;
        stream.tunnel = head.method == Method::CONNECT;
        Ok(StreamId(id))
    }

    /// Sends a 1xx head.
    ///
    /// # Errors
    /// The stream has ended, or has its final head, or the status is not 1xx, or is 101.
    pub fn send_informational(
        &mut self,
        id: StreamId,
        head: &ResponseHead,
    ) -> Result<(), CannotSend> {
        if !(100..200).contains(&head.status) || head.status == 101 {
            return Err(CannotSend::Unsendable("not an informational status"));
        }
        self.headless(id)?;
        self.write_response(id, head, false);
        Ok(())
    }

    /// Sends the final head of a response. `end`: there is neither body nor trailers.
    ///
    /// # Errors
    /// The stream has ended, or has its final head, or the status is not a final one.
    pub fn send_response(
        &mut self,
        id: StreamId,
        head: &ResponseHead,
        end: bool,
    ) -> Result<(), CannotSend> {
        if !(200..1000).contains(&head.status) {
            return Err(CannotSend::Unsendable("not a final status"));
        }
        let slot = self.headless(id)?;
        self.write_response(id, head, end);
        let stream = self.streams.at_mut(slot);
        stream.head_sent = true;
        if end {
            stream.end_queued = true;
            self.end_sent(slot);
        }
        Ok(())
    }

    /// The slot of a server's stream that has no final head yet.
    fn headless(&self, id: StreamId) -> Result<usize, CannotSend> {
        if self.role == Role::Client {
            return Err(CannotSend::Order("a client sends no responses"));
        }
        let slot = self.streams.find(id.0).ok_or(CannotSend::Ended)?;
        if self.streams.at(slot).head_sent {
            return Err(CannotSend::Order("the response has its head"));
        }
        Ok(slot)
    }

    fn write_response(&mut self, id: StreamId, head: &ResponseHead, end: bool) {
        let max_frame = self.peer.max_frame_size as usize;
        let encoder = &mut self.encoder;
        head_out::frames(self.output.buffer(), (id.0, end), max_frame, |out| {
            head_out::response(encoder, out, head.status, &head.headers);
        });
    }

    /// The slot of a stream whose body is open.
    fn sending(&self, id: StreamId) -> Result<usize, CannotSend> {
        let slot = self.streams.find(id.0).ok_or(CannotSend::Ended)?;
        let stream = self.streams.at(slot);
        if !stream.head_sent {
            return Err(CannotSend::Order("the message has no head"));
        }
        if stream.end_queued {
            return Err(CannotSend::Order("the message has ended"));
        }
        Ok(slot)
    }

    /// Sends a piece of a body, or queues it until the windows allow it. Nothing is refused for
    /// lack of [`room`](Self::room): a sender that cares for memory asks first.
    ///
    /// # Errors
    /// The stream has ended, or the message has no head yet or is complete.
    pub fn send_data(&mut self, id: StreamId, data: Bytes, end: bool) -> Result<(), CannotSend> {
        let slot = self.sending(id)?;
        if data.is_empty() && !end {
            return Ok(());
        }
        let at_once = self.sendable(slot, data.len());
        let stream = self.streams.at_mut(slot);
        stream.end_queued = end;
        if at_once {
            self.write_data(slot, data, end);
            if end {
                self.end_sent(slot);
            }
            return Ok(());
        }
        if !data.is_empty() {
            if stream.queued == 0 {
                stream.moved = true;
                self.queued_anew = true;
            }
            stream.queued += data.len();
            self.queued += data.len();
            stream.queue.push_back(data);
        }
        self.schedule(slot);
        Ok(())
    }

    /// True where a piece may go out before anything that waits.
    #[inline]
    fn sendable(&self, slot: usize, length: usize) -> bool {
        let stream = self.streams.at(slot);
        if stream.queued > 0 {
            return false;
        }
        let window = stream.send_window.min(self.send_window);
        length == 0
            || (self.ready.is_empty()
                && length as i64 <= window
                && length <= self.peer.max_frame_size as usize
                && self.output_has_room())
    }

    /// Ends a message with trailers.
    ///
    /// # Errors
    /// The stream has ended, or the message has no head yet or is complete.
    pub fn send_trailers(&mut self, id: StreamId, headers: &Headers) -> Result<(), CannotSend> {
        let slot = self.sending(id)?;
        let stream = self.streams.at_mut(slot);
        stream.end_queued = true;
        if stream.queued > 0 {
            stream.trailers = Some(Box::new(headers.clone()));
            return Ok(());
        }
        self.write_trailers(slot, headers);
        self.end_sent(slot);
        Ok(())
    }

    fn write_trailers(&mut self, slot: usize, headers: &Headers) {
        let id = self.streams.at(slot).id;
        let max_frame = self.peer.max_frame_size as usize;
        let encoder = &mut self.encoder;
        head_out::frames(self.output.buffer(), (id, true), max_frame, |out| {
            head_out::trailers(encoder, out, headers);
        });
    }

    /// How many more bytes the stream's queue should take. Where it says zero, [`Event::Writable`]
    /// will tell when to ask again.
    pub fn room(&mut self, id: StreamId) -> usize {
        let Some(slot) = self.streams.find(id.0) else {
            return 0;
        };
        let room = self.room_of(slot);
        if room == 0 {
            self.streams.at_mut(slot).wants_room = true;
        }
        room
    }

    fn room_of(&self, slot: usize) -> usize {
        let share = if self.queued < self.config.connection_queue {
            self.config.stream_queue
        } else {
            self.config.stream_queue / 4
        };
        share.saturating_sub(self.streams.at(slot).queued)
    }

    /// The application has consumed `n` bytes of the stream's body: the peer may send as many more.
    /// Also to be called for what came before the stream was reset.
    pub fn release(&mut self, id: StreamId, n: usize) {
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        self.credit_connection(n);
        let Some(slot) = self.streams.find(id.0) else {
            return;
        };
        let max = self.config.max_window;
        let stream = self.streams.at_mut(slot);
        if stream.receive_ended {
            return;
        }
        if let Some(increment) = stream.receive.release(n, max) {
            self.output.frame(&frame::window_update(id.0, increment));
        }
    }

    /// Like [`release`](Self::release) for bytes that nobody will read: the connection may carry as
    /// many more, the stream may not.
    pub fn credit(&mut self, n: usize) {
        if n > 0 {
            self.credit_connection(u32::try_from(n).unwrap_or(u32::MAX));
        }
    }

    pub(super) fn credit_connection(&mut self, n: u32) {
        let max = self.config.max_connection_window;
        if let Some(increment) = self.receive.release(n, max) {
            self.output.frame(&frame::window_update(0, increment));
        }
    }

    /// Ends a stream before its end. With NO_ERROR on a stream whose end was sent or queued, a
    /// server lets the response finish and then tells the client to stop sending (RFC 9113, section
    /// 8.1).
    pub fn reset(&mut self, id: StreamId, code: Code) {
        let Some(slot) = self.streams.find(id.0) else {
            return;
        };
        let stream = self.streams.at_mut(slot);
        if code == Code::NO_ERROR && stream.end_queued && !stream.send_ended {
            stream.then_reset = true;
            return;
        }
        self.reset_slot(slot, code);
    }

    /// Since which second the queue that is stuck for the longest has not moved. The time is in
    /// whole seconds from any start; to be asked about once a second while something happens.
    pub fn stuck_since(&mut self, now: u64) -> Option<u64> {
        if self.queued == 0 {
            return None;
        }
        let waiting = self.streams.iter_mut().filter(|stream| stream.queued > 0);
        waiting
            .map(|stream| {
                if std::mem::take(&mut stream.moved) {
                    stream.stuck_since = now;
                }
                stream.stuck_since
            })
            .min()
    }

    /// The streams whose queues have not moved since this second.
    pub fn stuck_streams(&mut self, since: u64) -> Vec<StreamId> {
        let stuck = |stream: &&mut Stream| {
            stream.queued > 0 && !stream.moved && stream.stuck_since <= since
        };
        let streams = self.streams.iter_mut().filter(stuck);
        streams.map(|stream| StreamId(stream.id)).collect()
    }

    /// Gives a stream its place among those that can send.
    #[inline]
    pub(super) fn schedule(&mut self, slot: usize) {
        let stream = self.streams.at_mut(slot);
        if !stream.ready && stream.queued > 0 && stream.send_window > 0 {
            stream.ready = true;
            self.ready.push_back(stream.id);
        }
    }

    /// Makes output of what is queued: a frame of each stream in turn.
    pub(super) fn pump(&mut self) {
        while self.send_window > 0 && self.output_has_room() {
            let Some(id) = self.ready.pop_front() else {
                return;
            };
            let slot = self
                .streams
                .find(id)
                .expect("streams that go leave the list");
            self.streams.at_mut(slot).ready = false;
            if self.send_queued(slot) {
                self.end_sent(slot);
            } else {
                self.schedule(slot);
                self.wake(slot);
            }
        }
    }

    /// Sends one frame of a stream's queue. True where it was the last.
    fn send_queued(&mut self, slot: usize) -> bool {
        let max_frame = i64::from(self.peer.max_frame_size);
        let stream = self.streams.at_mut(slot);
        let most = stream.send_window.min(self.send_window).min(max_frame) as usize;
        let mut data = stream
            .queue
            .pop_front()
            .expect("only non-empty queues are ready");
        if data.len() > most {
            let rest = data.split_off(most);
            stream.queue.push_front(rest);
        }
        stream.queued -= data.len();
        stream.moved = true;
        self.queued -= data.len();
        let last = stream.queue.is_empty() && stream.end_queued;
        let trailers = if last { stream.trailers.take() } else { None };
        self.write_data(slot, data, last && trailers.is_none());
        if let Some(trailers) = trailers {
            self.write_trailers(slot, &trailers);
        }
        last
    }

    #[inline]
    fn write_data(&mut self, slot: usize, data: Bytes, end: bool) {
        let stream = self.streams.at_mut(slot);
        let header = Header {
            length: data.len(),
            kind: kind::DATA,
            flags: if end { flag::END_STREAM } else { 0 },
            id: stream.id,
        };
        stream.send_window -= data.len() as i64;
        self.send_window -= data.len() as i64;
        self.output.frame(&header.bytes());
        self.output.payload(data);
        self.floods.data_sent();
    }

    /// Our side's end is in the output.
    fn end_sent(&mut self, slot: usize) {
        let stream = self.streams.at_mut(slot);
        stream.send_ended = true;
        if stream.receive_ended {
            self.remove(slot, false);
        } else if stream.then_reset {
            self.reset_slot(slot, Code::NO_ERROR);
        }
    }

    /// Tells a waiting sender of room.
    fn wake(&mut self, slot: usize) {
        let enough = WORTH_WAKING.min(self.config.stream_queue / 8).max(1);
        if self.streams.at(slot).wants_room && self.room_of(slot) >= enough {
            let stream = self.streams.at_mut(slot);
            stream.wants_room = false;
            let id = StreamId(stream.id);
            self.events.push_back(Event::Writable { id });
        }
    }
}
