//! Answers of the proxy's own, in the texts that Envoy's users know.

use lateen_core::Reason;
use lateen_decode::LocalReplySpec;
use lateen_http::{Headers, Known, Response, Value};
use lateen_route::HeaderMutations;

use super::headers;
use super::log::Entry;
use super::replies::{self, Said};

/// An answer instead of the upstream's.
#[derive(Debug)]
pub(crate) struct LocalReply {
    /// Why; none for answers that are no failures, such as redirects.
    pub reason: Option<Reason>,
    /// The access log's response code details.
    pub details: &'static str,
    status: u16,
    grpc: Option<u32>,
    body: String,
    pub headers: Vec<(&'static str, String)>,
}

impl LocalReply {
    /// The answer for a reason.
    pub(crate) fn new(reason: Reason, details: &'static str, body: impl Into<String>) -> Self {
        LocalReply {
            reason: Some(reason),
            details,
            status: reason.status(),
            grpc: None,
            body: body.into(),
            headers: Vec::new(),
        }
    }

    /// An answer that is no failure.
    pub(crate) fn plain(status: u16, details: &'static str, body: impl Into<String>) -> Self {
        LocalReply {
            reason: None,
            details,
            status,
            grpc: None,
            body: body.into(),
            headers: Vec::new(),
        }
    }

    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn with_grpc(mut self, status: u32) -> Self {
        self.grpc = Some(status);
        self
    }

    /// The response; a gRPC client gets the status in its own terms.
    pub(crate) fn into_response(self, is_grpc: bool) -> Response {
        let mut response = if is_grpc || self.grpc.is_some() {
            let code = self.grpc.unwrap_or_else(|| grpc_code(self.status));
            let mut response = Response::new(200, "");
            say_in_grpc(&mut response.head.headers, code, &self.body);
            response
        } else if self.body.is_empty() {
            Response::new(self.status, "")
        } else {
            Response::text(self.status, self.body)
        };
        for (name, value) in self.headers {
            // A value that is no header text is left out.
            let _ = response.head.headers.set(name, value);
        }
        response
    }

    /// The response where the configuration changes such answers. `changes` are those of the route,
    /// which come first.
    pub(crate) fn into_mapped(
        self,
        is_grpc: bool,
        spec: &LocalReplySpec,
        entry: &mut Entry,
        changes: &[&HeaderMutations],
    ) -> Response {
        let mut response = Response::new(self.status, "");
        let headers = &mut response.head.headers;
        for (name, value) in self.headers {
            let _ = headers.set(name, value);
        }
        headers::response(headers, changes, entry);
        let kind_before = headers.get(Known::CONTENT_TYPE).map(str::to_owned);
        let mut said = Said {
            status: self.status,
            body: self.body,
            content_type: "text/plain".to_owned(),
        };
        replies::rewrite(spec, entry, headers, &mut said);
        if is_grpc || self.grpc.is_some() {
            response.head.status = 200;
            let code = self.grpc.unwrap_or_else(|| grpc_code(said.status));
            say_in_grpc(headers, code, said.body.trim_end_matches('\n'));
            return response;
        }
        response.head.status = said.status;
        if said.body.is_empty() {
            return response;
        }
        // A mapper that sets a type means it.
        let kind_now = headers.get(Known::CONTENT_TYPE);
        let is_usual = kind_now.is_none() || kind_now == kind_before.as_deref();
        if is_usual {
            let _ = headers.set("content-type", said.content_type);
        }
        response.body = said.body.into();
        response
    }
}

/// Says a status in gRPC's terms.
fn say_in_grpc(headers: &mut Headers, code: u32, message: &str) {
    headers.set_value(Known::CONTENT_TYPE, &Value::from_static("application/grpc"));
    if !headers.contains(Known::GRPC_STATUS) {
        headers.set_number(Known::GRPC_STATUS, u64::from(code));
    }
    let message: String = message
        .chars()
        .map(|c| if c < ' ' { ' ' } else { c })
        .collect();
    if !message.is_empty() && message.is_ascii() {
        // Printable ASCII is header text; a percent sign would start an escape.
        let _ = headers.set("grpc-message", message.replace('%', "%25"));
    }
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
