//! Heads: found by their empty line, parsed once they are complete.

use std::mem::MaybeUninit;

use bytes::{Buf, BytesMut};
use httparse::Header;

use super::ParseError;
use super::framing::{Framing, request_framing, response_framing};
use crate::head::{check_authority, check_target};
use crate::headers::Span;
use crate::{Headers, Known, Method, RequestHead, ResponseHead, Scheme, Version};

/// Bounds on one head.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes, from the first of the start line to the empty line. Envoy's default is 60 KiB.
    pub max_bytes: usize,
    /// Fields. Envoy's default is 100.
    pub max_fields: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_bytes: 60 * 1024,
            max_fields: 100,
        }
    }
}

/// Empty lines before a request that are passed over (RFC 9112, 2.2: "at least one").
const MAX_EMPTY_LINES: u8 = 4;

/// Room for what a proxy adds to a head, so that its edits need no second allocation.
const EDIT_BYTES: usize = 384;
const EDIT_FIELDS: usize = 6;

/// A request's head with what it says of the connection.
#[derive(Debug)]
pub struct ParsedRequest {
    /// The head.
    pub head: RequestHead,
    /// How the body is delimited.
    pub framing: Framing,
    /// The client would send another request after this one.
    pub keep_alive: bool,
    /// The client waits for 100 (RFC 9110, 10.1.1).
    pub expect_continue: bool,
}

/// A response's head with what it says of the connection.
#[derive(Debug)]
pub struct ParsedResponse {
    /// The head.
    pub head: ResponseHead,
    /// How the body is delimited.
    pub framing: Framing,
    /// The server would take another request after this one.
    pub keep_alive: bool,
}

/// Finds heads in what arrives. It remembers how far it has looked, so that a head in many pieces is
/// looked through once.
#[derive(Debug, Default)]
pub struct HeadParser {
    /// Everything before is looked through.
    scanned: usize,
    /// Where the line that is not complete begins.
    line: usize,
    empty_lines: u8,
}

impl HeadParser {
    /// A request's head, where it is complete; it is taken out of the input.
    pub fn request(
        &mut self,
        input: &mut BytesMut,
        limits: &Limits,
    ) -> Result<Option<ParsedRequest>, ParseError> {
        if self.skip_empty_lines(input)? {
            return Ok(None);
        }
        let Some(length) = self.find_end(input, limits)? else {
            return Ok(None);
        };
        let parsed = parse_request(&input[..length], limits)?;
        input.advance(length);
        *self = HeadParser::default();
        Ok(Some(parsed))
    }

    /// A response's head, where it is complete; it is taken out of the input. `method` is the
    /// request's, which decides whether there is a body.
    pub fn response(
        &mut self,
        input: &mut BytesMut,
        limits: &Limits,
        method: &Method,
    ) -> Result<Option<ParsedResponse>, ParseError> {
        let Some(length) = self.find_end(input, limits)? else {
            return Ok(None);
        };
        let parsed = parse_response(&input[..length], limits, method)?;
        input.advance(length);
        *self = HeadParser::default();
        Ok(Some(parsed))
    }

    /// True where half of an empty line is all there is.
    fn skip_empty_lines(&mut self, input: &mut BytesMut) -> Result<bool, ParseError> {
        while self.scanned == 0 && input.first() == Some(&b'\r') {
            match input.get(1) {
                None => return Ok(true),
                Some(b'\n') if self.empty_lines < MAX_EMPTY_LINES => {
                    self.empty_lines += 1;
                    input.advance(2);
                }
                Some(b'\n') => return Err(ParseError::RequestLine),
                Some(_) => return Err(ParseError::LineEnd),
            }
        }
        Ok(false)
    }

