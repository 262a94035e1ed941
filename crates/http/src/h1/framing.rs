//! How a body is delimited (RFC 9112, section 6).

use super::ParseError;
use crate::{Headers, Known, Method, RequestHead, ResponseHead, Version};

/// How a body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// By its length in bytes.
    Length(u64),
    /// In chunks.
    Chunked,
    /// By the end of the connection; responses alone.
    UntilClose,
}

/// The framing of a request. Anything that another party could read differently is an error.
pub fn request_framing(head: &RequestHead) -> Result<Framing, ParseError> {
    let length = content_length(&head.headers)?;
    let chunked = chunked(&head.headers, head.version)?;
    match (length, chunked) {
        (Some(_), true) => Err(ParseError::BothLengths),
        (None, true) => Ok(Framing::Chunked),
        (Some(0) | None, false) => Ok(Framing::None),
        (Some(length), false) => Ok(Framing::Length(length)),
    }
}

/// The framing of a response to a request with this method.
pub fn response_framing(head: &ResponseHead, method: &Method) -> Result<Framing, ParseError> {
    let length = content_length(&head.headers)?;
    let chunked = chunked(&head.headers, head.version)?;
    if length.is_some() && chunked {
        return Err(ParseError::BothLengths);
    }
    let tunnel = *method == Method::CONNECT && (200..300).contains(&head.status);
    if *method == Method::HEAD || tunnel || matches!(head.status, 100..200 | 204 | 304) {
        return Ok(Framing::None);
    }
    Ok(match (length, chunked) {
        (_, true) => Framing::Chunked,
        (Some(0), false) => Framing::None,
        (Some(length), false) => Framing::Length(length),
        (None, false) => Framing::UntilClose,
    })
}

fn content_length(headers: &Headers) -> Result<Option<u64>, ParseError> {
    let mut all = headers.all(Known::CONTENT_LENGTH);
    let Some(value) = all.next() else {
        return Ok(None);
    };
    if all.next().is_some() {
        return Err(ParseError::ContentLength);
    }
    parse_length(value).map(Some)
}

/// Digits alone: no sign, no list, no white space, below 2^63.
pub(crate) fn parse_length(value: &[u8]) -> Result<u64, ParseError> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return Err(ParseError::ContentLength);
    }
    let number = value.iter().try_fold(0_u64, |number, digit| {
        number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    });
    number
        .filter(|number| i64::try_from(*number).is_ok())
        .ok_or(ParseError::ContentLength)
}

fn chunked(headers: &Headers, version: Version) -> Result<bool, ParseError> {
    let Some(last) = headers.all(Known::TRANSFER_ENCODING).last() else {
        return Ok(false);
    };
    let alone = headers.all(Known::TRANSFER_ENCODING).count() == 1;
    let coding = last.rsplit(|byte| *byte == b',').next().unwrap_or_default();
    // HTTP/1.0 has no codings; RFC 9112, 6.1 calls such framing faulty.
    if version == Version::Http10 || !coding.trim_ascii().eq_ignore_ascii_case(b"chunked") {
        return Err(ParseError::ChunkedNotLast);
    }
    if alone && last.eq_ignore_ascii_case(b"chunked") {
        Ok(true)
    } else {
        Err(ParseError::TransferEncoding)
    }
}
