//! Clusters in the words of Envoy's first API.

use lateen_xds::types::cluster::{self as v3, CircuitBreakers, cluster};
use lateen_xds::types::core::{Address, address, socket_address};
use lateen_xds::types::wkt::Duration;
use serde::Serialize;

use super::key;
use crate::snapshot::Snapshot;

/// Fields stand in the order in which the reference writes them.
#[derive(Debug, Serialize)]
pub(super) struct Cluster {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_name: Option<String>,
    connect_timeout_ms: u64,
    r#type: &'static str,
    lb_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_requests_per_connection: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hosts: Vec<Host>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ssl_context: Option<SslContext>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http2_settings: Option<Http2>,
    #[serde(skip_serializing_if = "Option::is_none")]
    circuit_breakers: Option<Breakers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outlier_detection: Option<Outlier>,
}

#[derive(Debug, Serialize)]
struct Host {
    url: String,
}

/// Where the certificates of a workload were.
#[derive(Debug, Serialize)]
struct SslContext {
    cert_chain_file: &'static str,
    private_key_file: &'static str,
    ca_cert_file: &'static str,
}

#[derive(Debug, Serialize)]
struct Http2 {
    max_concurrent_streams: u32,
}

#[derive(Debug, Serialize)]
struct Breakers {
    default: Limits,
}

#[derive(Debug, Serialize)]
struct Limits {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_connections: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_pending_requests: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_requests: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_retries: Option<u32>,
}

#[derive(Debug, Serialize)]
struct Outlier {
    #[serde(skip_serializing_if = "Option::is_none")]
    consecutive_5xx: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base_ejection_time_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_ejection_percent: Option<u32>,
}

/// All clusters that a service or an application stands behind.
pub(super) fn all(snapshot: &Snapshot, clusters: &[v3::Cluster]) -> Vec<Cluster> {
    clusters
        .iter()
        .filter_map(|cluster| of(snapshot, cluster))
        .collect()
}

fn of(snapshot: &Snapshot, cluster: &v3::Cluster) -> Option<Cluster> {
    let key = key::of_cluster(snapshot, &cluster.name);
    let is_http2 = snapshot_says_http2(cluster);
    Some(Cluster {
        name: match &key {
            Some(key) => key::cluster(key),
            None => inbound(&cluster.name)?,
        },
        connect_timeout_ms: cluster.connect_timeout.as_ref().map_or(1_000, milliseconds),
        r#type: kind(cluster),
        lb_type: balancing(cluster),
        max_requests_per_connection: None,
        hosts: hosts(cluster),
        ssl_context: (key.is_some() && speaks_mesh_tls(cluster)).then_some(SslContext {
            cert_chain_file: "/etc/certs/cert-chain.pem",
            private_key_file: "/etc/certs/key.pem",
            ca_cert_file: "/etc/certs/root-cert.pem",
        }),
        http2_settings: is_http2.then_some(Http2 {
            max_concurrent_streams: 1_073_741_824,
        }),
        circuit_breakers: cluster.circuit_breakers.as_ref().and_then(breakers),
        outlier_detection: cluster.outlier_detection.as_ref().map(|outlier| Outlier {
            consecutive_5xx: outlier.consecutive_5xx.map(|n| n.value),
            interval_ms: outlier.interval.as_ref().map(milliseconds),
            base_ejection_time_ms: outlier.base_ejection_time.as_ref().map(milliseconds),
            max_ejection_percent: outlier.max_ejection_percent.map(|n| n.value),
        }),
        service_name: key,
    })
}

/// The application's clusters are named by its port.
fn inbound(name: &str) -> Option<String> {
    let name: lateen_xds::names::ClusterName = name.parse().ok()?;
    let is_inbound = name.direction == lateen_core::Direction::Inbound;
    is_inbound.then(|| format!("in.{}", name.port))
}

pub(super) fn milliseconds(of: &Duration) -> u64 {
    let seconds = u64::try_from(of.seconds).unwrap_or_default();
    seconds * 1_000 + u64::try_from(of.nanos / 1_000_000).unwrap_or_default()
}

