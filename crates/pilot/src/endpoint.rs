//! Endpoints (EDS): who serves a port of a service, or a subset of those who do.

pub(crate) mod place;

use std::collections::BTreeMap;

use lateen_core::Locality;
use lateen_registry::Endpoint;
use lateen_xds::names;
use lateen_xds::types::core::{Address, HealthStatus, Locality as WireLocality};
use lateen_xds::types::endpoint::lb_endpoint::HostIdentifier;
use lateen_xds::types::endpoint::{
    ClusterLoadAssignment, Endpoint as WireEndpoint, LbEndpoint, LocalityLbEndpoints,
};
use lateen_xds::types::wkt::Struct;

use place::Placement;

use crate::cluster::transport::{TLS_MODE, TLS_MODE_MESH};
use crate::families::Families;
use crate::model::{Gateway, Reach, Way};
use crate::shared::Shared;
use crate::wire;

/// Where Envoy looks for what selects a transport socket.
const TRANSPORT_SOCKET_MATCH: &str = "envoy.transport_socket_match";

/// All that a load assignment is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EndpointsKey {
    /// The cluster's name.
    pub(crate) cluster: String,
    /// Only those that take the mesh's TLS: it is passed on to them.
    pub(crate) mesh_only: bool,
    pub(crate) endpoints: Option<Shared<[Endpoint]>>,
    /// Labels of the subset; `None` for the whole service.
    pub(crate) subset: Option<BTreeMap<String, String>>,
    /// Addresses of endpoints that take TLS in general, but not on this port.
    pub(crate) plain: Vec<String>,
    /// How the client's place decides, where it does.
    pub(crate) placement: Option<Placement>,
    /// How the client gets to them, where there are several networks.
    pub(crate) reach: Option<Reach>,
    /// The families of the client's addresses.
    pub(crate) families: Families,
    /// The namespace whose endpoints may be sockets in the file system, for a client that connects to
    /// some.
    pub(crate) paths_of: Option<String>,
}

impl EndpointsKey {
    pub(crate) fn generate(&self) -> ClusterLoadAssignment {
        let endpoints = self.endpoints.as_deref().unwrap_or_default();
        let takes_tls = |endpoint: &Endpoint| !self.plain.contains(&endpoint.address);
        let is_wanted = |e: &&Endpoint| {
            (!self.mesh_only || (e.mtls && takes_tls(e))) && (!is_path(e) || self.leads_to(e))
        };
        let taking: Vec<Endpoint>;
        let endpoints = if endpoints.iter().all(|e| is_wanted(&e)) {
            endpoints
        } else {
            taking = endpoints.iter().filter(is_wanted).cloned().collect();
            &taking
        };
        load_assignment(
            self.cluster.clone(),
            endpoints,
            self.subset.as_ref(),
            self.placement.as_ref(),
            (self.families, self.reach.as_ref()),
            takes_tls,
        )
    }

    /// Whether the client may have an endpoint at a path. What is in the client's pod is for no other
    /// namespace to lead to.
    fn leads_to(&self, at_path: &Endpoint) -> bool {
        let is_own = self.paths_of.as_ref() == Some(&at_path.namespace);
        is_own && names::is_usable_path(&at_path.address)
    }
}

/// Whether it is at a socket in the file system.
pub(crate) fn is_path(endpoint: &Endpoint) -> bool {
    endpoint.address.starts_with(names::UNIX)
}

