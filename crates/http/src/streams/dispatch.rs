//! Events of the codec to the streams that they are for.

use super::{Failure, State, Stream, wake};
use crate::h2::{Code, Event, ResetBy, StreamId};

impl State {
    /// Deals with everything that the codec has to tell.
    pub(super) fn dispatch(&mut self) {
        while let Some(event) = self.codec.next_event() {
            match event {
                Event::RequestHead { id, head, end } => {
                    let stream = self.enter(id);
                    if end {
                        stream.inbox.end();
                    }
                    self.arrived.push((id, head));
                }
                Event::ResponseHead { id, head, end } => self.with(id, |stream| {
                    stream.head = Some(head);
                    if end {
                        stream.inbox.end();
                    }
                }),
                Event::Informational { id, head } => self.with(id, |stream| {
                    stream.interim.push(head);
                }),
                Event::Data { id, data, end } => self.data(id, data, end),
                Event::Trailers { id, headers } => self.with(id, |stream| {
                    if !stream.unread {
                        stream.inbox.push_trailers(headers);
                    } else {
                        stream.inbox.end();
                    }
                }),
                Event::Reset { id, code, by } => self.was_reset(id, code, by),
                Event::Writable { id } => {
                    if let Some(stream) = self.table.get_mut(&id.get()) {
                        wake(&mut stream.writer);
                    }
                }
                Event::SettingsChanged => self.tell_change(),
                Event::GoAway { last, code } => {
                    tracing::debug!(%last, %code, "the peer is going away");
                    self.tell_change();
                }
                Event::Pong => self.answered = true,
            }
        }
    }

    /// Changes a stream, where somebody still wants it, and wakes its reader.
    fn with(&mut self, id: StreamId, change: impl FnOnce(&mut Stream)) {
        if let Some(stream) = self.table.get_mut(&id.get()) {
            change(stream);
            wake(&mut stream.reader);
        }
    }

    fn data(&mut self, id: StreamId, data: bytes::Bytes, end: bool) {
        let Some(stream) = self.table.get_mut(&id.get()) else {
            self.codec.credit(data.len());
            return;
        };
        if stream.unread {
            // The stream's own window is left to run out.
            self.codec.credit(data.len());
            if end {
                stream.inbox.end();
            }
            return;
        }
        stream.inbox.push(data, end);
        wake(&mut stream.reader);
    }

    fn was_reset(&mut self, id: StreamId, code: Code, by: ResetBy) {
        let failure = match by {
            ResetBy::GoAway => Failure::Refused("GOAWAY says that it was not processed"),
            ResetBy::Peer if code == Code::REFUSED_STREAM => Failure::Refused("REFUSED_STREAM"),
            ResetBy::Peer => Failure::Reset(code),
            ResetBy::Malformed => Failure::Protocol(format!("malformed message ({code})")),
            ResetBy::Connection => self.connection_failure(),
        };
        if let Some(stream) = self.table.get_mut(&id.get()) {
            stream.failure = Some(failure);
            wake(&mut stream.reader);
            wake(&mut stream.writer);
            if let Some(task) = stream.task.take() {
                task.abort();
            }
        }
    }

    /// Why streams end that end with their connection.
    pub(crate) fn connection_failure(&self) -> Failure {
        if let Some(error) = self.codec.error() {
            return Failure::Protocol(error.to_string());
        }
        let lost = self.lost.as_deref().unwrap_or("the connection has ended");
        Failure::Closed(lost.to_owned())
    }

    /// The socket is gone, and with it whatever was under way.
    pub(super) fn lose(&mut self, why: String) {
        self.lost.get_or_insert(why);
        self.codec.receive_eof();
        self.dispatch();
        self.tell_change();
    }
}
