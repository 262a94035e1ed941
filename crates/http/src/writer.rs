//! Writing an HTTP/1 message: its head, and its body piece by piece as the socket takes it.

use std::task::Context;

use bytes::Bytes;

use crate::h1::{self, Framing};
use crate::message::sanitize_trailers;
use crate::transport::Transport;
use crate::{Error, Frame, Headers};

/// Writes one message in its framing.
pub(crate) struct MessageWriter {
    framing: Framing,
    /// Bytes still to come in a framing by length.
    left: u64,
    ended: bool,
}

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
const CHUNK_END: &[u8] = b"\r\n";
const CHUNK_END_AND_LAST: &[u8] = b"\r\n0\r\n\r\n";

impl MessageWriter {
    pub(crate) fn new(framing: Framing) -> Self {
        MessageWriter {
            framing,
            left: match framing {
                Framing::Length(length) => length,
                _ => 0,
            },
            ended: false,
        }
    }

    /// True where the message is complete.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Sends the head alone, since the body has nothing yet.
    pub(crate) fn send_head(
        &mut self,
        transport: &mut Transport,
        cx: &mut Context<'_>,
        head: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Error> {
        let sent = transport.send(cx, head, Bytes::new(), b"", false);
        sent.map_err(|error| Error::io(&error))
    }

    /// Sends a piece of the body, or its end, behind what `head` writes. `last` says that nothing
    /// follows the piece.
    pub(crate) fn send(
        &mut self,
        transport: &mut Transport,
        cx: &mut Context<'_>,
        head: impl FnOnce(&mut Vec<u8>),
        frame: Option<Frame>,
        last: bool,
    ) -> Result<(), Error> {
        let chunked = self.framing == Framing::Chunked;
        let result = match frame {
            Some(Frame::Data(data)) if chunked => {
                self.ended = last;
                let length = data.len();
                let tail = match (length, last) {
                    (0, false) => &b""[..],
                    (0, true) => LAST_CHUNK,
                    (_, false) => CHUNK_END,
                    (_, true) => CHUNK_END_AND_LAST,
                };
                let head = |out: &mut Vec<u8>| {
                    head(out);
                    if length > 0 {
                        h1::encode_chunk_start(length, out);
                    }
                };
                transport.send(cx, head, data, tail, last)
            }
            Some(Frame::Data(data)) => {
                self.count(data.len() as u64)?;
                if last {
                    self.end()?;
                }
                transport.send(cx, head, data, b"", last)
            }
            Some(Frame::Trailers(trailers)) => {
                self.end()?;
                transport.send(
                    cx,
                    |out| trailer(head, chunked, trailers, out),
                    Bytes::new(),
                    b"",
                    true,
                )
            }
            None => {
                self.end()?;
                let tail = if chunked { LAST_CHUNK } else { b"" };
                transport.send(cx, head, Bytes::new(), tail, true)
            }
        };
        result.map_err(|error| Error::io(&error))
    }

    fn count(&mut self, length: u64) -> Result<(), Error> {
        if let Framing::Length(_) = self.framing {
            let longer = || Error::Body("longer than its declared length".to_owned());
            self.left = self.left.checked_sub(length).ok_or_else(longer)?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Error> {
        if self.left > 0 {
            return Err(Error::Body(format!(
                "{} bytes shorter than its declared length",
                self.left
            )));
        }
        self.ended = true;
        Ok(())
    }
}

/// Only chunks have a place for trailers.
fn trailer(
    head: impl FnOnce(&mut Vec<u8>),
    chunked: bool,
    mut trailers: Headers,
    out: &mut Vec<u8>,
) {
    head(out);
    if chunked {
        sanitize_trailers(&mut trailers);
        h1::encode_last_chunk(Some(&trailers), out);
    }
}
