//! The heads of requests and responses as the data path sees them: one shape for HTTP/1 and HTTP/2.

use crate::headers::{Span, is_token};
use crate::names::Known;
use crate::{Headers, InvalidHeader};

/// The protocol version of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2
    Http2,
}

impl Version {
    /// As access logs print it.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2",
        }
    }
}

/// A request method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method(MethodName);

#[derive(Debug, Clone, PartialEq, Eq)]
enum MethodName {
    Known(&'static str),
    Other(Box<str>),
}

/// Bytes of the longest method that is taken. The registry's longest has 17.
const MAX_METHOD: usize = 64;

impl Method {
    /// GET
    pub const GET: Method = Method(MethodName::Known("GET"));
    /// HEAD
    pub const HEAD: Method = Method(MethodName::Known("HEAD"));
    /// POST
    pub const POST: Method = Method(MethodName::Known("POST"));
    /// PUT
    pub const PUT: Method = Method(MethodName::Known("PUT"));
    /// DELETE
    pub const DELETE: Method = Method(MethodName::Known("DELETE"));
    /// CONNECT
    pub const CONNECT: Method = Method(MethodName::Known("CONNECT"));
    /// OPTIONS
    pub const OPTIONS: Method = Method(MethodName::Known("OPTIONS"));
    /// TRACE
    pub const TRACE: Method = Method(MethodName::Known("TRACE"));
    /// PATCH
    pub const PATCH: Method = Method(MethodName::Known("PATCH"));

    /// A method by its name, which is a token in the case of the sender.
    pub fn new(name: &[u8]) -> Result<Self, InvalidHeader> {
        Ok(match name {
            b"GET" => Method::GET,
            b"HEAD" => Method::HEAD,
            b"POST" => Method::POST,
            b"PUT" => Method::PUT,
            b"DELETE" => Method::DELETE,
            b"CONNECT" => Method::CONNECT,
            b"OPTIONS" => Method::OPTIONS,
            b"TRACE" => Method::TRACE,
            b"PATCH" => Method::PATCH,
            other if is_token(other) && other.len() <= MAX_METHOD => {
                let name = std::str::from_utf8(other).expect("a token is ASCII");
                Method(MethodName::Other(name.into()))
            }
            other => return Err(InvalidHeader::new(other)),
        })
    }

    /// The method's name.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            MethodName::Known(name) => name,
            MethodName::Other(name) => name,
        }
    }

    /// True where repeating the request has the effect of sending it once (RFC 9110, 9.2.2).
    pub fn is_idempotent(&self) -> bool {
        matches!(
            self.as_str(),
            "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "TRACE"
        )
    }
}

/// A URI scheme of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// http
    Http,
    /// https
    Https,
}

impl Scheme {
    /// The scheme's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// The head of a request. What HTTP/2 has as pseudo-headers stands apart from the fields, but in
/// the same block of bytes.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The version in which it was received.
    pub version: Version,
    /// The scheme, where the request names one.
    pub scheme: Option<Scheme>,
    /// The header fields. `Host` is among them where the sender had it, and says what
    /// [`authority`](Self::authority) says.
    pub headers: Headers,
    authority: Option<Span>,
    target: Span,
    protocol: Option<Span>,
}

impl RequestHead {
    /// A head for a request of our own.
    pub fn new(method: Method, authority: &str, target: &str) -> Result<Self, InvalidHeader> {
        let mut head = RequestHead::bare(method, Version::Http11, Headers::with_capacity(128, 8));
        head.set_authority(authority)?;
        head.set_target(target)?;
        Ok(head)
    }

    /// A head whose parts are still to be said.
    pub(crate) fn bare(method: Method, version: Version, headers: Headers) -> Self {
        RequestHead {
            method,
            version,
            scheme: None,
            headers,
            authority: None,
            target: Span::EMPTY,
            protocol: None,
        }
    }

    /// True where the request named an authority, which is not empty.
    pub fn has_authority(&self) -> bool {
        !self.authority_bytes().is_empty()
    }

    /// The authority as text; empty where there is none.
    pub fn authority(&self) -> &str {
        self.authority.map_or("", |span| self.text(span))
    }

    /// The same, for whoever copies it.
    pub(crate) fn authority_bytes(&self) -> &[u8] {
        self.authority.map_or(b"", |span| self.headers.stored(span))
    }

