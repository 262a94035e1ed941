//! Networks of the mesh: who is in which, and by which gateways one is reached from another.
//!
//! A gateway passes TLS on by the server name, which says the cluster that was meant; so only who
//! takes the mesh's mutual TLS is reached through one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use lateen_api::labels;
use lateen_core::ports;
use lateen_galley::ConfigSet;
use lateen_registry::{Endpoint, Provider, Service, World};

use crate::platform::Platform;

/// Where a network is entered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Gateway {
    pub(crate) address: String,
    pub(crate) port: u16,
}

/// All that is known of networks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Networks {
    gateways: BTreeMap<String, Vec<Gateway>>,
    /// The network of workloads that say nothing, by the label of the root namespace.
    default: String,
    /// The networks of addresses, narrower ranges first.
    ranges: Vec<(IpNet, String)>,
    /// The network of all other workloads of this cluster.
    of_cluster: String,
}

impl Networks {
    /// `labelled` are the services that say which network they lead to.
    pub(crate) fn new(
        world: &World,
        labelled: &[Arc<Service>],
        config: &ConfigSet,
        platform: &Platform,
    ) -> Networks {
        let root = config.mesh.root_namespace();
        let labels = world.namespaces.get(root).map(|found| &found.labels);
        let default = labels.and_then(|labels| labels.value(labels::NETWORK));
        let mut found = Networks {
            default: default.unwrap_or_default().to_owned(),
            ..Networks::default()
        };
        let mut gateways: BTreeMap<String, BTreeSet<Gateway>> = BTreeMap::new();
        for (name, network) in &config.networks.networks {
            for endpoints in &network.endpoints {
                if let Ok(range) = endpoints.from_cidr.parse() {
                    found.ranges.push((range, name.clone()));
                } else if endpoints.from_registry == platform.cluster {
                    found.of_cluster.clone_from(name);
                }
            }
            let known = gateways.entry(name.clone()).or_default();
            for gateway in &network.gateways {
                let port = u16::try_from(gateway.port).unwrap_or_default();
                match gateway.registry_service_name.as_str() {
                    "" => known.extend(at(&gateway.address, port)),
                    host => {
                        let services = world.named(host);
                        let addresses = services.flat_map(|service| &service.load_balancer);
                        known.extend(addresses.filter_map(|address| at(address, port)));
                    }
                }
            }
        }
        found
            .ranges
            .sort_by_key(|(range, _)| std::cmp::Reverse(range.prefix_len()));
        // A gateway may also say itself which network it leads to.
        for service in labelled {
            let Some(network) = service.labels.value(labels::NETWORK) else {
                continue;
            };
            if service.provider == Provider::Kubernetes {
                let port = service.labels.value(labels::GATEWAY_PORT);
                let port = port.and_then(|port| port.parse().ok()).unwrap_or_default();
                let addresses = service.load_balancer.iter();
                let known = gateways.entry(network.to_owned()).or_default();
                known.extend(addresses.filter_map(|address| at(address, port)));
            }
        }
        gateways.retain(|_, known| !known.is_empty());
        let sorted = gateways.into_iter();
        let sorted = sorted.map(|(network, known)| (network, known.into_iter().collect()));
        found.gateways = sorted.collect();
        found
    }

    /// Whether any network is reached by a gateway. Where none is, all addresses are connected to as
    /// they are.
    pub(crate) fn are_several(&self) -> bool {
        !self.gateways.is_empty()
    }

    /// The gateways of each network.
    pub(crate) fn gateways(&self) -> impl Iterator<Item = (&str, &[Gateway])> {
        let all = self.gateways.iter();
        all.map(|(network, gateways)| (network.as_str(), &gateways[..]))
    }

    /// The network of a workload with these labels; empty where that is not known.
    pub(crate) fn of_workload<'a>(&'a self, label: &'a str, address: Option<IpAddr>) -> &'a str {
        if !label.is_empty() {
            return label;
        }
        if !self.default.is_empty() {
            return &self.default;
        }
        let mut ranges = self.ranges.iter();
        let range = ranges.find(|(range, _)| address.is_some_and(|ip| range.contains(&ip)));
        range.map_or(&self.of_cluster, |(_, network)| network)
    }

