//! Names that stand for services, and hosts that only rules name.

use std::sync::Arc;

use lateen_core::{Labels, Protocol};
use lateen_registry::{Endpoint, EndpointKey, Resolution, Service, World};
use lateen_xds::server::Name;
use lateen_xds::types::route::RouteConfiguration;
use lateen_xds::{TypeUrl, json};
use serde_json::Value;

use super::super::View;
use super::vantage;
use crate::engine::Engine;
use crate::fixture::{self, DOMAIN, service, sidecar};
use crate::snapshot::Snapshot;

/// An ExternalName service of namespace `default`, with its endpoint as the registry makes it.
fn add(world: &mut World, name: &str, stands_for: &str) {
    let alias = Service {
        resolution: Resolution::Dns,
        external: true,
        external_name: Some(stands_for.into()),
        selector: Labels::new(),
        ..Service::clone(&service(name, &[(80, 80, Protocol::Http)]))
    };
    let endpoint = Endpoint {
        address: stands_for.into(),
        port: 80,
        mtls: false,
        ..fixture::endpoint(Labels::new())
    };
    let key = EndpointKey::new(alias.id(), "p80");
    world.endpoints.insert(key, [endpoint].into());
    world.services.insert(alias.id(), Arc::new(alias));
}

fn world() -> World {
    let mut world = fixture::world();
    add(&mut world, "alias", "Reviews.default.svc.cluster.local.");
    add(&mut world, "further", "alias.default.svc.cluster.local");
    add(&mut world, "elsewhere", "www.example.com");
    add(&mut world, "ring", "ring.default.svc.cluster.local");
    world
}

fn snapshot(world: World, yaml: &str) -> Snapshot {
    Snapshot::new(1, Arc::new(world), Arc::new(fixture::config(yaml)), DOMAIN)
}

/// The names of the clusters that lead to services of these names.
fn clusters(snapshot: &Snapshot, of: &[&str]) -> Vec<String> {
    let vantage = vantage(snapshot, &sidecar("productpage"));
    let view = View::new(snapshot, &vantage);
    let services = view.destinations().into_iter();
    let keys = services.flat_map(|service| view.clusters_to(service));
    let names = keys.map(|key| key.name());
    let mut names: Vec<_> = names
        .filter(|name| of.iter().any(|of| name.contains(&format!("|{of}."))))
        .collect();
    names.sort();
    names
}

/// The virtual hosts of a table: their names, their domains, and the clusters of their first routes.
fn hosts(snapshot: &Snapshot, table: &str) -> Vec<(String, Vec<String>, String)> {
    let vantage = vantage(snapshot, &sidecar("productpage"));
    let table = View::new(snapshot, &vantage)
        .routes(table)
        .expect("a table");
    let table = json::to_value(&table.generate()).expect("JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let host = |host: &Value| {
        let domains = host["domains"].as_array().expect("domains");
        let cluster = text(&host["routes"][0]["route"]["cluster"]);
        (
            text(&host["name"]),
            domains.iter().map(text).collect(),
            cluster,
        )
    };
    table["virtual_hosts"]
        .as_array()
        .expect("hosts")
        .iter()
        .map(host)
        .collect()
}

const REVIEWS: &str = "outbound|9080||reviews.default.svc.cluster.local";

#[test]
fn a_name_that_stands_for_a_service_is_one_of_its_names() {
    let snapshot = snapshot(world(), "");
    let all = hosts(&snapshot, "9080");
    let reviews = all.iter().find(|host| host.0.starts_with("reviews."));
    let domains = &reviews.expect("a host").1;
    for name in [
        "alias",
        "alias.default",
        "further.default.svc.cluster.local",
        "reviews",
    ] {
        assert!(
            domains.iter().any(|domain| domain == name),
            "{name} {domains:?}"
        );
    }
    // What is not there, or stands for itself, is asked for by its name.
    let own = ["alias", "further", "elsewhere", "ring"];
    let names = ["elsewhere", "ring"].map(|of| format!("outbound|80||{of}.default.svc.{DOMAIN}"));
    assert_eq!(clusters(&snapshot, &own), names);
}

#[test]
fn rules_may_name_it() {
    let yaml = "---\nkind: VirtualService\nmetadata: {name: to}\nspec: {hosts: [ratings], http: \
                [{route: [{destination: {host: further}}]}]}\n\
                ---\nkind: VirtualService\nmetadata: {name: of}\nspec: {hosts: [alias], http: \
                [{match: [{uri: {prefix: /}}], route: [{destination: {host: reviews, subset: \
                v1}}]}]}\n";
    let snapshot = snapshot(world(), yaml);
    let all = hosts(&snapshot, "9080");
    let of = |name: &str| {
        let found = all
            .iter()
            .find(|host| host.0 == format!("{name}.default.svc.{DOMAIN}:9080"));
        found.unwrap_or_else(|| panic!("no {name} in {all:?}"))
    };
    assert_eq!(of("ratings").2, REVIEWS);
    let v1 = REVIEWS.replace("||", "|v1|");
    assert_eq!(
        (&of("alias").2, of("alias").1.contains(&"alias".into())),
        (&v1, true)
    );
    assert_eq!(
        (&*of("reviews").2, of("reviews").1.contains(&"alias".into())),
        (REVIEWS, false)
    );
}

