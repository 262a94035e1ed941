//! Heads to header blocks.

use super::CannotSend;
use super::frame::{HEADER, Header, flag, kind};
use crate::hpack::{Encoder, Indexing, NameId};
use crate::names::Known;
use crate::{Headers, Method, RequestHead};

/// Cookies below this length can be guessed through the size of what is compressed with them, and
/// are never indexed (RFC 7541, section 7.1.3).
const SHORT_COOKIE: usize = 20;

/// Writes a HEADERS frame, and CONTINUATION frames where one does not hold the block.
pub(super) fn frames(
    out: &mut Vec<u8>,
    (id, end): (u32, bool),
    max_frame: usize,
    encode: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    encode(out);
    let length = out.len() - start - HEADER;
    let end_stream = if end { flag::END_STREAM } else { 0 };
    if length > max_frame {
        return split(out, start, (id, end_stream), max_frame);
    }
    let header = Header {
        length,
        kind: kind::HEADERS,
        flags: flag::END_HEADERS | end_stream,
        id,
    };
    out[start..start + HEADER].copy_from_slice(&header.bytes());
}

#[cold]
fn split(out: &mut Vec<u8>, start: usize, (id, end_stream): (u32, u8), max_frame: usize) {
    let block = out.split_off(start + HEADER);
    out.truncate(start);
    let n_frames = block.len().div_ceil(max_frame);
    for (n, part) in block.chunks(max_frame).enumerate() {
        let last = if n + 1 == n_frames {
            flag::END_HEADERS
        } else {
            0
        };
        let header = Header {
            length: part.len(),
            kind: if n == 0 {
                kind::HEADERS
            } else {
                kind::CONTINUATION
            },
            flags: last | if n == 0 { end_stream } else { 0 },
            id,
        };
        out.extend_from_slice(&header.bytes());
        out.extend_from_slice(part);
    }
}

/// What a request needs to be sendable, before a stream is spent on it.
pub(super) fn check_request(head: &RequestHead, connect_protocol: bool) -> Result<(), CannotSend> {
    let is_connect = head.method == Method::CONNECT;
    match head.protocol() {
        Some(_) if !is_connect => Err(CannotSend::Unsendable(":protocol without CONNECT")),
        Some(_) if !connect_protocol => {
            Err(CannotSend::Unsendable("the peer takes no extended CONNECT"))
        }
        None if is_connect && head.authority().is_empty() => {
            Err(CannotSend::Unsendable("CONNECT without authority"))
        }
        None if is_connect => Ok(()),
        _ if head.target().is_empty() => Err(CannotSend::Unsendable("no path")),
        _ => Ok(()),
    }
}

/// The block of a request.
pub(super) fn request(encoder: &mut Encoder, out: &mut Vec<u8>, head: &RequestHead) {
    encoder.begin(out);
    let mut pseudo = |id, name: &[u8], value: &[u8]| {
        encoder.field(out, (id, name), value, Indexing::Adaptive);
    };
    pseudo(NameId::METHOD, b":method", head.method.as_str().as_bytes());
    if head.method != Method::CONNECT || head.protocol().is_some() {
        let scheme = head.scheme.map_or("http", |scheme| scheme.as_str());
        pseudo(NameId::SCHEME, b":scheme", scheme.as_bytes());
        pseudo(NameId::PATH, b":path", head.target_bytes());
    }
    if head.has_authority() {
        pseudo(NameId::AUTHORITY, b":authority", head.authority_bytes());
    }
    if let Some(protocol) = head.protocol() {
        pseudo(NameId::PROTOCOL, b":protocol", protocol.as_bytes());
    }
    // `Host` says what `:authority` says.
    fields(encoder, out, &head.headers, head.has_authority());
}

/// The block of a response.
pub(super) fn response(encoder: &mut Encoder, out: &mut Vec<u8>, status: u16, headers: &Headers) {
    encoder.begin(out);
    let digit = |n: u16| b'0' + (n % 10) as u8;
    let digits = [digit(status / 100), digit(status / 10), digit(status)];
    let name = (NameId::STATUS, &b":status"[..]);
    encoder.field(out, name, &digits, Indexing::Adaptive);
    fields(encoder, out, headers, false);
}

/// The block of trailers.
pub(super) fn trailers(encoder: &mut Encoder, out: &mut Vec<u8>, headers: &Headers) {
    encoder.begin(out);
    fields(encoder, out, headers, false);
}

fn fields(encoder: &mut Encoder, out: &mut Vec<u8>, headers: &Headers, skip_host: bool) {
    for field in headers.fields() {
        let Some(known) = field.known() else {
            other(
                encoder,
                out,
                field.name,
                field.value,
                indexing(field.sensitive),
            );
            continue;
        };
        let mut sensitive = field.sensitive;
        match known {
            // RFC 9113, section 8.2.2.
            Known::CONNECTION
            | Known::KEEP_ALIVE
            | Known::PROXY_CONNECTION
            | Known::TRANSFER_ENCODING
            | Known::HTTP2_SETTINGS
            | Known::UPGRADE => continue,
            Known::TE if !field.value.eq_ignore_ascii_case(b"trailers") => continue,
            Known::HOST if skip_host => continue,
            Known::AUTHORIZATION | Known::PROXY_AUTHORIZATION => sensitive = true,
            Known::COOKIE if field.value.len() < SHORT_COOKIE => sensitive = true,
            _ => {}
        }
        let name = (NameId::from(known), known.as_str().as_bytes());
        encoder.field(out, name, field.value.trim_ascii(), indexing(sensitive));
    }
}

/// A name that is not well known may have capitals, where it came by HTTP/1.
fn other(encoder: &mut Encoder, out: &mut Vec<u8>, name: &[u8], value: &[u8], how: Indexing) {
    let value = value.trim_ascii();
    if !name.iter().any(u8::is_ascii_uppercase) {
        return encoder.field(out, (NameId::OTHER, name), value, how);
    }
    let lower = name.to_ascii_lowercase();
    encoder.field(out, (NameId::OTHER, &lower), value, how);
}

fn indexing(sensitive: bool) -> Indexing {
    if sensitive {
        Indexing::Never
    } else {
        Indexing::Adaptive
    }
}
