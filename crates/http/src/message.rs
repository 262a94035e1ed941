//! Whole messages: a head, a body, and what belongs to the exchange beside them.

use std::fmt;
use std::sync::Arc;

use crate::{Body, Headers, Known, RequestHead, ResponseHead, Upgrade, Value};

/// A request: its head, its body, and the ways back to the client beside the response.
#[derive(Debug)]
pub struct Request {
    /// The head.
    pub head: RequestHead,
    /// The body.
    pub body: Body,
    /// Set on a received request: resolves to the raw stream after a response that switches
    /// protocols.
    pub upgrade: Option<Upgrade>,
    /// Takes responses before the response, such as 103.
    pub interim: Option<Interim>,
}

impl Request {
    /// A request of our own.
    pub fn new(head: RequestHead, body: Body) -> Self {
        Request {
            head,
            body,
            upgrade: None,
            interim: None,
        }
    }
}

/// Sends informational responses (1xx but 101) to the client of one request. A client that speaks
/// HTTP/1.0 gets none (RFC 9110, 15.2).
#[derive(Clone)]
pub struct Interim {
    sink: Arc<dyn InterimSink>,
    /// The stream of the request, in HTTP/2.
    stream: u32,
}

pub(crate) trait InterimSink: Send + Sync {
    /// Sends a head to the client of a stream; after the response's own head, nothing.
    fn send(&self, stream: u32, head: &ResponseHead);
}

impl Interim {
    /// For the request under way, or the one of a stream.
    pub(crate) fn new(sink: Arc<dyn InterimSink>, stream: u32) -> Self {
        Interim { sink, stream }
    }

    /// Sends one.
    pub fn send(&self, head: &ResponseHead) {
        self.sink.send(self.stream, head);
    }
}

impl fmt::Debug for Interim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interim")
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
        let kind = Value::from_static("text/plain");
        response.head.headers.set_value(Known::CONTENT_TYPE, &kind);
        response
    }
}

/// What a head says about the length of its body. The codecs hold the peer to it.
pub(crate) fn content_length(headers: &Headers) -> Option<u64> {
    headers.get(Known::CONTENT_LENGTH)?.parse().ok()
}

/// Fields that a trailer section may not have, since they frame, route, switch, authenticate or say
/// what the content is (RFC 9110, 6.5.1): a server that takes trailers for headers must not find in
/// them what policies have looked for in the head.
pub(crate) fn sanitize_trailers(trailers: &mut Headers) {
    trailers.remove_hop_by_hop();
    for name in [
        Known::CONTENT_LENGTH,
        Known::HOST,
        Known::TRAILER,
        Known::TE,
        Known::AUTHORIZATION,
        Known::PROXY_AUTHORIZATION,
        Known::COOKIE,
        Known::SET_COOKIE,
        Known::CONTENT_ENCODING,
        Known::CONTENT_RANGE,
        Known::CONTENT_TYPE,
        Known::X_FORWARDED_CLIENT_CERT,
        Known::X_FORWARDED_FOR,
        Known::X_FORWARDED_HOST,
        Known::X_FORWARDED_PROTO,
        Known::X_REQUEST_ID,
    ] {
        trailers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_say_nothing_that_a_head_has_to_say() {
        let mut trailers = Headers::new();
        for name in [
            "x-sum",
            "grpc-status",
            "Host",
            "authorization",
            "Cookie",
            "X-Forwarded-For",
        ] {
            trailers.append(name, "1").expect("valid");
        }
        sanitize_trailers(&mut trailers);
        let left: Vec<_> = trailers.iter().map(|(name, _)| name.to_owned()).collect();
        assert_eq!(left, ["x-sum", "grpc-status"]);
    }
}
