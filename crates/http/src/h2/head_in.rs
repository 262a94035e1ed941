//! Fields of a header block to heads, with what makes a message malformed (RFC 9113, sections 8.1
//! to 8.5).

use super::floods::limits;
use crate::head::{check_authority, check_target};
use crate::headers::Span;
use crate::hpack::{ENTRY_OVERHEAD, Field, NameId, Sink};
use crate::names::Known;
use crate::{Headers, Method, RequestHead, ResponseHead, Scheme, Version};

/// What a header block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    /// A request head; extended CONNECT is taken or not.
    Request {
        /// RFC 8441 was offered.
        connect_protocol: bool,
    },
    /// A response head.
    Response,
    /// Trailers.
    Trailers,
    /// Nothing that matters: only the tables must stay in step.
    Nothing,
}

/// Why a block is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The message is malformed.
    Malformed(&'static str),
    /// More fields or bytes than we take.
    TooLarge,
}

/// Limits on a head, and what the last ones had.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadLimits {
    pub(super) max_bytes: usize,
    pub(super) max_fields: usize,
    pub(super) likely_bytes: usize,
    pub(super) likely_fields: usize,
}

/// Collects the fields of one block.
#[derive(Debug)]
pub(super) struct HeadSink {
    expect: Expect,
    limits: HeadLimits,
    fault: Option<Fault>,
    size: usize,
    n_fields: usize,
    n_crumbs: usize,
    headers: Headers,
    method: Option<Method>,
    scheme: Option<Scheme>,
    authority: Option<Span>,
    target: Option<Span>,
    protocol: Option<String>,
    status: Option<u16>,
    content_length: Option<u64>,
    /// Two or more cookie fields, joined.
    cookies: Vec<u8>,
    sensitive_cookie: bool,
}

impl HeadSink {
    pub(super) fn new(expect: Expect, limits: HeadLimits) -> Self {
        let headers = match expect {
            Expect::Nothing => Headers::new(),
            _ => Headers::with_capacity(limits.likely_bytes, limits.likely_fields),
        };
        HeadSink {
            expect,
            limits,
            fault: None,
            size: 0,
            n_fields: 0,
            n_crumbs: 0,
            headers,
            method: None,
            scheme: None,
            authority: None,
            target: None,
            protocol: None,
            status: None,
            content_length: None,
            cookies: Vec::new(),
            sensitive_cookie: false,
        }
    }

    /// Bytes and fields of the head, to size the next one.
    pub(super) fn sizes(&self) -> (usize, usize) {
        let overhead = (self.n_fields + self.n_crumbs) * ENTRY_OVERHEAD;
        (self.size - overhead, self.n_fields)
    }

    #[cold]
    fn malformed(&mut self, reason: &'static str) {
        self.fault.get_or_insert(Fault::Malformed(reason));
    }

    fn pseudo(&mut self, field: Field<'_>) {
        if !self.headers.is_empty() {
            return self.malformed("pseudo-header after a field");
        }
        let again = match (self.expect, field.id) {
            (Expect::Request { .. }, NameId::METHOD) => {
                let Ok(method) = Method::new(field.value) else {
                    return self.malformed("invalid :method");
                };
                self.method.replace(method).is_some()
            }
            (Expect::Request { .. }, NameId::SCHEME) => {
                let Some(scheme) = scheme(field.value) else {
                    return self.malformed("unknown :scheme");
                };
                self.scheme.replace(scheme).is_some()
            }
            (Expect::Request { .. }, NameId::AUTHORITY) => {
                if check_authority(field.value).is_err() {
                    return self.malformed("invalid :authority");
                }
                let span = self.headers.store(field.value);
                self.authority.replace(span).is_some()
            }
            (Expect::Request { .. }, NameId::PATH) => {
                if check_target(field.value).is_err() {
                    return self.malformed("invalid :path");
                }
                let span = self.headers.store(field.value);
                self.target.replace(span).is_some()
            }
            (
                Expect::Request {
                    connect_protocol: true,
                },
                NameId::PROTOCOL,
            ) => {
                let protocol = String::from_utf8_lossy(field.value).into_owned();
                self.protocol.replace(protocol).is_some()
            }
            (Expect::Response, NameId::STATUS) => {
                let Some(status) = status(field.value) else {
                    return self.malformed("invalid :status");
                };
                self.status.replace(status).is_some()
            }
            _ => return self.malformed("unexpected pseudo-header"),
        };
        if again {
            self.malformed("repeated pseudo-header");
        }
    }

