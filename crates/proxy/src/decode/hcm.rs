//! The HTTP connection manager.

use std::time::Duration;

use lateen_http::Protocol;
use lateen_xds::types::network::hcm as pb;

use super::common::duration;
use super::{DecodeError, Result, access_log, filter, route};
use crate::http::{CertHeader, Hcm, Routes, ServerHeader};

/// Compiles a connection manager.
pub(super) fn hcm(spec: &pb::HttpConnectionManager) -> Result<Hcm> {
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
    Ok(Hcm {
        protocol: match spec.codec_type() {
            nested::CodecType::Auto => Protocol::Auto,
            nested::CodecType::Http1 => Protocol::Http1,
            nested::CodecType::Http2 => Protocol::Http2,
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
        server_name: server_name(spec)?,
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
    })
}

fn server_name(spec: &pb::HttpConnectionManager) -> Result<lateen_http::Value> {
    let name = if spec.server_name.is_empty() {
        "istio-envoy"
    } else {
        &spec.server_name
    };
    lateen_http::Value::new(name.as_bytes())
        .map_err(|error| DecodeError::new("server_name", error.to_string()))
}

fn routes(spec: &pb::HttpConnectionManager) -> Result<Routes> {
    use pb::http_connection_manager::RouteSpecifier;
    match &spec.route_specifier {
        Some(RouteSpecifier::Rds(rds)) if rds.route_config_name.is_empty() => {
            Err(DecodeError::new("rds.route_config_name", "is required"))
        }
        Some(RouteSpecifier::Rds(rds)) => Ok(Routes::Named(rds.route_config_name.as_str().into())),
        Some(RouteSpecifier::RouteConfig(config)) => {
            let config = config.clone();
            Ok(Routes::Inline(route::route_configuration(&config)?))
        }
        Some(RouteSpecifier::ScopedRoutes(_)) => {
            Err(DecodeError::unsupported("scoped_routes", "scoped routing"))
        }
        None => Err(DecodeError::new("route_specifier", "is required")),
    }
}
