//! Requests and responses as the data path sees them: one shape for HTTP/1 and HTTP/2.

use http::uri::PathAndQuery;

use crate::{Body, Headers, InvalidHeader, Upgrade, Value};

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
pub struct Method(pub(crate) http::Method);

impl Method {
    /// GET
    pub const GET: Method = Method(http::Method::GET);
    /// HEAD
    pub const HEAD: Method = Method(http::Method::HEAD);
    /// POST
    pub const POST: Method = Method(http::Method::POST);
    /// CONNECT
    pub const CONNECT: Method = Method(http::Method::CONNECT);

    /// The method's name.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// True where repeating the request has the effect of sending it once (RFC 9110, 9.2.2).
    pub fn is_idempotent(&self) -> bool {
        self.0.is_idempotent()
    }
}

/// The head of a request.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The version in which it was received.
    pub version: Version,
    /// The scheme, where the request names one.
    pub scheme: Option<Scheme>,
    /// `:authority`, the authority of an absolute-form target, or `Host`.
    pub authority: Option<Value>,
    /// The header fields, without `Host`.
    pub headers: Headers,
    /// `:protocol` of an extended CONNECT (RFC 8441).
    pub protocol: Option<String>,
    pub(crate) target: PathAndQuery,
    /// What the engine carries along, such as the original case of header names.
    pub(crate) carried: http::Extensions,
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

impl RequestHead {
    /// A head for a request of our own.
    pub fn new(method: Method, authority: &str, target: &str) -> Result<Self, InvalidHeader> {
        Ok(RequestHead {
            method,
            version: Version::Http11,
            scheme: None,
            authority: Some(Value::new(authority.as_bytes())?),
            headers: Headers::new(),
            protocol: None,
            target: parse_target(target)?,
            carried: http::Extensions::new(),
        })
    }

    /// The authority as text; empty where there is none.
    pub fn authority(&self) -> &str {
        self.authority
            .as_ref()
            .and_then(Value::as_str)
            .unwrap_or("")
    }

    /// Replaces the authority.
    pub fn set_authority(&mut self, authority: &str) -> Result<(), InvalidHeader> {
        self.authority = Some(Value::new(authority.as_bytes())?);
        Ok(())
    }

    /// Path and query.
    pub fn target(&self) -> &str {
        self.target.as_str()
    }

    /// The path alone.
    pub fn path(&self) -> &str {
        self.target.path()
    }

    /// The query without its question mark.
    pub fn query(&self) -> Option<&str> {
        self.target.query()
    }

    /// Replaces path and query.
    pub fn set_target(&mut self, target: &str) -> Result<(), InvalidHeader> {
        self.target = parse_target(target)?;
        Ok(())
    }

    /// The protocol that the request asks to upgrade to, by `Upgrade` or extended CONNECT.
    pub fn upgrade_type(&self) -> Option<&str> {
        if self.method == Method::CONNECT {
            return Some(self.protocol.as_deref().unwrap_or("CONNECT"));
        }
        let wants = self.headers.joined("connection").is_some_and(|value| {
            value
                .split(',')
                .any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
        });
        if wants {
            self.headers.get("upgrade")
        } else {
            None
        }
    }

    /// True for a gRPC request.
    pub fn is_grpc(&self) -> bool {
        self.headers.get("content-type").is_some_and(|kind| {
            kind == "application/grpc"
                || kind.starts_with("application/grpc+")
                || kind.starts_with("application/grpc;")
        })
    }
}

fn parse_target(target: &str) -> Result<PathAndQuery, InvalidHeader> {
    let target = if target.is_empty() { "/" } else { target };
    PathAndQuery::try_from(target).map_err(|_| InvalidHeader(target.to_owned()))
}

/// A request: its head, its body, and the way to take the connection over after an upgrade.
#[derive(Debug)]
pub struct Request {
    /// The head.
    pub head: RequestHead,
    /// The body.
    pub body: Body,
    /// Set on a received request: resolves to the raw stream after a response that switches
    /// protocols.
    pub upgrade: Option<Upgrade>,
}

impl Request {
    /// A request of our own.
    pub fn new(head: RequestHead, body: Body) -> Self {
        Request {
            head,
            body,
            upgrade: None,
        }
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
    pub(crate) carried: http::Extensions,
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
            headers: Headers::new(),
            carried: http::Extensions::new(),
        }
    }
}

/// A response: its head, its body, and the raw stream after a switch of protocols.
#[derive(Debug)]
pub struct Response {
    /// The head.
    pub head: ResponseHead,
    /// The body.
    pub body: Body,
    /// Set on a received response that switches protocols.
    pub upgrade: Option<Upgrade>,
}

impl Response {
    /// A response of our own.
    pub fn new(status: u16, body: impl Into<Body>) -> Self {
        Response {
            head: ResponseHead::new(status),
            body: body.into(),
            upgrade: None,
        }
    }

    /// The same with a plain-text body, as local replies have.
    pub fn text(status: u16, text: impl Into<String>) -> Self {
        let text: String = text.into();
        let mut response = Response::new(status, Body::from(text));
        response
            .head
            .headers
            .set_value("content-type", Value::from_static("text/plain"));
        response
    }
}