    /// Weights are multiplied by it, so that they can be divided among the gateways of any network.
    fn scale(&self) -> u32 {
        let counts = self.gateways.values().map(|gateways| gateways.len() as u32);
        counts.fold(1, lcm)
    }
}

/// The addresses of other names would have to be looked up, which galley warns of.
fn at(address: &str, port: u16) -> Option<Gateway> {
    address.parse::<IpAddr>().ok()?;
    let port = if port == 0 { ports::EAST_WEST } else { port };
    let address = address.to_owned();
    Some(Gateway { address, port })
}

fn lcm(a: u32, b: u32) -> u32 {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    a / x * b
}

/// What a proxy reaches, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reach {
    pub(crate) networks: Arc<Networks>,
    /// The proxy's own network; empty where that is not known.
    pub(crate) own: String,
    /// The networks that it is to see; empty is all.
    pub(crate) view: Vec<String>,
    /// Connections to the cluster are of the mesh's mutual TLS, which gateways pass on.
    pub(crate) secured: bool,
}

/// How an endpoint is reached.
#[derive(Debug, PartialEq)]
pub(crate) enum Way<'a> {
    /// By its address.
    Direct,
    /// By any of these gateways.
    Through(&'a [Gateway]),
    /// It is not.
    None,
}

impl Reach {
    pub(crate) fn way(&self, endpoint: &Endpoint, takes_tls: bool) -> Way<'_> {
        let address = endpoint.address.parse().ok();
        let network = self.networks.of_workload(&endpoint.network, address);
        if !self.view.is_empty() && !network.is_empty() && !self.view.iter().any(|n| n == network) {
            return Way::None;
        }
        let local = self.own.is_empty() || network.is_empty() || network == self.own;
        match self.networks.gateways.get(network) {
            Some(gateways) if !local => match takes_tls && self.secured {
                true => Way::Through(gateways),
                false => Way::None,
            },
            _ if endpoint.address.is_empty() => Way::None,
            _ => Way::Direct,
        }
    }

    /// A weight in the unit that all weights of a load assignment have.
    pub(crate) fn scaled(&self, weight: u32) -> u32 {
        weight.max(1).saturating_mul(self.networks.scale())
    }
}

#[cfg(test)]
mod tests {
    use lateen_core::Labels;
    use lateen_registry::Namespace;

    use super::*;
    use crate::fixture;

    fn config(yaml: &str) -> ConfigSet {
        ConfigSet {
            networks: Arc::new(serde_saphyr::from_str(yaml).expect("networks")),
            ..ConfigSet::default()
        }
    }

    fn service(name: &str, labels: &[(&str, &str)], addresses: &[&str]) -> Arc<Service> {
        Arc::new(Service {
            labels: labels.iter().copied().collect(),
            load_balancer: addresses.iter().map(|a| (*a).to_owned()).collect(),
            ..Service::clone(&fixture::service(name, &[]))
        })
    }

    fn world(services: &[Arc<Service>]) -> World {
        let mut world = World::default();
        for service in services {
            world.services.insert(service.id(), service.clone());
        }
        world
    }

    fn networks(world: &World, yaml: &str) -> Networks {
        let all: Vec<_> = world.services.values().cloned().collect();
        Networks::new(world, &all, &config(yaml), &"cluster.local".into())
    }

