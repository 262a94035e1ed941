//! What a connection tells its driver.

use std::fmt;

use bytes::Bytes;

use super::Code;
use crate::{Headers, RequestHead, ResponseHead};

/// The number of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(super) u32);

impl StreamId {
    /// The number itself.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl From<u32> for StreamId {
    fn from(id: u32) -> Self {
        StreamId(id)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who ended a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetBy {
    /// The peer, with RST_STREAM.
    Peer,
    /// The peer, whose GOAWAY said that it has not processed the stream. The code is
    /// REFUSED_STREAM.
    GoAway,
    /// This codec, since the message was malformed. RST_STREAM is sent.
    Malformed,
    /// The end of the whole connection, by its error or by the end of input.
    Connection,
}

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// A request came (server).
    RequestHead {
        /// The stream.
        id: StreamId,
        /// The head.
        head: RequestHead,
        /// There is neither body nor trailers.
        end: bool,
    },
    /// The final response head came (client).
    ResponseHead {
        /// The stream.
        id: StreamId,
        /// The head.
        head: ResponseHead,
        /// There is neither body nor trailers.
        end: bool,
    },
    /// A 1xx head came (client).
    Informational {
        /// The stream.
        id: StreamId,
        /// The head.
        head: ResponseHead,
    },
    /// A piece of a body. Each of its bytes must be [released](super::Connection::release) once,
    /// also after the stream was reset. An empty piece ends a body.
    Data {
        /// The stream.
        id: StreamId,
        /// The bytes.
        data: Bytes,
        /// There is nothing after this.
        end: bool,
    },
    /// Trailers ended a message.
    Trailers {
        /// The stream.
        id: StreamId,
        /// The fields.
        headers: Headers,
    },
    /// A stream ended before its end. No further event names it but [`Event::Data`] that came
    /// before.
    Reset {
        /// The stream.
        id: StreamId,
        /// Why. REFUSED_STREAM: it was not processed, and can be tried again.
        code: Code,
        /// Who did it.
        by: ResetBy,
    },
    /// A stream whose queue had no room has room again.
    Writable {
        /// The stream.
        id: StreamId,
    },
    /// The peer will take no new streams. Those above `last` follow as [`Event::Reset`].
    GoAway {
        /// The last stream that the peer processes.
        last: StreamId,
        /// Why.
        code: Code,
    },
    /// The peer's settings came or changed: another number of streams may be possible.
    SettingsChanged,
    /// The answer to [`Connection::ping`](super::Connection::ping).
    Pong,
}

/// The connection must end; GOAWAY with this code is in the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("HTTP/2 connection error {code}: {reason}")]
pub struct ConnectionError {
    /// The code that the peer is told.
    pub code: Code,
    /// What was wrong.
    pub reason: &'static str,
}

/// Why something was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotSend {
    /// The peer allows no further stream at this time.
    #[error("the peer allows no further stream at this time")]
    Full,
    /// The connection takes no new streams any more.
    #[error("the connection is closing")]
    GoingAway,
    /// The stream does not exist any more: it was reset, or both sides have ended it.
    #[error("the stream has ended")]
    Ended,
    /// A call that does not fit the state of the stream: a second head, data before the head or
    /// after the end, a request from a server.
    #[error("out of order: {0}")]
    Order(&'static str),
    /// A message that HTTP/2 has no form for.
    #[error("not sendable over HTTP/2: {0}")]
    Unsendable(&'static str),
}
