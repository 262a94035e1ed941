//! Outbound listeners: one behind each address that clients know, and `virtualOutbound`, where
//! captured connections arrive and are handed to them.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use lateen_api::networking::{TunnelSettings, VirtualService};
use lateen_api::{Duration, Object};
use lateen_core::ports;
use lateen_xds::names;
use lateen_xds::types::core::{CidrRange, TrafficDirection};
use lateen_xds::types::listener::{Filter, FilterChain, FilterChainMatch, Listener};
use lateen_xds::types::network::tcp_proxy::tcp_proxy::{
    ClusterSpecifier, WeightedCluster, weighted_cluster::ClusterWeight,
};

use super::Logging;
use super::chains::distinct;
use super::filters::{self, Routes, Side};
use crate::families::{Families, additional, is_everywhere};
use crate::route::Others;
use crate::{tls, wire};

/// Where TLS is by default.
pub(crate) const HTTPS: u16 = 443;
/// The address of listeners that services share.
pub(crate) const EVERYWHERE: &str = "0.0.0.0";

/// All that an outbound listener is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OutboundKey {
    /// `0.0.0.0` and `::`, or the addresses of one service. The first is in its name.
    pub(crate) addresses: Vec<String>,
    pub(crate) port: u16,
    /// The proxy listens there itself: clients know of it, and nothing is redirected.
    pub(crate) binds: bool,
    pub(crate) want: Want,
    /// What happens to connections that are not for any service here.
    pub(crate) others: Others,
    pub(crate) logging: Logging,
    /// Requests may lead to hosts by their names.
    pub(crate) by_name: bool,
}

/// What is spoken there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Want {
    /// HTTP of many services; the route table tells them apart by host.
    Http,
    /// HTTP of all services and all their ports, told apart by host and port in this route table.
    Proxy { routes: String },
    /// Bytes, or TLS told apart by server name.
    Tcp(Vec<TcpRule>),
    /// Whatever it turns out to be: HTTP by this route table, else bytes.
    Sniff { routes: String, tcp: Vec<TcpRule> },
}

/// Where bytes go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TcpRule {
    /// Server names; empty for any.
    pub(crate) sni: Vec<String>,
    /// Destination ranges; empty for any.
    pub(crate) subnets: Vec<String>,
    /// The range that clients are in, where it counts.
    pub(crate) source: Option<String>,
    /// Only what the mesh's own TLS marks.
    pub(crate) mesh_only: bool,
    /// Clusters with their shares.
    pub(crate) clusters: Vec<(String, u32)>,
    pub(crate) limits: TcpLimits,
    /// The only cluster is an HTTP proxy, through which the bytes go.
    pub(crate) tunnel: Option<Tunnel>,
    /// The names that clients ask for lead to its hosts, at this port.
    pub(crate) name_port: Option<u16>,
    pub(crate) written: Written,
}

/// Which rule of a user a [`TcpRule`] is; nothing where it is no user's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written(pub(crate) Option<(Arc<Object<VirtualService>>, L4Place)>);

/// It has no part in what is generated: rules that differ in it alone are the same.
impl PartialEq for Written {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Written {}

impl Hash for Written {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// A rule for connections in a VirtualService, and a match of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct L4Place {
    /// In `spec.tls`, not in `spec.tcp`.
    pub(crate) is_tls: bool,
    pub(crate) rule: usize,
    pub(crate) of: Option<usize>,
}

/// A tunnel through an HTTP proxy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tunnel {
    /// The host and port that it leads to.
    pub(crate) authority: String,
    /// A POST opens it, not CONNECT.
    pub(crate) post: bool,
}

impl From<&TunnelSettings> for Tunnel {
    fn from(of: &TunnelSettings) -> Tunnel {
        let (host, port) = (&of.target_host, of.target_port);
        let is_v6 = host.parse::<std::net::Ipv6Addr>().is_ok();
        Tunnel {
            authority: match is_v6 {
                true => format!("[{host}]:{port}"),
                false => format!("{host}:{port}"),
            },
            post: of.protocol.eq_ignore_ascii_case("POST"),
        }
    }
}

/// How long connections live, by the rules of their destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct TcpLimits {
    /// Without a byte.
    pub(crate) idle: Option<Duration>,
    /// In all.
    pub(crate) most: Option<Duration>,
}

impl TcpRule {
    /// Whether it leaves no connection to others.
    pub(crate) fn is_for_all(&self) -> bool {
        self.subnets.is_empty() && self.sni.is_empty() && self.source.is_none() && !self.mesh_only
    }

