//! HTTP on the data path: one exchange from the first header to the last byte of the answer.

mod cors;
mod edge;
mod exchange;
mod fault;
mod forward;
mod headers;
pub(crate) mod log;
mod meter;
mod mirror;
mod path;
mod replay;
mod replies;
mod reply;
mod retry;
mod rewrite;
mod session;
mod upgrade;
mod view;

pub(crate) use headers::write as write_headers;

use std::sync::Arc;
use std::time::Duration;

use lateen_decode::HcmSpec;
use lateen_http::{Protocol, ServerConfig, Serving, Value};

use crate::listener::{Connection, DownstreamIo};
use crate::worker::Worker;
use exchange::Service;
use log::AccessLog;

/// How long connections of a chain that was replaced may go on before they are asked to close.
const DRAIN_TIME: Duration = Duration::from_secs(45);

/// How long a head may take where the configuration does not say. Envoy has no default; without
/// one, slow clients hold connections for nothing.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// An HTTP connection manager.
pub(crate) struct Hcm {
    pub spec: HcmSpec,
    pub protocol: Protocol,
    pub access_logs: Vec<AccessLog>,
    pub server_name: Value,
}

/// Serves HTTP on a connection.
pub(crate) fn serve_http(
    worker: Arc<Worker>,
    hcm: Arc<Hcm>,
    connection: Arc<Connection>,
    io: DownstreamIo,
) -> Serving<'static> {
    let config = ServerConfig {
        protocol: protocol(&hcm, &connection),
        idle_timeout: hcm.spec.idle_timeout,
        max_concurrent_streams: hcm.spec.max_concurrent_streams,
        max_head_bytes: hcm.spec.max_head_bytes,
        max_head_fields: hcm.spec.max_head_fields,
        head_timeout: hcm.spec.head_timeout.unwrap_or(HEAD_TIMEOUT),
    };
    let chain = connection.chain.clone();
    let max_age = hcm.spec.max_connection_duration;
    let shared = worker.shared.clone();
    // Draining asks for a close with the next response; whoever sends no request is closed later.
    // Boxed: it is handed on several times, and each future on the way would have room for it.
    let drain = Box::pin(async move {
        let time = tokio::select! {
            () = chain.drain.wait() => DRAIN_TIME,
            () = shared.drain.wait() => shared.drain_time,
            () = aged(max_age) => Duration::ZERO,
        };
        tokio::time::sleep(time).await;
    });
    let service = Service {
        worker,
        hcm,
        connection,
    };
    lateen_http::serve(io, &config, service, drain)
}

/// Resolves when a connection has become too old, if it can.
async fn aged(max: Option<Duration>) {
    match max {
        Some(max) => tokio::time::sleep(max).await,
        None => std::future::pending().await,
    }
}

/// What the listener allows and TLS has agreed upon: whoever negotiated HTTP/2 must open with its
/// preface, and is not answered in another protocol (RFC 9113, 3.4).
fn protocol(hcm: &Hcm, connection: &Connection) -> Protocol {
    let agreed = connection.tls.as_ref().and_then(|tls| tls.alpn.as_deref());
    match (hcm.protocol, agreed) {
        (Protocol::Auto, Some(b"h2")) => Protocol::Http2,
        (protocol, _) => protocol,
    }
}
