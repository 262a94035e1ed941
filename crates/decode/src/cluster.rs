//! Clusters.

mod balancing;
mod dynamic;
mod errors;
mod http;
pub(crate) mod reads;
mod spec;

use std::sync::Arc;
use std::time::Duration;

use lateen_balance::{Limits, OutlierConfig};
use lateen_core::proxy_protocol::Version;
use lateen_xds::TypeUrl;
use lateen_xds::types::core::RoutingPriority;
use lateen_xds::types::proxy_protocol::ProxyProtocolUpstreamTransport;
use lateen_xds::types::wkt::UInt32Value;
use lateen_xds::types::{cluster as pb, core, tls as tls_pb};

use super::common::{FormatValue, duration, socket_address, struct_path};
use super::endpoint::{NamedEndpoint, assignment};
use super::{DecodeError, Result, tls, typed};
pub use errors::ErrorMatch;
pub use spec::{
    ClusterSpec, Discovery, DnsSpec, DynamicSpec, HttpOptions, Keepalive, Pings, Service,
    TransportMatch, TransportSpec, UpstreamProtocol,
};

/// Compiles a cluster.
///
/// # Errors
/// On what is not supported, with the field.
pub fn cluster(spec: &pb::Cluster) -> Result<ClusterSpec> {
    if spec.lb_subset_config.is_some() {
        return Err(DecodeError::unsupported(
            "lb_subset_config",
            "choice by metadata subset",
        ));
    }
    let (mut transports, transport_matches) = transports(spec)?;
    let options = http::protocol_options(spec)?;
    let discovery = discovery(spec)?;
    let by_host = http::by_host(spec, options.as_ref(), &discovery)?;
    for transport in &mut transports {
        transport.follow(by_host);
    }
    let choice = balancing::choice(spec)?;
    let lb = spec.common_lb_config.as_ref();
    Ok(ClusterSpec {
        name: spec.name.as_str().into(),
        discovery,
        connect_timeout: duration(spec.connect_timeout.as_ref()).unwrap_or(Duration::from_secs(5)),
        policy: choice.policy,
        slow_start: choice.slow_start,
        panic_percent: lb
            .and_then(|lb| lb.healthy_panic_threshold.as_ref())
            .map_or(50, |percent| percent.value as u32),
        locality_weighted: choice.locality_weighted,
        zones: choice.zones,
        http: http::options(spec, options.as_ref())?,
        transports,
        transport_matches,
        limits: limits(spec.circuit_breakers.as_ref(), RoutingPriority::Default),
        high_limits: limits(spec.circuit_breakers.as_ref(), RoutingPriority::High),
        outlier: spec.outlier_detection.as_ref().map(outlier),
        errors: errors::of(options.as_ref())?,
        bind: bind(spec)?,
        keepalive: keepalive(spec.upstream_connection_options.as_ref()),
        services: services(spec.metadata.as_ref()),
    })
}

fn discovery(spec: &pb::Cluster) -> Result<Discovery> {
    use pb::cluster::{ClusterDiscoveryType, DiscoveryType, LbConfig};
    let kind = match &spec.cluster_discovery_type {
        Some(ClusterDiscoveryType::Type(kind)) => DiscoveryType::try_from(*kind)
            .map_err(|_| DecodeError::new("type", format!("{kind} is unknown")))?,
        Some(ClusterDiscoveryType::ClusterType(custom)) => {
            return Ok(Discovery::Dynamic(dynamic::of(custom)?));
        }
        None => DiscoveryType::Static,
    };
    let endpoints = || match &spec.load_assignment {
        Some(load) => assignment(load),
        None => Ok(Vec::new()),
    };
    let dns = |logical: bool| {
        let refresh = duration(spec.dns_refresh_rate.as_ref()).unwrap_or(Duration::from_secs(5));
        let v4 = spec.dns_lookup_family != pb::cluster::DnsLookupFamily::V6Only as i32;
        let v6 = spec.dns_lookup_family != pb::cluster::DnsLookupFamily::V4Only as i32;
        let endpoints = endpoints()?;
        if let Some(path) = endpoints.iter().find_map(NamedEndpoint::path) {
            let what = format!("{path:?} is a path, and no name to look up");
            return Err(DecodeError::new("load_assignment", what));
        }
        Ok(Discovery::Dns(Arc::new(DnsSpec {
            endpoints,
            logical,
            refresh,
            v4,
            v6,
        })))
    };
    match kind {
        DiscoveryType::Static => {
            let list = endpoints()?;
            let bad = list
                .iter()
                .find(|e| e.address().is_none() && e.path().is_none());
            match bad {
                Some(bad) => Err(DecodeError::new(
                    "load_assignment",
                    format!("{:?} is not an IP address", bad.host),
                )),
                None => Ok(Discovery::Static(list)),
            }
        }
        DiscoveryType::Eds => {
            let config = spec.eds_cluster_config.as_ref();
            let service = config.map_or("", |config| config.service_name.as_str());
            let service = if service.is_empty() {
                &spec.name
            } else {
                service
            };
            Ok(Discovery::Eds(service.into()))
        }
        DiscoveryType::StrictDns => dns(false),
        DiscoveryType::LogicalDns => dns(true),
        DiscoveryType::OriginalDst => {
            let header = match &spec.lb_config {
                Some(LbConfig::OriginalDstLbConfig(config)) if config.use_http_header => {
                    let name = config.http_header_name.as_str();
                    let default = "x-envoy-original-dst-host";
                    Some(if name.is_empty() { default } else { name }.to_ascii_lowercase())
                }
                _ => None,
            };
            let port = match &spec.lb_config {
                Some(LbConfig::OriginalDstLbConfig(config)) => {
                    let port = config.upstream_port_override.as_ref();
                    port.and_then(|port| u16::try_from(port.value).ok())
                }
                _ => None,
            };
            Ok(Discovery::OriginalDst { header, port })
        }
    }
}

