//! What a proxy is served, decoded as the proxy decodes it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use arcstr::ArcStr;
use lateen_balance::{HostSpec, Peers};
use lateen_decode::{
    ClusterSpec, DecodeError, ListenerSpec, NamedEndpoint, NetworkSpec, RouteExtra, Routes, place,
};
use lateen_pilot::Offline;
use lateen_route::RouteTable;
use lateen_xds::names::LOCAL_CLUSTER;
use lateen_xds::types::wkt::{Struct, value::Kind};
use lateen_xds::types::{cluster as cluster_pb, core, endpoint, listener, route};
use lateen_xds::{Any, TypeUrl, decode_any, json};
use serde_json::Value;

use crate::call::Url;
use crate::platform::{STRANGER, call_of};
use crate::{BadCall, Call};

/// A route table and the messages that it was made of, in which its routes say where they are from.
pub(crate) struct Table {
    pub table: Arc<RouteTable<RouteExtra>>,
    pub message: route::RouteConfiguration,
}

/// A cluster and the object that shapes it.
pub(crate) struct ServedCluster {
    pub spec: ClusterSpec,
    /// As metadata have it: `/apis/…`.
    pub config: String,
}

/// All that one proxy is served.
#[derive(Default)]
pub struct Served {
    pub(crate) listeners: Vec<ListenerSpec>,
    pub(crate) tables: BTreeMap<String, Table>,
    pub(crate) clusters: BTreeMap<String, ServedCluster>,
    /// Where the proxy is, as endpoints say it; empty where that is not known.
    pub(crate) locality: ArcStr,
    /// By the names of discovery.
    pub(crate) endpoints: BTreeMap<String, Vec<NamedEndpoint>>,
    /// Inline tables have no name of their own; those of chains are kept by listener and chain.
    pub(crate) inline: BTreeMap<(String, usize), route::RouteConfiguration>,
    /// What each chain of a listener asks of connections.
    pub(crate) asks: BTreeMap<(String, usize), listener::FilterChainMatch>,
    /// The share of each host of a cluster, once it was drawn: it does not depend on the request.
    pub(crate) drawn: Mutex<BTreeMap<String, Arc<[f64]>>>,
    /// Fields that the proxy does not read, by resource.
    pub unread: Vec<String>,
}

/// Why what a proxy is served cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The proxy would refuse it.
    #[error("the proxy would refuse {name}: {fault}")]
    Refused {
        /// The resource.
        name: String,
        /// Why.
        fault: DecodeError,
    },
    /// It is no message of its type.
    #[error(transparent)]
    Message(#[from] lateen_xds::Error),
}

impl Served {
    /// From the generators.
    ///
    /// # Errors
    /// On resources that the proxy would refuse.
    pub fn offline(offline: &Offline) -> Result<Served, ServeError> {
        let at = offline.locality();
        let mut served = Served {
            locality: place(&core::Locality {
                region: at.region.to_string(),
                zone: at.zone.to_string(),
                sub_zone: at.sub_zone.to_string(),
            }),
            ..Served::default()
        };
        if let Some(peers) = offline.endpoints(LOCAL_CLUSTER) {
            served.add(&peers.body())?;
        }
        for resource in offline.clusters() {
            served.add(&resource.body())?;
            if let Some(endpoints) = offline.endpoints(&resource.name) {
                served.add(&endpoints.body())?;
            }
        }
        for resource in offline.listeners() {
            served.add(&resource.body())?;
        }
        let mut wanted: Vec<String> = Vec::new();
        for listener in &served.listeners {
            for chain in listener.chains.iter().chain(&listener.default_chain) {
                if let NetworkSpec::Http(hcm) = &chain.network
                    && let Routes::Named(name) = &hcm.routes
                {
                    wanted.push(name.to_string());
                }
            }
        }
        for name in wanted {
            if let Some(resource) = offline.routes(&name) {
                served.add(&resource.body())?;
            }
        }
        Ok(served)
    }

