//! Clusters: what they are configured to be, the hosts that they have now, and the way to connect.

mod connect;
mod dns;
mod hosts;
mod stats;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arcstr::ArcStr;
use lateen_balance::{Breaker, Limits, OutlierConfig, Policy, SlowStart};
use lateen_http::Keepalive;
use lateen_tls::Connector;

use crate::decode::NamedEndpoint;
use crate::socket;

pub(crate) use connect::{ConnectError, Connected, HttpWant, connect, connect_http, permit};
pub(crate) use dns::resolve_forever;
pub(crate) use hosts::{Host, HostSet};
pub(crate) use stats::{ClusterStats, is_gauge};

/// A cluster as configured.
pub(crate) struct ClusterSpec {
    pub name: ArcStr,
    pub discovery: Discovery,
    pub connect_timeout: Duration,
    pub policy: Policy,
    pub slow_start: Option<SlowStart>,
    pub panic_percent: u32,
    pub locality_weighted: bool,
    pub http: HttpOptions,
    /// The default first.
    pub transports: Vec<Arc<Transport>>,
    pub transport_matches: Vec<TransportMatch>,
    pub limits: Limits,
    pub outlier: Option<OutlierConfig>,
    /// The address that connections come from.
    pub bind: Option<SocketAddr>,
    /// How the kernel asks whether hosts are still there, where it is not as for all connections.
    pub keepalive: Option<socket::Keepalive>,
    pub services: Vec<Service>,
}

/// Where the hosts come from.
pub(crate) enum Discovery {
    Static(Vec<NamedEndpoint>),
    /// By this name.
    Eds(ArcStr),
    Dns(Arc<DnsSpec>),
    /// Wherever the client meant to go, unless a header or a fixed port says otherwise.
    OriginalDst {
        header: Option<String>,
        port: Option<u16>,
    },
}

/// Names to be resolved.
pub(crate) struct DnsSpec {
    pub endpoints: Vec<NamedEndpoint>,
    /// Use one address of a name, not all.
    pub logical: bool,
    pub refresh: Duration,
    pub v4: bool,
    pub v6: bool,
}

/// HTTP towards the hosts.
pub(crate) struct HttpOptions {
    pub protocol: UpstreamProtocol,
    /// How long an unused connection is kept, where the cluster says so.
    pub idle_timeout: Option<Duration>,
    /// Requests of one connection; 0 for any number.
    pub max_requests: u32,
    /// Streams of one connection at once.
    pub max_streams: u32,
    pub keepalive: Option<Keepalive>,
}

/// The HTTP version towards the hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpstreamProtocol {
    Http1,
    Http2,
    /// That of the request.
    Downstream,
    /// By ALPN.
    Auto,
}

/// How connections are secured.
pub(crate) enum Transport {
    Raw,
    Tls(Box<TlsUpstream>),
}

/// TLS towards hosts; one connector for each use, since they offer different protocols.
pub(crate) struct TlsUpstream {
    pub tcp: Connector,
    pub http1: Connector,
    pub http2: Connector,
    pub auto: Connector,
    pub sni: Option<ArcStr>,
    /// Without a fixed name, ask for the request's authority.
    pub auto_sni: bool,
    /// Mutual TLS inside the mesh.
    pub mesh: bool,
}

/// Labels of an endpoint that lead to a transport.
pub(crate) struct TransportMatch {
    pub labels: Vec<(String, String)>,
    pub transport: usize,
}

/// A service that a cluster stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    pub host: ArcStr,
    pub name: ArcStr,
    pub namespace: ArcStr,
}

/// A cluster with its present hosts.
pub(crate) struct Cluster {
    /// Tells this configuration of the cluster from the one before, so that connections made under
    /// one are not used under the other.
    pub id: u64,
    pub spec: Arc<ClusterSpec>,
    pub hosts: Arc<HostSet>,
    /// False until its hosts were heard of for the first time.
    pub warm: bool,
    pub stats: Arc<ClusterStats>,
    pub breaker: Arc<Breaker>,
    /// The service that metrics name.
    pub service: Service,
}

impl Cluster {
    /// The same cluster with other hosts.
    pub(crate) fn with_hosts(&self, hosts: HostSet) -> Cluster {
        Cluster {
            id: self.id,
            spec: self.spec.clone(),
            hosts: Arc::new(hosts),
            warm: true,
            stats: self.stats.clone(),
            breaker: self.breaker.clone(),
            service: self.service.clone(),
        }
    }
}

impl ClusterSpec {
    /// The service that metrics name: as the control plane says, or by the cluster's name.
    pub(crate) fn service(&self) -> Service {
        use lateen_xds::names::ClusterName;
        if let Some(service) = self.services.first() {
            return service.clone();
        }
        let host = match self.name.parse::<ClusterName>() {
            Ok(name) if !name.host.is_empty() => name.host,
            // Passthrough and the black hole are named by their clusters.
            _ => {
                let host = self.name.clone();
                return Service {
                    name: host.clone(),
                    namespace: ArcStr::new(),
                    host,
                };
            }
        };
        let mut parts = host.splitn(3, '.');
        let name: ArcStr = parts.next().unwrap_or("").into();
        let namespace = parts.next().unwrap_or("");
        match parts.next() {
            Some(rest) if rest.starts_with("svc") => Service {
                name,
                namespace: namespace.into(),
                host: host.into(),
            },
            // A host outside of the mesh is its own name.
            _ => Service {
                name: host.as_str().into(),
                namespace: ArcStr::new(),
                host: host.into(),
            },
        }
    }

    /// The transport for an endpoint with these labels.
    pub(crate) fn transport_for(&self, labels: &[(String, String)]) -> usize {
        let fits = |item: &&TransportMatch| item.labels.iter().all(|label| labels.contains(label));
        self.transport_matches
            .iter()
            .find(fits)
            .map_or(0, |item| item.transport)
    }
}
