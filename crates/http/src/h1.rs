//! HTTP/1.0 and 1.1 (RFC 9112) without sockets and clocks: from bytes to heads and bodies, and back.
//!
//! Framing is strict in both roles. Whatever two parties could read in two ways is refused, since a
//! proxy that guesses is how requests are smuggled: a bare CR or LF, white space before a colon, a
//! folded line, two lengths, a length beside a coding, a coding other than `chunked`.

mod body;
mod chunked;
mod encode;
mod framing;
mod head;

pub use body::{BodyDecoder, Decoded};
pub use encode::{
    encode_chunk_end, encode_chunk_start, encode_informational, encode_last_chunk, encode_request,
    encode_response, reason_phrase,
};
pub use framing::{Framing, request_framing, response_framing};
pub use head::{HeadParser, Limits, ParsedRequest, ParsedResponse};

/// Why bytes are not HTTP/1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A line ends without CR, or a CR stands alone.
    #[error("line does not end in CR LF")]
    LineEnd,
    /// The request line is no request line.
    #[error("malformed request line")]
    RequestLine,
    /// The status line is no status line.
    #[error("malformed status line")]
    StatusLine,
    /// A field line is no field line.
    #[error("malformed header field")]
    Field,
    /// The version is not 1.0 or 1.1.
    #[error("unsupported HTTP version")]
    Version,
    /// The target is neither a path nor a URI, or not one that can be sent on.
    #[error("malformed request target")]
    Target,
    /// `Host` is missing, repeated, or no authority.
    #[error("missing or malformed Host")]
    Host,
    /// The head has too many bytes.
    #[error("head too large")]
    HeadTooLarge,
    /// The head has too many fields.
    #[error("too many header fields")]
    TooManyFields,
    /// `Content-Length` is no number, or there are several.
    #[error("malformed Content-Length")]
    ContentLength,
    /// The last coding is not `chunked`, so that nobody knows where the body ends.
    #[error("Transfer-Encoding does not end in chunked")]
    ChunkedNotLast,
    /// A coding beside `chunked`.
    #[error("unsupported Transfer-Encoding")]
    TransferEncoding,
    /// A length beside a coding.
    #[error("both Content-Length and Transfer-Encoding")]
    BothLengths,
    /// A chunk is no chunk.
    #[error("malformed chunk")]
    Chunk,
    /// Extensions of chunks have too many bytes.
    #[error("chunk extensions too large")]
    ChunkExtensions,
    /// The peer ended before the message did.
    #[error("message ended early")]
    Truncated,
}

impl ParseError {
    /// The status that tells a client.
    pub fn status(self) -> u16 {
        match self {
            ParseError::HeadTooLarge | ParseError::TooManyFields => 431,
            ParseError::Version => 505,
            ParseError::TransferEncoding => 501,
            _ => 400,
        }
    }
}

#[cfg(test)]
mod tests;