    #[test]
    fn who_is_where() {
        let yaml = "networks: {wide: {endpoints: [{fromCidr: 10.0.0.0/8}]}, narrow: {endpoints: \
                    [{fromCidr: 10.1.0.0/16}]}, here: {endpoints: [{fromRegistry: Kubernetes}]}, \
                    there: {endpoints: [{fromRegistry: other}]}}";
        let found = networks(&World::default(), yaml);
        let of = |label, ip: &str| found.of_workload(label, ip.parse().ok()).to_owned();
        assert_eq!(of("own", "10.0.0.1"), "own");
        assert_eq!(of("", "10.0.0.1"), "wide");
        assert_eq!(of("", "10.1.0.1"), "narrow");
        assert_eq!(of("", "11.0.0.1"), "here");
        assert!(!found.are_several(), "none has a gateway");
        let mut world = World::default();
        let root = Namespace {
            name: "istio-system".into(),
            labels: [(labels::NETWORK, "all")].into_iter().collect(),
        };
        world.namespaces.insert(root.name.clone(), Arc::new(root));
        let found = networks(&world, yaml);
        let ip = "10.0.0.1".parse().ok();
        assert_eq!(
            (found.of_workload("", ip), found.of_workload("own", ip)),
            ("all", "own")
        );
    }

    #[test]
    fn where_networks_are_entered() {
        let network = (labels::NETWORK, "n2");
        let world = world(&[
            service("ew", &[network], &["1.1.1.1", "lb.example.com"]),
            service(
                "own-port",
                &[network, (labels::GATEWAY_PORT, "443")],
                &["1.1.1.2"],
            ),
            service("named", &[], &["1.1.1.3"]),
        ]);
        let yaml = "networks: {n2: {gateways: [{address: 1.1.1.1}]}, n3: {gateways: \
                    [{registryServiceName: named.default.svc.cluster.local, port: 8443}]}, n4: \
                    {gateways: [{address: host.example.com}]}}";
        let found = networks(&world, yaml);
        let of = |network: &str| -> Vec<String> {
            let gateways = found.gateways.get(network).into_iter().flatten();
            gateways
                .map(|g| format!("{}:{}", g.address, g.port))
                .collect()
        };
        assert_eq!(of("n2"), ["1.1.1.1:15443", "1.1.1.2:443"]);
        assert_eq!(of("n3"), ["1.1.1.3:8443"]);
        assert_eq!(of("n4"), Vec::<String>::new());
        assert_eq!(found.scale(), 2);
        assert_eq!([lcm(2, 3), lcm(4, 6), lcm(1, 5)], [6, 12, 5]);
    }

    #[test]
    fn ways_to_an_endpoint() {
        let yaml = "networks: {n2: {gateways: [{address: 1.1.1.1}]}}";
        let networks = Arc::new(networks(&World::default(), yaml));
        let reach = |own: &str, view: &[&str], secured| Reach {
            networks: networks.clone(),
            own: own.into(),
            view: view.iter().map(|n| (*n).to_owned()).collect(),
            secured,
        };
        let endpoint = |address: &str, network: &str| Endpoint {
            address: address.into(),
            network: network.into(),
            ..crate::fixture::endpoint(Labels::new())
        };
        let gateway = [Gateway {
            address: "1.1.1.1".into(),
            port: 15443,
        }];
        let through = || Way::Through(&gateway);
        let remote = endpoint("10.0.0.1", "n2");
        let nowhere = endpoint("", "n2");
        for (reach, endpoint, tls, want) in [
            (reach("n1", &[], true), &remote, true, through()),
            (reach("n1", &[], true), &nowhere, true, through()),
            (reach("n1", &[], true), &remote, false, Way::None),
            (reach("n1", &[], false), &remote, true, Way::None),
            (reach("n2", &[], true), &remote, false, Way::Direct),
            (reach("n2", &[], true), &nowhere, true, Way::None),
            (reach("", &[], true), &remote, true, Way::Direct),
            (reach("n1", &["n1"], true), &remote, true, Way::None),
            (
                reach("n1", &["n2"], true),
                &endpoint("10.0.0.1", "n3"),
                true,
                Way::None,
            ),
            (
                reach("n1", &["n2"], true),
                &endpoint("10.0.0.1", ""),
                true,
                Way::Direct,
            ),
            (
                reach("n1", &[], true),
                &endpoint("10.0.0.1", "n3"),
                true,
                Way::Direct,
            ),
        ] {
            assert_eq!(
                reach.way(endpoint, tls),
                want,
                "{reach:?} {endpoint:?} {tls}"
            );
        }
    }
}
