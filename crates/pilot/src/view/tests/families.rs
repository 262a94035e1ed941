//! IPv6, alone and beside IPv4.

use std::sync::Arc;

use lateen_core::{Labels, Protocol};
use lateen_registry::{Endpoint, EndpointKey, Service, World};
use lateen_xds::json;
use serde_json::{Value, json as value};

use super::super::View;
use super::vantage;
use crate::Snapshot;
use crate::fixture::{self, DOMAIN, ingress, service, sidecar};
use crate::key::{Key, Message};
use crate::proxy::Proxy;

/// The database has addresses of both families, and a pod of each.
fn world() -> World {
    let mut world = fixture::world();
    let db = Service {
        addresses: ["10.96.0.3", "fd01::3"]
            .map(|ip| ip.parse().expect("an address"))
            .into(),
        ..Service::clone(&service("db", &[(3306, 3306, Protocol::Tcp)]))
    };
    let key = EndpointKey::new(db.id(), "p3306");
    let pods = ["10.0.0.1", "fd00::1"].map(|address| Endpoint {
        address: address.into(),
        ..fixture::endpoint(Labels::new())
    });
    world.endpoints.insert(key, pods.into());
    world.services.insert(db.id(), Arc::new(db));
    world
}

fn with(mut proxy: Proxy, addresses: &str) -> Proxy {
    let addresses = ("INSTANCE_IPS".to_owned(), addresses.to_owned());
    proxy.metadata = Arc::new([addresses].into());
    proxy
}

fn look<T>(proxy: &Proxy, yaml: &str, look: impl FnOnce(View<'_>) -> T) -> T {
    let config = Arc::new(fixture::config(yaml));
    let snapshot = Snapshot::new(1, Arc::new(world()), config, DOMAIN);
    let vantage = vantage(&snapshot, proxy);
    look(View::new(&snapshot, &vantage))
}

/// The names of listeners with all of their addresses.
fn listeners(proxy: &Proxy, yaml: &str) -> Vec<(String, Vec<String>)> {
    let keys = look(proxy, yaml, |view| match view.from.is_router() {
        true => view.outbound_listeners(),
        false => [view.outbound_listeners(), view.inbound_listeners()].concat(),
    });
    let text = |at: &Value| {
        let at = at["address"]["socket_address"]["address"].as_str();
        at.expect("an address").to_owned()
    };
    let listener = |key: Key| {
        let Message::Listener(listener) = key.message() else {
            panic!("{} is no listener", key.name());
        };
        assert_eq!(key.name(), listener.name);
        let listener = json::to_value(&listener).expect("JSON");
        let more = listener["additional_addresses"].as_array();
        let all = [&listener].into_iter().chain(more.into_iter().flatten());
        let name = listener["name"].as_str().expect("a name").to_owned();
        (name, all.map(text).collect())
    };
    keys.into_iter().map(listener).collect()
}

#[track_caller]
fn has(all: &[(String, Vec<String>)], name: &str, addresses: &[&str]) {
    let found = all.iter().find(|(of, _)| of == name);
    let (_, found) = found.unwrap_or_else(|| panic!("no {name} in {all:?}"));
    assert_eq!(found, addresses, "{name}");
}

#[test]
fn listeners_are_at_addresses_of_the_families_that_there_are() {
    let v4 = listeners(&with(sidecar("db"), "10.1.0.1"), "");
    let v6 = listeners(&with(sidecar("db"), "fd00::9"), "");
    let both = listeners(&with(sidecar("db"), "10.1.0.1,fd00::9"), "");
    for (all, any, db) in [
        (&v4, &["0.0.0.0"][..], &["10.96.0.3"][..]),
        (&v6, &["::"], &["fd01::3"]),
        (&both, &["0.0.0.0", "::"], &["10.96.0.3", "fd01::3"]),
    ] {
        has(all, "virtualOutbound", any);
        has(all, "virtualInbound", any);
        has(all, &format!("{}_9080", any[0]), any);
        has(all, &format!("{}_3306", db[0]), db);
        assert_eq!(
            all.iter()
                .filter(|(name, _)| name.ends_with("_3306"))
                .count(),
            1
        );
    }
    let gateway = "kind: Gateway\nmetadata: {name: g}\nspec: {selector: {istio: ingressgateway}, \
                   servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [\"*\"]}]}\n";
    let all = listeners(&with(ingress(), "10.1.0.1,fd00::9"), gateway);
    has(&all, "0.0.0.0_8080", &["0.0.0.0", "::"]);
}

#[test]
fn endpoints_are_of_families_that_the_client_has() {
    for (own, expect) in [
        ("10.1.0.1", &["10.0.0.1"][..]),
        ("fd00::9", &["fd00::1"]),
        ("10.1.0.1,fd00::9", &["10.0.0.1", "fd00::1"]),
    ] {
        let cluster = "outbound|3306||db.default.svc.cluster.local";
        let made = look(&with(sidecar("ratings"), own), "", |view| {
            view.endpoints(cluster).expect("a cluster").generate()
        });
        let made = json::to_value(&made).expect("JSON");
        let all = made["endpoints"][0]["lb_endpoints"]
            .as_array()
            .expect("endpoints");
        let address = |e: &Value| {
            let at = &e["endpoint"]["address"]["socket_address"]["address"];
            at.as_str().expect("an address").to_owned()
        };
        assert_eq!(all.iter().map(address).collect::<Vec<_>>(), expect, "{own}");
    }
}

#[test]
fn the_application_knows_the_proxy_s_connections_of_both_families() {
    for (own, source, extra) in [
        ("10.1.0.1", "127.0.0.6", value!(null)),
        ("fd00::9", "::6", value!(null)),
        ("10.1.0.1,fd00::9", "127.0.0.6", value!("::6")),
    ] {
        let keys = look(&with(sidecar("db"), own), "", |view| {
            view.inbound_clusters()
        });
        assert!(!keys.is_empty());
        for key in keys {
            let Message::Cluster(cluster) = key.message() else {
                panic!("{} is no cluster", key.name());
            };
            let bind = json::to_value(&cluster).expect("JSON")["upstream_bind_config"].clone();
            assert_eq!(bind["source_address"]["address"], source, "{own}");
            assert_eq!(
                bind["extra_source_addresses"][0]["address"]["address"], extra,
                "{own}"
            );
        }
    }
}
