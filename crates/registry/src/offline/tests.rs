use lateen_core::Hostname;
use lateen_core::ServiceId;

use super::*;
use crate::{EndpointKey, FieldFault};

fn read(text: &str) -> Result<Offline, Vec<String>> {
    changed(text, &[])
}

fn changed(text: &str, changes: &[(String, String)]) -> Result<Offline, Vec<String>> {
    let check = |value: &Value| match value["spec"]["hosts"].as_array() {
        None => vec![FieldFault::new("spec.hosts", "required")],
        Some(_) => Vec::new(),
    };
    Offline::read(
        &[("a.yaml".to_owned(), text.to_owned())],
        changes,
        check,
        "cluster.local",
    )
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
    assert_eq!(offline.places[&name], "a.yaml:27");
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
    let new = (
        "b.yaml".to_owned(),
        object.replace("[shop]", "[shop, other]"),
    );
    let offline = changed(SHOP, &[new]).expect("valid");
    let name = ObjectRef::new("VirtualService", "default", "shop");
    assert_eq!(offline.places[&name], "b.yaml:1");
    let held = offline.config.objects.get(&name).expect("an object");
    assert_eq!(held["spec"]["hosts"][1], "other");
    let twice = format!("{SHOP}---\n{object}");
    let faults = read(&twice).expect_err("twice");
    assert!(faults[0].contains("is also there"), "{faults:?}");
}
