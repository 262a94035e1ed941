//! Header blocks in: new streams, responses and trailers.

use super::connection::Going;
use super::event::{Event, StreamId};
use super::frame;
use super::head_in::{Expect, Fault, HeadSink};
use super::head_out;
use super::receive::{Absent, Outcome, error, protocol};
use super::streams::{Closed, Stream};
use super::window::DEFAULT;
use super::{Code, Connection, ConnectionError, Role};
use crate::{Headers, ResponseHead};

impl Connection {
    /// A whole header block came.
    pub(super) fn head(
        &mut self,
        (id, end): (u32, bool),
        depends_on_itself: bool,
        block: &[u8],
    ) -> Outcome {
        if let Some(slot) = self.streams.find(id) {
            if depends_on_itself {
                self.decode(Expect::Nothing, block)?;
                return self.break_stream(slot, Code::PROTOCOL_ERROR, "depends on itself");
            }
            return match self.streams.at(slot) {
                stream if stream.receive_ended => {
                    self.decode(Expect::Nothing, block)?;
                    self.break_stream(slot, Code::STREAM_CLOSED, "HEADERS after END_STREAM")
                }
                stream if stream.head_received => self.trailers((slot, end), block),
                _ => self.response((slot, end), block),
            };
        }
        match self.absent(id) {
            Absent::Idle if self.role == Role::Server && id % 2 == 1 => {
                self.request((id, end), depends_on_itself, block)
            }
            Absent::Idle => protocol("HEADERS on an idle stream"),
            Absent::Closed(closed) => self.late_head(closed, block),
        }
    }

    /// HEADERS for a stream that has ended: its fields must still go through the decoder.
    fn late_head(&mut self, closed: Closed, block: &[u8]) -> Outcome {
        match closed {
            Closed::Done => error(Code::STREAM_CLOSED, "HEADERS on a closed stream"),
            Closed::Forgotten if self.role == Role::Server => {
                protocol("HEADERS on a stream below the last one")
            }
            Closed::ResetByUs | Closed::Forgotten => {
                self.decode(Expect::Nothing, block)?;
                self.floods.ignored()
            }
        }
    }

    #[inline]
    fn decode(&mut self, expect: Expect, block: &[u8]) -> Result<HeadSink, ConnectionError> {
        let mut sink = HeadSink::new(expect, self.head_limits);
        if self.decoder.decode(block, &mut sink).is_err() {
            return error(Code::COMPRESSION_ERROR, "header block cannot be decoded");
        }
        if expect != Expect::Nothing {
            let (bytes, fields) = sink.sizes();
            // The next head is likely to need as much, and an edit or two.
            self.head_limits.likely_bytes = bytes.min(4096) + 128;
            self.head_limits.likely_fields = fields.min(64) + 4;
        }
        Ok(sink)
    }

    fn request(
        &mut self,
        (id, end): (u32, bool),
        depends_on_itself: bool,
        block: &[u8],
    ) -> Outcome {
        self.check_pending()?;
        self.last_peer_id = id;
        self.floods.opened();
        if matches!(self.going, Going::Final(_)) {
            // The client learns from GOAWAY that this was not processed.
            self.decode(Expect::Nothing, block)?;
            self.closed.add(id, true);
            return self.floods.ignored();
        }
        if self.streams.len() >= self.config.max_concurrent_streams as usize {
            self.decode(Expect::Nothing, block)?;
            if !self.settings_unacked {
                self.floods.refused()?;
            }
            return self.turn_away(id, Code::REFUSED_STREAM);
        }
        let expect = Expect::Request {
            connect_protocol: self.config.enable_connect_protocol,
        };
        let request = self.decode(expect, block)?.request(end);
        match request {
            Ok((head, expected)) if !depends_on_itself => {
                let slot = self.open(id);
                let stream = self.streams.at_mut(slot);
                stream.head_received = true;
                stream.expected = expected;
                stream.receive_ended = end;
                let id = StreamId(id);
                self.events.push_back(Event::RequestHead { id, head, end });
                Ok(())
            }
            Err(Fault::TooLarge) => self.answer_too_large(id, end),
            fault => {
                tracing::debug!(stream = id, ?fault, "malformed request");
                self.floods.provoked_reset()?;
                self.turn_away(id, Code::PROTOCOL_ERROR)
            }
        }
    }

