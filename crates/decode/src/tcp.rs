//! The TCP proxy's settings.

use std::time::Duration;

use lateen_route::{HeaderMutations, Target, Weighted, WeightedClusters};
use lateen_telemetry::access_log::Format;
use lateen_xds::types::{kind, network::tcp_proxy as pb};

use super::access_log::AccessLogSpec;
use super::common::{duration, header_options};
use super::{DecodeError, Result, access_log};
use crate::access_log::ACCESS_LOG;
use crate::common::HEADER_OPTION;
use crate::unread::Kind::{Harmless, In, Whole};
use crate::unread::Reads;

/// The TCP proxy's settings.
#[derive(Debug)]
pub struct TcpProxySpec {
    /// Where connections go.
    pub target: Target,
    /// How long a connection may carry nothing.
    pub idle_timeout: Duration,
    /// The longest that a client's connection lives.
    pub max_duration: Option<Duration>,
    /// Hosts that are tried.
    pub connect_attempts: u32,
    /// Where connections are logged.
    pub access_logs: Vec<AccessLogSpec>,
    /// Hash by the client's address.
    pub by_source: bool,
    /// The bytes go through HTTP, where it says so.
    pub tunnel: Option<Tunnel>,
    /// The port of hosts that a TLS client names, where its name leads to them.
    pub name_port: Option<u16>,
}

/// A tunnel through an HTTP proxy.
#[derive(Debug, Clone)]
pub struct Tunnel {
    /// The host and port that it leads to, with Envoy's `%…%` substitutions.
    pub authority: Format,
    /// The path of the POST that opens it; CONNECT does where there is none.
    pub post: Option<String>,
    /// Written to the request.
    pub headers: HeaderMutations,
}

/// Compiles it.
pub(super) fn tcp_proxy(spec: &pb::TcpProxy) -> Result<TcpProxySpec> {
    use pb::tcp_proxy::ClusterSpecifier;
    let target = match &spec.cluster_specifier {
        Some(ClusterSpecifier::Cluster(cluster)) => Target::Cluster(cluster.into()),
        Some(ClusterSpecifier::WeightedClusters(list)) => {
            let clusters = list.clusters.iter().map(|cluster| Weighted {
                cluster: cluster.name.as_str().into(),
                weight: cluster.weight,
                headers: HeaderMutations::default(),
                host: None,
            });
            Target::Weighted(WeightedClusters::new("tcp_proxy", clusters.collect())?)
        }
        None => return Err(DecodeError::new("cluster_specifier", "is required")),
    };
    Ok(TcpProxySpec {
        target,
        idle_timeout: duration(spec.idle_timeout.as_ref()).unwrap_or(Duration::from_secs(3600)),
        max_duration: duration(spec.max_downstream_connection_duration.as_ref()),
        connect_attempts: spec
            .max_connect_attempts
            .as_ref()
            .map_or(1, |max| max.value.max(1)),
        access_logs: access_log::access_logs(&spec.access_log)?,
        by_source: by_source(&spec.hash_policy)?,
        tunnel: spec.tunneling_config.as_ref().map(tunnel).transpose()?,
        name_port: None,
    })
}

fn tunnel(spec: &pb::tcp_proxy::TunnelingConfig) -> Result<Tunnel> {
    let fault = |reason: &str| DecodeError::new("tunneling_config.post_path", reason);
    if !spec.use_post && !spec.post_path.is_empty() {
        return Err(fault("is for tunnels by POST alone"));
    }
    if !spec.post_path.is_empty() && !spec.post_path.starts_with('/') {
        return Err(fault("does not begin with a slash"));
    }
    let path = match spec.post_path.as_str() {
        "" => "/",
        path => path,
    };
    let field = "tunneling_config.hostname";
    if spec.hostname.is_empty() {
        return Err(DecodeError::new(field, "is required"));
    }
    Ok(Tunnel {
        authority: Format::parse(&spec.hostname)
            .map_err(|error| DecodeError::new(field, error.to_string()))?,
        post: spec.use_post.then(|| path.to_owned()),
        headers: HeaderMutations {
            request_add: header_options("tunneling_config.headers_to_add", &spec.headers_to_add)?,
            ..HeaderMutations::default()
        },
    })
}

fn by_source(list: &[kind::HashPolicy]) -> Result<bool> {
    use kind::hash_policy::PolicySpecifier;
    for policy in list {
        match &policy.policy_specifier {
            Some(PolicySpecifier::SourceIp(_)) => return Ok(true),
            Some(PolicySpecifier::FilterState(_)) => {
                return Err(DecodeError::unsupported("hash_policy", "filter state"));
            }
            None => {}
        }
    }
    Ok(false)
}

pub(crate) static TCP_PROXY: Reads = Reads::of(
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
    &[
        (1, "stat_prefix", Harmless),
        (2, "cluster", Whole),
        (5, "access_log[]", In(&ACCESS_LOG)),
        (7, "max_connect_attempts", Whole),
        (8, "idle_timeout", Whole),
        (10, "weighted_clusters", In(&TCP_WEIGHTED)),
        (11, "hash_policy[]", In(&TCP_HASH)),
        (12, "tunneling_config", In(&TUNNEL)),
        (13, "max_downstream_connection_duration", Whole),
    ],
);

pub(crate) static TUNNEL: Reads = Reads::of(
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.TunnelingConfig",
    &[
        (1, "hostname", Whole),
        (2, "use_post", Whole),
        (3, "headers_to_add[]", In(&HEADER_OPTION)),
        (5, "post_path", Whole),
        // Nobody asks for what is kept there.
        (4, "propagate_response_headers", Harmless),
        (6, "propagate_response_trailers", Harmless),
    ],
);

pub(crate) static TCP_WEIGHTED: Reads = Reads::of(
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster",
    &[(1, "clusters[]", In(&TCP_CLUSTER))],
);

pub(crate) static TCP_CLUSTER: Reads = Reads::of(
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight",
    &[(1, "name", Whole), (2, "weight", Whole)],
);

pub(crate) static TCP_HASH: Reads = Reads::of(
    "envoy.type.v3.HashPolicy",
    &[(1, "source_ip", Whole), (2, "filter_state", Whole)],
);
