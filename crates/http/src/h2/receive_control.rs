//! Frames in that steer: resets, windows, settings, PING, GOAWAY and priorities.

use super::connection::{DRIVER_PING, GRACEFUL_PING};
use super::event::{Event, ResetBy, StreamId};
use super::frame::{self, Header, flag};
use super::receive::{Absent, Outcome, error, protocol, wrong_size};
use super::window::{DEFAULT, LARGEST};
use super::{Code, Connection, Role};

impl Connection {
    pub(super) fn rst_stream(&mut self, header: Header, payload: &[u8]) -> Outcome {
        let (Some(code), 4) = (frame::word(payload), payload.len()) else {
            return wrong_size("RST_STREAM of a wrong size");
        };
        let Some(slot) = self.streams.find(header.id) else {
            return match self.absent(header.id) {
                Absent::Idle => protocol("RST_STREAM on an idle stream"),
                Absent::Closed(_) => self.floods.ignored(),
            };
        };
        let stream = self.streams.at(slot);
        let premature = self.role == Role::Server && !stream.head_sent;
        self.remove(slot, false);
        self.events.push_back(Event::Reset {
            id: StreamId(header.id),
            code: Code(code),
            by: ResetBy::Peer,
        });
        if premature {
            self.floods.premature_reset()?;
        }
        Ok(())
    }

    pub(super) fn window_update(&mut self, header: Header, payload: &[u8]) -> Outcome {
        let (Some(word), 4) = (frame::word(payload), payload.len()) else {
            return wrong_size("WINDOW_UPDATE of a wrong size");
        };
        self.floods.window_update()?;
        let increment = i64::from(word & 0x7fff_ffff);
        if header.id == 0 {
            self.send_window += increment;
            return match increment {
                0 => protocol("WINDOW_UPDATE by nothing"),
                _ if self.send_window > LARGEST => {
                    error(Code::FLOW_CONTROL_ERROR, "connection window too large")
                }
                _ => Ok(()),
            };
        }
        let Some(slot) = self.streams.find(header.id) else {
            return match self.absent(header.id) {
                Absent::Idle => protocol("WINDOW_UPDATE on an idle stream"),
                Absent::Closed(_) => Ok(()),
            };
        };
        let stream = self.streams.at_mut(slot);
        stream.send_window += increment;
        if increment == 0 {
            return self.break_stream(slot, Code::PROTOCOL_ERROR, "WINDOW_UPDATE by nothing");
        }
        if stream.send_window > LARGEST {
            return self.break_stream(slot, Code::FLOW_CONTROL_ERROR, "window too large");
        }
        self.schedule(slot);
        Ok(())
    }

    pub(super) fn settings(&mut self, header: Header, payload: &[u8]) -> Outcome {
        if header.id != 0 {
            return protocol("SETTINGS on a stream");
        }
        if header.has(flag::ACK) {
            return self.settings_acknowledged(payload);
        }
        self.floods.settings()?;
        self.check_pending()?;
        let before = self.peer;
        let smallest_table = self.peer.apply(payload, self.role)?;
        if self.peer.header_table_size != before.header_table_size {
            self.encoder.set_limit(smallest_table as usize);
            self.encoder.set_limit(self.peer.header_table_size as usize);
        }
        let change = i64::from(self.peer.initial_window) - i64::from(before.initial_window);
        if change != 0 {
            self.shift_send_windows(change)?;
        }
        self.acknowledge_settings()?;
        self.events.push_back(Event::SettingsChanged);
        Ok(())
    }

    /// The initial window counts for streams that are open, too (RFC 9113, section 6.9.2).
    fn shift_send_windows(&mut self, change: i64) -> Outcome {
        for stream in self.streams.iter_mut() {
            stream.send_window += change;
            if stream.send_window > LARGEST {
                return error(Code::FLOW_CONTROL_ERROR, "window too large");
            }
        }
        if change > 0 {
            for slot in self.streams.slots() {
                self.schedule(slot);
            }
        }
        Ok(())
    }

    fn settings_acknowledged(&mut self, payload: &[u8]) -> Outcome {
        if !payload.is_empty() {
            return wrong_size("acknowledgement of SETTINGS with a payload");
        }
        if !std::mem::take(&mut self.settings_unacked) {
            return self.floods.ignored();
        }
        self.decoder
            .set_limit(self.config.header_table_size as usize);
        let change = i64::from(self.config.initial_window) - i64::from(DEFAULT);
        if change < 0 {
            for stream in self.streams.iter_mut() {
                stream.receive.shift(change);
            }
        }
        Ok(())
    }

    pub(super) fn pinged(&mut self, header: Header, payload: &[u8]) -> Outcome {
        if header.id != 0 {
            return protocol("PING on a stream");
        }
        let Some(&payload) = payload.first_chunk::<8>().filter(|_| payload.len() == 8) else {
            return wrong_size("PING of a wrong size");
        };
        if !header.has(flag::ACK) {
            self.floods.ping()?;
            self.check_pending()?;
            return self.answer(&frame::ping(payload, flag::ACK));
        }
        match payload {
            GRACEFUL_PING => self.go_away(Code::NO_ERROR),
            DRIVER_PING => self.events.push_back(Event::Pong),
            _ => return self.floods.ignored(),
        }
        Ok(())
    }

    pub(super) fn goaway(&mut self, header: Header, payload: &[u8]) -> Outcome {
        if header.id != 0 {
            return protocol("GOAWAY on a stream");
        }
        let (Some(last), Some(code)) =
            (frame::word(payload), payload.get(4..).and_then(frame::word))
        else {
            return wrong_size("GOAWAY of a wrong size");
        };
        if self.peer_going {
            self.floods.ignored()?;
        }
        self.peer_going = true;
        let last = last & 0x7fff_ffff;
        self.events.push_back(Event::GoAway {
            last: StreamId(last),
            code: Code(code),
        });
        if self.role == Role::Client {
            self.refuse_above(last);
        }
        Ok(())
    }

    /// The server has not processed these and will not.
    fn refuse_above(&mut self, last: u32) {
        for slot in self.streams.slots() {
            if self.streams.at(slot).id > last {
                let id = self.remove(slot, true);
                self.events.push_back(Event::Reset {
                    id: StreamId(id),
                    code: Code::REFUSED_STREAM,
                    by: ResetBy::GoAway,
                });
            }
        }
    }

    pub(super) fn priority(&mut self, header: Header, payload: &[u8]) -> Outcome {
        if header.id == 0 {
            return protocol("PRIORITY on stream 0");
        }
        self.floods.priority()?;
        let (code, reason) = match frame::word(payload) {
            Some(depends) if payload.len() == 5 => {
                if depends & 0x7fff_ffff != header.id {
                    return Ok(());
                }
                (Code::PROTOCOL_ERROR, "a stream depends on itself")
            }
            _ => (Code::FRAME_SIZE_ERROR, "PRIORITY of a wrong size"),
        };
        match self.streams.find(header.id) {
            Some(slot) => self.break_stream(slot, code, reason),
            // A stream that nobody opened cannot be reset.
            None => error(code, reason),
        }
    }

    /// RFC 9218, section 7.1.
    pub(super) fn priority_update(&mut self, header: Header, payload: &[u8]) -> Outcome {
        if header.id != 0 {
            return protocol("PRIORITY_UPDATE on a stream");
        }
        if payload.len() < 4 {
            return wrong_size("PRIORITY_UPDATE of a wrong size");
        }
        self.floods.priority()
    }
}
