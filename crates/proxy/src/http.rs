//! HTTP on the data path: one exchange from the first header to the last byte of the answer.

mod cors;
mod edge;
mod exchange;
mod fault;
pub(crate) mod filters;
mod forward;
mod headers;
pub(crate) mod log;
mod meter;
mod mirror;
mod path;
mod replay;
mod reply;
mod retry;
mod rewrite;
mod upgrade;
mod view;

use std::sync::Arc;
use std::time::Duration;

use arcstr::ArcStr;
use lateen_http::{Protocol, ServerConfig, Serving, Value};
use lateen_route::RouteTable;

use crate::listener::{Connection, DownstreamIo};
use crate::worker::Worker;
use exchange::Service;
use filters::{Filters, RouteExtra};
use log::AccessLog;

/// How long connections of a chain that was replaced may go on before they are asked to close.
const DRAIN_TIME: Duration = Duration::from_secs(45);

/// The HTTP connection manager's settings.
pub(crate) struct Hcm {
    pub protocol: Protocol,
    pub routes: Routes,
    pub filters: Filters,
    pub access_logs: Vec<AccessLog>,
    pub use_remote_address: bool,
    pub trusted_hops: u32,
    pub skip_xff_append: bool,
    pub generate_request_id: bool,
    pub preserve_external_request_id: bool,
    pub request_id_in_response: bool,
    pub server_name: Value,
    pub server_header: ServerHeader,
    pub cert_header: CertHeader,
    pub cert_subject: bool,
    pub cert_pem: bool,
    pub cert_chain: bool,
    pub cert_dns: bool,
    pub cert_uri: bool,
    /// In lower case.
    pub upgrades: Vec<String>,
    pub normalize_path: bool,
    pub merge_slashes: bool,
    pub strip_any_port: bool,
    pub strip_matching_port: bool,
    pub idle_timeout: Duration,
    pub stream_idle_timeout: Duration,
    pub max_concurrent_streams: u32,
    pub max_head_bytes: usize,
}

/// Where routes come from.
pub(crate) enum Routes {
    /// From discovery, by name.
    Named(ArcStr),
    Inline(Arc<RouteTable<RouteExtra>>),
}

/// What becomes of `Server` in responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerHeader {
    Overwrite,
    IfAbsent,
    Keep,
}

/// What becomes of `X-Forwarded-Client-Cert` in requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CertHeader {
    Sanitize,
    ForwardOnly,
    AppendForward,
    SanitizeSet,
    AlwaysForward,
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
        idle_timeout: hcm.idle_timeout,
        max_concurrent_streams: hcm.max_concurrent_streams,
        max_head_bytes: hcm.max_head_bytes,
        ..ServerConfig::default()
    };
    let chain = connection.chain.clone();
    let shared = worker.shared.clone();
    // Draining asks for a close with the next response; whoever sends no request is closed later.
    // Boxed: it is handed on several times, and each future on the way would have room for it.
    let drain = Box::pin(async move {
        let time = tokio::select! {
            () = chain.drain.wait() => DRAIN_TIME,
            () = shared.drain.wait() => shared.drain_time,
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

/// What the listener allows and TLS has agreed upon: whoever negotiated HTTP/2 must open with its
/// preface, and is not answered in another protocol (RFC 9113, 3.4).
fn protocol(hcm: &Hcm, connection: &Connection) -> Protocol {
    let agreed = connection.tls.as_ref().and_then(|tls| tls.alpn.as_deref());
    match (hcm.protocol, agreed) {
        (Protocol::Auto, Some(b"h2")) => Protocol::Http2,
        (protocol, _) => protocol,
    }
}