fn kind(cluster: &v3::Cluster) -> &'static str {
    use cluster::{ClusterDiscoveryType, DiscoveryType};
    let Some(ClusterDiscoveryType::Type(kind)) = cluster.cluster_discovery_type else {
        return "strict_dns";
    };
    match DiscoveryType::try_from(kind) {
        Ok(DiscoveryType::Eds) => "sds",
        Ok(DiscoveryType::StrictDns) => "strict_dns",
        Ok(DiscoveryType::LogicalDns) => "logical_dns",
        Ok(DiscoveryType::OriginalDst) => "original_dst",
        Ok(DiscoveryType::Static) | Err(_) => "static",
    }
}

fn balancing(cluster: &v3::Cluster) -> &'static str {
    use cluster::LbPolicy;
    match LbPolicy::try_from(cluster.lb_policy) {
        Ok(LbPolicy::LeastRequest) => "least_request",
        Ok(LbPolicy::Random) => "random",
        Ok(LbPolicy::RingHash) => "ring_hash",
        Ok(LbPolicy::Maglev) => "maglev",
        Ok(LbPolicy::ClusterProvided) => "original_dst_lb",
        _ => "round_robin",
    }
}

fn hosts(cluster: &v3::Cluster) -> Vec<Host> {
    use lateen_xds::types::endpoint::lb_endpoint::HostIdentifier;
    let localities = cluster
        .load_assignment
        .iter()
        .flat_map(|all| &all.endpoints);
    let endpoints = localities.flat_map(|locality| &locality.lb_endpoints);
    let addresses = endpoints.filter_map(|endpoint| match &endpoint.host_identifier {
        Some(HostIdentifier::Endpoint(endpoint)) => url(endpoint.address.as_ref()?),
        _ => None,
    });
    addresses.map(|url| Host { url }).collect()
}

/// `tcp://127.0.0.1:9080`.
pub(super) fn url(of: &Address) -> Option<String> {
    let Some(address::Address::SocketAddress(socket)) = &of.address else {
        return None;
    };
    let port = match socket.port_specifier {
        Some(socket_address::PortSpecifier::PortValue(port)) => port,
        _ => 0,
    };
    match socket.address.contains(':') {
        true => Some(format!("tcp://[{}]:{port}", socket.address)),
        false => Some(format!("tcp://{}:{port}", socket.address)),
    }
}

fn speaks_mesh_tls(cluster: &v3::Cluster) -> bool {
    cluster.transport_socket.is_some() || !cluster.transport_socket_matches.is_empty()
}

/// A cluster says so in its options of protocols.
fn snapshot_says_http2(cluster: &v3::Cluster) -> bool {
    use lateen_xds::types::upstream::http::HttpProtocolOptions;
    use lateen_xds::types::upstream::http::http_protocol_options::UpstreamProtocolOptions;
    use lateen_xds::types::upstream::http::http_protocol_options::explicit_http_config::ProtocolConfig;
    let mut options = cluster.typed_extension_protocol_options.values();
    options.any(|any| {
        let options: Option<HttpProtocolOptions> = lateen_xds::decode_any(any).ok();
        let protocol = options.and_then(|options| options.upstream_protocol_options);
        let Some(UpstreamProtocolOptions::ExplicitHttpConfig(config)) = protocol else {
            return false;
        };
        matches!(
            config.protocol_config,
            Some(ProtocolConfig::Http2ProtocolOptions(_))
        )
    })
}

fn breakers(of: &CircuitBreakers) -> Option<Breakers> {
    let limits = of.thresholds.first()?;
    // The highest number means that nothing is limited.
    let value = |n: Option<lateen_xds::types::wkt::UInt32Value>| {
        n.map(|n| n.value).filter(|n| *n < u32::MAX)
    };
    let default = Limits {
        max_connections: value(limits.max_connections),
        max_pending_requests: value(limits.max_pending_requests),
        max_requests: value(limits.max_requests),
        max_retries: value(limits.max_retries),
    };
    let is_set = [
        default.max_connections,
        default.max_pending_requests,
        default.max_requests,
        default.max_retries,
    ];
    is_set
        .iter()
        .any(Option::is_some)
        .then_some(Breakers { default })
}