/// The transports of a cluster, the default first, and the matches that lead to the others.
fn transports(spec: &pb::Cluster) -> Result<(Vec<TransportSpec>, Vec<TransportMatch>)> {
    let mut transports = vec![transport(spec.transport_socket.as_ref())?];
    let mut matches = Vec::new();
    if spec.transport_socket_matcher.is_some() {
        return Err(DecodeError::unsupported(
            "transport_socket_matcher",
            "a matcher tree",
        ));
    }
    for item in &spec.transport_socket_matches {
        let labels = item.r#match.as_ref().map_or_else(Vec::new, |fields| {
            let pairs = fields.fields.iter();
            pairs
                .map(|(key, value)| (key.clone(), value.text().unwrap_or("").to_owned()))
                .collect()
        });
        matches.push(TransportMatch {
            labels,
            transport: transports.len(),
        });
        transports.push(transport(item.transport_socket.as_ref())?);
    }
    Ok((transports, matches))
}

fn transport(socket: Option<&core::TransportSocket>) -> Result<TransportSpec> {
    use core::transport_socket::ConfigType;
    let Some(socket) = socket else {
        return Ok(TransportSpec::Raw);
    };
    let Some(ConfigType::TypedConfig(any)) = &socket.config_type else {
        return match socket.name.as_str() {
            "envoy.transport_sockets.raw_buffer" => Ok(TransportSpec::Raw),
            name => Err(DecodeError::unsupported(
                "transport_socket",
                format!("{name:?}"),
            )),
        };
    };
    match TypeUrl::new(&any.type_url).message() {
        "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer" => Ok(TransportSpec::Raw),
        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext" => {
            let spec: tls_pb::UpstreamTlsContext = typed("transport_socket", any)?;
            Ok(TransportSpec::Tls(Box::new(tls::upstream(&spec)?)))
        }
        "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport" => {
            let spec: ProxyProtocolUpstreamTransport = typed("transport_socket", any)?;
            let inner = transport(spec.transport_socket.as_ref())?;
            let config = spec.config.unwrap_or_default();
            let version = match config.version() {
                core::proxy_protocol_config::Version::V1 => Version::V1,
                core::proxy_protocol_config::Version::V2 => Version::V2,
            };
            if inner.proxy_header().is_some() {
                let what = "a header within a header";
                return Err(DecodeError::unsupported("transport_socket", what));
            }
            Ok(TransportSpec::Proxied(version, Box::new(inner)))
        }
        kind => Err(DecodeError::unsupported(
            "transport_socket",
            format!("the type {kind}"),
        )),
    }
}

fn limits(spec: Option<&pb::CircuitBreakers>, priority: RoutingPriority) -> Limits {
    let defaults = Limits::default();
    let priority = priority as i32;
    let Some(default) =
        spec.and_then(|breakers| breakers.thresholds.iter().find(|t| t.priority == priority))
    else {
        return defaults;
    };
    let value = |value: &Option<UInt32Value>, default: u32| {
        value.as_ref().map_or(default, |value| value.value)
    };
    Limits {
        connections: value(&default.max_connections, defaults.connections),
        pending: value(&default.max_pending_requests, defaults.pending),
        requests: value(&default.max_requests, defaults.requests),
        retries: value(&default.max_retries, defaults.retries),
        retry_budget: default.retry_budget.as_ref().map(|budget| {
            let percent = budget
                .budget_percent
                .as_ref()
                .map_or(20.0, |percent| percent.value);
            (percent, value(&budget.min_retry_concurrency, 3))
        }),
    }
}

