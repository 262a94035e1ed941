//! The HTTP connection manager.

use std::sync::Arc;
use std::time::Duration;

use arcstr::ArcStr;
use lateen_route::RouteTable;
use lateen_xds::types::network::hcm as pb;

use super::access_log::AccessLogSpec;
use super::common::duration;
use super::filter::{Filters, RouteExtra};
use super::local_reply::{self, LocalReplySpec};
use super::{DecodeError, Result, access_log, filter, route};
use crate::access_log::ACCESS_LOG;
use crate::common::CONFIG_SOURCE;
use crate::filter::HTTP_FILTER;
use crate::local_reply::LOCAL_REPLY;
use crate::route::reads::ROUTE_CONFIGURATION;
use crate::unread::Kind::{Harmless, In, Off, Whole};
use crate::unread::Reads;

/// Envoy's default of `max_headers_count`.
const MAX_HEAD_FIELDS: usize = 100;
/// What `Server` says where nothing else is given.
const SERVER: &str = "istio-envoy";

/// The HTTP connection manager's settings.
#[derive(Debug)]
pub struct HcmSpec {
    /// What clients may speak.
    pub codec: Codec,
    /// Where routes come from.
    pub routes: Routes,
    /// What happens to requests on their way.
    pub filters: Filters,
    /// Where requests are logged.
    pub access_logs: Vec<AccessLogSpec>,
    /// The client is whoever opened the connection, not whom a header names.
    pub use_remote_address: bool,
    /// Proxies before us whose `X-Forwarded-For` is believed.
    pub trusted_hops: u32,
    /// Leave `X-Forwarded-For` as it came.
    pub skip_xff_append: bool,
    /// Make an `X-Request-Id` where there is none.
    pub generate_request_id: bool,
    /// Keep the one of a client from outside.
    pub preserve_external_request_id: bool,
    /// Say it in responses too.
    pub request_id_in_response: bool,
    /// What `Server` says.
    pub server_name: String,
    /// Whether it says so.
    pub server_header: ServerHeader,
    /// What becomes of `X-Forwarded-Client-Cert`.
    pub cert_header: CertHeader,
    /// It names the subject.
    pub cert_subject: bool,
    /// It holds the certificate.
    pub cert_pem: bool,
    /// It holds the chain.
    pub cert_chain: bool,
    /// It names DNS names.
    pub cert_dns: bool,
    /// It names the URI.
    pub cert_uri: bool,
    /// In lower case.
    pub upgrades: Vec<String>,
    /// Resolve `.` and `..` in paths.
    pub normalize_path: bool,
    /// Make one slash of several.
    pub merge_slashes: bool,
    /// Take the port off the authority.
    pub strip_any_port: bool,
    /// Take the port off the authority where it is the listener's.
    pub strip_matching_port: bool,
    /// How long a connection without a request is kept.
    pub idle_timeout: Duration,
    /// How long a request may make no progress.
    pub stream_idle_timeout: Duration,
    /// Requests of one connection at once.
    pub max_concurrent_streams: u32,
    /// The greatest head of a request.
    pub max_head_bytes: usize,
    /// The most fields of a head.
    pub max_head_fields: usize,
    /// How long a head may take to come in, where it says so.
    pub head_timeout: Option<Duration>,
    /// How old a connection may become; then it is asked to close.
    pub max_connection_duration: Option<Duration>,
    /// Requests of one connection; 0 for any number.
    pub max_requests: u32,
    /// What becomes of answers of the proxy's own.
    pub local_reply: Option<LocalReplySpec>,
}

/// What clients may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// HTTP/2 where the client opens with its preface, else HTTP/1.
    Auto,
    /// HTTP/1 alone.
    Http1,
    /// HTTP/2 alone.
    Http2,
}

/// Where routes come from.
#[derive(Debug, Clone)]
pub enum Routes {
    /// From discovery, by name.
    Named(ArcStr),
    /// From the listener itself.
    Inline(Arc<RouteTable<RouteExtra>>),
}

/// What becomes of `Server` in responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerHeader {
    /// It is ours.
    Overwrite,
    /// It is ours where the upstream sent none.
    IfAbsent,
    /// It stays as it came.
    Keep,
}

/// What becomes of `X-Forwarded-Client-Cert` in requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertHeader {
    /// It is taken away.
    Sanitize,
    /// It stays, where the client proved who it is.
    ForwardOnly,
    /// Ours is added, where the client proved who it is.
    AppendForward,
    /// Ours replaces it, where the client proved who it is.
    SanitizeSet,
    /// It stays.
    AlwaysForward,
}

