//! Between our messages and those of the engine beneath.

use http::header::{HOST, HeaderValue, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery};
use hyper::body::Incoming;
use hyper::ext::Protocol;

use crate::body::Wire;
use crate::head::Scheme;
use crate::{
    Body, Error, Headers, Method, Request, RequestHead, Response, ResponseHead, Upgrade, Value,
    Version,
};

fn version_in(version: http::Version) -> Version {
    match version {
        http::Version::HTTP_2 => Version::Http2,
        http::Version::HTTP_10 | http::Version::HTTP_09 => Version::Http10,
        _ => Version::Http11,
    }
}

/// A request that the server received.
pub(crate) fn request_in(mut request: http::Request<Incoming>) -> Request {
    let upgrade = Upgrade(hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    Request {
        head: head_in(parts),
        body: Body::received(body),
        upgrade: Some(upgrade),
    }
}

fn head_in(mut parts: http::request::Parts) -> RequestHead {
    // RFC 9112, 3.2.2: the authority of an absolute-form target replaces Host.
    let host = parts.headers.remove(HOST);
    let authority = match parts.uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => host,
    };
    let target = parts
        .uri
        .path_and_query()
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"));
    let protocol = parts
        .extensions
        .remove::<Protocol>()
        .map(|p| p.as_str().to_owned());
    RequestHead {
        method: Method(parts.method),
        version: version_in(parts.version),
        scheme: match parts.uri.scheme_str() {
            Some("https") => Some(Scheme::Https),
            Some("http") => Some(Scheme::Http),
            _ => None,
        },
        authority: authority.map(Value),
        headers: Headers(parts.headers),
        protocol,
        target,
        carried: parts.extensions,
    }
}

/// A request that got back to us unsent.
pub(crate) fn request_back(request: http::Request<Wire>) -> Request {
    let (parts, body) = request.into_parts();
    Request {
        head: head_in(parts),
        body: body.0,
        upgrade: None,
    }
}

/// A request to send in HTTP/1.1: origin form, `Host` first in the list.
pub(crate) fn request_http1(request: Request) -> Result<http::Request<Wire>, Error> {
    let Request { head, body, .. } = request;
    let mut out = http::Request::new(Wire(body));
    *out.version_mut() = http::Version::HTTP_11;
    if head.method == Method::CONNECT && head.protocol.is_none() {
        let authority = head.authority().parse::<Authority>();
        let authority = authority.map_err(|error| Error::Unsendable(error.to_string()))?;
        *out.uri_mut() = http::Uri::from(authority);
    } else {
        *out.uri_mut() = http::Uri::from(head.target);
    }
    *out.method_mut() = head.method.0;
    *out.headers_mut() = head.headers.0;
    *out.extensions_mut() = head.carried;
    if let Some(authority) = head.authority {
        out.headers_mut().insert(HOST, authority.0);
    }
    // The engine drops a GET's body of unknown length unless the coding is explicit.
    let streaming = !out.body().0.is_end() && out.body().0.remaining().is_none();
    if streaming {
        out.headers_mut().remove(http::header::CONTENT_LENGTH);
        out.headers_mut()
            .insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    Ok(out)
}

/// A request to send in HTTP/2: pseudo-headers from the target, no connection fields.
pub(crate) fn request_http2(request: Request) -> Result<http::Request<Wire>, Error> {
    let Request { head, body, .. } = request;
    let unsendable = |error: http::Error| Error::Unsendable(error.to_string());
    let mut uri = http::Uri::builder();
    if head.method != Method::CONNECT || head.protocol.is_some() {
        let scheme = head.scheme.unwrap_or(Scheme::Http).as_str();
        uri = uri.scheme(scheme).path_and_query(head.target.clone());
    }
    let uri = uri
        .authority(head.authority())
        .build()
        .map_err(unsendable)?;
    let mut out = http::Request::new(Wire(body));
    *out.version_mut() = http::Version::HTTP_2;
    *out.uri_mut() = uri;
    *out.method_mut() = head.method.0;
    *out.headers_mut() = head.headers.0;
    *out.extensions_mut() = head.carried;
    out.headers_mut().remove(HOST);
    if let Some(protocol) = head.protocol {
        out.extensions_mut()
            .insert(Protocol::from(protocol.as_str()));
    }
    Ok(out)
}

/// A response that a client connection received.
pub(crate) fn response_in(mut response: http::Response<Incoming>) -> Response {
    let switched = response.status() == http::StatusCode::SWITCHING_PROTOCOLS
        || response.extensions().get::<ConnectMark>().is_some();
    let upgrade = switched.then(|| Upgrade(hyper::upgrade::on(&mut response)));
    let (parts, body) = response.into_parts();
    let head = ResponseHead {
        status: parts.status.as_u16(),
        version: version_in(parts.version),
        headers: Headers(parts.headers),
        carried: parts.extensions,
    };
    Response {
        head,
        body: Body::received(body),
        upgrade,
    }
}

/// Marks the response to a CONNECT, whose stream is raw after any 2xx.
#[derive(Clone)]
pub(crate) struct ConnectMark;

/// A response for the server to send.
pub(crate) fn response_out(response: Response) -> http::Response<Wire> {
    let Response { head, body, .. } = response;
    let mut out = http::Response::new(Wire(body));
    *out.status_mut() =
        http::StatusCode::from_u16(head.status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    *out.headers_mut() = head.headers.0;
    *out.extensions_mut() = head.carried;
    out
}
