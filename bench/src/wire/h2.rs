//! Frames of HTTP/2 (RFC 9113) with header blocks that need no dynamic table.

use anyhow::{Result, ensure};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const HEADER: usize = 9;
/// The largest window that there is (RFC 9113, 6.9.1).
pub(crate) const MAX_WINDOW: u32 = (1 << 31) - 1;
/// The window of a connection at its start.
pub(crate) const FIRST_WINDOW: u32 = 65_535;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// One frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: &'a [u8],
}

/// The first frame in `bytes`, once it is complete, and its length.
pub(crate) fn frame(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    let header = bytes.get(..HEADER)?;
    let length =
        usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
    let payload = bytes.get(HEADER..HEADER + length)?;
    let stream = u32::from_be_bytes([header[5] & 0x7f, header[6], header[7], header[8]]);
    let frame = Frame {
        kind: header[3],
        flags: header[4],
        stream,
        payload,
    };
    Some((frame, HEADER + length))
}

impl Frame<'_> {
    pub(crate) fn ends_stream(&self) -> bool {
        self.flags & END_STREAM != 0
    }

    /// The number at the start of a WINDOW_UPDATE.
    pub(crate) fn increment(&self) -> u32 {
        let bytes = self.payload.first_chunk::<4>().copied();
        u32::from_be_bytes(bytes.unwrap_or_default()) & MAX_WINDOW
    }

    /// What SETTINGS say about the window of new streams.
    pub(crate) fn initial_window(&self) -> Option<u32> {
        self.payload
            .as_chunks::<6>()
            .0
            .iter()
            .rev()
            .find_map(|setting| {
                let [a, b, value @ ..] = *setting;
                let found = u16::from_be_bytes([a, b]) == INITIAL_WINDOW_SIZE;
                found.then(|| u32::from_be_bytes(value))
            })
    }

    /// Whether a header block begins with `:status: 200`, which every encoder takes from the
    /// static table (RFC 7541, appendix A).
    pub(crate) fn check_status(&self) -> Result<()> {
        let mut block = self.payload;
        if self.flags & PADDED != 0 {
            block = block.get(1..).unwrap_or_default();
        }
        if self.flags & PRIORITY != 0 {
            block = block.get(5..).unwrap_or_default();
        }
        // Changes of the table's size may stand in front (RFC 7541, 6.3).
        while let [first, rest @ ..] = block
            && first & 0xe0 == 0x20
        {
            let more = if first & 0x1f == 0x1f {
                rest.iter().take_while(|byte| **byte & 0x80 != 0).count() + 1
            } else {
                0
            };
            block = rest.get(more..).unwrap_or_default();
        }
        ensure!(block.first() == Some(&0x88), "an answer that is not 200");
        Ok(())
    }
}

/// Appends a frame.
pub(crate) fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len())
        .unwrap_or(u32::MAX)
        .to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

pub(crate) fn put_headers(out: &mut Vec<u8>, stream: u32, block: &[u8], ends: bool) {
    let flags = END_HEADERS | if ends { END_STREAM } else { 0 };
    put(out, HEADERS, flags, stream, block);
}

/// Our SETTINGS, and the largest window for the connection.
pub(crate) fn put_start(out: &mut Vec<u8>) {
    put_settings(out, 1 << 20);
    put_window(out, 0, MAX_WINDOW - FIRST_WINDOW);
}

/// Our SETTINGS, with the window that each stream begins with.
pub(crate) fn put_settings(out: &mut Vec<u8>, window: u32) {
    let mut settings = Vec::new();
    for (name, value) in [
        (MAX_CONCURRENT_STREAMS, 1000_u32),
        (INITIAL_WINDOW_SIZE, window),
    ] {
        settings.extend_from_slice(&name.to_be_bytes());
        settings.extend_from_slice(&value.to_be_bytes());
    }
    put(out, SETTINGS, 0, 0, &settings);
}

pub(crate) fn put_window(out: &mut Vec<u8>, stream: u32, increment: u32) {
    put(out, WINDOW_UPDATE, 0, stream, &increment.to_be_bytes());
}

/// The header block of a GET, as `wire::h1::request` has it.
pub(crate) fn request_block() -> Vec<u8> {
    // :method GET and :scheme http, from the static table.
    let mut block = vec![0x82, 0x86];
    indexed_name(&mut block, 4, "/api/v1/items/42");
    indexed_name(&mut block, 1, "items.default.svc.cluster.local:8080");
    literal(&mut block, "user-agent", "lateen-bench");
    literal(&mut block, "accept", "*/*");
    literal(&mut block, "x-tenant", "blue");
    block
}

/// The header block of a gRPC call in plain text.
pub(crate) fn call_block(path: &str, authority: &str) -> Vec<u8> {
    // :method POST and :scheme http, from the static table.
    let mut block = vec![0x83, 0x86];
    indexed_name(&mut block, 4, path);
    indexed_name(&mut block, 1, authority);
    literal(&mut block, "content-type", "application/grpc");
    literal(&mut block, "te", "trailers");
    block
}

/// The header block of an answer with a body of `length` bytes.
pub(crate) fn response_block(length: usize) -> Vec<u8> {
    let mut block = vec![0x88];
    literal(&mut block, "content-length", &length.to_string());
    literal(&mut block, "content-type", "text/plain");
    block
}

/// A field whose name is in the static table, not to be indexed (RFC 7541, 6.2.2).
fn indexed_name(block: &mut Vec<u8>, index: u8, value: &str) {
    block.push(index);
    text(block, value);
}

fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    text(block, name);
    text(block, value);
}

/// A short string without Huffman coding (RFC 7541, 5.2).
fn text(block: &mut Vec<u8>, text: &str) {
    debug_assert!(text.len() < 127);
    block.extend(u8::try_from(text.len()));
    block.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_round_trip() {
        let mut bytes = Vec::new();
        put(&mut bytes, DATA, END_STREAM, 7, b"hello");
        put_window(&mut bytes, 0, 12);
        let (first, length) = frame(&bytes).expect("whole");
        assert_eq!(
            (first.kind, first.stream, first.payload),
            (DATA, 7, &b"hello"[..])
        );
        assert!(first.ends_stream());
        assert_eq!(frame(&bytes[length..]).expect("whole").0.increment(), 12);
        assert!(frame(&bytes[..length - 1]).is_none());
    }

    #[test]
    fn the_window_of_streams_is_found() {
        let mut bytes = Vec::new();
        put_start(&mut bytes);
        assert_eq!(
            frame(&bytes).expect("whole").0.initial_window(),
            Some(1 << 20)
        );
    }

    #[test]
    fn only_status_200_passes() {
        let check = |flags: u8, payload: &[u8], expect: bool| {
            let frame = Frame {
                kind: HEADERS,
                flags,
                stream: 1,
                payload,
            };
            assert_eq!(frame.check_status().is_ok(), expect, "{payload:x?}");
        };
        check(0, &response_block(3), true);
        check(0, &[0x20, 0x88], true);
        check(0, &[0x3f, 0xe1, 0x1f, 0x88], true);
        check(PADDED, &[0, 0x88], true);
        check(0, &[0x8d], false);
        check(0, &[], false);
    }
}
