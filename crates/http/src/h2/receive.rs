//! Frames in: what comes is told apart, and DATA and the parts of heads are taken.

use bytes::{Buf, Bytes, BytesMut};

use super::connection::Partial;
use super::event::{ConnectionError, Event, ResetBy, StreamId};
use super::floods::{calm, limits};
use super::frame::{self, HEADER, Header, PREFACE, flag, kind};
use super::streams::Closed;
use super::{Code, Connection, Role};

/// Payloads of DATA up to this size are copied: a slice would keep the whole buffer that was read,
/// which is more than it saves.
const COPY_UP_TO: usize = 256;

pub(super) type Outcome = Result<(), ConnectionError>;

/// A fault of the whole connection.
#[cold]
pub(super) fn error<T>(code: Code, reason: &'static str) -> Result<T, ConnectionError> {
    Err(ConnectionError { code, reason })
}

#[cold]
pub(super) fn protocol<T>(reason: &'static str) -> Result<T, ConnectionError> {
    error(Code::PROTOCOL_ERROR, reason)
}

#[cold]
pub(super) fn wrong_size<T>(reason: &'static str) -> Result<T, ConnectionError> {
    error(Code::FRAME_SIZE_ERROR, reason)
}

/// What a stream number that is not open means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absent {
    /// Nobody has opened it.
    Idle,
    /// It was open.
    Closed(Closed),
}

impl Connection {
    /// Takes whole frames out of `input`; an incomplete one stays. Bodies are parts of `input`'s
    /// memory, not copies, unless they are small.
    ///
    /// # Errors
    /// The peer broke the protocol or exceeded a bound. GOAWAY is in the output, each open stream
    /// gets [`Event::Reset`], and everything further is ignored.
    pub fn receive(&mut self, input: &mut BytesMut) -> Result<(), ConnectionError> {
        if let Some(error) = self.failed {
            input.clear();
            return Err(error);
        }
        self.trim();
        let outcome = self.preface(input).and_then(|()| self.frames(input));
        if let Err(error) = outcome {
            input.clear();
            self.fail(error);
        }
        outcome
    }

    fn preface(&mut self, input: &mut BytesMut) -> Outcome {
        if self.preface_left == 0 {
            return Ok(());
        }
        let expected = &PREFACE[PREFACE.len() - self.preface_left..];
        let n = expected.len().min(input.len());
        if input[..n] != expected[..n] {
            return protocol("no HTTP/2 preface");
        }
        input.advance(n);
        self.preface_left -= n;
        Ok(())
    }

    fn frames(&mut self, input: &mut BytesMut) -> Outcome {
        if self.preface_left > 0 {
            return Ok(());
        }
        let mut at = 0;
        while let Some(bytes) = input[at..].first_chunk::<HEADER>() {
            let header = Header::parse(bytes);
            self.check_header(header)?;
            let start = at + HEADER;
            let end = start + header.length;
            if input.len() < end {
                break;
            }
            if header.kind != kind::DATA {
                self.frame(header, &input[start..end])?;
                at = end;
            } else if header.length <= COPY_UP_TO {
                let Some(data) = frame::unpad(header, &input[start..end]) else {
                    return protocol("more padding than payload");
                };
                let data = Bytes::copy_from_slice(data);
                self.data(header, data)?;
                at = end;
            } else {
                input.advance(start);
                let payload = input.split_to(header.length).freeze();
                at = 0;
                let Some(data) = frame::unpad(header, &payload) else {
                    return protocol("more padding than payload");
                };
                let data = if data.len() == payload.len() {
                    payload
                } else {
                    payload.slice_ref(data)
                };
                self.data(header, data)?;
            }
        }
        input.advance(at);
        Ok(())
    }

    #[inline]
    fn check_header(&self, header: Header) -> Outcome {
        if header.length > self.config.max_frame_size as usize {
            return wrong_size("frame larger than MAX_FRAME_SIZE");
        }
        if !self.peer.known && (header.kind != kind::SETTINGS || header.has(flag::ACK)) {
            return protocol("the first frame is not SETTINGS");
        }
        match &self.partial {
            Some(partial) if header.kind != kind::CONTINUATION || header.id != partial.id => {
                protocol("a header block is interrupted")
            }
            None if header.kind == kind::CONTINUATION => protocol("CONTINUATION without HEADERS"),
            _ => Ok(()),
        }
    }

    fn frame(&mut self, header: Header, payload: &[u8]) -> Outcome {
        match header.kind {
            kind::HEADERS => self.headers(header, payload),
            kind::CONTINUATION => self.continuation(header, payload),
            kind::WINDOW_UPDATE => self.window_update(header, payload),
            kind::RST_STREAM => self.rst_stream(header, payload),
            kind::SETTINGS => self.settings(header, payload),
            kind::PING => self.pinged(header, payload),
            kind::GOAWAY => self.goaway(header, payload),
            kind::PRIORITY => self.priority(header, payload),
            kind::PRIORITY_UPDATE => self.priority_update(header, payload),
            kind::PUSH_PROMISE => protocol("PUSH_PROMISE is not allowed"),
            _ => self.floods.ignored(),
        }
    }

    /// What this stream number means, given that no such stream is open.
    pub(super) fn absent(&self, id: u32) -> Absent {
        let opened = match self.role {
            Role::Server => id <= self.last_peer_id,
            Role::Client => id < self.next_id,
        };
        if id % 2 == 1 && opened {
            Absent::Closed(self.closed.how(id))
        } else {
            Absent::Idle
        }
    }