    /// Replaces the authority, and `Host` where the fields have it.
    pub fn set_authority(&mut self, authority: &str) -> Result<(), InvalidHeader> {
        check_authority(authority.as_bytes())?;
        if self.headers.contains(Known::HOST) {
            self.headers.set(Known::HOST, authority)?;
        }
        self.authority = Some(self.headers.store(authority.as_bytes()));
        Ok(())
    }

    pub(crate) fn set_authority_span(&mut self, span: Span) {
        self.authority = Some(span);
    }

    /// Path and query; for CONNECT without a protocol, what there is instead is the authority, and
    /// this is empty.
    pub fn target(&self) -> &str {
        self.text(self.target)
    }

    /// The same, for whoever copies it.
    pub(crate) fn target_bytes(&self) -> &[u8] {
        self.headers.stored(self.target)
    }

    /// The path alone.
    pub fn path(&self) -> &str {
        let target = self.target();
        target.split_once('?').map_or(target, |(path, _)| path)
    }

    /// The query without its question mark.
    pub fn query(&self) -> Option<&str> {
        self.target().split_once('?').map(|(_, query)| query)
    }

    /// Replaces path and query.
    pub fn set_target(&mut self, target: &str) -> Result<(), InvalidHeader> {
        let target = if target.is_empty() { "/" } else { target };
        check_target(target.as_bytes())?;
        self.target = self.headers.store(target.as_bytes());
        Ok(())
    }

    pub(crate) fn set_target_span(&mut self, span: Span) {
        self.target = span;
    }

    /// `:protocol` of an extended CONNECT (RFC 8441).
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.map(|span| self.text(span))
    }

    /// Makes it an extended CONNECT, or an ordinary request again.
    pub fn set_protocol(&mut self, protocol: Option<&str>) -> Result<(), InvalidHeader> {
        self.protocol = match protocol {
            None => None,
            Some(protocol) if is_token(protocol.as_bytes()) => {
                Some(self.headers.store(protocol.as_bytes()))
            }
            Some(protocol) => return Err(InvalidHeader::new(protocol.as_bytes())),
        };
        Ok(())
    }

    /// The protocol that the request asks to upgrade to, by `Upgrade` or extended CONNECT.
    pub fn upgrade_type(&self) -> Option<&str> {
        if self.method == Method::CONNECT {
            return Some(self.protocol().unwrap_or("CONNECT"));
        }
        if self.connection_has(b"upgrade") {
            self.headers.get(Known::UPGRADE)
        } else {
            None
        }
    }

    /// True where `Connection` has the option.
    pub(crate) fn connection_has(&self, option: &[u8]) -> bool {
        list_has(&self.headers, Known::CONNECTION, option)
    }

    /// True where the client waits for a word before it sends the body (RFC 9110, 10.1.1).
    pub fn expects_continue(&self) -> bool {
        self.headers
            .bytes(Known::EXPECT)
            .is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"))
    }

    /// True for a gRPC request.
    pub fn is_grpc(&self) -> bool {
        self.headers.bytes(Known::CONTENT_TYPE).is_some_and(|kind| {
            kind.strip_prefix(b"application/grpc")
                .is_some_and(|rest| matches!(rest, [] | [b'+' | b';', ..]))
        })
    }

    fn text(&self, span: Span) -> &str {
        std::str::from_utf8(self.headers.stored(span)).expect("checked when it was taken in")
    }
}

/// True where a comma-separated field has that token, in any case.
#[inline]
pub(crate) fn list_has(headers: &Headers, name: Known, token: &[u8]) -> bool {
    headers.contains(name) && any_is(headers, name, token)
}

fn any_is(headers: &Headers, name: Known, token: &[u8]) -> bool {
    headers
        .all(name)
        .flat_map(|value| value.split(|byte| *byte == b','))
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}

/// Which bytes a name of a host may have (RFC 3986, 3.2.2), less escapes and commas.
static HOST: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"-._~!$&'()*+;=";
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};