/// A load assignment of those endpoints that are ready and have the labels, in the order and with
/// the shares of a placement. Those of another network stand behind its gateways, with their weight;
/// those of another family than the client's are not reached.
pub(crate) fn load_assignment(
    cluster_name: String,
    endpoints: &[Endpoint],
    labels: Option<&BTreeMap<String, String>>,
    placement: Option<&Placement>,
    (families, reach): (Families, Option<&Reach>),
    takes_tls: impl Fn(&Endpoint) -> bool,
) -> ClusterLoadAssignment {
    let mut places: BTreeMap<(usize, &Locality), Members<'_>> = BTreeMap::new();
    let wanted = |e: &&Endpoint| e.ready && labels.is_none_or(|l| wire::selects(l, &e.labels));
    for endpoint in endpoints.iter().filter(wanted) {
        let tls = endpoint.mtls && takes_tls(endpoint);
        let way = reach.map_or(Way::Direct, |reach| reach.way(endpoint, tls));
        let is_reached = match way {
            Way::Through(_) => true,
            Way::Direct => match endpoint.address.parse() {
                Ok(ip) => families.reach(&ip),
                // Names are looked up; what has none is of another network.
                Err(_) => !endpoint.address.is_empty(),
            },
            Way::None => false,
        };
        if !is_reached {
            continue;
        }
        let weight = reach.map_or(endpoint.weight, |reach| reach.scaled(endpoint.weight));
        let level = placement.map_or(0, |placement| placement.level(endpoint));
        let place = places.entry((level, &endpoint.locality)).or_default();
        match way {
            Way::Through(gateways) => place.behind(gateways, weight),
            _ => place.direct.push(lb_endpoint(endpoint, weight, tls)),
        }
    }
    // Priorities must not have gaps.
    let mut levels: Vec<usize> = places.keys().map(|(level, _)| *level).collect();
    levels.dedup();
    let place = |((level, locality), members): ((usize, &Locality), Members<'_>)| {
        let endpoints = members.all();
        let weights = endpoints.iter().filter_map(|e| e.load_balancing_weight);
        let weight = weights.map(|w| w.value).fold(0, u32::saturating_add);
        LocalityLbEndpoints {
            locality: Some(WireLocality {
                region: locality.region.to_string(),
                zone: locality.zone.to_string(),
                sub_zone: locality.sub_zone.to_string(),
            }),
            lb_endpoints: endpoints,
            load_balancing_weight: wire::number(weight),
            priority: levels.partition_point(|known| *known < level) as u32,
            ..LocalityLbEndpoints::default()
        }
    };
    let mut places: Vec<_> = places.into_iter().map(place).collect();
    if let Some(placement) = placement {
        placement.share(&mut places);
    }
    ClusterLoadAssignment {
        cluster_name,
        endpoints: places,
        ..ClusterLoadAssignment::default()
    }
}

/// The endpoints of one place.
#[derive(Default)]
struct Members<'a> {
    direct: Vec<LbEndpoint>,
    /// Weights of what stands behind each gateway.
    gateways: BTreeMap<&'a Gateway, u32>,
}

impl<'a> Members<'a> {
    /// Divides an endpoint's weight among the gateways of its network.
    fn behind(&mut self, gateways: &'a [Gateway], weight: u32) {
        for gateway in gateways {
            let share = self.gateways.entry(gateway).or_default();
            *share = share.saturating_add(weight / gateways.len() as u32);
        }
    }

    fn all(self) -> Vec<LbEndpoint> {
        let gateway = |(gateway, weight): (&Gateway, u32)| {
            let address = wire::socket_address(&gateway.address, gateway.port);
            weighted(address, weight, mesh_tls().into_iter())
        };
        let gateways = self.gateways.into_iter().map(gateway);
        self.direct.into_iter().chain(gateways).collect()
    }
}

fn lb_endpoint(endpoint: &Endpoint, weight: u32, tls: bool) -> LbEndpoint {
    let address = wire::address(&endpoint.address, endpoint.port);
    let tls = tls.then(mesh_tls).into_iter().flatten();
    weighted(
        address,
        weight,
        [("istio", workload(endpoint))].into_iter().chain(tls),
    )
}

