//! Listeners and clusters of a sidecar towards services of all kinds.

use std::sync::Arc;

use lateen_core::{Hostname, Labels, Protocol};
use lateen_registry::{Endpoint, EndpointKey, Resolution, Service, World};
use lateen_xds::json;
use serde_json::{Value, json};

use super::super::View;
use super::vantage;
use crate::Snapshot;
use crate::fixture::{self, DOMAIN, assert_has, ingress, service, sidecar};
use crate::key::Key;
use crate::proxy::Proxy;

/// A service outside the mesh, as a ServiceEntry makes it.
fn external(host: &str, port: u16, protocol: Protocol, resolution: Resolution) -> Service {
    Service {
        hostname: Hostname::new(host),
        resolution,
        external: true,
        selector: Labels::new(),
        ..Service::clone(&service("entry", &[(port, port, protocol)]))
    }
}

fn endpoint(address: &str, port: u16, mtls: bool) -> Endpoint {
    Endpoint {
        address: address.into(),
        port,
        labels: [("app", "x")].into_iter().collect(),
        service_account: "x".into(),
        namespace: "default".into(),
        workload_name: String::new(),
        locality: Default::default(),
        mtls,
        weight: 1,
        ready: true,
        network: String::new(),
    }
}

/// A world of one service and the endpoints of its first port.
fn world(service: Service, endpoints: &[Endpoint]) -> World {
    let key = EndpointKey::new(service.id(), &service.ports[0].name);
    let mut world = World::default();
    world.endpoints.insert(key, endpoints.into());
    world.services.insert(service.id(), Arc::new(service));
    world
}

fn resources(world: World, yaml: &str, proxy: &Proxy, clusters: bool) -> Vec<Value> {
    let config = Arc::new(fixture::config(yaml));
    let snapshot = Snapshot::new(1, Arc::new(world), config, DOMAIN);
    let vantage = vantage(&snapshot, proxy);
    let view = View::new(&snapshot, &vantage);
    let keys = if clusters {
        let services = view.services().into_iter();
        services
            .flat_map(|service| view.clusters_to(service))
            .collect()
    } else {
        view.outbound_listeners()
    };
    let json = |key| match key {
        Key::Cluster(key) => Some(json::to_value(&key.generate()).expect("JSON")),
        Key::Listener(key) => Some(json::to_value(&key.generate()).expect("JSON")),
        _ => None,
    };
    keys.into_iter().filter_map(json).collect()
}

fn clusters(world: World, yaml: &str, proxy: &Proxy) -> Vec<Value> {
    resources(world, yaml, proxy, true)
}

fn listeners(world: World, yaml: &str) -> Vec<Value> {
    resources(world, yaml, &sidecar("productpage"), false)
}

/// Whether a cluster speaks mutual TLS to whatever address it is given.
fn always_tls(cluster: &Value) -> bool {
    !cluster["transport_socket"].is_null()
}

#[test]
fn a_headless_service_is_spoken_to_in_mutual_tls_where_all_its_pods_take_it() {
    let headless = || Service {
        resolution: Resolution::Passthrough,
        ..Service::clone(&service("db", &[(3306, 3306, Protocol::Tcp)]))
    };
    let off = "kind: PeerAuthentication\nmetadata: {name: plain}\nspec: {mtls: {mode: DISABLE}}\n";
    for (endpoints, yaml, expect) in [
        (&[true, true][..], "", true),
        (&[true, false], "", false),
        (&[], "", false),
        (&[true], off, false),
    ] {
        let endpoints: Vec<_> = (1u8..)
            .zip(endpoints)
            .map(|(n, mtls)| endpoint(&format!("10.0.0.{n}"), 3306, *mtls))
            .collect();
        let found = clusters(world(headless(), &endpoints), yaml, &sidecar("a"));
        assert_eq!(found[0]["type"], "ORIGINAL_DST");
        assert_eq!(always_tls(&found[0]), expect, "{endpoints:?} {yaml}");
    }
}

#[test]
fn clusters_by_name_have_what_envoy_asks_of_them() {
    let at = |n: usize| -> Vec<Endpoint> {
        let hosts = ["a.example.com", "b.example.com"];
        hosts[..n].iter().map(|h| endpoint(h, 443, false)).collect()
    };
    for (resolution, n_given, expect) in [
        (Resolution::Dns, 0, None),
        (Resolution::Dns, 2, Some(2)),
        // One name, no more and no less.
        (Resolution::DnsRoundRobin, 0, None),
        (Resolution::DnsRoundRobin, 2, Some(1)),
        (Resolution::DynamicDns, 0, None),
    ] {
        let service = external("x.example.com", 443, Protocol::Tls, resolution);
        let found = clusters(world(service, &at(n_given)), "", &sidecar("a"));
        let n_endpoints = |c: &Value| {
            let places = c["load_assignment"]["endpoints"].as_array();
            let places = places.into_iter().flatten();
            places
                .map(|p| p["lb_endpoints"].as_array().map_or(0, Vec::len))
                .sum::<usize>()
        };
        let found = found.first().map(n_endpoints);
        assert_eq!(found, expect, "{resolution:?} of {n_given}");
    }
}

