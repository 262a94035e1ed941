//! The names that are answered for a proxy's application.

use std::collections::BTreeMap;
use std::sync::Arc;

use lateen_core::{Labels, Protocol};
use lateen_registry::{Endpoint, EndpointKey, Provider, Resolution, Service, World};

use super::super::View;
use super::outbound::external;
use super::vantage;
use crate::Snapshot;
use crate::fixture::{self, DOMAIN, service, sidecar};

/// The hosts with their addresses, and the short names of those that have one.
fn table(world: World, yaml: &str) -> BTreeMap<String, (String, String)> {
    let config = fixture::config(yaml);
    let snapshot = Snapshot::new(1, Arc::new(world), Arc::new(config), DOMAIN);
    let mut proxy = sidecar("productpage");
    let captures = [("DNS_CAPTURE".to_owned(), "true".to_owned())];
    proxy.metadata = Arc::new(captures.into());
    let vantage = vantage(&snapshot, &proxy);
    let found = View::new(&snapshot, &vantage).name_table().table;
    let entries = found.into_iter().map(|(host, info)| {
        let short = format!("{}/{}.{}", info.registry, info.shortname, info.namespace);
        (host, (info.ips.join(" "), short))
    });
    entries.collect()
}

fn world() -> World {
    let mut world = World::default();
    let mut add = |service: Service| world.services.insert(service.id(), Arc::new(service));
    let at = |name: &str, addresses: &[&str]| Service {
        addresses: addresses
            .iter()
            .map(|ip| ip.parse().expect("an address"))
            .collect(),
        ..Service::clone(&service(name, &[(80, 8080, Protocol::Http)]))
    };
    add(at("web", &["10.96.0.1", "fd00::1"]));
    let headless = Service {
        resolution: Resolution::Passthrough,
        ..at("db", &[])
    };
    let key = EndpointKey::new(headless.id(), &headless.ports[0].name);
    add(headless);
    add(at("pending", &[]));
    let named = |host: &str| Service {
        provider: Provider::ServiceEntry,
        ..external(host, 443, Protocol::Tls, Resolution::Dns)
    };
    add(Service {
        addresses: vec!["192.0.2.1".parse().expect("an address")],
        ..named("*.example.com")
    });
    add(Service {
        allocated: vec!["240.240.0.1".parse().expect("an address")],
        ..named("given.example.org")
    });
    add(named("nowhere.example.org"));
    let pod = |address: &str, ready: bool| Endpoint {
        address: address.into(),
        ready,
        ..fixture::endpoint(Labels::new())
    };
    let pods = [
        pod("10.1.0.2", true),
        pod("10.1.0.1", true),
        pod("10.1.0.3", false),
    ];
    world.endpoints.insert(key, pods.into());
    world
}

#[test]
fn hosts_that_have_an_address_are_told() {
    let found = table(world(), "");
    let expect = [
        ("*.example.com", "192.0.2.1", "External/."),
        (
            "db.default.svc.cluster.local",
            "10.1.0.1 10.1.0.2",
            "Kubernetes/db.default",
        ),
        ("given.example.org", "240.240.0.1", "External/."),
        // The proxy has no address of the other family.
        (
            "web.default.svc.cluster.local",
            "10.96.0.1",
            "Kubernetes/web.default",
        ),
    ];
    let found: Vec<_> = found
        .iter()
        .map(|(host, (ips, short))| (&**host, &**ips, &**short))
        .collect();
    assert_eq!(found, expect);
}

#[test]
fn a_sidecar_sees_the_names_that_it_lets_through() {
    let only = "kind: Sidecar\nmetadata: {name: s}\nspec: {egress: [{hosts: [./web.default.svc.cluster.local]}]}\n";
    let found: Vec<_> = table(world(), only).into_keys().collect();
    assert_eq!(found, ["web.default.svc.cluster.local"]);
}
