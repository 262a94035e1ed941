//! Heads and chunks as bytes.
//!
//! Framing fields are written here and nowhere else: what a message says of its own length is
//! passed on only where it is what will be sent.

use super::Framing;
use crate::headers::decimal;
use crate::{Headers, Known, Method, RequestHead, ResponseHead, Version};

/// Writes a request's head. The target is in origin form, or in authority form for CONNECT.
pub fn encode_request(head: &RequestHead, framing: Framing, out: &mut Vec<u8>) {
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    let connect = head.method == Method::CONNECT;
    out.extend_from_slice(if connect {
        head.authority_bytes()
    } else {
        head.target_bytes()
    });
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if !head.headers.contains(Known::HOST) {
        field(b"host", head.authority_bytes(), out);
    }
    // A method that usually has a body says so where it has none (RFC 9110, 8.6).
    let says_none = matches!(head.method.as_str(), "POST" | "PUT" | "PATCH");
    let framing = match framing {
        Framing::None if says_none => Some(Framing::Length(0)),
        Framing::None | Framing::UntilClose => None,
        framing => Some(framing),
    };
    fields(&head.headers, framing, false, out);
    out.extend_from_slice(b"\r\n");
}

/// Writes a response's head. `method` is the request's: the answer to HEAD keeps the length that
/// GET would have had.
pub fn encode_response(
    head: &ResponseHead,
    framing: Framing,
    method: &Method,
    version: Version,
    out: &mut Vec<u8>,
) {
    status_line(head.status, version, out);
    let tunnel = *method == Method::CONNECT && (200..300).contains(&head.status);
    let forbidden = tunnel || matches!(head.status, 100..200 | 204);
    let bodiless = !forbidden && (*method == Method::HEAD || head.status == 304);
    let framing = match framing {
        _ if bodiless || forbidden => None,
        Framing::None => Some(Framing::Length(0)),
        Framing::UntilClose => None,
        framing => Some(framing),
    };
    fields(&head.headers, framing, bodiless, out);
    out.extend_from_slice(b"\r\n");
}

/// Writes an informational response.
pub fn encode_informational(head: &ResponseHead, out: &mut Vec<u8>) {
    status_line(head.status, Version::Http11, out);
    fields(&head.headers, None, false, out);
    out.extend_from_slice(b"\r\n");
}

fn status_line(status: u16, version: Version, out: &mut Vec<u8>) {
    let version: &[u8] = match version {
        Version::Http10 => b"HTTP/1.0 ",
        Version::Http11 | Version::Http2 => b"HTTP/1.1 ",
    };
    out.extend_from_slice(version);
    out.extend_from_slice(decimal(u64::from(status), &mut [0; 20]));
    out.push(b' ');
    out.extend_from_slice(reason_phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes the fields with the framing. `keep_length` leaves a length that describes no body.
fn fields(headers: &Headers, framing: Option<Framing>, keep_length: bool, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut length = match framing {
        Some(Framing::Length(length)) => Some(decimal(length, &mut digits)),
        _ => None,
    };
    let wanted = |name, value: &[u8]| match length {
        _ if name == Known::TRANSFER_ENCODING => false,
        // In its place, where it says the truth.
        Some(known) if known == value => {
            length = None;
            true
        }
        _ => keep_length,
    };
    headers.write(wanted, out);
    if let Some(length) = length {
        field(b"content-length", length, out);
    }
    if framing == Some(Framing::Chunked) {
        field(b"transfer-encoding", b"chunked", out);
    }
}

fn field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes what stands before a chunk's data.
pub fn encode_chunk_start(length: usize, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let n_digits = (usize::BITS - length.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..n_digits).rev() {
        out.push(DIGITS[(length >> (digit * 4)) & 0xf]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes what stands behind a chunk's data.
pub fn encode_chunk_end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// Writes the end of a chunked body.
pub fn encode_last_chunk(trailers: Option<&Headers>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        trailers.write(|_, _| true, out);
    }
    out.extend_from_slice(b"\r\n");
}

/// The usual phrase for a status code; empty for one without.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        208 => "Already Reported",
        226 => "IM Used",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Payload Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        418 => "I'm a teapot",
        421 => "Misdirected Request",
        422 => "Unprocessable Entity",
        423 => "Locked",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        506 => "Variant Also Negotiates",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        510 => "Not Extended",
        511 => "Network Authentication Required",
        _ => "",
    }
}
