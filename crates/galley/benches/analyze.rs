//! What analysis of a cluster with 5,000 objects costs: namespaces with services, their pods and
//! routes, gateways, and policies. The bar is a second.

use divan::counter::ItemsCount;
use lateen_galley::analyze::{Settings, analyze};
use lateen_registry::Written;
use serde_json::{Value, json};

fn main() {
    divan::main();
}

const NETWORKING: &str = "networking.istio.io/v1";

/// Services of a namespace.
const PER_NAMESPACE: usize = 20;

fn object(api: &str, kind: &str, namespace: &str, name: &str, rest: Value) -> Written {
    let mut value = json!({ "apiVersion": api, "kind": kind,
        "metadata": { "name": name, "namespace": namespace } });
    for (key, of) in rest.as_object().into_iter().flatten() {
        if key == "labels" {
            value["metadata"]["labels"] = of.clone();
        } else {
            value[key] = of.clone();
        }
    }
    Written::stored(value)
}

/// Seven objects for each service, and one for each namespace. Where there are faults, every second
/// route leads to a subset that nobody defines.
fn cluster(n: usize, faulty: bool) -> Vec<Written> {
    let mut objects = Vec::new();
    let mut service = 0;
    while objects.len() < n {
        let namespace = format!("team-{}", service / PER_NAMESPACE);
        if service % PER_NAMESPACE == 0 {
            let labels = json!({ "labels": { "istio-injection": "enabled" } });
            objects.push(object("v1", "Namespace", "", &namespace, labels));
        }
        objects.extend(of_service(&namespace, service, faulty && service % 2 == 0));
        service += 1;
    }
    objects.truncate(n);
    objects
}

fn of_service(namespace: &str, n: usize, faulty: bool) -> [Written; 7] {
    let name = format!("app-{n}");
    let labels = json!({ "app": name, "version": "v1" });
    let subset = if faulty { "v9" } else { "v1" };
    let to = |subset: &str| json!([{ "destination": { "host": name, "subset": subset } }]);
    let make = |api: &str, kind: &str, rest: Value| object(api, kind, namespace, &name, rest);
    [
        make(
            "v1",
            "Service",
            json!({ "spec": { "selector": { "app": name }, "ports": [{ "name": "http", "port": 80 }] } }),
        ),
        make(
            "v1",
            "Pod",
            json!({ "labels": labels, "spec": { "containers": [{ "name": "app" }, { "name": "istio-proxy" }] } }),
        ),
        make(
            "apps/v1",
            "Deployment",
            json!({ "spec": { "template": { "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": "app" }] } } } }),
        ),
        make(
            NETWORKING,
            "DestinationRule",
            json!({ "spec": { "host": name, "subsets": [{ "name": "v1", "labels": { "version": "v1" } }] } }),
        ),
        make(
            NETWORKING,
            "VirtualService",
            json!({ "spec": { "hosts": [name, format!("{name}.example.com")], "gateways": ["mesh", name],
                "http": [{ "match": [{ "uri": { "prefix": "/a" } }, { "uri": { "prefix": "/b" } }],
                    "route": to("v1") }, { "route": to(subset) }] } }),
        ),
        make(
            NETWORKING,
            "Gateway",
            json!({ "spec": { "selector": { "istio": "ingressgateway" }, "servers": [{
                "port": { "number": 80, "name": "http", "protocol": "HTTP" },
                "hosts": [format!("{name}.example.com")] }] } }),
        ),
        make(
            NETWORKING,
            "Sidecar",
            json!({ "spec": { "workloadSelector": { "labels": { "app": name } },
                "egress": [{ "hosts": ["./*"] }] } }),
        ),
    ]
}

#[divan::bench(args = [false, true])]
fn five_thousand_objects(bencher: divan::Bencher<'_, '_>, faulty: bool) {
    let objects = cluster(5_000, faulty);
    let settings = Settings::default();
    bencher
        .counter(ItemsCount::new(objects.len()))
        .bench(|| analyze(divan::black_box(&objects), &settings));
}
