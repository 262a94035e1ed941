//! What a cluster is configured to be.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arcstr::ArcStr;
use lateen_balance::{Limits, OutlierConfig, Policy, SlowStart, ZoneAware};
use lateen_core::proxy_protocol::Version;

use super::errors::ErrorMatch;
use crate::endpoint::NamedEndpoint;
use crate::tls::TlsSpec;

/// A cluster as configured.
#[derive(Debug)]
pub struct ClusterSpec {
    /// Its name.
    pub name: ArcStr,
    /// Where its hosts come from.
    pub discovery: Discovery,
    /// How long connecting to one may take.
    pub connect_timeout: Duration,
    /// How one is chosen.
    pub policy: Policy,
    /// How new ones come into their share.
    pub slow_start: Option<SlowStart>,
    /// The share of healthy hosts, in percent, below which health is disregarded.
    pub panic_percent: u32,
    /// Localities have shares of their own.
    pub locality_weighted: bool,
    /// When zones count, where the proxy knows who its peers are.
    pub zones: Option<ZoneAware>,
    /// HTTP towards the hosts.
    pub http: HttpOptions,
    /// The default first.
    pub transports: Vec<TransportSpec>,
    /// Which endpoints take another.
    pub transport_matches: Vec<TransportMatch>,
    /// Limits on what is under way.
    pub limits: Limits,
    /// The same for requests of high priority.
    pub high_limits: Limits,
    /// When hosts that fail are left out.
    pub outlier: Option<OutlierConfig>,
    /// Which responses are failures, where those of 5xx are not.
    pub errors: Option<ErrorMatch>,
    /// The addresses that connections come from, each for hosts of its family.
    pub bind: Vec<SocketAddr>,
    /// How the kernel asks whether hosts are still there, where it is not as for all connections.
    pub keepalive: Option<Keepalive>,
    /// The services that it stands for.
    pub services: Vec<Service>,
}

/// Where the hosts come from.
#[derive(Debug)]
pub enum Discovery {
    /// From the configuration itself.
    Static(Vec<NamedEndpoint>),
    /// From discovery, by this name.
    Eds(ArcStr),
    /// From names that are resolved.
    Dns(Arc<DnsSpec>),
    /// By the names that clients give.
    Dynamic(Arc<DynamicSpec>),
    /// Wherever the client meant to go, unless a header or a fixed port says otherwise.
    OriginalDst {
        /// The header, in lower case.
        header: Option<String>,
        /// The port.
        port: Option<u16>,
    },
}

/// Names to be resolved.
#[derive(Debug)]
pub struct DnsSpec {
    /// Endpoints whose hosts are names.
    pub endpoints: Vec<NamedEndpoint>,
    /// Use one address of a name, not all.
    pub logical: bool,
    /// How often.
    pub refresh: Duration,
    /// Ask for IPv4 addresses.
    pub v4: bool,
    /// Ask for IPv6 addresses.
    pub v6: bool,
}

/// How names that clients give are looked up.
#[derive(Debug, PartialEq, Eq)]
pub struct DynamicSpec {
    /// Servers of any name may answer for each of them.
    pub allow_insecure: bool,
    /// How often.
    pub refresh: Duration,
    /// How long a name is kept that nobody asks for.
    pub host_ttl: Duration,
    /// The most names that are kept.
    pub max_hosts: usize,
    /// Ask for IPv4 addresses.
    pub v4: bool,
    /// Ask for IPv6 addresses.
    pub v6: bool,
}

/// HTTP towards the hosts.
#[derive(Debug)]
pub struct HttpOptions {
    /// Which version.
    pub protocol: UpstreamProtocol,
    /// How long an unused connection is kept, where the cluster says so.
    pub idle_timeout: Option<Duration>,
    /// Requests of one connection; 0 for any number.
    pub max_requests: u32,
    /// Streams of one connection at once.
    pub max_streams: u32,
    /// How HTTP/2 peers are asked whether they are there.
    pub keepalive: Option<Pings>,
}

/// HTTP/2 PINGs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pings {
    /// From one to the next.
    pub interval: Duration,
    /// How long the peer may take to answer.
    pub timeout: Duration,
}

/// The HTTP version towards the hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// That of the request.
    Downstream,
    /// By ALPN.
    Auto,
}

/// How connections are secured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransportSpec {
    /// Not at all.
    Raw,
    /// By TLS.
    Tls(Box<TlsSpec>),
    /// The same, behind a header that names the client.
    Proxied(Version, Box<TransportSpec>),
}

/// What TLS takes from the host of each request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ByHost {
    /// It is the name that is asked for.
    pub ask: bool,
    /// The server's certificate must have it.
    pub verify: Verify,
}

/// When a server's certificate must have the host of the request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Verify {
    #[default]
    Never,
    /// Where there are roots, and no other restrictions.
    WherePossible,
    Always,
}

impl TransportSpec {
    /// Lets TLS follow the hosts of requests.
    pub(super) fn follow(&mut self, by_host: ByHost) {
        match self {
            TransportSpec::Raw => {}
            TransportSpec::Tls(tls) => {
                tls.auto_sni = by_host.ask;
                tls.verify_sni |= by_host.verify == Verify::Always;
                tls.verify_host = by_host.verify == Verify::WherePossible;
            }
            TransportSpec::Proxied(_, inner) => inner.follow(by_host),
        }
    }

    /// The version of the header that connections begin with, if they do.
    #[must_use]
    pub fn proxy_header(&self) -> Option<Version> {
        match self {
            TransportSpec::Proxied(version, _) => Some(*version),
            TransportSpec::Raw | TransportSpec::Tls(_) => None,
        }
    }
}

/// How the kernel asks whether a peer is still there, as far as it is not the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keepalive {
    /// The silence before the first question.
    pub time: Option<Duration>,
    /// From one question to the next.
    pub interval: Option<Duration>,
    /// Questions without an answer after which the connection is given up.
    pub probes: Option<u32>,
}

/// Labels of an endpoint that lead to a transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportMatch {
    /// The labels.
    pub labels: Vec<(String, String)>,
    /// The transport's place among the cluster's.
    pub transport: usize,
}

/// A service that a cluster stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its host.
    pub host: ArcStr,
    /// Its short name.
    pub name: ArcStr,
    /// Its namespace; empty outside of the mesh.
    pub namespace: ArcStr,
}

impl ClusterSpec {
    /// The service that metrics name: as the control plane says, or by the cluster's name.
    #[must_use]
    pub fn service(&self) -> Service {
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
    #[must_use]
    pub fn transport_for(&self, labels: &[(String, String)]) -> usize {
        let fits = |item: &&TransportMatch| item.labels.iter().all(|label| labels.contains(label));
        self.transport_matches
            .iter()
            .find(fits)
            .map_or(0, |item| item.transport)
    }
}
