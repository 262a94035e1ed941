//! Answers of the proxy's own, in the texts that Envoy's users know.

use std::fmt::Write;

use bytes::Bytes;
use lateen_core::Reason;
use lateen_decode::LocalReplySpec;
use lateen_http::{Headers, Known, Response, Value};
use lateen_route::HeaderMutations;

use super::headers;
use super::log::Entry;
use super::replies::{self, Said};

/// The type of JSON.
const JSON: &str = "application/json";

/// An answer instead of the upstream's.
#[derive(Debug)]
pub(crate) struct LocalReply {
    /// Why; none for answers that are no failures, such as redirects.
    pub reason: Option<Reason>,
    /// The access log's response code details.
    pub details: &'static str,
    status: u16,
    grpc: Option<u32>,
    body: Bytes,
    /// Few answers have any of their own.
    headers: Option<Box<Headers>>,
}

impl LocalReply {
    /// The answer for a reason.
    pub(crate) fn new(reason: Reason, details: &'static str, body: impl Into<Bytes>) -> Self {
        LocalReply {
            reason: Some(reason),
            details,
            status: reason.status(),
            grpc: None,
            body: body.into(),
            headers: None,
        }
    }

    /// An answer that is no failure.
    pub(crate) fn plain(status: u16, details: &'static str, body: impl Into<Bytes>) -> Self {
        LocalReply {
            reason: None,
            details,
            status,
            grpc: None,
            body: body.into(),
            headers: None,
        }
    }

    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// With a header; a value that is no header text is left out.
    pub(crate) fn with_header(mut self, name: Known, value: &str) -> Self {
        let _ = self.headers_mut().set(name, value);
        self
    }

    pub(crate) fn headers_mut(&mut self) -> &mut Headers {
        self.headers.get_or_insert_default()
    }

    pub(crate) fn with_grpc(mut self, status: u32) -> Self {
        self.grpc = Some(status);
        self
    }

    /// The response: with these changes of its headers, then as the configuration has such answers, and
    /// for a client of gRPC in its own terms.
    pub(crate) fn into_response(
        self,
        is_grpc: bool,
        spec: Option<&LocalReplySpec>,
        entry: &mut Entry,
        changes: &[&HeaderMutations],
    ) -> Response {
        let mut response = Response::new(self.status, "");
        response.head.headers = self.headers.map_or_else(Headers::new, |own| *own);
        let headers = &mut response.head.headers;
        headers::response(headers, changes, entry);
        let mut said = Said {
            status: self.status,
            body: self.body.clone(),
            content_type: "text/plain",
        };
        let mut has_own_type = false;
        if let Some(spec) = spec {
            let before = headers.value(Known::CONTENT_TYPE);
            replies::rewrite(spec, entry, headers, &mut said);
            has_own_type = headers.value(Known::CONTENT_TYPE) != before;
        }
        if is_grpc || self.grpc.is_some() {
            response.head.status = 200;
            let code = self.grpc.unwrap_or_else(|| grpc_code(said.status));
            say_in_grpc(headers, code, &said);
            return response;
        }
        response.head.status = said.status;
        if said.body.is_empty() {
            headers.remove(Known::CONTENT_TYPE);
            return response;
        }
        // A new body has the type of its format, where nobody who knew of it has set another one.
        let is_outdated = said.body != self.body && !has_own_type;
        if is_outdated || !headers.contains(Known::CONTENT_TYPE) {
            let _ = headers.set(Known::CONTENT_TYPE, said.content_type);
        }
        response.body = said.body.into();
        response
    }
}

/// Says an answer in gRPC's terms.
fn say_in_grpc(headers: &mut Headers, code: u32, said: &Said<'_>) {
    headers.set_value(Known::CONTENT_TYPE, &Value::from_static("application/grpc"));
    if !headers.contains(Known::GRPC_STATUS) {
        headers.set_number(Known::GRPC_STATUS, u64::from(code));
    }
    let mut message = &said.body[..];
    // What ends the line of a JSON object is no part of the message.
    if said.content_type == JSON {
        message = message.strip_suffix(b"\n").unwrap_or(message);
    }
    if !message.is_empty() {
        let _ = headers.set(Known::GRPC_MESSAGE, escaped(message));
    }
}

/// A message as `grpc-message` has it: all that is no printable ASCII is escaped.
fn escaped(message: &[u8]) -> String {
    let mut out = String::with_capacity(message.len());
    for byte in message {
        match byte {
            b'%' => out.push_str("%25"),
            b' '..=b'~' => out.push(char::from(*byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// gRPC's mapping of HTTP status codes.
fn grpc_code(status: u16) -> u32 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

/// What is said of an exchange that breaks off on the upstream's side.
pub(crate) struct ResetText {
    what: &'static str,
    /// The response code details, where nothing of a response had gone to the client.
    pub before: &'static str,
    /// The same, once its head had.
    pub after: &'static str,
}

macro_rules! reset_text {
    ($what:literal, $word:literal) => {
        ResetText {
            what: $what,
            before: concat!("upstream_reset_before_response_started{", $word, "}"),
            after: concat!("upstream_reset_after_response_started{", $word, "}"),
        }
    };
}

const TERMINATION: ResetText = reset_text!("connection termination", "connection_termination");

/// The texts for a reason; none where it is no reset.
pub(crate) fn reset_text(reason: Reason) -> Option<ResetText> {
    Some(match reason {
        Reason::UpstreamOverflow => reset_text!("overflow", "overflow"),
        Reason::UpstreamConnectionFailure => {
            reset_text!("remote connection failure", "remote_connection_failure")
        }
        Reason::UpstreamRemoteReset => reset_text!("remote reset", "remote_reset"),
        Reason::UpstreamProtocolError => reset_text!("protocol error", "protocol_error"),
        Reason::UpstreamConnectionTermination => TERMINATION,
        Reason::LocalReset => reset_text!("local reset", "local_reset"),
        _ => return None,
    })
}

/// The reply where an upstream did not answer.
pub(crate) fn reset(reason: Reason, failure: &str) -> LocalReply {
    match reason {
        Reason::NoHealthyUpstream => {
            return LocalReply::new(reason, "no_healthy_upstream", "no healthy upstream");
        }
        Reason::UpstreamRequestTimeout => {
            return LocalReply::new(reason, "response_timeout", "upstream request timeout");
        }
        _ => {}
    }
    let ResetText { what, before, .. } = reset_text(reason).unwrap_or(TERMINATION);
    let mut text =
        format!("upstream connect error or disconnect/reset before headers. reset reason: {what}");
    if !failure.is_empty() {
        text.push_str(", transport failure reason: ");
        text.push_str(failure);
    }
    LocalReply::new(reason, before, text)
}