    /// Everything to one cluster.
    pub(crate) fn all_to(cluster: String, limits: TcpLimits) -> Self {
        TcpRule {
            sni: Vec::new(),
            subnets: Vec::new(),
            source: None,
            mesh_only: false,
            clusters: vec![(cluster, 1)],
            limits,
            tunnel: None,
            name_port: None,
            written: Written::default(),
        }
    }
}

impl OutboundKey {
    pub(crate) fn name(&self) -> String {
        names::listener(self.address(), self.port)
    }

    pub(crate) fn address(&self) -> &str {
        self.addresses.first().map_or(EVERYWHERE, String::as_str)
    }

    pub(crate) fn generate(&self) -> Listener {
        let mut listener = Listener {
            name: self.name(),
            address: Some(wire::address(self.address(), self.port)),
            additional_addresses: additional(&self.addresses, self.port),
            traffic_direction: TrafficDirection::Outbound.into(),
            // Else `virtualOutbound` hands its connections over.
            bind_to_port: wire::boolean(self.binds),
            listener_filters_timeout: Some(wire::duration(self.logging.detection)),
            continue_on_listener_filters_timeout: true,
            ..Listener::default()
        };
        let chains = self.chains().into_iter();
        listener.filter_chains = chains.map(|(_, chain)| chain).collect();
        match &self.want {
            Want::Http | Want::Proxy { .. } => {}
            Want::Tcp(rules) => {
                if rules.iter().any(|rule| !rule.sni.is_empty()) {
                    listener.listener_filters = vec![filters::tls_inspector()];
                }
            }
            Want::Sniff { .. } => {
                listener.listener_filters =
                    vec![filters::tls_inspector(), filters::http_inspector()];
            }
        }
        listener.default_filter_chain = self.rest();
        self.rest_by_name(&mut listener);
        listener
    }

    /// Unknown hosts by the names that TLS clients ask for.
    fn rest_by_name(&self, listener: &mut Listener) {
        if self.others != Others::ByName || listener.default_filter_chain.is_none() {
            return;
        }
        let inspects = !listener.listener_filters.is_empty();
        // Elsewhere servers may be the first to speak.
        if !inspects && self.port != HTTPS {
            return;
        }
        if !inspects {
            listener.listener_filters = vec![filters::tls_inspector()];
        }
        let to = filters::to_cluster(names::DYNAMIC_DNS_CLUSTER);
        let tcp = filters::tcp(names::DYNAMIC_DNS_CLUSTER, to, &self.logging);
        let by_name = filters::server_names(self.port, &self.logging);
        listener.filter_chains.push(FilterChain {
            filters: by_name.into_iter().chain([tcp]).collect(),
            filter_chain_match: Some(FilterChainMatch {
                transport_protocol: "tls".into(),
                ..FilterChainMatch::default()
            }),
            ..FilterChain::default()
        });
    }

    /// A port of every address is not the services' alone: what none of them asks for goes where it
    /// would without them.
    fn rest(&self) -> Option<FilterChain> {
        let (Want::Tcp(rules) | Want::Sniff { tcp: rules, .. }) = &self.want else {
            return None;
        };
        let shared = is_everywhere(self.address()) || self.binds;
        (shared && !rules.iter().any(TcpRule::is_for_all))
            .then(|| rest(&self.others, &self.logging))
    }

    fn http(&self, routes: Option<&String>) -> Filter {
        let routes = routes
            .cloned()
            .unwrap_or_else(|| names::outbound_route(self.port));
        let prefix = format!("outbound_{};", self.name());
        let routes = Routes::Named(routes);
        filters::http(Side::Outbound, prefix, routes, self.by_name, &self.logging)
    }

    /// The chains of services, those of bytes each with its rule.
    pub(crate) fn chains(&self) -> Vec<(Option<&TcpRule>, FilterChain)> {
        let of_rules = |rules| tcp_chains(rules, &self.logging).into_iter();
        let of_rules = |rules| of_rules(rules).map(|(rule, chain)| (Some(rule), chain));
        match &self.want {
            Want::Http => vec![(None, plain_chain(self.http(None)))],
            Want::Proxy { routes } => vec![(None, plain_chain(self.http(Some(routes))))],
            Want::Tcp(rules) => of_rules(rules).collect(),
            Want::Sniff { routes, tcp } => {
                let mut http = plain_chain(self.http(Some(routes)));
                http.filter_chain_match = Some(FilterChainMatch {
                    transport_protocol: "raw_buffer".into(),
                    application_protocols: tls::owned(&tls::PLAIN_HTTP_ALPN),
                    ..FilterChainMatch::default()
                });
                [(None, http)].into_iter().chain(of_rules(tcp)).collect()
            }
        }
    }
}

