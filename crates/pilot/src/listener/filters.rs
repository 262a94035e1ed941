//! The filters of a connection: HTTP connection managers, TCP proxies, inspectors, access logs.
//!
//! Istio's own filters (metadata exchange, statistics, ALPN override) are not in Envoy and are sent
//! to nobody: our proxy does those jobs itself, from the same resources.

use lateen_api::Duration;
use lateen_api::mesh::{ForwardClientCertDetails as WishedDetails, NormalizationType};
use lateen_xds::Any;
use lateen_xds::pack_any;
use lateen_xds::types::accesslog::{AccessLog, access_log};
use lateen_xds::types::core::{
    DataSource, HttpProtocolOptions, SubstitutionFormatString, data_source,
    substitution_format_string,
};
use lateen_xds::types::http_filter::{
    cors::Cors, fault::HttpFault, grpc_stats, router::Router, stateful_session::StatefulSession,
};
use lateen_xds::types::listener::{Filter, ListenerFilter};
use lateen_xds::types::listener_filter::{HttpInspector, OriginalDst, ProxyProtocol, TlsInspector};
use lateen_xds::types::network::hcm::http_connection_manager::{
    ForwardClientCertDetails, PathWithEscapedSlashesAction, RouteSpecifier,
    SetCurrentClientCertDetails, UpgradeConfig,
};
use lateen_xds::types::network::hcm::{HttpConnectionManager, HttpFilter, Rds, http_filter};
use lateen_xds::types::network::tcp_proxy::tcp_proxy::TunnelingConfig;
use lateen_xds::types::network::tcp_proxy::{TcpProxy, tcp_proxy};
use lateen_xds::types::route::RouteConfiguration;
use lateen_xds::types::wkt::Struct;

use super::{Logging, TcpLimits, Topology, Tunnel};
use crate::route::filters::SESSION;
use crate::{dynamic, wire};

const HCM: &str = "envoy.filters.network.http_connection_manager";
const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";
/// Istio's name for the server header.
const SERVER_NAME: &str = "istio-envoy";
/// Idle time of a connection whose other end is not known to close it.
const TCP_IDLE_SECONDS: i64 = 3600;

/// Where a connection manager gets its routes.
pub(super) enum Routes {
    /// By name, over the stream.
    Named(String),
    /// In the listener itself.
    Inline(Box<RouteConfiguration>),
}

/// Which side of the mesh a connection manager is on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Inbound,
    Outbound,
    /// With what is before the gateway.
    Gateway(Topology),
}

pub(super) fn http(
    side: Side,
    stat_prefix: String,
    routes: Routes,
    by_name: bool,
    logging: &Logging,
) -> Filter {
    let gateway = matches!(side, Side::Gateway(_));
    let mut manager = HttpConnectionManager {
        stat_prefix,
        http_filters: http_filters(side, by_name.then_some(logging.refresh)),
        server_name: SERVER_NAME.into(),
        stream_idle_timeout: wire::seconds(0),
        use_remote_address: wire::boolean(gateway),
        generate_request_id: wire::boolean(true),
        normalize_path: wire::boolean(logging.paths != NormalizationType::None),
        merge_slashes: matches!(
            logging.paths,
            NormalizationType::MergeSlashes | NormalizationType::DecodeAndMergeSlashes
        ),
        path_with_escaped_slashes_action: PathWithEscapedSlashesAction::KeepUnchanged.into(),
        upgrade_configs: vec![UpgradeConfig {
            upgrade_type: "websocket".into(),
            ..UpgradeConfig::default()
        }],
        common_http_protocol_options: Some(HttpProtocolOptions {
            idle_timeout: wire::seconds(TCP_IDLE_SECONDS),
            ..HttpProtocolOptions::default()
        }),
        access_log: access_log(logging),
        route_specifier: Some(match routes {
            Routes::Named(route_config_name) => RouteSpecifier::Rds(Rds {
                config_source: Some(wire::ads()),
                route_config_name,
            }),
            Routes::Inline(table) => RouteSpecifier::RouteConfig(*table),
        }),
        ..HttpConnectionManager::default()
    };
    match side {
        Side::Outbound => {}
        Side::Inbound => {
            manager.forward_client_cert_details = ForwardClientCertDetails::AppendForward.into();
            manager.set_current_client_cert_details = Some(client_certificate());
        }
        Side::Gateway(topology) => {
            manager.xff_num_trusted_hops = topology.trusted_proxies;
            let details = certificate_header(topology.client_certificates);
            manager.forward_client_cert_details = details.into();
            manager.set_current_client_cert_details = Some(client_certificate());
        }
    }
    wire::network_filter(HCM, pack_any(&manager))
}

