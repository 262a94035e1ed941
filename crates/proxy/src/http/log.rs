//! What an access log knows of a request or connection.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use arcstr::ArcStr;
use lateen_core::Reason;
use lateen_http::{Headers, RequestHead, Version};
use lateen_telemetry::access_log::{LogSource, Shape, Sink};

use crate::cluster::Address;
use crate::listener::Connection;

/// One configured access log.
pub(crate) struct AccessLog {
    pub shape: Shape,
    pub sink: Arc<Sink>,
    /// Only what ended with a response flag.
    pub only_flagged: bool,
}

/// One line to be.
pub(crate) struct Entry {
    pub started: Instant,
    pub connection: Arc<Connection>,
    /// The head as routed; kept where a log wants it.
    pub head: Option<Box<RequestHead>>,
    pub version: Option<Version>,
    pub response_headers: Option<Headers>,
    pub status: u16,
    pub grpc_status: Option<u32>,
    pub reasons: Vec<Reason>,
    pub details: &'static str,
    pub failure: String,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub route: ArcStr,
    pub cluster: ArcStr,
    pub host: Option<Address>,
    pub upstream_local: Option<SocketAddr>,
}

impl Entry {
    /// The line of a TCP connection.
    pub(crate) fn tcp(connection: &Arc<Connection>) -> Self {
        Entry {
            started: Instant::now(),
            connection: connection.clone(),
            head: None,
            version: None,
            response_headers: None,
            status: 0,
            grpc_status: None,
            reasons: Vec::new(),
            details: "",
            failure: String::new(),
            bytes_received: 0,
            bytes_sent: 0,
            route: ArcStr::new(),
            cluster: ArcStr::new(),
            host: None,
            upstream_local: None,
        }
    }

    /// The line of a request.
    pub(crate) fn http(connection: &Arc<Connection>, version: Version) -> Self {
        Entry {
            version: Some(version),
            ..Entry::tcp(connection)
        }
    }

    /// The response flags, `-` for none.
    pub(crate) fn flags(&self) -> Cow<'static, str> {
        match self.reasons.as_slice() {
            [] => "-".into(),
            [one] => one.flag().into(),
            many => many
                .iter()
                .map(|reason| reason.flag())
                .collect::<Vec<_>>()
                .join(",")
                .into(),
        }
    }
}

/// Writes the lines of an entry.
pub(crate) fn write_logs(lists: &[&[AccessLog]], entry: &Entry) {
    for log in lists.iter().copied().flatten() {
        if !(log.only_flagged && entry.reasons.is_empty()) {
            log.sink.write(log.shape.line(entry));
        }
    }
}

impl LogSource for Entry {
    fn request_header(&self, name: &str) -> Option<Cow<'_, str>> {
        let head = self.head.as_deref()?;
        match name {
            ":method" => Some(head.method.as_str().into()),
            ":path" => Some(head.target().into()),
            ":authority" | "host" => {
                Some(head.authority().into()).filter(|a: &Cow<_>| !a.is_empty())
            }
            ":scheme" => head.scheme.map(|scheme| scheme.as_str().into()),
            name => head.headers.joined(name).map(text),
        }
    }

    fn response_header(&self, name: &str) -> Option<Cow<'_, str>> {
        match name {
            ":status" => Some(self.status.to_string().into()),
            name => self.response_headers.as_ref()?.joined(name).map(text),
        }
    }

    fn value(&self, command: &str, argument: &str) -> Option<Cow<'_, str>> {
        let text = |text: String| Some(Cow::Owned(text));
        let some = |text: &'static str| Some(text.into()).filter(|text: &Cow<_>| !text.is_empty());
        let borrowed = |value: &'_ str| (!value.is_empty()).then(|| Cow::Owned(value.to_owned()));
        let connection = &self.connection;
        let tls = connection.tls.as_deref();
        match command {
            "START_TIME" => text(start_time(self.started, argument)),
            "PROTOCOL" => self.version.map(|version| version.as_str().into()),
            "RESPONSE_CODE" => text(self.status.to_string()),
            "RESPONSE_FLAGS" => Some(self.flags()),
            "RESPONSE_CODE_DETAILS" => some(self.details),
            "UPSTREAM_TRANSPORT_FAILURE_REASON" => borrowed(&self.failure),
            "BYTES_RECEIVED" => text(self.bytes_received.to_string()),
            "BYTES_SENT" => text(self.bytes_sent.to_string()),
            "DURATION" => text(self.started.elapsed().as_millis().to_string()),
            "GRPC_STATUS" | "GRPC_STATUS_NUMBER" => text(self.grpc_status?.to_string()),
            "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => text(self.host.as_ref()?.to_string()),
            "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => borrowed(&self.cluster),
            "UPSTREAM_LOCAL_ADDRESS" => text(self.upstream_local?.to_string()),
            "FILTER_CHAIN_NAME" => borrowed(&connection.chain.name),
            "ROUTE_NAME" => borrowed(&self.route),
            "REQUESTED_SERVER_NAME" => borrowed(connection.sni.as_deref()?),
            "DOWNSTREAM_LOCAL_ADDRESS" => text(connection.local.to_string()),
            "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => text(connection.local.ip().to_string()),
            "DOWNSTREAM_LOCAL_PORT" => text(connection.local.port().to_string()),
            "DOWNSTREAM_REMOTE_ADDRESS" => text(connection.remote.to_string()),
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => text(connection.remote.ip().to_string()),
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => text(connection.direct_remote.to_string()),
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => {
                text(connection.direct_remote.ip().to_string())
            }
            "DOWNSTREAM_PEER_URI_SAN" => borrowed(tls?.peer.as_ref()?.uris.first()?),
            "DOWNSTREAM_PEER_SUBJECT" => borrowed(&tls?.peer.as_ref()?.subject),
            "DOWNSTREAM_TLS_VERSION" => some(match tls?.version {
                lateen_tls::Version::Tls12 => "TLSv1.2",
                lateen_tls::Version::Tls13 => "TLSv1.3",
            }),
            "DOWNSTREAM_TLS_CIPHER" => borrowed(&tls?.cipher),
            _ => None,
        }
    }
}

/// A value as a line can hold it.
pub(crate) fn text(value: Cow<'_, [u8]>) -> Cow<'_, str> {
    match value {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
        Cow::Owned(bytes) => String::from_utf8_lossy(&bytes).into_owned().into(),
    }
}

/// When something began, in this format.
pub(crate) fn start_time(started: Instant, format: &str) -> String {
    // Asked for here, as most requests are never logged.
    let wall = SystemTime::now() - started.elapsed();
    let wall = jiff::Timestamp::try_from(wall).unwrap_or_default();
    if format.is_empty() {
        return wall.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string();
    }
    // An unknown conversion leaves the default.
    jiff::fmt::strtime::format(format, &wall.to_zoned(jiff::tz::TimeZone::UTC))
        .unwrap_or_else(|_| wall.to_string())
}