    fn data(&mut self, header: Header, data: Bytes) -> Outcome {
        let length = header.length as u32;
        if header.id == 0 {
            return protocol("DATA on stream 0");
        }
        if !self.receive.take(length) {
            return error(Code::FLOW_CONTROL_ERROR, "connection window exceeded");
        }
        let end = header.has(flag::END_STREAM);
        if data.is_empty() && !end {
            self.floods.empty_data()?;
        }
        let Some(slot) = self.streams.find(header.id) else {
            self.credit_connection(length);
            return self.late_data(header.id);
        };
        if let Err((code, reason)) = self.data_fits(slot, length, data.len(), end) {
            self.credit_connection(length);
            return self.break_stream(slot, code, reason);
        }
        // Padding is consumed here.
        let padding = length - data.len() as u32;
        if padding > 0 {
            self.release(StreamId(header.id), padding as usize);
        }
        if !data.is_empty() || end {
            let id = StreamId(header.id);
            self.events.push_back(Event::Data { id, data, end });
        }
        if end {
            self.end_received(slot);
        }
        Ok(())
    }

    #[inline]
    fn data_fits(
        &mut self,
        slot: usize,
        length: u32,
        n_data: usize,
        end: bool,
    ) -> Result<(), (Code, &'static str)> {
        let stream = self.streams.at_mut(slot);
        if stream.receive_ended {
            return Err((Code::STREAM_CLOSED, "DATA after END_STREAM"));
        }
        if !stream.head_received {
            return Err((Code::PROTOCOL_ERROR, "DATA before the head"));
        }
        if !stream.receive.take(length) {
            return Err((Code::FLOW_CONTROL_ERROR, "stream window exceeded"));
        }
        if let Some(expected) = &mut stream.expected {
            let left = expected.checked_sub(n_data as u64);
            match left {
                Some(left) if left == 0 || !end => *expected = left,
                _ => return Err((Code::PROTOCOL_ERROR, "content-length does not hold")),
            }
        }
        Ok(())
    }

    /// DATA for a stream that is not open.
    fn late_data(&mut self, id: u32) -> Outcome {
        match self.absent(id) {
            Absent::Idle => protocol("DATA on an idle stream"),
            Absent::Closed(Closed::ResetByUs) => Ok(()),
            Absent::Closed(Closed::Forgotten) if self.role == Role::Client => self.floods.ignored(),
            Absent::Closed(_) => {
                self.floods.ignored()?;
                self.answer(&frame::rst_stream(id, Code::STREAM_CLOSED))
            }
        }
    }

    /// The peer has ended its side.
    pub(super) fn end_received(&mut self, slot: usize) {
        let stream = self.streams.at_mut(slot);
        stream.receive_ended = true;
        if stream.send_ended {
            self.remove(slot, false);
        }
    }

    /// The peer broke the protocol on one stream.
    #[cold]
    pub(super) fn break_stream(
        &mut self,
        slot: usize,
        code: Code,
        reason: &'static str,
    ) -> Outcome {
        let id = self.remove(slot, true);
        tracing::debug!(stream = id, %code, reason, "stream reset");
        self.events.push_back(Event::Reset {
            id: StreamId(id),
            code,
            by: ResetBy::Malformed,
        });
        self.answer(&frame::rst_stream(id, code))?;
        self.floods.provoked_reset()
    }

    fn headers(&mut self, header: Header, payload: &[u8]) -> Outcome {
        if header.id == 0 {
            return protocol("HEADERS on stream 0");
        }
        let Some(mut block) = frame::unpad(header, payload) else {
            return protocol("more padding than payload");
        };
        let mut depends_on_itself = false;
        if header.has(flag::PRIORITY) {
            let (Some(depends), Some(rest)) = (frame::word(block), block.get(5..)) else {
                return wrong_size("HEADERS too short for its priority");
            };
            depends_on_itself = depends & 0x7fff_ffff == header.id;
            block = rest;
        }
        let end = header.has(flag::END_STREAM);
        if header.has(flag::END_HEADERS) {
            return self.head((header.id, end), depends_on_itself, block);
        }
        self.partial = Some(Partial {
            id: header.id,
            end,
            depends_on_itself,
            n_continuations: 0,
            block: block.to_vec(),
        });
        Ok(())
    }

    /// Blocks that come in parts are bounded in parts and bytes before anything is decoded. Within
    /// these bounds a head that is larger than we take is decoded all the same, which keeps the
    /// tables in step, so that it costs its own stream and no other.
    fn continuation(&mut self, header: Header, payload: &[u8]) -> Outcome {
        let Some(partial) = &mut self.partial else {
            return protocol("CONTINUATION without HEADERS");
        };
        partial.n_continuations += 1;
        if partial.n_continuations > limits::CONTINUATIONS
            || partial.block.len() + payload.len() > limits::BLOCKS * self.head_limits.max_bytes
        {
            return Err(calm("header block too long"));
        }
        partial.block.extend_from_slice(payload);
        if !header.has(flag::END_HEADERS) {
            return Ok(());
        }
        let partial = self.partial.take().expect("it was there a moment ago");
        self.head(
            (partial.id, partial.end),
            partial.depends_on_itself,
            &partial.block,
        )
    }
}