/// A host and perhaps a port (RFC 3986, 3.2.2). No user; no escapes and no lists, which parties read
/// in different ways. An address of version 6 has its brackets, a port is a number.
pub(crate) fn check_authority(authority: &[u8]) -> Result<(), InvalidHeader> {
    let error = || InvalidHeader::new(authority);
    let is_literal = authority.first() == Some(&b'[');
    let end = if is_literal {
        let close = authority.iter().position(|byte| *byte == b']');
        close.ok_or_else(error)? + 1
    } else {
        let other = authority.iter().position(|byte| !HOST[usize::from(*byte)]);
        other.unwrap_or(authority.len())
    };
    let (host, port) = authority.split_at(end);
    let fits = if is_literal {
        let address = &host[1..end - 1];
        let fits = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
        !address.is_empty() && address.iter().all(fits)
    } else {
        !host.is_empty() || port.is_empty()
    };
    let port_fits = match port {
        [] => true,
        [b':'] => true,
        [b':', digits @ ..] => {
            let number = digits.iter().try_fold(0u16, |number, digit| {
                let digit = digit.is_ascii_digit().then(|| u16::from(digit - b'0'))?;
                number.checked_mul(10)?.checked_add(digit)
            });
            number.is_some()
        }
        _ => false,
    };
    if fits && port_fits {
        Ok(())
    } else {
        Err(error())
    }
}

/// A target in origin form, or the asterisk. A fragment is for user agents and is refused, as Envoy
/// does: one party might match on it and another cut it off. So are bytes beyond ASCII, which have to
/// be percent-encoded (RFC 3986, 2.1).
pub(crate) fn check_target(target: &[u8]) -> Result<(), InvalidHeader> {
    let starts = target.first() == Some(&b'/') || target == b"*";
    let fits = |byte: &u8| matches!(byte, 0x21..=0x7e) && *byte != b'#';
    if starts && target.iter().all(fits) {
        Ok(())
    } else {
        Err(InvalidHeader::new(target))
    }
}

/// The head of a response.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    /// The status code.
    pub status: u16,
    /// The version in which it was received.
    pub version: Version,
    /// The header fields.
    pub headers: Headers,
}

impl ResponseHead {
    /// A head for a response of our own. A status outside 100 to 999 counts as 500.
    pub fn new(status: u16) -> Self {
        let status = if (100..=999).contains(&status) {
            status
        } else {
            500
        };
        ResponseHead {
            status,
            version: Version::Http11,
            headers: Headers::with_capacity(128, 8),
        }
    }

    /// True for 1xx, but 101, after which HTTP ends.
    pub fn is_informational(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        for good in ["/", "/a?b=c", "*", "/%20", "/a//b;c"] {
            assert!(check_target(good.as_bytes()).is_ok(), "{good}");
        }
        for bad in ["", "a", "/a b", "/a#b", "/\u{7f}", "/a\r\n", "**", "/ä"] {
            assert!(check_target(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(check_target(b"/\xff").is_err());
    }

    #[test]
    fn authorities() {
        for good in [
            "",
            "a",
            "a:80",
            "a:",
            "[::1]:80",
            "[::1]",
            "a.b",
            "a_b",
            "127.0.0.1:65535",
        ] {
            assert!(check_authority(good.as_bytes()).is_ok(), "{good}");
        }
        for bad in [
            "a b", "u@h", "h/p", "h\\p", "a,b", "h#f", "ä", "<h>", "\"h\"", "h|", "{h}", "h^",
            "h`", "h%2e", "h:x", "h:-1", "h:80:80", "h:65536", ":80", "::1", "[::1", "::1]", "[]",
            "[x]", "[::1]x",
        ] {
            assert!(check_authority(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_new_authority_reaches_host() {
        let mut head = RequestHead::new(Method::GET, "a", "/p?q").expect("valid");
        assert_eq!((head.path(), head.query()), ("/p", Some("q")));
        head.headers.append("Host", "a").expect("valid");
        head.set_authority("b").expect("valid");
        assert_eq!(head.authority(), "b");
        assert_eq!(head.headers.get("host"), Some("b"));
    }

    #[test]
    fn upgrades_are_told_by_connection() {
        let mut head = RequestHead::new(Method::GET, "a", "/").expect("valid");
        head.headers.append("Upgrade", "websocket").expect("valid");
        assert_eq!(head.upgrade_type(), None);
        head.headers
            .append("Connection", "keep-alive, Upgrade")
            .expect("valid");
        assert_eq!(head.upgrade_type(), Some("websocket"));
    }

    #[test]
    fn methods_are_tokens() {
        assert_eq!(Method::new(b"GET"), Ok(Method::GET));
        assert_eq!(Method::new(b"get").expect("a token").as_str(), "get");
        assert!(Method::new(b"").is_err());
        assert!(Method::new(b"GE T").is_err());
        assert!(Method::new(&[b'A'; 65]).is_err());
    }
}
