//! Frames (RFC 9113, sections 4.1 and 6): the nine bytes before each, and the small ones whole.

use super::Code;

/// What a client sends first.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a frame header.
pub(super) const HEADER: usize = 9;

/// Frame types.
pub(super) mod kind {
    pub(in crate::h2) const DATA: u8 = 0x0;
    pub(in crate::h2) const HEADERS: u8 = 0x1;
    pub(in crate::h2) const PRIORITY: u8 = 0x2;
    pub(in crate::h2) const RST_STREAM: u8 = 0x3;
    pub(in crate::h2) const SETTINGS: u8 = 0x4;
    pub(in crate::h2) const PUSH_PROMISE: u8 = 0x5;
    pub(in crate::h2) const PING: u8 = 0x6;
    pub(in crate::h2) const GOAWAY: u8 = 0x7;
    pub(in crate::h2) const WINDOW_UPDATE: u8 = 0x8;
    pub(in crate::h2) const CONTINUATION: u8 = 0x9;
    /// RFC 9218.
    pub(in crate::h2) const PRIORITY_UPDATE: u8 = 0x10;
}

/// Frame flags.
pub(super) mod flag {
    pub(in crate::h2) const END_STREAM: u8 = 0x1;
    pub(in crate::h2) const ACK: u8 = 0x1;
    pub(in crate::h2) const END_HEADERS: u8 = 0x4;
    pub(in crate::h2) const PADDED: u8 = 0x8;
    pub(in crate::h2) const PRIORITY: u8 = 0x20;
}

/// A frame header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) id: u32,
}

impl Header {
    #[inline]
    pub(super) fn parse(bytes: &[u8; HEADER]) -> Self {
        let [a, b, c, kind, flags, id @ ..] = *bytes;
        Header {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            // The first bit is reserved and ignored.
            id: u32::from_be_bytes(id) & 0x7fff_ffff,
        }
    }

    #[inline]
    pub(super) fn bytes(self) -> [u8; HEADER] {
        let [_, a, b, c] = (self.length as u32).to_be_bytes();
        let [i, j, k, l] = self.id.to_be_bytes();
        [a, b, c, self.kind, self.flags, i, j, k, l]
    }

    #[inline]
    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// RST_STREAM
pub(super) fn rst_stream(id: u32, code: Code) -> [u8; HEADER + 4] {
    with_word(kind::RST_STREAM, id, code.0)
}

/// WINDOW_UPDATE
pub(super) fn window_update(id: u32, increment: u32) -> [u8; HEADER + 4] {
    with_word(kind::WINDOW_UPDATE, id, increment)
}

fn with_word(kind: u8, id: u32, word: u32) -> [u8; HEADER + 4] {
    let header = Header {
        length: 4,
        kind,
        flags: 0,
        id,
    };
    let mut frame = [0; HEADER + 4];
    frame[..HEADER].copy_from_slice(&header.bytes());
    frame[HEADER..].copy_from_slice(&word.to_be_bytes());
    frame
}

/// PING
pub(super) fn ping(payload: [u8; 8], flags: u8) -> [u8; HEADER + 8] {
    with_two_words(kind::PING, flags, payload)
}

/// GOAWAY without debug data
pub(super) fn go_away(last: u32, code: Code) -> [u8; HEADER + 8] {
    let mut payload = [0; 8];
    payload[..4].copy_from_slice(&last.to_be_bytes());
    payload[4..].copy_from_slice(&code.0.to_be_bytes());
    with_two_words(kind::GOAWAY, 0, payload)
}

fn with_two_words(kind: u8, flags: u8, payload: [u8; 8]) -> [u8; HEADER + 8] {
    let header = Header {
        length: 8,
        kind,
        flags,
        id: 0,
    };
    let mut frame = [0; HEADER + 8];
    frame[..HEADER].copy_from_slice(&header.bytes());
    frame[HEADER..].copy_from_slice(&payload);
    frame
}

/// The first four bytes as a number.
#[inline]
pub(super) fn word(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|word| u32::from_be_bytes(*word))
}

/// Takes the padding off a payload. None where there is more padding than payload.
#[inline]
pub(super) fn unpad(header: Header, payload: &[u8]) -> Option<&[u8]> {
    if !header.has(flag::PADDED) {
        return Some(payload);
    }
    let (&padding, rest) = payload.split_first()?;
    let length = rest.len().checked_sub(usize::from(padding))?;
    Some(&rest[..length])
}
