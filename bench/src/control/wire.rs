//! One gRPC call over one HTTP/2 connection, with nothing that it does not need.

use anyhow::{Result, bail, ensure};

use crate::wire::h2;

/// The windows of hyper's client, which tonic has: of a stream and of its connection.
const WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 5 << 20;
/// The largest frame that a peer must take (RFC 9113, 6.5.2).
const FRAME: usize = 16_384;
const STREAM: u32 = 1;
const PADDED: u8 = 8;

/// Both directions of the call.
#[derive(Debug)]
pub(super) struct Wire {
    /// For the socket.
    pub(super) out: Vec<u8>,
    /// Messages that the peer's windows have no room for yet.
    waiting: Vec<u8>,
    /// A frame that has not come completely.
    rest: Vec<u8>,
    connection_window: i64,
    stream_window: i64,
    initial_window: i64,
    /// Bytes that were read and not yet given back to the windows.
    taken: u32,
}

impl Wire {
    pub(super) fn new(path: &str, authority: &str) -> Self {
        let mut out = h2::PREFACE.to_vec();
        h2::put_settings(&mut out, WINDOW);
        h2::put_window(&mut out, 0, CONNECTION_WINDOW - h2::FIRST_WINDOW);
        h2::put_headers(&mut out, STREAM, &h2::call_block(path, authority), false);
        let first = i64::from(h2::FIRST_WINDOW);
        Wire {
            out,
            waiting: Vec::new(),
            rest: Vec::new(),
            connection_window: first,
            stream_window: first,
            initial_window: first,
            taken: 0,
        }
    }

    /// Queues a message.
    pub(super) fn send(&mut self, message: &[u8]) {
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
        self.waiting.push(0);
        self.waiting.extend_from_slice(&length.to_be_bytes());
        self.waiting.extend_from_slice(message);
        self.fill();
    }

    /// Nothing is left to be written.
    pub(super) fn is_drained(&self) -> bool {
        self.out.is_empty() && self.waiting.is_empty()
    }

    fn fill(&mut self) {
        let mut at = 0;
        while at < self.waiting.len() {
            let room = self.connection_window.min(self.stream_window).max(0);
            let room = usize::try_from(room).unwrap_or_default();
            let size = room.min(FRAME).min(self.waiting.len() - at);
            if size == 0 {
                break;
            }
            let piece = &self.waiting[at..at + size];
            h2::put(&mut self.out, h2::DATA, 0, STREAM, piece);
            at += size;
            self.connection_window -= i64::try_from(size).unwrap_or_default();
            self.stream_window -= i64::try_from(size).unwrap_or_default();
        }
        self.waiting.drain(..at);
        if self.waiting.is_empty() {
            self.waiting.shrink_to(0);
        }
    }

    /// Takes what was read; the call's bytes go to `data`.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        mut data: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut joined = std::mem::take(&mut self.rest);
        let mut bytes = if joined.is_empty() {
            bytes
        } else {
            joined.extend_from_slice(bytes);
            &joined[..]
        };
        while let Some((frame, length)) = h2::frame(bytes) {
            self.frame(&frame, &mut data)?;
            bytes = &bytes[length..];
        }
        self.rest = bytes.to_vec();
        if self.taken >= WINDOW / 2 {
            h2::put_window(&mut self.out, 0, self.taken);
            h2::put_window(&mut self.out, STREAM, self.taken);
            self.taken = 0;
        }
        Ok(())
    }

    fn frame(
        &mut self,
        frame: &h2::Frame<'_>,
        data: &mut impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        match frame.kind {
            h2::DATA => {
                ensure!(frame.flags & PADDED == 0, "padding");
                self.taken += u32::try_from(frame.payload.len())?;
                data(frame.payload)?;
            }
            h2::HEADERS if !frame.ends_stream() => frame.check_status()?,
            h2::HEADERS => bail!("the server ended the call"),
            h2::RST_STREAM => bail!("the server reset the call"),
            h2::GOAWAY => bail!("the server ended the connection"),
            h2::SETTINGS if frame.flags & h2::ACK == 0 => {
                if let Some(window) = frame.initial_window() {
                    let window = i64::from(window);
                    self.stream_window += window - self.initial_window;
                    self.initial_window = window;
                }
                h2::put(&mut self.out, h2::SETTINGS, h2::ACK, 0, &[]);
                self.fill();
            }
            h2::PING if frame.flags & h2::ACK == 0 => {
                h2::put(&mut self.out, h2::PING, h2::ACK, 0, frame.payload);
            }
            h2::WINDOW_UPDATE => {
                let window = match frame.stream {
                    0 => &mut self.connection_window,
                    _ => &mut self.stream_window,
                };
                *window += i64::from(frame.increment());
                self.fill();
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_waits_for_the_window() {
        let mut wire = Wire::new("/x", "a");
        wire.out.clear();
        wire.send(&vec![7; 100_000]);
        assert!(!wire.is_drained());
        let mut update = Vec::new();
        h2::put_window(&mut update, 0, 50_000);
        let none = |_: &[u8]| -> Result<()> { unreachable!("no data") };
        wire.take(&update, none).expect("well formed");
        assert!(!wire.waiting.is_empty(), "only one of two windows");
        update.clear();
        h2::put_window(&mut update, STREAM, 50_000);
        // In two pieces.
        wire.take(&update[..5], none).expect("well formed");
        wire.take(&update[5..], none).expect("well formed");
        assert!(wire.waiting.is_empty());
        let mut sent = 0;
        let mut out = &wire.out[..];
        while let Some((frame, length)) = h2::frame(out) {
            sent += frame.payload.len();
            out = &out[length..];
        }
        assert_eq!(sent, 100_005);
    }
}