    /// From a config dump of a running proxy, which must include endpoints.
    ///
    /// # Errors
    /// On resources that cannot be read.
    pub fn from_dump(dump: &Value) -> Result<Served, ServeError> {
        let mut served = Served {
            locality: locality_of(dump),
            ..Served::default()
        };
        let mut found = Vec::new();
        resources(dump, &mut found);
        for value in found {
            served.add(&json::any_from_value(value)?)?;
        }
        Ok(served)
    }

    /// Whether nothing is captured for the proxy: it is a gateway, and listens where clients connect.
    pub fn is_gateway(&self) -> bool {
        !self.listeners.iter().any(|listener| listener.original_dst)
    }

    /// A call at a running proxy. What a host stands for is told by the addresses among the domains
    /// of virtual hosts, unless `to` says it; a host that no table has is somewhere outside.
    ///
    /// # Errors
    /// On a URL that is none, and on a short name that no table has.
    pub fn call(&self, method: &str, url: &str, to: Option<IpAddr>) -> Result<Call, BadCall> {
        let url = Url::parse(url)?;
        let literal = url.host.trim_matches(['[', ']']).parse().ok();
        let address = to.or(literal).or_else(|| self.address_of(&url));
        let address = match address {
            Some(address) => address,
            None if url.host.contains('.') => STRANGER,
            None => return Err(BadCall::Unknown(url.host)),
        };
        let destination = SocketAddr::new(address, url.port);
        Ok(call_of(method, &url, STRANGER, destination))
    }

    fn address_of(&self, url: &Url) -> Option<IpAddr> {
        let names = [url.host.clone(), format!("{}:{}", url.host, url.port)];
        let tables = self.tables.values();
        let mut hosts = tables.flat_map(|table| &table.message.virtual_hosts);
        let own = hosts.find(|host| host.domains.iter().any(|name| names.contains(name)))?;
        let mut domains = own.domains.iter();
        domains.find_map(|domain| {
            let ip = domain.parse::<IpAddr>().ok();
            ip.or_else(|| domain.parse::<SocketAddr>().ok().map(|at| at.ip()))
        })
    }

    /// Who sends as much as the proxy does, where it asks for that.
    pub(crate) fn peers(&self) -> Option<Peers> {
        let endpoints = self.endpoints.get(LOCAL_CLUSTER)?;
        let hosts: Vec<HostSpec> = endpoints.iter().map(|of| host(of, false)).collect();
        Some(Peers::new(self.locality.clone(), &hosts))
    }

    /// Takes a resource in.
    fn add(&mut self, any: &Any) -> Result<(), ServeError> {
        let kind = TypeUrl::new(&any.type_url);
        let refused = |name: &str| {
            let name = name.to_owned();
            move |fault| ServeError::Refused { name, fault }
        };
        let name;
        if kind == TypeUrl::CLUSTER {
            let message: cluster_pb::Cluster = decode_any(any)?;
            name = message.name.clone();
            let spec = lateen_decode::cluster(&message).map_err(refused(&name))?;
            let config = config_of(message.metadata.as_ref());
            self.clusters
                .insert(name.clone(), ServedCluster { spec, config });
        } else if kind == TypeUrl::LISTENER {
            let message: listener::Listener = decode_any(any)?;
            name = message.name.clone();
            let spec = lateen_decode::listener(&message).map_err(refused(&name))?;
            self.keep_chains(&message)?;
            self.listeners.push(spec);
        } else if kind == TypeUrl::ROUTE {
            let message: route::RouteConfiguration = decode_any(any)?;
            name = message.name.clone();
            let table = lateen_decode::route_configuration(&message).map_err(refused(&name))?;
            self.tables.insert(name.clone(), Table { table, message });
        } else if kind == TypeUrl::ENDPOINT {
            let message: endpoint::ClusterLoadAssignment = decode_any(any)?;
            name = message.cluster_name.clone();
            let list = lateen_decode::assignment(&message).map_err(refused(&name))?;
            self.endpoints.insert(name.clone(), list);
        } else {
            return Ok(());
        }
        for field in lateen_decode::unread(any).fields {
            let path = field.path(json::field_name);
            self.unread.push(format!("{} {name}: {path}", kind.short()));
        }
        Ok(())
    }

