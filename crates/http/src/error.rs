//! What can go wrong on a connection, told apart as far as a retry decision needs it.

use crate::Body;

/// A failure of a connection or of one exchange on it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The peer closed or reset the connection before the exchange was complete.
    #[error("connection closed by the peer before the exchange was complete: {0}")]
    Closed(String),
    /// The peer refused the stream without processing it (HTTP/2 REFUSED_STREAM or GOAWAY).
    #[error("stream refused by the peer: {0}")]
    Refused(String),
    /// The peer reset the stream.
    #[error("stream reset by the peer: {0}")]
    Reset(String),
    /// The peer broke the protocol.
    #[error("protocol error: {0}")]
    Protocol(String),
    /// The message that we were asked to send cannot be sent in this protocol.
    #[error("message cannot be sent: {0}")]
    Unsendable(String),
    /// The body that we were sending failed.
    #[error("request body failed: {0}")]
    Body(String),
    /// What the peer had to do in time it did not.
    #[error("timeout: {0}")]
    Timeout(&'static str),
}

impl Error {
    /// A failure of the stream beneath.
    pub(crate) fn io(error: &std::io::Error) -> Self {
        Error::Closed(error.to_string())
    }

    /// A request that is no HTTP/1.
    pub(crate) fn parse(error: crate::h1::ParseError) -> Self {
        Error::Protocol(error.to_string())
    }

    /// True where the peer provably did not process the request.
    pub fn is_safe_to_retry(&self) -> bool {
        matches!(self, Error::Refused(_))
    }
}

/// A body that ended before its end.
#[derive(Debug, Clone, thiserror::Error)]
#[error("body ended early: {text}")]
pub struct BodyError {
    /// By whom.
    pub fault: BodyFault,
    /// What happened, for logs.
    pub text: String,
}

/// What ended a body before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFault {
    /// The connection closed or failed.
    Closed,
    /// The peer reset the stream.
    Reset,
    /// The peer broke the protocol.
    Protocol,
    /// This side: a limit, or somebody who wants no more of it.
    Local,
}

impl BodyError {
    /// A body that ended so.
    pub fn new(fault: BodyFault, text: impl Into<String>) -> Self {
        let text = text.into();
        BodyError { fault, text }
    }
}

/// A request that got no response.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct SendError {
    /// Why.
    pub error: Error,
    /// The request's body, where not one byte of the request was written.
    pub unsent: Option<Body>,
    /// The connection had carried an earlier exchange: it may have been closing already.
    pub reused: bool,
}