    #[inline]
    fn regular(&mut self, field: Field<'_>) {
        let known = field.id.known();
        match known {
            Known::CONNECTION
            | Known::KEEP_ALIVE
            | Known::PROXY_CONNECTION
            | Known::TRANSFER_ENCODING
            | Known::UPGRADE => return self.malformed("connection-specific field"),
            Known::TE if !field.value.eq_ignore_ascii_case(b"trailers") => {
                return self.malformed("te other than trailers");
            }
            Known::CONTENT_LENGTH if !self.content_length(field.value) => {
                return self.malformed("invalid content-length");
            }
            Known::HOST if !self.host(field.value) => {
                return self.malformed("invalid host");
            }
            Known::COOKIE => return self.cookie(field),
            _ => {}
        }
        self.headers
            .push_known(known, field.name, field.value, field.sensitive);
    }

    /// One number, said once, and not in trailers, where somebody might take it for the body's.
    fn content_length(&mut self, value: &[u8]) -> bool {
        let number = decimal(value);
        let first = self.content_length.is_none() && self.expect != Expect::Trailers;
        self.content_length = number;
        first && number.is_some()
    }

    fn host(&self, value: &[u8]) -> bool {
        self.expect != Expect::Trailers
            && check_authority(value).is_ok()
            && !self.headers.contains(Known::HOST)
    }

    /// Crumbs become one field (RFC 9113, section 8.2.3).
    fn cookie(&mut self, field: Field<'_>) {
        self.sensitive_cookie |= field.sensitive;
        if !self.cookies.is_empty() {
            self.cookies.extend_from_slice(b"; ");
            return self.cookies.extend_from_slice(field.value);
        }
        match self.headers.bytes(Known::COOKIE) {
            None => {
                self.headers
                    .push_known(Known::COOKIE, b"cookie", field.value, field.sensitive);
            }
            Some(first) => {
                self.cookies.extend_from_slice(first);
                self.cookies.extend_from_slice(b"; ");
                self.cookies.extend_from_slice(field.value);
            }
        }
    }

    fn join_cookies(&mut self) {
        if !self.cookies.is_empty() {
            self.headers.remove(Known::COOKIE);
            self.headers.push_known(
                Known::COOKIE,
                b"cookie",
                &self.cookies,
                self.sensitive_cookie,
            );
        }
    }

    fn check(&mut self) -> Result<(), Fault> {
        match self.fault {
            Some(fault) => Err(fault),
            None => {
                self.join_cookies();
                Ok(())
            }
        }
    }

    /// The request head, and the length that its body must have.
    pub(super) fn request(mut self, end: bool) -> Result<(RequestHead, Option<u64>), Fault> {
        self.check()?;
        let method = self.method.take().ok_or(Fault::Malformed("no :method"))?;
        let is_connect = method == Method::CONNECT;
        self.check_request(&method, is_connect)?;
        let authority = self.authority()?;
        let expected = self.content_length;
        if end && expected.is_some_and(|length| length > 0) {
            return Err(Fault::Malformed("content-length without a body"));
        }
        let tunnel = is_connect && self.protocol.is_none();
        let mut head = RequestHead::bare(method, Version::Http2, self.headers);
        head.scheme = self.scheme;
        if let Some(authority) = authority {
            head.set_authority_span(authority);
        }
        if let Some(target) = self.target {
            head.set_target_span(target);
        }
        if let Some(protocol) = self.protocol {
            head.set_protocol(Some(&protocol))
                .map_err(|_| Fault::Malformed("invalid :protocol"))?;
        }
        Ok((head, if tunnel { None } else { expected }))
    }