fn outlier(spec: &pb::OutlierDetection) -> OutlierConfig {
    let defaults = OutlierConfig::default();
    let value = |value: &Option<UInt32Value>, default: u32| {
        value.as_ref().map_or(default, |value| value.value)
    };
    let enforced = |count: u32, enforcing: u32| (count > 0 && enforcing > 0).then_some(count);
    let base = duration(spec.base_ejection_time.as_ref()).unwrap_or(defaults.base_ejection);
    OutlierConfig {
        consecutive_5xx: enforced(
            value(&spec.consecutive_5xx, 5),
            value(&spec.enforcing_consecutive_5xx, 100),
        ),
        consecutive_gateway: enforced(
            value(&spec.consecutive_gateway_failure, 5),
            value(&spec.enforcing_consecutive_gateway_failure, 0),
        ),
        consecutive_local: spec
            .split_external_local_origin_errors
            .then(|| {
                enforced(
                    value(&spec.consecutive_local_origin_failure, 5),
                    value(&spec.enforcing_consecutive_local_origin_failure, 100),
                )
            })
            .flatten(),
        base_ejection: base,
        max_ejection: duration(spec.max_ejection_time.as_ref()).unwrap_or(defaults.max_ejection),
        max_percent: value(&spec.max_ejection_percent, 10),
    }
}

/// The sources of connections, one for each family.
fn bind(spec: &pb::Cluster) -> Result<Vec<std::net::SocketAddr>> {
    let Some(bind) = &spec.upstream_bind_config else {
        return Ok(Vec::new());
    };
    let mut sources = Vec::new();
    if let Some(source) = &bind.source_address {
        sources.push(socket_address(
            "upstream_bind_config.source_address",
            source,
        )?);
    }
    for (index, extra) in bind.extra_source_addresses.iter().enumerate() {
        let field = format!("upstream_bind_config.extra_source_addresses[{index}]");
        let source = extra.address.as_ref();
        let source = source.ok_or_else(|| DecodeError::new(&field, "it has no address"))?;
        sources.push(socket_address(&field, source)?);
    }
    sources.retain(|source| !source.ip().is_unspecified());
    Ok(sources)
}

/// How the kernel asks whether hosts are still there, where the cluster says anything of it.
fn keepalive(options: Option<&pb::UpstreamConnectionOptions>) -> Option<Keepalive> {
    let spec = options?.tcp_keepalive.as_ref()?;
    let seconds = |value: &Option<UInt32Value>| {
        let value = value.as_ref().filter(|value| value.value > 0)?;
        Some(Duration::from_secs(u64::from(value.value)))
    };
    Some(Keepalive {
        time: seconds(&spec.keepalive_time),
        interval: seconds(&spec.keepalive_interval),
        probes: spec.keepalive_probes.as_ref().map(|probes| probes.value),
    })
}

/// The services that the control plane says a cluster stands for.
fn services(metadata: Option<&core::Metadata>) -> Vec<Service> {
    let Some(istio) = metadata.and_then(|metadata| metadata.filter_metadata.get("istio")) else {
        return Vec::new();
    };
    let list = struct_path(istio, &["services"]).map_or(&[][..], |value| value.list());
    list.iter()
        .filter_map(|service| {
            let service = service.object()?;
            let text = |key: &str| {
                struct_path(service, &[key])
                    .and_then(FormatValue::text)
                    .unwrap_or("")
                    .into()
            };
            Some(Service {
                host: text("host"),
                name: text("name"),
                namespace: text("namespace"),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_is_no_name_to_look_up() {
        for (kind, accepted) in [
            ("STATIC", true),
            ("STRICT_DNS", false),
            ("LOGICAL_DNS", false),
        ] {
            let address = json!({ "pipe": { "path": "/run/app" } });
            let message = json!({
                "name": "a", "type": kind,
                "load_assignment": { "cluster_name": "a", "endpoints": [
                    { "lb_endpoints": [{ "endpoint": { "address": address } }] }] },
            });
            let message: pb::Cluster = lateen_xds::json::from_value(message).expect("a cluster");
            let found = cluster(&message).map_err(|error| error.to_string());
            match found {
                Ok(_) => assert!(accepted, "{kind}"),
                Err(error) => assert!(
                    !accepted && error.contains("load_assignment") && error.contains("/run/app"),
                    "{kind}: {error}"
                ),
            }
        }
    }
}