#[test]
fn a_sidecar_that_lets_the_name_through_lets_the_service_through() {
    let yaml = "kind: Sidecar\nmetadata: {name: s}\nspec: {egress: [{hosts: \
                [\"./alias.default.svc.cluster.local\"]}]}\n";
    let snapshot = snapshot(world(), yaml);
    let found = clusters(&snapshot, &["alias", "reviews", "ratings"]);
    assert_eq!(found, [REVIEWS]);
    let names: Vec<_> = hosts(&snapshot, "9080")
        .into_iter()
        .map(|host| host.0)
        .collect();
    assert_eq!(
        names,
        [
            format!("reviews.default.svc.{DOMAIN}:9080"),
            "allow_any".into()
        ]
    );
}

#[test]
fn what_it_stands_for_may_come_and_go() {
    let without = || {
        let mut world = world();
        let id = service("reviews", &[]).id();
        world.services.remove(&id);
        world
    };
    let proxy = sidecar("productpage");
    let names = |engine: &Engine| -> Vec<String> {
        let mut clusters = engine.served(&proxy).list(&TypeUrl::CLUSTER);
        clusters.sort_by(|a, b| a.name.cmp(&b.name));
        clusters.iter().map(|of| of.name.to_string()).collect()
    };
    let [with, without] = [world(), without()].map(|world| Arc::new(snapshot(world, "")));
    let [want_with, want_without] =
        [&with, &without].map(|snapshot| names(&Engine::new(snapshot.clone())));
    let alias = format!("outbound|80||alias.default.svc.{DOMAIN}");
    assert!(!want_with.contains(&alias) && want_without.contains(&alias));
    let engine = Engine::new(with.clone());
    let _held = engine.join(&proxy);
    for (snapshot, want) in [(without, &want_without), (with, &want_with)] {
        engine.publish(snapshot, false);
        assert_eq!(&names(&engine), want);
    }
}

#[test]
fn hosts_of_rules_are_at_the_ports_beside_them() {
    let route = "http: [{route: [{destination: {host: reviews}}]}]";
    for (listed, ports) in [
        ("unknown.example.com", &["80"][..]),
        ("unknown.example.com, ratings", &["9080"]),
        ("unknown.example.com, pair", &["9080", "9090"]),
        ("unknown.example.com, db", &["80"]),
    ] {
        let yaml = format!(
            "kind: VirtualService\nmetadata: {{name: a}}\nspec: {{hosts: [{listed}], {route}}}\n"
        );
        let mut world = world();
        let web = service("web", &[(80, 80, Protocol::Http)]);
        world.services.insert(web.id(), web);
        let snapshot = snapshot(world, &yaml);
        let has = |table: &&str| {
            let all = hosts(&snapshot, table);
            all.iter()
                .any(|host| host.0 == format!("unknown.example.com:{table}"))
        };
        let found: Vec<_> = ["80", "9080", "9090"].into_iter().filter(has).collect();
        assert_eq!(found, ports, "{listed}");
    }
}

#[test]
fn a_change_of_hosts_beside_each_other_reaches_their_tables() {
    let rule = |hosts: &str| {
        format!(
            "kind: VirtualService\nmetadata: {{name: a}}\nspec: {{hosts: [{hosts}], http: [{{route: \
             [{{destination: {{host: reviews}}}}]}}]}}\n"
        )
    };
    let of = |hosts: &str| Arc::new(snapshot(world(), &rule(hosts)));
    let proxy = sidecar("productpage");
    let fresh = |snapshot: &Arc<Snapshot>| {
        let vantage = vantage(snapshot, &proxy);
        let table = View::new(snapshot, &vantage)
            .routes("9080")
            .expect("a table");
        table.generate()
    };
    let engine = Engine::new(of("ratings"));
    let _held = engine.join(&proxy);
    let name = [Name::new("9080")];
    let found = |engine: &Engine| {
        let served = engine.served(&proxy);
        served
            .find(&engine.cache, &TypeUrl::ROUTE, name.iter())
            .pop()
    };
    for hosts in [
        "ratings",
        "ratings, x.example.com",
        "x.example.com",
        "ratings",
    ] {
        let snapshot = of(hosts);
        engine.publish(snapshot.clone(), false);
        let found = found(&engine).expect("a table");
        let found: RouteConfiguration = lateen_xds::decode_any(&found.body()).expect("a table");
        assert_eq!(found, fresh(&snapshot), "{hosts}");
    }
}