#[test]
fn other_connections_to_a_shared_port_go_where_they_were_going() {
    let tls = external("a.example.com", 443, Protocol::Tls, Resolution::Dns);
    let found = listeners(world(tls, &[]), "");
    let passthrough = json!({"filters": [{"typed_config": {"cluster": "PassthroughCluster"}}]});
    assert_has(
        &Value::Array(found),
        &json!([{
            "name": "0.0.0.0_443",
            "filter_chains": [{"filter_chain_match": {"server_names": ["a.example.com"]}}],
            "default_filter_chain": passthrough,
        }]),
    );
    // What takes every connection leaves none over.
    let tcp = external("db.example.com", 5000, Protocol::Tcp, Resolution::Dns);
    assert!(listeners(world(tcp, &[]), "")[0]["default_filter_chain"].is_null());
}

#[test]
fn a_range_of_addresses_takes_its_own_connections_only() {
    let range = Service {
        address_ranges: vec!["10.1.0.0/16".parse().expect("a range")],
        ..external("db.example.com", 5000, Protocol::Tcp, Resolution::None)
    };
    let found = listeners(world(range, &[]), "");
    let ranges = json!([{"address_prefix": "10.1.0.0", "prefix_len": 16}]);
    assert_has(
        &Value::Array(found),
        &json!([{
            "name": "0.0.0.0_5000",
            "filter_chains": [{"filter_chain_match": {"prefix_ranges": ranges}}],
            "default_filter_chain": {"filters": [{}]},
        }]),
    );
}

#[test]
fn connections_are_shared_out_also_without_weights() {
    let rule = |routes: &str| {
        format!(
            "kind: VirtualService\nmetadata: {{name: a}}\n\
             spec: {{hosts: [db], tcp: [{{route: [{routes}]}}]}}\n"
        )
    };
    let check = |routes: &str, want: Value| {
        let db = Service::clone(&service("db", &[(3306, 3306, Protocol::Tcp)]));
        let found = listeners(world(db, &[]), &rule(routes));
        let filter = &found[0]["filter_chains"][0]["filters"][0]["typed_config"];
        assert_has(filter, &want);
    };
    let cluster = |subset: &str| format!("outbound|3306|{subset}|db.default.svc.{DOMAIN}");
    check(
        "{destination: {host: db, subset: v1}}, {destination: {host: db, subset: v2}}",
        json!({"weighted_clusters": {"clusters": [
            {"name": cluster("v1"), "weight": 1}, {"name": cluster("v2"), "weight": 1}
        ]}}),
    );
    // Nowhere to go is no rule.
    check("", json!({"cluster": cluster("")}));
}

#[test]
fn rules_of_the_root_namespace_come_last_also_for_its_own_gateway() {
    let rule = |name: &str, namespace: &str, host: &str, subset: &str, more: &str| {
        format!(
            "---\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             spec: {{host: \"{host}\", subsets: [{{name: {subset}, labels: {{v: a}}}}]{more}}}\n"
        )
    };
    let all = rule("all", "istio-system", "*.local", "root", "");
    let own = rule("own", "default", "reviews", "service", "");
    let private = ", exportTo: [\".\"]";
    let private = rule("private", "istio-system", "*.local", "private", private);
    let subsets = |yaml: &str, proxy: &Proxy| {
        let reviews = Service::clone(&service("reviews", &[(9080, 9080, Protocol::Http)]));
        let found = clusters(world(reviews, &[]), yaml, proxy);
        let names = found.iter().filter_map(|c| c["name"].as_str());
        let subset = |name: &str| name.split('|').nth(2).unwrap_or_default().to_owned();
        names
            .map(subset)
            .filter(|s| !s.is_empty())
            .collect::<Vec<_>>()
    };
    assert_eq!(subsets(&(all.clone() + &own), &ingress()), ["service"]);
    assert_eq!(subsets(&all, &ingress()), ["root"]);
    assert_eq!(subsets(&(private.clone() + &own), &ingress()), ["private"]);
    assert_eq!(subsets(&(private + &own), &sidecar("a")), ["service"]);
}

#[test]
fn tcp_connections_live_as_long_as_their_destinations_rule_says() {
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
         metadata: {name: db}\nspec:\n  host: db\n  trafficPolicy:\n    connectionPool: \
         {tcp: {idleTimeout: 5s, maxConnectionDuration: 1h}}\n";
    let found = listeners(crate::fixture::world(), rule);
    let listener = found.iter().find(|found| found["name"] == "0.0.0.0_3306");
    let chains = &listener.expect("the port's listener")["filter_chains"];
    let config = &chains[0]["filters"][0]["typed_config"];
    assert_eq!(config["idle_timeout"], "5s", "{chains:#}");
    assert_eq!(config["max_downstream_connection_duration"], "3600s");
}

#[test]
fn a_cluster_that_is_gone_has_no_endpoints_rather_than_none_at_all() {
    let api = service("api", &[(80, 8080, Protocol::Http)]);
    let yaml = "kind: DestinationRule\nmetadata: {name: api}\n\
                spec: {host: api, subsets: [{name: v1, labels: {version: v1}}]}\n";
    let snapshot = Snapshot::new(
        1,
        Arc::new(world(Service::clone(&api), &[])),
        Arc::new(fixture::config(yaml)),
        DOMAIN,
    );
    let vantage = vantage(&snapshot, &sidecar("client"));
    let view = View::new(&snapshot, &vantage);
    let there = |name: &str| view.endpoints(name).is_some();
    let host = &api.hostname;
    assert!(there(&format!("outbound|80||{host}")));
    assert!(there(&format!("outbound|80|v1|{host}")));
    for gone in [
        format!("outbound|80|v2|{host}"),
        format!("outbound|81||{host}"),
        "outbound|80||other.default.svc.cluster.local".to_owned(),
    ] {
        assert!(!there(&gone), "{gone}");
    }
}