    fn check_request(&self, method: &Method, is_connect: bool) -> Result<(), Fault> {
        if is_connect && self.protocol.is_none() {
            if self.scheme.is_some() || self.target.is_some() || self.authority.is_none() {
                return Err(Fault::Malformed("CONNECT has an authority alone"));
            }
            return Ok(());
        }
        if self.protocol.is_some() && !is_connect {
            return Err(Fault::Malformed(":protocol without CONNECT"));
        }
        if self.scheme.is_none() {
            return Err(Fault::Malformed("no :scheme"));
        }
        let Some(target) = self.target else {
            return Err(Fault::Malformed("no :path"));
        };
        if self.headers.stored(target) == b"*" && *method != Method::OPTIONS {
            return Err(Fault::Malformed("asterisk for a method other than OPTIONS"));
        }
        Ok(())
    }

    /// `:authority`, or what `host` says; both must say the same.
    fn authority(&mut self) -> Result<Option<Span>, Fault> {
        let Some(host) = self.headers.bytes(Known::HOST) else {
            return Ok(self.authority);
        };
        match self.authority {
            Some(authority) if !self.headers.stored(authority).eq_ignore_ascii_case(host) => {
                Err(Fault::Malformed("host differs from :authority"))
            }
            Some(authority) => Ok(Some(authority)),
            None => {
                let host = host.to_vec();
                Ok(Some(self.headers.store(&host)))
            }
        }
    }

    /// The response head, and the length that its body must have.
    pub(super) fn response(mut self) -> Result<(ResponseHead, Option<u64>), Fault> {
        self.check()?;
        let status = self.status.ok_or(Fault::Malformed("no :status"))?;
        if status == 101 {
            // RFC 9113, section 8.6.
            return Err(Fault::Malformed("101 in HTTP/2"));
        }
        let head = ResponseHead {
            status,
            version: Version::Http2,
            headers: self.headers,
        };
        Ok((head, self.content_length))
    }

    /// The trailers.
    pub(super) fn trailers(mut self) -> Result<Headers, Fault> {
        self.check()?;
        Ok(self.headers)
    }
}

impl Sink for HeadSink {
    #[inline]
    fn field(&mut self, field: Field<'_>) {
        self.size += field.name.len() + field.value.len() + ENTRY_OVERHEAD;
        if self.expect == Expect::Nothing {
            return;
        }
        if field.id == NameId::from(Known::COOKIE) {
            self.n_crumbs += 1;
        } else {
            self.n_fields += 1;
        }
        // What the list of headers cannot hold is too large under any limit.
        if self.size > self.limits.max_bytes
            || field.name.len() > usize::from(u16::MAX)
            || self.n_fields > self.limits.max_fields
            || self.n_crumbs > limits::COOKIE_CRUMBS as usize
        {
            self.fault = Some(Fault::TooLarge);
        }
        if self.fault.is_some() {
            return;
        }
        if !field.well_formed {
            return self.malformed("invalid field name or value");
        }
        if field.id.is_pseudo() {
            self.pseudo(field);
        } else {
            self.regular(field);
        }
    }
}

fn scheme(value: &[u8]) -> Option<Scheme> {
    if value.eq_ignore_ascii_case(b"http") {
        Some(Scheme::Http)
    } else if value.eq_ignore_ascii_case(b"https") {
        Some(Scheme::Https)
    } else {
        None
    }
}

fn status(value: &[u8]) -> Option<u16> {
    let [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] = *value else {
        return None;
    };
    let digit = |byte: u8| u16::from(byte - b'0');
    Some(digit(a) * 100 + digit(b) * 10 + digit(c))
}

/// Digits alone, as RFC 9110, section 8.6, has it.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |number, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}