    fn keep_chains(&mut self, message: &listener::Listener) -> Result<(), ServeError> {
        use lateen_xds::types::network::hcm;
        use listener::filter::ConfigType;
        let chains = message
            .filter_chains
            .iter()
            .chain(&message.default_filter_chain);
        for (index, chain) in chains.enumerate() {
            let asks = chain.filter_chain_match.clone().unwrap_or_default();
            self.asks.insert((message.name.clone(), index), asks);
            for filter in &chain.filters {
                let Some(ConfigType::TypedConfig(any)) = &filter.config_type else {
                    continue;
                };
                if !any.type_url.ends_with(".HttpConnectionManager") {
                    continue;
                }
                let manager: hcm::HttpConnectionManager = decode_any(any)?;
                if let Some(hcm::http_connection_manager::RouteSpecifier::RouteConfig(table)) =
                    manager.route_specifier
                {
                    self.inline.insert((message.name.clone(), index), table);
                }
            }
        }
        Ok(())
    }
}

/// An endpoint as a balancer has it; localities have shares of their own where that is said.
pub(crate) fn host(endpoint: &NamedEndpoint, locality_weighted: bool) -> HostSpec {
    let known = &endpoint.spec;
    let weight = known.locality_weight.filter(|_| locality_weighted);
    HostSpec {
        weight: known.weight,
        priority: known.priority,
        locality: (known.locality.clone(), weight),
        healthy: known.healthy,
        ..HostSpec::new(&address(endpoint))
    }
}

/// Address and port, as they are written: an address of IPv6 in brackets.
pub(crate) fn address(endpoint: &NamedEndpoint) -> String {
    if let Some(path) = endpoint.path() {
        return path.to_owned();
    }
    match endpoint.host.contains(':') {
        true => format!("[{}]:{}", endpoint.host, endpoint.port),
        false => format!("{}:{}", endpoint.host, endpoint.port),
    }
}

/// Where the node of a dump's bootstrap is.
fn locality_of(dump: &Value) -> ArcStr {
    let configs = dump["configs"].as_array().map_or(&[][..], Vec::as_slice);
    let mut nodes = configs.iter().map(|config| &config["bootstrap"]["node"]);
    let found = nodes.find_map(|node| node.get("locality"));
    found.map_or_else(ArcStr::new, |found| {
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        place(&core::Locality {
            region: text("region"),
            zone: text("zone"),
            sub_zone: text("sub_zone"),
        })
    })
}

/// Collects the resources of a dump, wherever its sections have them.
fn resources(value: &Value, found: &mut Vec<Value>) {
    match value {
        Value::Object(fields) => {
            let kind = fields.get("@type").and_then(Value::as_str);
            let kind = kind.map(TypeUrl::new);
            let known = [
                TypeUrl::CLUSTER,
                TypeUrl::LISTENER,
                TypeUrl::ROUTE,
                TypeUrl::ENDPOINT,
            ];
            if kind.is_some_and(|kind| known.contains(&kind)) {
                found.push(value.clone());
            } else {
                fields.values().for_each(|value| resources(value, found));
            }
        }
        Value::Array(items) => items.iter().for_each(|value| resources(value, found)),
        _ => {}
    }
}

/// The object that metadata name.
pub(crate) fn config_of(metadata: Option<&core::Metadata>) -> String {
    let text = |fields: &Struct| match &fields.fields.get("config")?.kind {
        Some(Kind::StringValue(text)) => Some(text.clone()),
        _ => None,
    };
    let istio = metadata.and_then(|metadata| metadata.filter_metadata.get("istio"));
    istio.and_then(text).unwrap_or_default()
}
