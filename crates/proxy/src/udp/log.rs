//! The log line of a session.

use std::borrow::Cow;
use std::time::Instant;

use lateen_telemetry::access_log::LogSource;

use super::session::Session;
use crate::http::log::{AccessLog, start_time};

/// Where Envoy has what is special of sessions.
const METADATA: &str = "udp.proxy.session:";

/// One line to be.
struct Line<'a>(&'a Session);

/// Writes the lines of a session that has ended.
pub(super) fn write(logs: &[AccessLog], session: &Session) {
    // Nothing of a session is a flag.
    for log in logs.iter().filter(|log| !log.only_flagged) {
        log.sink.write(log.shape.line(&Line(session)));
    }
}

impl LogSource for Line<'_> {
    fn request_header(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }

    fn response_header(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }

    fn value(&self, command: &str, argument: &str) -> Option<Cow<'_, str>> {
        let session = self.0;
        let text = |text: String| Some(Cow::Owned(text));
        let ends = session.ends.canonical();
        match command {
            "START_TIME" => text(start_time(session.started, argument)),
            "DURATION" => {
                let lasted = Instant::now().duration_since(session.started);
                text(lasted.as_millis().to_string())
            }
            "RESPONSE_CODE" => Some("0".into()),
            "RESPONSE_FLAGS" => Some("-".into()),
            "BYTES_RECEIVED" => text(session.received.bytes().to_string()),
            "BYTES_SENT" => text(session.sent.bytes().to_string()),
            "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => text(session.host.address.to_string()),
            "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => text(session.cluster.to_string()),
            "UPSTREAM_LOCAL_ADDRESS" => text(session.local()?.to_string()),
            "DOWNSTREAM_LOCAL_ADDRESS" => text(ends.local.to_string()),
            "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => text(ends.local.ip().to_string()),
            "DOWNSTREAM_LOCAL_PORT" => text(ends.local.port().to_string()),
            "DOWNSTREAM_REMOTE_ADDRESS" | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => {
                text(ends.client.to_string())
            }
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT"
            | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => text(ends.client.ip().to_string()),
            "DYNAMIC_METADATA" => text(match argument.strip_prefix(METADATA)? {
                "cluster_name" => session.cluster.to_string(),
                "bytes_received" => session.received.bytes().to_string(),
                "bytes_sent" => session.sent.bytes().to_string(),
                "datagrams_received" => session.received.datagrams().to_string(),
                "datagrams_sent" => session.sent.datagrams().to_string(),
                "errors_received" => session.received.errors().to_string(),
                "errors_sent" => session.sent.errors().to_string(),
                _ => return None,
            }),
            _ => None,
        }
    }
}
