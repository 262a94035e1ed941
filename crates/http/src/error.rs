//! What can go wrong on a connection, told apart as far as a retry decision needs it.

use crate::Request;

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
}

impl Error {
    /// True where the peer provably did not process the request.
    pub fn is_safe_to_retry(&self) -> bool {
        matches!(self, Error::Refused(_))
    }

    pub(crate) fn from_engine(error: &hyper::Error) -> Self {
        use std::error::Error as _;
        let mut text = error.to_string();
        if let Some(source) = error.source() {
            text = format!("{text}: {source}");
        }
        if let Some(h2) = error.source().and_then(|s| s.downcast_ref::<h2::Error>()) {
            return match h2.reason() {
                Some(h2::Reason::REFUSED_STREAM) => Error::Refused(text),
                Some(_) if h2.is_reset() => Error::Reset(text),
                Some(_) => Error::Closed(text),
                None => Error::Closed(text),
            };
        }
        if error.is_parse() {
            Error::Protocol(text)
        } else if error.is_user() {
            if text.contains("body") {
                Error::Body(text)
            } else {
                Error::Unsendable(text)
            }
        } else {
            Error::Closed(text)
        }
    }
}

/// A body that ended before its end.
#[derive(Debug, Clone, thiserror::Error)]
#[error("body ended early: {0}")]
pub struct BodyError(pub String);

/// A request that got no response.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct SendError {
    /// Why.
    pub error: Error,
    /// The request itself, where not one byte of it was written.
    pub unsent: Option<Box<Request>>,
    /// The connection had carried an earlier exchange: it may have been closing already.
    pub reused: bool,
}