    /// Resets a stream that was never announced.
    fn turn_away(&mut self, id: u32, code: Code) -> Outcome {
        self.closed.add(id, true);
        self.answer(&frame::rst_stream(id, code))
    }

    /// 431, which the client understands, where a reset would leave it guessing.
    fn answer_too_large(&mut self, id: u32, end: bool) -> Outcome {
        self.floods.provoked_reset()?;
        let max_frame = self.peer.max_frame_size as usize;
        let encoder = &mut self.encoder;
        head_out::frames(self.output.buffer(), (id, true), max_frame, |out| {
            head_out::response(encoder, out, 431, &Headers::new());
        });
        if end {
            self.closed.add(id, true);
            return Ok(());
        }
        self.turn_away(id, Code::NO_ERROR)
    }

    pub(super) fn open(&mut self, id: u32) -> usize {
        let receive = match self.settings_unacked {
            // A peer that does not know our settings counts with the default.
            true => self.config.initial_window.max(DEFAULT),
            false => self.config.initial_window,
        };
        self.streams
            .insert(Stream::new(id, self.peer.initial_window, receive))
    }

    fn response(&mut self, (slot, end): (usize, bool), block: &[u8]) -> Outcome {
        let response = self.decode(Expect::Response, block)?.response();
        let (head, content_length) = match response {
            Ok(response) => response,
            Err(fault) => return self.break_message(slot, fault),
        };
        let stream = self.streams.at_mut(slot);
        let id = StreamId(stream.id);
        if head.status < 200 {
            if end {
                return self.break_message(slot, Fault::Malformed("1xx ends the stream"));
            }
            self.events.push_back(Event::Informational { id, head });
            return Ok(());
        }
        stream.head_received = true;
        stream.expected = expected_body(stream, &head, content_length);
        if end && stream.expected.is_some_and(|length| length > 0) {
            return self.break_message(slot, Fault::Malformed("content-length without a body"));
        }
        self.events.push_back(Event::ResponseHead { id, head, end });
        if end {
            self.end_received(slot);
        }
        Ok(())
    }

    fn trailers(&mut self, (slot, end): (usize, bool), block: &[u8]) -> Outcome {
        let trailers = self.decode(Expect::Trailers, block)?.trailers();
        let stream = self.streams.at(slot);
        let fault = match trailers {
            _ if !end => Fault::Malformed("trailers do not end the stream"),
            _ if stream.expected.is_some_and(|left| left > 0) => {
                Fault::Malformed("content-length does not hold")
            }
            Err(fault) => fault,
            Ok(headers) => {
                let id = StreamId(stream.id);
                self.events.push_back(Event::Trailers { id, headers });
                self.end_received(slot);
                return Ok(());
            }
        };
        self.break_message(slot, fault)
    }

    fn break_message(&mut self, slot: usize, fault: Fault) -> Outcome {
        match fault {
            Fault::Malformed(reason) => self.break_stream(slot, Code::PROTOCOL_ERROR, reason),
            Fault::TooLarge => {
                self.break_stream(slot, Code::ENHANCE_YOUR_CALM, "head larger than we take")
            }
        }
    }
}

/// How long the body of a response must be (RFC 9110, section 8.6).
fn expected_body(stream: &Stream, head: &ResponseHead, length: Option<u64>) -> Option<u64> {
    if stream.bodiless || matches!(head.status, 204 | 304) {
        return Some(0);
    }
    if stream.tunnel && (200..300).contains(&head.status) {
        return None;
    }
    length
}