fn weighted(
    address: Address,
    weight: u32,
    metadata: impl Iterator<Item = (&'static str, Struct)>,
) -> LbEndpoint {
    LbEndpoint {
        health_status: HealthStatus::Healthy.into(),
        metadata: Some(wire::metadata(metadata)),
        load_balancing_weight: wire::number(weight.max(1)),
        host_identifier: Some(HostIdentifier::Endpoint(WireEndpoint {
            address: Some(address),
            ..WireEndpoint::default()
        })),
    }
}

/// Says that the mesh's TLS is taken.
fn mesh_tls() -> [(&'static str, Struct); 1] {
    let mode = wire::record([(TLS_MODE, wire::text(TLS_MODE_MESH))]);
    [(TRANSPORT_SOCKET_MATCH, mode)]
}

/// Telemetry's name for the workload (`name;namespace;service;revision;cluster`).
fn workload(endpoint: &Endpoint) -> Struct {
    use lateen_api::labels;
    let label = |keys: &[&str]| keys.iter().find_map(|key| endpoint.labels.value(key));
    let service = label(&[labels::CANONICAL_NAME, labels::APP_NAME, labels::APP]);
    let revision = label(&[
        labels::CANONICAL_REVISION,
        labels::APP_VERSION,
        labels::VERSION,
    ]);
    let workload = format!(
        "{};{};{};{};",
        endpoint.workload_name,
        endpoint.namespace,
        service.unwrap_or(&endpoint.workload_name),
        revision.unwrap_or("latest"),
    );
    wire::record([("workload", wire::text(workload))])
}

#[cfg(test)]
mod tests {
    use lateen_api::networking::{LocalityLbSetting, ZoneAwareLbSetting};
    use lateen_core::Labels;
    use serde_json::{Value, json};

    use super::place::Client;
    use super::*;

    fn endpoint(address: &str, version: &str, zone: &str) -> Endpoint {
        Endpoint {
            address: address.into(),
            port: 9080,
            labels: [("version", version)].into_iter().collect(),
            service_account: "sa".into(),
            namespace: "default".into(),
            workload_name: format!("reviews-{version}"),
            locality: format!("r/{zone}").parse().expect("a locality"),
            mtls: true,
            weight: 1,
            ready: true,
            network: String::new(),
            node: Default::default(),
        }
    }

    /// The key for a client of this place, by the mesh's default.
    fn key(subset: Option<&str>, near: Option<&str>) -> EndpointsKey {
        let near: Option<Locality> = near.map(|place| place.parse().expect("a locality"));
        let setting = LocalityLbSetting::default();
        let labels = Labels::new();
        let placement = near.and_then(|locality| {
            let client = Client {
                labels: &labels,
                locality: &locality,
                network: "",
                node: "",
            };
            Placement::of(&setting, &client, true)
        });
        let mut off = endpoint("10.0.0.9", "v1", "a");
        off.ready = false;
        let all = [
            endpoint("10.0.0.1", "v1", "a"),
            endpoint("10.0.0.2", "v2", "b"),
            off,
        ];
        EndpointsKey {
            cluster: "c".into(),
            mesh_only: false,
            endpoints: Some(Shared(all.into_iter().collect())),
            subset: subset.map(|v| [("version".to_owned(), v.to_owned())].into()),
            plain: vec!["10.0.0.2".into()],
            placement,
            reach: None,
            families: Families::V4,
            paths_of: None,
        }
    }

    fn addresses(of: &ClusterLoadAssignment) -> Vec<(u32, bool)> {
        let places = of.endpoints.iter();
        let each = |p: &LocalityLbEndpoints| {
            let tls = |e: &LbEndpoint| {
                let metadata = e.metadata.as_ref().expect("set");
                metadata
                    .filter_metadata
                    .contains_key(TRANSPORT_SOCKET_MATCH)
            };
            p.lb_endpoints
                .iter()
                .map(|e| (p.priority, tls(e)))
                .collect::<Vec<_>>()
        };
        places.flat_map(each).collect()
    }

    #[test]
    fn ready_endpoints_with_the_labels() {
        let all = key(None, None).generate();
        assert_eq!(addresses(&all), [(0, true), (0, false)]);
        assert_eq!(addresses(&key(Some("v1"), None).generate()), [(0, true)]);
        assert!(key(Some("v9"), None).generate().endpoints.is_empty());
    }

    #[test]
    fn sockets_in_the_file_system_are_for_those_who_take_them() {
        let at_path = endpoint("unix:///run/app", "v1", "a");
        let agents = endpoint("unix:///etc/istio/proxy/XDS", "v1", "a");
        let all = [endpoint("10.0.0.1", "v1", "a"), at_path, agents];
        let with = |paths_of: Option<&str>| EndpointsKey {
            endpoints: Some(Shared(all.iter().cloned().collect())),
            paths_of: paths_of.map(str::to_owned),
            ..key(None, None)
        };
        let made = with(Some("default")).generate();
        assert_eq!(addresses(&made).len(), 2, "the agent's is nobody's");
        let made = lateen_xds::json::to_value(&made).expect("JSON");
        let hosts = &made["endpoints"][0]["lb_endpoints"];
        let pipe = &hosts[1]["endpoint"]["address"]["pipe"];
        assert_eq!(*pipe, json!({"path": "/run/app"}));
        for other in [None, Some("elsewhere")] {
            assert_eq!(addresses(&with(other).generate()), [(0, true)], "{other:?}");
        }
    }

    #[test]
    fn what_is_passed_on_goes_to_those_that_take_it() {
        let key = EndpointsKey {
            mesh_only: true,
            ..key(None, None)
        };
        assert_eq!(addresses(&key.generate()), [(0, true)]);
    }

    #[test]
    fn the_nearer_zone_comes_first() {
        let near_b = key(None, Some("r/b")).generate();
        assert_eq!(addresses(&near_b), [(0, false), (1, true)]);
    }

    /// Addresses with their priorities and their places' weights, for a client `r1/z1/s1` of the
    /// version `v1`.
    #[track_caller]
    fn placed(setting: Value, want: &[(&str, u32, u32)]) {
        let setting: LocalityLbSetting = serde_json::from_value(setting).expect("a setting");
        placed_by(|client| Placement::of(&setting, client, true), want);
    }

    /// The same by zones.
    #[track_caller]
    fn zoned(setting: Value, want: &[(&str, u32, u32)]) {
        let setting: ZoneAwareLbSetting = serde_json::from_value(setting).expect("a setting");
        placed_by(|client| Placement::by_zones(&setting, client), want);
    }

    #[track_caller]
    fn placed_by(placement: impl Fn(&Client<'_>) -> Option<Placement>, want: &[(&str, u32, u32)]) {
        let there = |address: &str, version: &str, place: &str| Endpoint {
            locality: place.parse().expect("a locality"),
            node: if address == "10.0.0.2" { "n1" } else { "n2" }.into(),
            ..endpoint(address, version, "")
        };
        let endpoints = [
            there("10.0.0.1", "v1", "r1/z1/s1"),
            there("10.0.0.2", "v2", "r1/z1/s1"),
            there("10.0.0.3", "v1", "r1/z2/s1"),
            there("10.0.0.4", "v1", "r2/z1/s1"),
            there("10.0.0.5", "v2", "r3/z1/s1"),
        ];
        let labels: Labels = [("version", "v1")].into_iter().collect();
        let client = Client {
            labels: &labels,
            locality: &"r1/z1/s1".parse().expect("a locality"),
            network: "",
            node: "n1",
        };
        let placement = placement(&client);
        let all = load_assignment(
            "c".into(),
            &endpoints,
            None,
            placement.as_ref(),
            (Families::V4, None),
            |_| true,
        );
        let mut found = Vec::new();
        for place in &all.endpoints {
            let weight = place.load_balancing_weight.as_ref().map_or(0, |w| w.value);
            for endpoint in &place.lb_endpoints {
                let Some(HostIdentifier::Endpoint(endpoint)) = &endpoint.host_identifier else {
                    panic!("a name");
                };
                let address = format!("{:?}", endpoint.address);
                let known = endpoints.iter().find(|e| address.contains(&e.address));
                let known = known.expect("one of them");
                found.push((known.address.as_str(), place.priority, weight));
            }
        }
        found.sort_unstable();
        assert_eq!(found, want);
    }

    #[test]
    fn one_place_after_the_other() {
        placed(
            json!({}),
            &[
                ("10.0.0.1", 0, 2),
                ("10.0.0.2", 0, 2),
                ("10.0.0.3", 1, 1),
                ("10.0.0.4", 2, 1),
                ("10.0.0.5", 2, 1),
            ],
        );
        placed(
            json!({"failover": [{"from": "r1", "to": "r3"}]}),
            &[
                ("10.0.0.1", 0, 2),
                ("10.0.0.2", 0, 2),
                ("10.0.0.3", 1, 1),
                ("10.0.0.4", 3, 1),
                ("10.0.0.5", 2, 1),
            ],
        );
    }

    #[test]
    fn all_zones_of_the_client_s_region_come_first() {
        let near = [("10.0.0.1", 0, 2), ("10.0.0.2", 0, 2), ("10.0.0.3", 0, 1)];
        let with = |far: [(&'static str, u32, u32); 2]| [&near[..], &far].concat();
        let one_by_one = with([("10.0.0.4", 1, 1), ("10.0.0.5", 1, 1)]);
        zoned(json!({}), &one_by_one);
        zoned(json!({"enabled": true}), &one_by_one);
        zoned(
            json!({"failover": [{"from": "r1", "to": "r3"}]}),
            &with([("10.0.0.4", 2, 1), ("10.0.0.5", 1, 1)]),
        );
        zoned(
            json!({"enabled": false}),
            &with([("10.0.0.4", 0, 1), ("10.0.0.5", 0, 1)]),
        );
        zoned(
            json!({"failoverPriority": ["version"]}),
            &[
                ("10.0.0.1", 0, 1),
                ("10.0.0.2", 2, 1),
                ("10.0.0.3", 0, 1),
                ("10.0.0.4", 1, 1),
                ("10.0.0.5", 3, 1),
            ],
        );
    }

    #[test]
    fn labels_decide_before_places() {
        placed(
            json!({"failoverPriority": ["version", "topology.kubernetes.io/region"]}),
            &[
                ("10.0.0.1", 0, 1),
                ("10.0.0.2", 2, 1),
                ("10.0.0.3", 0, 1),
                ("10.0.0.4", 1, 1),
                ("10.0.0.5", 2, 1),
            ],
        );
        placed(
            json!({"failoverPriority": ["version=v2"], "failover": [{"from": "r1", "to": "r3"}]}),
            &[
                ("10.0.0.1", 2, 1),
                ("10.0.0.2", 0, 1),
                ("10.0.0.3", 3, 1),
                ("10.0.0.4", 4, 1),
                ("10.0.0.5", 1, 1),
            ],
        );
    }

    #[test]
    fn the_client_s_node_is_a_label_too() {
        placed(
            json!({"failoverPriority": ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]}),
            &[
                ("10.0.0.1", 1, 1),
                ("10.0.0.2", 0, 1),
                ("10.0.0.3", 2, 1),
                ("10.0.0.4", 1, 1),
                ("10.0.0.5", 1, 1),
            ],
        );
    }

    #[test]
    fn places_get_their_shares() {
        placed(
            json!({"distribute": [
                {"from": "r9/*", "to": {"r1": 100}},
                {"from": "r1/z1/*", "to": {"r1/z1/*": 70, "r1/z2/*": 20, "r2": 10}}
            ]}),
            &[
                ("10.0.0.1", 0, 70),
                ("10.0.0.2", 0, 70),
                ("10.0.0.3", 0, 20),
                ("10.0.0.4", 0, 10),
            ],
        );
        // One share of several places is divided by their weights.
        placed(
            json!({"distribute": [{"from": "*", "to": {"r1": 60, "*": 40}}]}),
            &[
                ("10.0.0.1", 0, 16),
                ("10.0.0.2", 0, 16),
                ("10.0.0.3", 0, 8),
                ("10.0.0.4", 0, 8),
                ("10.0.0.5", 0, 8),
            ],
        );
    }
}
