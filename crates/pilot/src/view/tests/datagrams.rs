//! Datagrams at gateways, and that nobody else has any.

use std::sync::Arc;

use lateen_core::{Labels, Protocol};
use lateen_registry::EndpointKey;
use lateen_xds::TypeUrl;
use lateen_xds::json as messages;
use serde_json::{Value, json};

use super::{View, vantage};
use crate::engine::Engine;
use crate::fixture::{self, assert_has, ingress, sidecar};
use crate::key::{Key, Message};
use crate::proxy::Proxy;
use crate::snapshot::Snapshot;

/// The fixture's mesh, with two services of datagrams and a gateway that takes some.
fn snapshot(yaml: &str) -> Snapshot {
    let mut world = fixture::world();
    let udp = Protocol::Udp;
    for service in [
        fixture::service("dns", &[(53, 5353, udp)]),
        fixture::service("log", &[(514, 514, udp)]),
        fixture::service(
            "istio-ingressgateway.istio-system",
            &[(80, 8080, Protocol::Http), (53, 1053, udp)],
        ),
    ] {
        let key = EndpointKey::new(service.id(), "p53");
        let endpoints = Arc::from([fixture::endpoint(Labels::new())]);
        world.endpoints.insert(key, endpoints);
        world.services.insert(service.id(), service);
    }
    let config = Arc::new(fixture::config(yaml));
    Snapshot::new(1, Arc::new(world), config, fixture::DOMAIN)
}

/// What galley makes of a UDPRoute to these backends, and of a TCPRoute at the same port.
fn yaml(backends: &str) -> String {
    let gateway = |name: &str, protocol: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}, annotations: \
             {{internal.istio.io/gateway-service: istio-ingressgateway.istio-system.svc.cluster.local}}}}\n\
             spec: {{servers: [{{port: {{number: 53, name: default, protocol: {protocol}}}, hosts: [\"*/*\"]}}]}}\n"
        )
    };
    let rule = |gateway: &str, to: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {gateway}}}\n\
             spec: {{hosts: [\"*\"], gateways: [{gateway}], tcp: [{{route: [{to}]}}]}}\n"
        )
    };
    let tcp = to("db", 3306, 1);
    gateway("u", "UDP") + &gateway("t", "TCP") + &rule("u", backends) + &rule("t", &tcp)
}

fn to(host: &str, port: u16, weight: u32) -> String {
    format!(
        "{{weight: {weight}, destination: {{host: {host}.default.svc.cluster.local, port: {{number: {port}}}}}}}"
    )
}

fn messages_of(keys: Vec<Key>) -> Vec<Value> {
    let message = |key: Key| match key.message() {
        Message::Listener(listener) => messages::to_value(&listener),
        Message::Cluster(cluster) => messages::to_value(&cluster),
        _ => panic!("not asked for"),
    };
    keys.into_iter()
        .map(|key| message(key).expect("JSON"))
        .collect()
}

fn listeners(yaml: &str, proxy: &Proxy) -> Vec<Value> {
    let snapshot = snapshot(yaml);
    let vantage = vantage(&snapshot, proxy);
    messages_of(View::new(&snapshot, &vantage).outbound_listeners())
}

/// Clusters that lead to a service.
fn clusters(yaml: &str, proxy: &Proxy, name: &str) -> Vec<Value> {
    let snapshot = snapshot(yaml);
    let vantage = vantage(&snapshot, proxy);
    let view = View::new(&snapshot, &vantage);
    let host = format!("{name}.default.svc.cluster.local");
    messages_of(view.clusters_to(view.service(&host).expect("a service")))
}

const DNS: &str = "outbound|53|~udp|dns.default.svc.cluster.local";

#[test]
fn a_port_has_a_listener_for_connections_and_one_for_datagrams() {
    let yaml = yaml(&to("dns", 53, 1));
    let all = listeners(&yaml, &ingress());
    assert_has(
        &Value::Array(all),
        &json!([
            {"name": "0.0.0.0_53", "filter_chains": [{}]},
            {
                "name": "udp_0.0.0.0_1053",
                "address": {"socket_address": {"protocol": "UDP", "port_value": 1053}},
                "udp_listener_config": {"downstream_socket_config": {"max_rx_datagram_size": "65535"}},
                "listener_filters": [{"typed_config": {
                    "stat_prefix": "udp_0.0.0.0_1053",
                    "matcher": {"on_no_match": {"action": {"typed_config": {"cluster": DNS}}}},
                }}],
            },
        ]),
    );
}

#[test]
fn rules_for_a_destination_hold_for_its_datagrams() {
    let rule = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d}\n\
                spec: {host: dns, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}},\n\
                \x20 connectionPool: {tcp: {maxConnections: 7, idleTimeout: 9s}}, tls: {mode: ISTIO_MUTUAL}}}\n";
    let yaml = yaml(&to("dns", 53, 1)) + rule;
    let all = listeners(&yaml, &ingress());
    assert_has(
        &all[1]["listener_filters"][0]["typed_config"],
        &json!({"idle_timeout": "9s", "hash_policies": [{"source_ip": true}]}),
    );
    let clusters = clusters(&yaml, &ingress(), "dns");
    assert_has(
        &Value::Array(clusters.clone()),
        &json!([{
            "name": DNS,
            "type": "EDS",
            "lb_policy": "RING_HASH",
            "circuit_breakers": {"thresholds": [{"max_connections": 7}]},
        }]),
    );
    // Nothing secures datagrams.
    for field in ["transport_socket", "transport_socket_matches"] {
        assert!(clusters[0].get(field).is_none(), "{clusters:#?}");
    }
}