/// Compiles a connection manager.
pub(super) fn hcm(spec: &pb::HttpConnectionManager) -> Result<HcmSpec> {
    use pb::http_connection_manager as nested;
    if !spec.original_ip_detection_extensions.is_empty() {
        return Err(DecodeError::unsupported(
            "original_ip_detection_extensions",
            "detection of the client's address by an extension",
        ));
    }
    if duration(spec.request_timeout.as_ref()).is_some_and(|timeout| !timeout.is_zero()) {
        return Err(DecodeError::unsupported(
            "request_timeout",
            "a bound on receiving requests",
        ));
    }
    let common = spec.common_http_protocol_options.as_ref();
    let http2 = spec.http2_protocol_options.as_ref();
    let details = spec.set_current_client_cert_details.unwrap_or_default();
    let is = |value: &Option<lateen_xds::types::wkt::BoolValue>, default: bool| {
        value.as_ref().map_or(default, |value| value.value)
    };
    use nested::PathWithEscapedSlashesAction as Slashes;
    match spec.path_with_escaped_slashes_action() {
        Slashes::ImplementationSpecificDefault | Slashes::KeepUnchanged => {}
        _ => {
            return Err(DecodeError::unsupported(
                "path_with_escaped_slashes_action",
                "anything but KEEP_UNCHANGED",
            ));
        }
    }
    Ok(HcmSpec {
        codec: match spec.codec_type() {
            nested::CodecType::Auto => Codec::Auto,
            nested::CodecType::Http1 => Codec::Http1,
            nested::CodecType::Http2 => Codec::Http2,
            nested::CodecType::Http3 => {
                return Err(DecodeError::unsupported("codec_type", "HTTP3"));
            }
        },
        routes: routes(spec)?,
        filters: filter::http_filters(&spec.http_filters)?,
        access_logs: access_log::access_logs(&spec.access_log)?,
        use_remote_address: is(&spec.use_remote_address, false),
        trusted_hops: spec.xff_num_trusted_hops,
        skip_xff_append: spec.skip_xff_append,
        generate_request_id: is(&spec.generate_request_id, true),
        preserve_external_request_id: spec.preserve_external_request_id,
        request_id_in_response: spec.always_set_request_id_in_response,
        server_name: match spec.server_name.as_str() {
            "" => SERVER.to_owned(),
            name => name.to_owned(),
        },
        server_header: match spec.server_header_transformation() {
            nested::ServerHeaderTransformation::Overwrite => ServerHeader::Overwrite,
            nested::ServerHeaderTransformation::AppendIfAbsent => ServerHeader::IfAbsent,
            nested::ServerHeaderTransformation::PassThrough => ServerHeader::Keep,
        },
        cert_header: match spec.forward_client_cert_details() {
            nested::ForwardClientCertDetails::Sanitize => CertHeader::Sanitize,
            nested::ForwardClientCertDetails::ForwardOnly => CertHeader::ForwardOnly,
            nested::ForwardClientCertDetails::AppendForward => CertHeader::AppendForward,
            nested::ForwardClientCertDetails::SanitizeSet => CertHeader::SanitizeSet,
            nested::ForwardClientCertDetails::AlwaysForwardOnly => CertHeader::AlwaysForward,
        },
        cert_subject: is(&details.subject, false),
        cert_pem: details.cert,
        cert_chain: details.chain,
        cert_dns: details.dns,
        cert_uri: details.uri,
        upgrades: spec
            .upgrade_configs
            .iter()
            .filter(|upgrade| is(&upgrade.enabled, true))
            .map(|upgrade| upgrade.upgrade_type.to_ascii_lowercase())
            .collect(),
        normalize_path: is(&spec.normalize_path, false),
        merge_slashes: spec.merge_slashes,
        strip_any_port: matches!(
            spec.strip_port_mode,
            Some(nested::StripPortMode::StripAnyHostPort(true))
        ),
        strip_matching_port: spec.strip_matching_host_port,
        idle_timeout: common
            .and_then(|common| duration(common.idle_timeout.as_ref()))
            .unwrap_or(Duration::from_secs(3600)),
        stream_idle_timeout: duration(spec.stream_idle_timeout.as_ref())
            .unwrap_or(Duration::from_secs(300)),
        max_concurrent_streams: http2
            .and_then(|http2| http2.max_concurrent_streams.as_ref())
            .map_or(1024, |max| max.value),
        max_head_bytes: spec
            .max_request_headers_kb
            .as_ref()
            .map_or(60 * 1024, |max| max.value as usize * 1024),
        max_head_fields: common
            .and_then(|common| common.max_headers_count.as_ref())
            .map_or(MAX_HEAD_FIELDS, |max| max.value as usize),
        head_timeout: some_time(spec.request_headers_timeout.as_ref()),
        max_connection_duration: some_time(
            common.and_then(|common| common.max_connection_duration.as_ref()),
        ),
        max_requests: common
            .and_then(|common| common.max_requests_per_connection.as_ref())
            .map_or(0, |max| max.value),
        local_reply: local_reply::local_reply(spec.local_reply_config.as_ref())?,
    })
}