    /// The length of the head with its empty line.
    fn find_end(&mut self, input: &[u8], limits: &Limits) -> Result<Option<usize>, ParseError> {
        while let Some(found) = memchr::memchr(b'\n', &input[self.scanned..]) {
            let end = self.scanned + found;
            // First of all, since it is what a head in pieces is refused for before its line ends.
            if end > limits.max_bytes {
                return Err(ParseError::HeadTooLarge);
            }
            if end == 0 || input[end - 1] != b'\r' {
                return Err(ParseError::LineEnd);
            }
            let empty = end == self.line + 1;
            self.scanned = end + 1;
            self.line = end + 1;
            if empty {
                return Ok(Some(end + 1));
            }
        }
        self.scanned = input.len();
        if input.len() > limits.max_bytes {
            return Err(ParseError::HeadTooLarge);
        }
        Ok(None)
    }
}

/// The usual number of fields has its place on the stack.
const STACK_FIELDS: usize = 128;

fn parse_request(bytes: &[u8], limits: &Limits) -> Result<ParsedRequest, ParseError> {
    let mut few = [const { MaybeUninit::uninit() }; STACK_FIELDS];
    let mut many = Vec::new();
    let space = space(&mut few, &mut many, limits);
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, space) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(ParseError::RequestLine),
        Err(error) => return Err(refusal(error, ParseError::RequestLine)),
    }
    let version = version(request.version)?;
    let method = Method::new(request.method.unwrap_or_default().as_bytes())
        .map_err(|_| ParseError::RequestLine)?;
    let headers = copy_fields(bytes, request.headers)?;
    let mut head = RequestHead::bare(method, version, headers);
    let target = request.path.unwrap_or_default();
    set_target(&mut head, bytes, target)?;
    let framing = request_framing(&head)?;
    let keep_alive = keep_alive(&head.headers, version);
    let expect_continue = version == Version::Http11 && head.expects_continue();
    Ok(ParsedRequest {
        head,
        framing,
        keep_alive,
        expect_continue,
    })
}

fn parse_response(
    bytes: &[u8],
    limits: &Limits,
    method: &Method,
) -> Result<ParsedResponse, ParseError> {
    let mut few = [const { MaybeUninit::uninit() }; STACK_FIELDS];
    let mut many = Vec::new();
    let space = space(&mut few, &mut many, limits);
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut response, bytes, space) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(ParseError::StatusLine),
        Err(error) => return Err(refusal(error, ParseError::StatusLine)),
    }
    let version = version(response.version)?;
    let status = response.code.unwrap_or_default();
    if !(100..=999).contains(&status) {
        return Err(ParseError::StatusLine);
    }
    let head = ResponseHead {
        status,
        version,
        headers: copy_fields(bytes, response.headers)?,
    };
    let framing = response_framing(&head, method)?;
    let keep_alive = keep_alive(&head.headers, version) && framing != Framing::UntilClose;
    Ok(ParsedResponse {
        head,
        framing,
        keep_alive,
    })
}

fn space<'s, 'b>(
    few: &'s mut [MaybeUninit<Header<'b>>],
    many: &'s mut Vec<MaybeUninit<Header<'b>>>,
    limits: &Limits,
) -> &'s mut [MaybeUninit<Header<'b>>] {
    if limits.max_fields <= few.len() {
        return &mut few[..limits.max_fields];
    }
    many.resize_with(limits.max_fields, MaybeUninit::uninit);
    many
}

fn refusal(error: httparse::Error, line: ParseError) -> ParseError {
    match error {
        httparse::Error::TooManyHeaders => ParseError::TooManyFields,
        httparse::Error::Version => ParseError::Version,
        httparse::Error::HeaderName | httparse::Error::HeaderValue => ParseError::Field,
        httparse::Error::NewLine => ParseError::LineEnd,
        httparse::Error::Status | httparse::Error::Token => line,
    }
}

fn version(minor: Option<u8>) -> Result<Version, ParseError> {
    match minor {
        Some(0) => Ok(Version::Http10),
        Some(1) => Ok(Version::Http11),
        _ => Err(ParseError::Version),
    }
}