#[test]
fn what_is_not_there_drops_its_share() {
    let backends = [to("dns", 53, 3), to("db", 3306, 1), to("gone", 53, 1)].join(", ");
    let all = listeners(&yaml(&backends), &ingress());
    let matcher = &all[1]["listener_filters"][0]["typed_config"]["matcher"];
    let rule = |millionths: u32, cluster: &str| {
        json!({
            "predicate": {"single_predicate": {"custom_match": {"typed_config": {
                "runtime_fraction": {"default_value": {"numerator": millionths, "denominator": "MILLION"}}}}}},
            "on_match": {"action": {"typed_config": {"cluster": cluster}}},
        })
    };
    assert_has(
        matcher,
        &json!({
            "matcher_list": {"matchers": [rule(600_000, DNS), rule(500_000, "BlackHoleCluster")]},
            "on_no_match": {"action": {"typed_config": {"cluster": "BlackHoleCluster"}}},
        }),
    );
}

#[test]
fn clusters_follow_a_route_that_changes() {
    let before = Arc::new(snapshot(&yaml(&to("dns", 53, 1))));
    let engine = Engine::new(before.clone());
    let served = engine.join(&ingress());
    let names = || -> Vec<String> {
        let served = served.borrow();
        let all = served.list(&TypeUrl::CLUSTER);
        let names = all.iter().map(|cluster| cluster.name.to_string());
        names.filter(|name| name.contains("|~udp|")).collect()
    };
    assert_eq!(names(), [DNS]);
    let mut config = fixture::config(&yaml(&to("log", 514, 1)));
    // Nothing but the route is another one.
    config.mesh = before.config.mesh.clone();
    config.gateways = before.config.gateways.clone();
    let next = before.next(2, before.world.clone(), Arc::new(config));
    engine.publish(Arc::new(next), false);
    assert_eq!(names(), ["outbound|514|~udp|log.default.svc.cluster.local"]);
}

#[test]
fn a_server_without_a_route_takes_datagrams_and_drops_them() {
    let yaml = yaml(&to("dns", 53, 1)).replace("gateways: [u]", "gateways: [other]");
    let all = listeners(&yaml, &ingress());
    let filter = &all[1]["listener_filters"][0]["typed_config"];
    assert_eq!(filter["matcher"], json!({}));
    assert!(clusters(&yaml, &ingress(), "dns").is_empty());
}

#[test]
fn only_what_a_route_leads_to_has_clusters_and_only_at_its_gateway() {
    let yaml = yaml(&to("dns", 53, 1));
    assert!(clusters(&yaml, &ingress(), "log").is_empty());
    assert!(clusters(&yaml, &sidecar("reviews"), "dns").is_empty());
    let names: Vec<Value> = listeners(&yaml, &sidecar("reviews"))
        .into_iter()
        .map(|listener| listener["name"].clone())
        .collect();
    for port in ["53", "514", "1053"] {
        let end = format!("_{port}");
        let has = |name: &Value| name.as_str().is_some_and(|name| name.ends_with(&end));
        assert!(!names.iter().any(has), "{names:?}");
    }
}

#[test]
fn a_gateway_of_users_own_takes_no_datagrams() {
    let yaml = yaml(&to("dns", 53, 1))
        .replace("annotations: {internal.istio.io/gateway-service: istio-ingressgateway.istio-system.svc.cluster.local}", "")
        .replace("spec: {servers", "spec: {selector: {istio: ingressgateway}, servers");
    let all = listeners(&yaml, &ingress());
    assert_eq!(all.len(), 1, "{all:#?}");
    assert!(clusters(&yaml, &ingress(), "dns").is_empty());
}

#[test]
fn endpoints_are_those_of_the_port_for_datagrams() {
    let snapshot = snapshot(&yaml(&to("dns", 53, 1)));
    let vantage = vantage(&snapshot, &ingress());
    let view = View::new(&snapshot, &vantage);
    let key = view.endpoints(DNS).expect("a cluster");
    let found = messages::to_value(&key.generate()).expect("JSON");
    let endpoint = &found["endpoints"][0]["lb_endpoints"][0];
    assert_has(
        endpoint,
        &json!({"endpoint": {"address": {"socket_address": {"address": "10.0.0.1"}}}}),
    );
    // No mark of the mesh's TLS.
    let text = endpoint.to_string();
    assert!(!text.contains("tlsMode"), "{text}");
    assert!(
        view.endpoints("outbound|53||dns.default.svc.cluster.local")
            .is_none()
    );
}