/// What a client from outside says about certificates is not believed, unless the gateway is told to.
fn certificate_header(wish: WishedDetails) -> ForwardClientCertDetails {
    match wish {
        WishedDetails::Undefined | WishedDetails::SanitizeSet => {
            ForwardClientCertDetails::SanitizeSet
        }
        WishedDetails::Sanitize => ForwardClientCertDetails::Sanitize,
        WishedDetails::ForwardOnly => ForwardClientCertDetails::ForwardOnly,
        WishedDetails::AppendForward => ForwardClientCertDetails::AppendForward,
        WishedDetails::AlwaysForwardOnly => ForwardClientCertDetails::AlwaysForwardOnly,
    }
}

fn client_certificate() -> SetCurrentClientCertDetails {
    SetCurrentClientCertDetails {
        subject: wire::boolean(true),
        dns: true,
        uri: true,
        ..SetCurrentClientCertDetails::default()
    }
}

/// In the order in which Istio has them: statistics, faults, cross-origin, sessions (for routes that
/// have any), names of hosts (where they are looked up, and how often), router.
fn http_filters(side: Side, names: Option<Duration>) -> Vec<HttpFilter> {
    let filter = |name: &str, config: Any| HttpFilter {
        name: name.into(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..HttpFilter::default()
    };
    let statistics = grpc_stats::FilterConfig {
        emit_filter_state: true,
        ..grpc_stats::FilterConfig::default()
    };
    let mut filters = vec![
        filter("envoy.filters.http.grpc_stats", pack_any(&statistics)),
        filter("envoy.filters.http.fault", pack_any(&HttpFault::default())),
        filter("envoy.filters.http.cors", pack_any(&Cors {})),
    ];
    if side != Side::Inbound {
        let of_no_route = StatefulSession::default();
        filters.push(filter(SESSION, pack_any(&of_no_route)));
    }
    filters.extend(names.map(|refresh| {
        let name = "envoy.filters.http.dynamic_forward_proxy";
        filter(name, dynamic::by_host(refresh))
    }));
    let router = pack_any(&Router::default());
    filters.push(filter("envoy.filters.http.router", router));
    filters
}

pub(super) fn tcp(
    stat_prefix: impl Into<String>,
    to: tcp_proxy::ClusterSpecifier,
    logging: &Logging,
) -> Filter {
    limited_tcp(stat_prefix, to, TcpLimits::default(), None, logging)
}

pub(super) fn limited_tcp(
    stat_prefix: impl Into<String>,
    to: tcp_proxy::ClusterSpecifier,
    limits: TcpLimits,
    tunnel: Option<&Tunnel>,
    logging: &Logging,
) -> Filter {
    let proxy = TcpProxy {
        stat_prefix: stat_prefix.into(),
        cluster_specifier: Some(to),
        idle_timeout: limits.idle.map(wire::duration),
        max_downstream_connection_duration: limits.most.map(wire::duration),
        tunneling_config: tunnel.map(|tunnel| TunnelingConfig {
            hostname: tunnel.authority.clone(),
            use_post: tunnel.post,
            ..TunnelingConfig::default()
        }),
        access_log: access_log(logging),
        ..TcpProxy::default()
    };
    wire::network_filter(TCP_PROXY, pack_any(&proxy))
}

/// Look up the names that TLS clients ask for; they stand before a TCP proxy.
pub(super) fn server_names(port: u16, logging: &Logging) -> [Filter; 2] {
    let state = "envoy.filters.network.set_filter_state";
    let names = "envoy.filters.network.sni_dynamic_forward_proxy";
    let config = dynamic::by_server_name(logging.refresh, port);
    [
        wire::network_filter(state, dynamic::port(port)),
        wire::network_filter(names, config),
    ]
}

pub(super) fn to_cluster(name: impl Into<String>) -> tcp_proxy::ClusterSpecifier {
    tcp_proxy::ClusterSpecifier::Cluster(name.into())
}

pub(super) fn original_dst() -> ListenerFilter {
    let config = pack_any(&OriginalDst {});
    wire::listener_filter("envoy.filters.listener.original_dst", config)
}

pub(super) fn proxy_protocol() -> ListenerFilter {
    let config = pack_any(&ProxyProtocol::default());
    wire::listener_filter("envoy.filters.listener.proxy_protocol", config)
}

pub(super) fn tls_inspector() -> ListenerFilter {
    let config = pack_any(&TlsInspector::default());
    wire::listener_filter("envoy.filters.listener.tls_inspector", config)
}

pub(super) fn http_inspector() -> ListenerFilter {
    let config = pack_any(&HttpInspector {});
    wire::listener_filter("envoy.filters.listener.http_inspector", config)
}

pub(super) fn access_log(logging: &Logging) -> Vec<AccessLog> {
    use lateen_xds::envoy::extensions::access_loggers::file::v3::{
        FileAccessLog, file_access_log::AccessLogFormat,
    };
    if logging.file.is_empty() {
        return Vec::new();
    }
    let format = if logging.json {
        json_format(own_fields(&logging.format).unwrap_or_else(|| {
            wire::record(JSON_FIELDS.map(|(name, operator)| (name, wire::text(operator))))
        }))
    } else {
        let text = if logging.format.is_empty() {
            TEXT_FORMAT
        } else {
            &logging.format
        };
        text_format(text)
    };
    let config = FileAccessLog {
        path: logging.file.clone(),
        access_log_format: Some(AccessLogFormat::LogFormat(format)),
    };
    vec![AccessLog {
        name: "envoy.access_loggers.file".into(),
        config_type: Some(access_log::ConfigType::TypedConfig(pack_any(&config))),
        ..AccessLog::default()
    }]
}

/// The user's own fields, where the format is a JSON object; Istio's default otherwise.
fn own_fields(format: &str) -> Option<Struct> {
    match serde_json::from_str(format).ok()? {
        serde_json::Value::Object(fields) => Some(wire::record(
            fields
                .into_iter()
                .map(|(key, value)| (key, wire::value(value))),
        )),
        _ => None,
    }
}

fn text_format(text: &str) -> SubstitutionFormatString {
    let source = DataSource {
        specifier: Some(data_source::Specifier::InlineString(text.into())),
        ..DataSource::default()
    };
    let format = substitution_format_string::Format::TextFormatSource(source);
    SubstitutionFormatString {
        format: Some(format),
        ..SubstitutionFormatString::default()
    }
}

fn json_format(fields: Struct) -> SubstitutionFormatString {
    SubstitutionFormatString {
        format: Some(substitution_format_string::Format::JsonFormat(fields)),
        ..SubstitutionFormatString::default()
    }
}

/// Istio's default line.
const TEXT_FORMAT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% \
%PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% \
%CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% \
%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \
\"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" \
%UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% \
%DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

/// Istio's default JSON object.
const JSON_FIELDS: [(&str, &str); 24] = [
    ("start_time", "%START_TIME%"),
    ("route_name", "%ROUTE_NAME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    (
        "connection_termination_details",
        "%CONNECTION_TERMINATION_DETAILS%",
    ),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    (
        "upstream_service_time",
        "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    ),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    (
        "upstream_transport_failure_reason",
        "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    ),
];