/// A time, where it is not zero, which stands for no bound.
fn some_time(value: Option<&lateen_xds::types::wkt::Duration>) -> Option<Duration> {
    duration(value).filter(|time| !time.is_zero())
}

fn routes(spec: &pb::HttpConnectionManager) -> Result<Routes> {
    use pb::http_connection_manager::RouteSpecifier;
    match &spec.route_specifier {
        Some(RouteSpecifier::Rds(rds)) if rds.route_config_name.is_empty() => {
            Err(DecodeError::new("rds.route_config_name", "is required"))
        }
        Some(RouteSpecifier::Rds(rds)) => Ok(Routes::Named(rds.route_config_name.as_str().into())),
        Some(RouteSpecifier::RouteConfig(config)) => {
            if config.vhds.is_some() {
                let what = "discovery of virtual hosts for a table in a listener";
                return Err(DecodeError::unsupported("route_config.vhds", what));
            }
            let config = config.clone();
            Ok(Routes::Inline(route::route_configuration(&config)?))
        }
        Some(RouteSpecifier::ScopedRoutes(_)) => {
            Err(DecodeError::unsupported("scoped_routes", "scoped routing"))
        }
        None => Err(DecodeError::new("route_specifier", "is required")),
    }
}

pub(crate) static HCM: Reads = Reads::of(
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    &[
        (1, "codec_type", Whole),
        (2, "stat_prefix", Harmless),
        (3, "rds", In(&RDS)),
        (4, "route_config", In(&ROUTE_CONFIGURATION)),
        (5, "http_filters[]", In(&HTTP_FILTER)),
        (6, "add_user_agent", Off),
        (9, "http2_protocol_options", In(&SERVER_HTTP2)),
        (10, "server_name", Whole),
        (13, "access_log[]", In(&ACCESS_LOG)),
        (14, "use_remote_address", Whole),
        (15, "generate_request_id", Whole),
        (16, "forward_client_cert_details", Whole),
        (17, "set_current_client_cert_details", In(&CERT_DETAILS)),
        (19, "xff_num_trusted_hops", Whole),
        (21, "skip_xff_append", Whole),
        (23, "upgrade_configs[]", In(&HCM_UPGRADE)),
        (24, "stream_idle_timeout", Whole),
        (28, "request_timeout", Whole),
        (29, "max_request_headers_kb", Whole),
        (30, "normalize_path", Whole),
        (31, "scoped_routes", Whole),
        (32, "preserve_external_request_id", Whole),
        (33, "merge_slashes", Whole),
        (34, "server_header_transformation", Whole),
        (35, "common_http_protocol_options", In(&SERVER_HTTP)),
        (37, "always_set_request_id_in_response", Whole),
        (38, "local_reply_config", In(&LOCAL_REPLY)),
        (39, "strip_matching_host_port", Whole),
        (42, "strip_any_host_port", Whole),
        (41, "request_headers_timeout", Whole),
        (45, "path_with_escaped_slashes_action", Whole),
        (46, "original_ip_detection_extensions[]", Whole),
    ],
);

pub(crate) static RDS: Reads = Reads::of(
    "envoy.extensions.filters.network.http_connection_manager.v3.Rds",
    &[
        (1, "config_source", In(&CONFIG_SOURCE)),
        (2, "route_config_name", Whole),
    ],
);

pub(crate) static CERT_DETAILS: Reads = Reads::of(
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.SetCurrentClientCertDetails",
    &[
        (1, "subject", Whole),
        (3, "cert", Whole),
        (4, "dns", Whole),
        (5, "uri", Whole),
        (6, "chain", Whole),
    ],
);

pub(crate) static HCM_UPGRADE: Reads = Reads::of(
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.UpgradeConfig",
    &[(1, "upgrade_type", Whole), (3, "enabled", Whole)],
);

pub(crate) static SERVER_HTTP: Reads = Reads::of(
    "envoy.config.core.v3.HttpProtocolOptions",
    &[
        (1, "idle_timeout", Whole),
        (2, "max_headers_count", Whole),
        (3, "max_connection_duration", Whole),
        (6, "max_requests_per_connection", Whole),
    ],
);

pub(crate) static SERVER_HTTP2: Reads = Reads::of(
    "envoy.config.core.v3.Http2ProtocolOptions",
    &[(2, "max_concurrent_streams", Whole)],
);
