//! Our own proxy reads all that it is sent: no field is generated for nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use lateen_decode::{NetworkSpec, Routes};
use lateen_pilot::{Offline, Proxy};
use lateen_xds::server::Resource;
use lateen_xds::types::{cluster::Cluster, core::Node, listener::Listener};
use lateen_xds::{decode_any, json};
use serde_json::json;

use crate::fixture::{DOMAIN, EVERYTHING, Mesh, SIDECAR, config};

#[test]
fn everything_that_is_generated_is_read() {
    let node = |id: &str, labels: serde_json::Value| {
        let addresses = "10.244.0.12,fd00::12";
        let metadata = json!({ "LABELS": labels, "INSTANCE_IPS": addresses });
        let node = json!({ "id": id, "metadata": metadata });
        let node: Node = json::from_value(node).expect("a node");
        Proxy::from_node(&node).expect("a proxy")
    };
    let sidecar = node(
        "sidecar~10.244.0.12~mixed-v1.default~default.svc.cluster.local",
        json!({ "app": "mixed", "version": "v1" }),
    );
    let router = node(
        "router~10.244.0.13~gateway.istio-system~istio-system.svc.cluster.local",
        json!({ "app": "istio-ingressgateway", "istio": "ingressgateway" }),
    );
    let mut found = BTreeSet::new();
    let scoped = format!("{EVERYTHING}\n---\n{SIDECAR}");
    for (proxy, yaml) in [
        (&sidecar, EVERYTHING),
        (&sidecar, &scoped),
        (&router, EVERYTHING),
    ] {
        let world = Arc::new(Mesh::bookinfo().world);
        let offline = Offline::new(world, Arc::new(config(yaml)), DOMAIN, proxy);
        let (clusters, listeners) = (offline.clusters(), offline.listeners());
        assert!(!clusters.is_empty() && !listeners.is_empty());
        let mut all: Vec<Arc<Resource>> = Vec::new();
        for listener in &listeners {
            let spec: Listener = decode_any(&listener.body()).expect("a listener");
            let spec = lateen_decode::listener(&spec);
            let spec = spec.unwrap_or_else(|error| panic!("{}: {error}", listener.name));
            for chain in spec.chains.iter().chain(&spec.default_chain) {
                if let NetworkSpec::Http(hcm) = &chain.network
                    && let Routes::Named(name) = &hcm.routes
                {
                    all.extend(offline.routes(name));
                }
            }
        }
        assert!(!all.is_empty(), "no route table is named");
        for cluster in &clusters {
            let spec: Cluster = decode_any(&cluster.body()).expect("a cluster");
            if let Err(error) = lateen_decode::cluster(&spec) {
                panic!("{}: {error}", cluster.name);
            }
            all.extend(offline.endpoints(&cluster.name));
        }
        all.extend(clusters);
        all.extend(listeners);
        for resource in all {
            for field in lateen_decode::unread(&resource.body()).fields {
                found.insert(field.path(json::field_name));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}