/// Copies the head into a block of its own, and indexes it.
fn copy_fields(bytes: &[u8], fields: &[Header<'_>]) -> Result<Headers, ParseError> {
    let mut headers = Headers::with_capacity(bytes.len() + EDIT_BYTES, fields.len() + EDIT_FIELDS);
    headers.store(bytes);
    for field in fields {
        if field.name.len() > usize::from(u16::MAX) {
            return Err(ParseError::Field);
        }
        let name = place(bytes, field.name.as_bytes());
        // httparse has cut white space before the value; behind it there may be some.
        let value = field.value.trim_ascii_end();
        let value = headers.span(place(bytes, value));
        headers.push_stored(name, value);
    }
    Ok(headers)
}

/// Where a part lies in the whole that it is borrowed from.
fn place(whole: &[u8], part: &[u8]) -> std::ops::Range<usize> {
    // An empty value may be a constant that lies elsewhere.
    if part.is_empty() {
        return 0..0;
    }
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.len()
}

/// Target and authority by their four forms (RFC 9112, 3.2).
fn set_target(head: &mut RequestHead, bytes: &[u8], target: &str) -> Result<(), ParseError> {
    let host = one_host(&head.headers)?;
    if head.method == Method::CONNECT {
        check_authority(target.as_bytes()).map_err(|_| ParseError::Target)?;
        if target.is_empty() || !target.contains(':') {
            return Err(ParseError::Target);
        }
        let span = head.headers.span(place(bytes, target.as_bytes()));
        head.set_authority_span(span);
        return Ok(());
    }
    if target.starts_with('/') || target == "*" {
        if target == "*" && head.method != Method::OPTIONS {
            return Err(ParseError::Target);
        }
        check_target(target.as_bytes()).map_err(|_| ParseError::Target)?;
        let span = head.headers.span(place(bytes, target.as_bytes()));
        head.set_target_span(span);
        if let Some(host) = host {
            head.set_authority_span(host);
        } else if head.version == Version::Http11 {
            return Err(ParseError::Host);
        }
        return Ok(());
    }
    absolute(head, target)
}

/// RFC 9112, 3.2.2: the authority of an absolute-form target replaces Host.
fn absolute(head: &mut RequestHead, target: &str) -> Result<(), ParseError> {
    let (scheme, rest) = target.split_once("://").ok_or(ParseError::Target)?;
    head.scheme = Some(match scheme {
        scheme if scheme.eq_ignore_ascii_case("http") => Scheme::Http,
        scheme if scheme.eq_ignore_ascii_case("https") => Scheme::Https,
        _ => return Err(ParseError::Target),
    });
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.is_empty() {
        return Err(ParseError::Target);
    }
    let set = match path {
        // RFC 9110, 7.1: OPTIONS for the server as a whole.
        "" if head.method == Method::OPTIONS => head.set_target("*"),
        path if path.starts_with('?') => head.set_target(&format!("/{path}")),
        path => head.set_target(path),
    };
    set.map_err(|_| ParseError::Target)?;
    head.set_authority(authority)
        .map_err(|_| ParseError::Target)
}

/// The one `Host`. It may be empty, for targets without authority.
fn one_host(headers: &Headers) -> Result<Option<Span>, ParseError> {
    let mut hosts = headers.all(Known::HOST);
    let Some(host) = hosts.next() else {
        return Ok(None);
    };
    if hosts.next().is_some() || check_authority(host).is_err() {
        return Err(ParseError::Host);
    }
    Ok(headers.span_of(Known::HOST))
}

fn keep_alive(headers: &Headers, version: Version) -> bool {
    let has = |option| crate::head::list_has(headers, Known::CONNECTION, option);
    match version {
        Version::Http10 => has(b"keep-alive") && !has(b"close"),
        Version::Http11 | Version::Http2 => !has(b"close"),
    }
}

#[cfg(test)]
mod tests;
