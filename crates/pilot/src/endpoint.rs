//! Endpoints (EDS): who serves a port of a service, or a subset of those who do.

use std::collections::BTreeMap;

use lateen_core::Locality;
use lateen_registry::Endpoint;
use lateen_xds::types::core::{HealthStatus, Locality as WireLocality, Metadata};
use lateen_xds::types::endpoint::lb_endpoint::HostIdentifier;
use lateen_xds::types::endpoint::{
    ClusterLoadAssignment, Endpoint as WireEndpoint, LbEndpoint, LocalityLbEndpoints,
};

use crate::cluster::transport::{TLS_MODE, TLS_MODE_MESH};
use crate::shared::Shared;
use crate::wire;

/// Where Envoy looks for what selects a transport socket.
const TRANSPORT_SOCKET_MATCH: &str = "envoy.transport_socket_match";

/// All that a load assignment is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EndpointsKey {
    /// The cluster's name.
    pub(crate) cluster: String,
    pub(crate) endpoints: Option<Shared<[Endpoint]>>,
    /// Labels of the subset; `None` for the whole service.
    pub(crate) subset: Option<BTreeMap<String, String>>,
    /// Addresses of endpoints that take TLS in general, but not on this port.
    pub(crate) plain: Vec<String>,
    /// Where the client is, when that decides about priorities.
    pub(crate) near: Option<Locality>,
}

impl EndpointsKey {
    pub(crate) fn generate(&self) -> ClusterLoadAssignment {
        let endpoints = self.endpoints.as_deref().unwrap_or_default();
        let takes_tls = |endpoint: &Endpoint| !self.plain.contains(&endpoint.address);
        let mut assignment = load_assignment(
            self.cluster.clone(),
            endpoints,
            self.subset.as_ref(),
            takes_tls,
        );
        if let Some(near) = &self.near {
            prioritize(&mut assignment, near);
        }
        assignment
    }
}

/// A load assignment of those endpoints that are ready and have the labels.
pub(crate) fn load_assignment(
    cluster_name: String,
    endpoints: &[Endpoint],
    labels: Option<&BTreeMap<String, String>>,
    takes_tls: impl Fn(&Endpoint) -> bool,
) -> ClusterLoadAssignment {
    let mut places: BTreeMap<&Locality, Vec<LbEndpoint>> = BTreeMap::new();
    let wanted = |e: &&Endpoint| e.ready && labels.is_none_or(|l| wire::selects(l, &e.labels));
    for endpoint in endpoints.iter().filter(wanted) {
        let tls = endpoint.mtls && takes_tls(endpoint);
        let place = places.entry(&endpoint.locality).or_default();
        place.push(lb_endpoint(endpoint, tls));
    }
    let place = |(locality, endpoints): (&Locality, Vec<LbEndpoint>)| {
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
            ..LocalityLbEndpoints::default()
        }
    };
    ClusterLoadAssignment {
        cluster_name,
        endpoints: places.into_iter().map(place).collect(),
        ..ClusterLoadAssignment::default()
    }
}

fn lb_endpoint(endpoint: &Endpoint, tls: bool) -> LbEndpoint {
    let address = wire::socket_address(&endpoint.address, endpoint.port);
    LbEndpoint {
        health_status: HealthStatus::Healthy.into(),
        metadata: Some(metadata(endpoint, tls)),
        load_balancing_weight: wire::number(endpoint.weight.max(1)),
        host_identifier: Some(HostIdentifier::Endpoint(WireEndpoint {
            address: Some(address),
            ..WireEndpoint::default()
        })),
    }
}

/// Telemetry's name for the workload (`name;namespace;service;revision;cluster`), and whether it
/// takes the mesh's TLS.
fn metadata(endpoint: &Endpoint, tls: bool) -> Metadata {
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
    let istio = wire::record([("workload", wire::text(workload))]);
    let mode = wire::record([(TLS_MODE, wire::text(TLS_MODE_MESH))]);
    let tls = tls.then_some((TRANSPORT_SOCKET_MATCH, mode));
    wire::metadata([("istio", istio)].into_iter().chain(tls))
}

/// Nearer places first: Envoy goes on to the next priority when the nearer ones fail.
fn prioritize(assignment: &mut ClusterLoadAssignment, near: &Locality) {
    let distance = |place: &LocalityLbEndpoints| {
        let Some(there) = &place.locality else {
            return 3;
        };
        let same = [
            near.region == *there.region,
            near.zone == *there.zone,
            near.sub_zone == *there.sub_zone,
        ];
        3 - same.iter().take_while(|same| **same).count()
    };
    let mut levels: Vec<usize> = assignment.endpoints.iter().map(distance).collect();
    levels.sort_unstable();
    levels.dedup();
    // Priorities must not have gaps.
    for place in &mut assignment.endpoints {
        let level = distance(place);
        let rank = levels.iter().position(|l| *l == level).unwrap_or(0);
        place.priority = rank as u32;
    }
}

#[cfg(test)]
mod tests {
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
        }
    }

    fn key(subset: Option<&str>, near: Option<&str>) -> EndpointsKey {
        let mut off = endpoint("10.0.0.9", "v1", "a");
        off.ready = false;
        let all = [
            endpoint("10.0.0.1", "v1", "a"),
            endpoint("10.0.0.2", "v2", "b"),
            off,
        ];
        EndpointsKey {
            cluster: "c".into(),
            endpoints: Some(Shared(all.into_iter().collect())),
            subset: subset.map(|v| [("version".to_owned(), v.to_owned())].into()),
            plain: vec!["10.0.0.2".into()],
            near: near.map(|l| l.parse().expect("a locality")),
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
    fn the_nearer_zone_comes_first() {
        let near_b = key(None, Some("r/b")).generate();
        assert_eq!(addresses(&near_b), [(1, true), (0, false)]);
    }
}
