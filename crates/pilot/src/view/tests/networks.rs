//! Endpoints of other networks, from YAML to load assignments.

use std::sync::Arc;

use lateen_core::Labels;
use lateen_registry::{Endpoint, EndpointKey};
use serde_json::{Value, json};

use super::super::View;
use super::vantage;
use crate::Snapshot;
use crate::fixture::{self, DOMAIN, sidecar};
use crate::proxy::Proxy;
use lateen_xds::json as wire;

const NETWORKS: &str = "networks: {n1: {endpoints: [{fromCidr: 10.1.0.0/16}], gateways: [{address: \
                        1.1.1.1}]}, n2: {endpoints: [{fromCidr: 10.2.0.0/16}], gateways: [{address: \
                        2.2.2.1}, {address: 2.2.2.2, port: 443}]}}";

fn endpoint(address: &str, weight: u32, place: &str) -> Endpoint {
    Endpoint {
        address: address.into(),
        weight,
        locality: place.parse().expect("a locality"),
        ..fixture::endpoint(Labels::new())
    }
}

/// A proxy with these metadata.
fn proxy(metadata: &[(&str, &str)]) -> Proxy {
    let mut proxy = sidecar("productpage");
    let metadata = metadata
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    proxy.metadata = Arc::new(metadata.collect());
    proxy
}

/// The addresses of the endpoints of `reviews`, their weights, and whether each takes the mesh's TLS.
#[track_caller]
fn reached(networks: &str, yaml: &str, proxy: &Proxy) -> Vec<(String, u64, bool)> {
    let mut world = fixture::world();
    let service = world.named("reviews.default.svc.cluster.local").next();
    let key = EndpointKey::new(service.expect("reviews").id(), "p9080");
    let mut plain = endpoint("10.2.0.3", 5, "r/a");
    plain.mtls = false;
    let named = Endpoint {
        network: "n2".into(),
        ..endpoint("", 1, "r/b")
    };
    let all = [
        endpoint("10.1.0.1", 1, "r/a"),
        endpoint("10.2.0.1", 2, "r/a"),
        endpoint("10.2.0.2", 1, "r/a"),
        plain,
        named,
    ];
    world.endpoints.insert(key, all.into_iter().collect());
    let mut config = fixture::config(yaml);
    config.networks = Arc::new(serde_saphyr::from_str(networks).expect("networks"));
    let snapshot = Snapshot::new(1, Arc::new(world), Arc::new(config), DOMAIN);
    let vantage = vantage(&snapshot, proxy);
    let view = View::new(&snapshot, &vantage);
    let key = view.endpoints("outbound|9080||reviews.default.svc.cluster.local");
    let made = wire::to_value(&key.expect("a cluster").generate()).expect("JSON");
    let places = made["endpoints"].as_array().cloned().unwrap_or_default();
    let endpoints = places.iter().flat_map(|place| {
        let own = place["lb_endpoints"].as_array().expect("endpoints");
        let weights = own.iter().map(|e| e["load_balancing_weight"].as_u64());
        let sum: Option<u64> = weights.sum();
        assert_eq!(sum, place["load_balancing_weight"].as_u64(), "{place:#}");
        own
    });
    let of = |endpoint: &Value| {
        let address = &endpoint["endpoint"]["address"]["socket_address"];
        let text = format!("{}:{}", address["address"].as_str()?, address["port_value"]);
        let metadata = &endpoint["metadata"]["filter_metadata"]["envoy.transport_socket_match"];
        let tls = *metadata == json!({"tlsMode": "istio"});
        Some((text, endpoint["load_balancing_weight"].as_u64()?, tls))
    };
    endpoints.map(|e| of(e).expect("an endpoint")).collect()
}

#[track_caller]
fn check(metadata: &[(&str, &str)], yaml: &str, want: &[(&str, u64, bool)]) {
    let found = reached(NETWORKS, yaml, &proxy(metadata));
    let found: Vec<_> = found.iter().map(|(a, w, t)| (a.as_str(), *w, *t)).collect();
    assert_eq!(found, want, "{metadata:?} {yaml}");
}

#[test]
fn other_networks_are_reached_by_their_gateways() {
    // Weights count twice, as there are two gateways to divide them among.
    check(
        &[("NETWORK", "n1")],
        "",
        &[
            ("10.1.0.1:9080", 2, true),
            ("2.2.2.1:15443", 3, true),
            ("2.2.2.2:443", 3, true),
            ("2.2.2.1:15443", 1, true),
            ("2.2.2.2:443", 1, true),
        ],
    );
    check(
        &[("NETWORK", "n2")],
        "",
        &[
            ("10.2.0.1:9080", 4, true),
            ("10.2.0.2:9080", 2, true),
            ("10.2.0.3:9080", 10, false),
            ("1.1.1.1:15443", 2, true),
        ],
    );
}

#[test]
fn a_pod_may_be_in_another_network_than_it_was_told() {
    let mut proxy = proxy(&[("NETWORK", "n1")]);
    let label = ("topology.istio.io/network".to_owned(), "n2".to_owned());
    proxy.labels.0.extend([label]);
    let found = reached(NETWORKS, "", &proxy);
    assert_eq!(found[0].0, "10.2.0.1:9080", "{found:?}");
}

#[test]
fn a_gateway_sees_the_networks_that_it_asks_for() {
    check(
        &[("NETWORK", "n1"), ("REQUESTED_NETWORK_VIEW", "n1")],
        "",
        &[("10.1.0.1:9080", 2, true)],
    );
}

#[test]
fn without_the_mesh_s_tls_no_gateway_knows_where_to_go() {
    let rule = "kind: DestinationRule\nmetadata: {name: a}\nspec: {host: reviews, trafficPolicy: \
                {tls: {mode: DISABLE}}}\n";
    let alone = [("10.1.0.1:9080", 2, true)];
    check(&[("NETWORK", "n1")], rule, &alone);
    let off = "kind: PeerAuthentication\nmetadata: {name: plain, namespace: istio-system}\nspec: \
               {mtls: {mode: DISABLE}}\n";
    let plain = [("10.1.0.1:9080", 2, false)];
    check(&[("NETWORK", "n1")], off, &plain);
}

#[test]
fn where_networks_are_not_told_apart_addresses_are_connected_to() {
    let found = reached("networks: {}", "", &proxy(&[("NETWORK", "n1")]));
    let found: Vec<_> = found.iter().map(|(a, w, _)| (a.as_str(), *w)).collect();
    assert_eq!(
        found,
        [
            ("10.1.0.1:9080", 1),
            ("10.2.0.1:9080", 2),
            ("10.2.0.2:9080", 1),
            ("10.2.0.3:9080", 5)
        ]
    );
}
