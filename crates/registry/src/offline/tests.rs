use lateen_core::Hostname;
use lateen_core::ServiceId;

use super::*;
use crate::{EndpointKey, FieldFault};

fn read(text: &str) -> Result<Offline, Vec<String>> {
    changed(text, &[])
}

fn changed(text: &str, changes: &[Documents]) -> Result<Offline, Vec<String>> {
    Offline::read(
        &[Documents::file("a.yaml", text)],
        changes,
        check_hosts,
        "cluster.local",
    )
}

fn check_hosts(value: &Value) -> Vec<FieldFault> {
    match value["spec"]["hosts"].as_array() {
        None => vec![FieldFault::new("spec.hosts", "required")],
        Some(_) => Vec::new(),
    }
}

const SHOP: &str = "\
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {selector: {app: shop}, ports: [{name: http, port: 80, targetPort: web}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop-v1}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: shop, version: v1}}
    spec: {containers: [{name: c, ports: [{name: web, containerPort: 8080}]}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop-v2}
spec:
  template:
    metadata: {labels: {app: shop, version: v2, sidecar.istio.io/inject: 'false'}}
    spec: {containers: [{name: c, ports: [{name: web, containerPort: 9090}]}]}
---
apiVersion: example.com/v1
kind: Other
metadata: {name: o}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec: {hosts: [shop]}
";

#[test]
fn documents_become_a_world() {
    let offline = read(SHOP).expect("valid");
    let host = Hostname::service("shop", "default", "cluster.local");
    let id = ServiceId::new("default", host);
    let service = offline.world.services.get(&id).expect("a service");
    assert_eq!(service.addresses.len(), 1);
    let endpoints = &offline.world.endpoints.get(&EndpointKey::new(id, "http"));
    let endpoints = endpoints.expect("endpoints");
    let mut ports: Vec<_> = endpoints.iter().map(|e| (e.port, e.mtls)).collect();
    ports.sort_unstable();
    assert_eq!(ports, [(8080, true), (8080, true), (9090, false)]);
    assert_eq!(offline.unused, ["a.yaml:23: Other"]);
    let name = ObjectRef::new("VirtualService", "default", "shop");
    let place = |field: &str| offline.places.of(&name, field);
    assert_eq!(place("").as_deref(), Some("a.yaml:27"));
    assert_eq!(place("spec.hosts[0]").as_deref(), Some("a.yaml:30"));
    let service = ObjectRef::new("Service", "default", "shop");
    let port = offline.places.of(&service, "spec.ports[0]");
    assert_eq!(port.as_deref(), Some("a.yaml:4"));
    assert_eq!(offline.config.objects.len(), 1);
}

#[test]
fn faults_say_where() {
    let text = SHOP.replace("{hosts: [shop]}", "\n  http: []");
    let faults = read(&text).expect_err("no hosts");
    assert_eq!(faults, ["a.yaml:30: spec.hosts: required"]);
    let faults = read("kind: [").expect_err("no YAML");
    assert!(faults[0].starts_with("a.yaml:1: "), "{faults:?}");
}

#[test]
fn changes_take_the_place_of_objects() {
    let object = SHOP.rsplit("---\n").next().expect("a document");
    let new = Documents::file("b.yaml", object.replace("[shop]", "[shop, other]"));
    let offline = changed(SHOP, &[new]).expect("valid");
    let name = ObjectRef::new("VirtualService", "default", "shop");
    let place = offline.places.of(&name, "");
    assert_eq!(place.as_deref(), Some("b.yaml:1"));
    let held = offline.config.objects.get(&name).expect("an object");
    assert_eq!(held["spec"]["hosts"][1], "other");
    let twice = format!("{SHOP}---\n{object}");
    let faults = read(&twice).expect_err("twice");
    assert!(faults[0].contains("is also there"), "{faults:?}");
}

#[test]
fn what_is_stored_is_in_force_whatever_is_wrong_with_it() {
    let list = format!(
        "{{apiVersion: v1, kind: List, items: [{{apiVersion: networking.istio.io/v1, kind: VirtualService, \
         metadata: {{name: bad}}, spec: {{}}}}, {{apiVersion: networking.istio.io/v1, \
         kind: VirtualService, metadata: {{name: {}}}, spec: {{hosts: [a]}}}}]}}",
        "good"
    );
    let of = |documents: Documents| Offline::read(&[documents], &[], check_hosts, "cluster.local");
    let stored = of(Documents::stored(list.clone())).expect("the cluster took it");
    assert_eq!(stored.config.objects.len(), 2);
    let name = ObjectRef::new("VirtualService", "default", "good");
    assert_eq!(stored.places.of(&name, "spec"), None, "it is in no file");
    let faults = of(Documents::file("l.yaml", list)).expect_err("no hosts");
    assert_eq!(faults, ["l.yaml:1: spec.hosts: required"]);
}

#[test]
fn kinds_of_the_gateway_api_are_told_apart() {
    let text = "\
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: c}
spec: {hosts: [], controllerName: x}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g}
spec: {hosts: []}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g}
spec: {hosts: []}
";
    let offline = read(text).expect("valid");
    let class = ObjectRef::new("GatewayClass", "", "c");
    assert!(offline.config.objects.get(&class).is_some());
    let gateways = ["KubernetesGateway", "Gateway"];
    let gateways = gateways.map(|kind| ObjectRef::new(kind, "default", "g"));
    let places = gateways.map(|name| offline.places.of(&name, ""));
    assert_eq!(places, [Some("a.yaml:6".into()), Some("a.yaml:11".into())]);
}

#[test]
fn services_have_the_addresses_of_their_families() {
    let pod = |name: &str, ips: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: a}}}}\n\
             spec: {{containers: [{{name: c}}]}}\nstatus: {{podIP: {}, podIPs: [{ips}]}}\n---\n",
            "\"10.244.9.1\""
        )
    };
    let service = |name: &str, more: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
             spec: {{selector: {{app: a}}, ports: [{{name: http, port: 80}}]{more}}}\n---\n"
        )
    };
    let text = pod("p", "{ip: 10.244.9.1}, {ip: \"fd00::1\"}")
        + &service("four", "")
        + &service("six", ", ipFamilies: [IPv6]")
        + &service("both", ", ipFamilies: [IPv4, IPv6]");
    let offline = read(&text).expect("valid");
    for (name, want) in [
        ("four", &["10.244.9.1"][..]),
        ("six", &["fd00::1"]),
        ("both", &["10.244.9.1", "fd00::1"]),
    ] {
        let host = Hostname::service(name, "default", "cluster.local");
        let id = ServiceId::new("default", host);
        let service = offline.world.services.get(&id).expect("a service");
        assert_eq!(service.addresses[0].is_ipv6(), name == "six", "{name}");
        let endpoints = offline.world.endpoints.get(&EndpointKey::new(id, "http"));
        let mut found: Vec<_> = endpoints.expect(name).iter().map(|e| &*e.address).collect();
        found.sort_unstable();
        assert_eq!(found, want, "{name}");
    }
}