pub(super) fn tcp_chains<'a>(
    rules: &'a [TcpRule],
    logging: &Logging,
) -> Vec<(&'a TcpRule, FilterChain)> {
    let chain = |rule: &'a TcpRule| {
        let matches = FilterChainMatch {
            server_names: server_names(&rule.sni),
            prefix_ranges: rule.subnets.iter().filter_map(|s| range(s)).collect(),
            source_prefix_ranges: rule.source.iter().filter_map(|s| range(s)).collect(),
            application_protocols: match rule.mesh_only {
                true => tls::owned(&tls::ANY_MESH_ALPN),
                false => Vec::new(),
            },
            transport_protocol: if rule.sni.is_empty() { "" } else { "tls" }.into(),
            ..FilterChainMatch::default()
        };
        let anything = matches == FilterChainMatch::default();
        let prefix = rule.clusters.first().map_or("", |(name, _)| name);
        let mut chain = plain_chain(filters::limited_tcp(
            prefix,
            specifier(&rule.clusters),
            rule.limits,
            rule.tunnel.as_ref(),
            logging,
        ));
        chain.filter_chain_match = (!anything).then_some(matches);
        if let Some(port) = rule.name_port {
            chain
                .filters
                .splice(0..0, filters::server_names(port, logging));
        }
        (rule, chain)
    };
    distinct(rules.iter().map(chain))
}

/// Envoy has no name for "any name": no names at all say that.
fn server_names(names: &[String]) -> Vec<String> {
    if names.iter().any(|name| name == "*") {
        return Vec::new();
    }
    names.to_vec()
}

fn plain_chain(filter: Filter) -> FilterChain {
    FilterChain {
        filters: vec![filter],
        ..FilterChain::default()
    }
}

fn specifier(clusters: &[(String, u32)]) -> ClusterSpecifier {
    match clusters {
        [(only, _)] => filters::to_cluster(only),
        many => ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters: many
                .iter()
                .filter(|(_, weight)| *weight > 0)
                .map(|(name, weight)| ClusterWeight {
                    name: name.clone(),
                    weight: *weight,
                    ..ClusterWeight::default()
                })
                .collect(),
        }),
    }
}

fn range(subnet: &str) -> Option<CidrRange> {
    let net: ipnet::IpNet = subnet
        .parse()
        .or_else(|_| subnet.parse::<std::net::IpAddr>().map(ipnet::IpNet::from))
        .ok()?;
    Some(CidrRange {
        address_prefix: net.network().to_string(),
        prefix_len: wire::number(u32::from(net.prefix_len())),
    })
}

/// Bytes to destinations that the mesh does not know.
fn rest(others: &Others, logging: &Logging) -> FilterChain {
    let cluster = others.cluster();
    let to = filters::to_cluster(cluster);
    plain_chain(filters::tcp(cluster, to, logging))
}

/// All that `virtualOutbound` is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct VirtualOutboundKey {
    pub(crate) families: Families,
    pub(crate) others: Others,
    pub(crate) logging: Logging,
}

impl VirtualOutboundKey {
    pub(crate) fn generate(&self) -> Listener {
        let black_hole = filters::to_cluster(names::BLACK_HOLE_CLUSTER);
        let guard = FilterChain {
            name: "virtualOutbound-blackhole".into(),
            filter_chain_match: Some(FilterChainMatch {
                destination_port: wire::number(u32::from(ports::OUTBOUND)),
                ..FilterChainMatch::default()
            }),
            filters: vec![filters::tcp("BlackHoleCluster", black_hole, &self.logging)],
            ..FilterChain::default()
        };
        let rest = FilterChain {
            name: "virtualOutbound-catchall-tcp".into(),
            ..rest(&self.others, &self.logging)
        };
        let addresses = self.families.expand(EVERYWHERE);
        Listener {
            name: names::VIRTUAL_OUTBOUND.into(),
            address: Some(wire::socket_address(&addresses[0], ports::OUTBOUND)),
            additional_addresses: additional(&addresses, ports::OUTBOUND),
            use_original_dst: wire::boolean(true),
            filter_chains: vec![guard, rest],
            traffic_direction: TrafficDirection::Outbound.into(),
            ..Listener::default()
        }
    }
}
