//! What tests of generators start from: the services of a small mesh, and configuration as YAML.

use std::sync::Arc;

use lateen_api::Object;
use lateen_core::{Hostname, Labels, Protocol};
use lateen_galley::ConfigSet;
use lateen_registry::{Endpoint, Provider, Resolution, Service, ServicePort, TargetPort, World};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Kind, Proxy, Snapshot};

pub(crate) const DOMAIN: &str = "cluster.local";

/// A service of namespace `default` (or `name.namespace`) whose pods have the label `app=name`.
pub(crate) fn service(name: &str, ports: &[(u16, u16, Protocol)]) -> Arc<Service> {
    let (name, namespace) = name.split_once('.').unwrap_or((name, "default"));
    let port = |(port, target, protocol): &(u16, u16, Protocol)| ServicePort {
        name: format!("p{port}").into(),
        port: *port,
        target_port: TargetPort::Number(*target),
        protocol: *protocol,
    };
    Arc::new(Service {
        hostname: Hostname::service(name, namespace, DOMAIN),
        name: name.into(),
        namespace: namespace.into(),
        provider: Provider::Kubernetes,
        addresses: Vec::new(),
        address_ranges: Vec::new(),
        ports: ports.iter().map(port).collect(),
        resolution: Resolution::ClientSide,
        external: false,
        labels: [("app", name)].into_iter().collect(),
        selector: [("app", name)].into_iter().collect(),
        created: None,
        export_to: Vec::new(),
        subject_alt_names: Vec::new(),
        external_name: None,
        load_balancer: Vec::new(),
        distribution: None,
        allocated: Vec::new(),
    })
}

/// An endpoint that takes the mesh's TLS.
pub(crate) fn endpoint(labels: Labels) -> Endpoint {
    Endpoint {
        address: "10.0.0.1".into(),
        port: 9080,
        labels,
        service_account: "sa".into(),
        namespace: "default".into(),
        workload_name: String::new(),
        locality: Default::default(),
        mtls: true,
        weight: 1,
        ready: true,
        network: String::new(),
        node: Default::default(),
    }
}

/// Bookinfo's services, one with two ports, and an ingress gateway that listens on 8080 and 8443.
pub(crate) fn world() -> World {
    let http = Protocol::Http;
    let services = [
        service("productpage", &[(9080, 9080, http)]),
        service("details", &[(9080, 9080, http)]),
        service("reviews", &[(9080, 9080, http)]),
        service("ratings", &[(9080, 9080, http)]),
        service("pair", &[(9080, 9080, http), (9090, 9090, http)]),
        service("db", &[(3306, 3306, Protocol::Tcp)]),
        service(
            "istio-ingressgateway.istio-system",
            &[(80, 8080, http), (443, 8443, Protocol::Https)],
        ),
    ];
    World {
        services: services.map(|s| (s.id(), s)).into(),
        ..World::default()
    }
}

/// Documents of a YAML text. Those without a namespace are in `default`.
pub(crate) fn documents(yaml: &str) -> Vec<Value> {
    let documents = serde_saphyr::from_multiple::<Value>(yaml).expect("YAML");
    documents.into_iter().filter(|d| !d.is_null()).collect()
}

/// The configuration that a YAML text describes, in its order.
pub(crate) fn config(yaml: &str) -> ConfigSet {
    fn object<T: DeserializeOwned>(document: &Value) -> Arc<Object<T>> {
        let mut object = Object::<T>::from_value(document).expect("a valid object");
        if object.meta.namespace.is_empty() {
            object.meta.namespace = "default".into();
        }
        Arc::new(object)
    }
    let mut config = ConfigSet::default();
    for document in documents(yaml) {
        match document["kind"].as_str().expect("a kind") {
            "VirtualService" => config.virtual_services.push(object(&document)),
            "DestinationRule" => config.destination_rules.push(object(&document)),
            "Gateway" => config.gateways.push(object(&document)),
            "EnvoyFilter" => config.envoy_filters.push(object(&document)),
            "PeerAuthentication" => config.peer_authentications.push(object(&document)),
            "Sidecar" => config.sidecars.push(object(&document)),
            other => panic!("the fixture does not know kind {other}"),
        }
    }
    config
}

pub(crate) fn snapshot(yaml: &str) -> Snapshot {
    Snapshot::new(1, Arc::new(world()), Arc::new(config(yaml)), DOMAIN)
}

/// The sidecar of a pod of `default` with the label `app=name`.
pub(crate) fn sidecar(name: &str) -> Proxy {
    proxy(Kind::Sidecar, name, "default")
}

/// The ingress gateway's proxy.
pub(crate) fn ingress() -> Proxy {
    let mut proxy = proxy(Kind::Router, "istio-ingressgateway", "istio-system");
    let label = ("istio".to_owned(), "ingressgateway".to_owned());
    proxy.labels.0.extend([label]);
    proxy
}

fn proxy(kind: Kind, name: &str, namespace: &str) -> Proxy {
    Proxy {
        id: format!("{name}-1.{namespace}"),
        kind,
        ip: "10.244.0.9".parse().expect("an address"),
        name: format!("{name}-1"),
        namespace: namespace.into(),
        dns_domain: format!("{namespace}.svc.{DOMAIN}"),
        labels: [("app", name)].into_iter().collect(),
        service_account: name.into(),
        cluster_id: "Kubernetes".into(),
        dialect: Default::default(),
        topology: None,
        version: String::new(),
        metadata: Arc::default(),
        own_version: String::new(),
        is_agent: false,
    }
}

/// A public sample of routing.
pub(crate) fn sample(file: &str) -> Option<String> {
    let path = lateen_testkit::conformance(&format!("samples/bookinfo/networking/{file}"))?;
    Some(std::fs::read_to_string(path).expect("file is readable"))
}

/// Asserts that `found` has all that `want` has. Lists have the same length; objects may have more.
#[track_caller]
pub(crate) fn assert_has(found: &Value, want: &Value) {
    if let Err(path) = has(found, want) {
        panic!("differs at {path}\nfound: {found:#}\n want: {want:#}");
    }
}

fn has(found: &Value, want: &Value) -> Result<(), String> {
    match (found, want) {
        (Value::Object(found), Value::Object(want)) => want.iter().try_for_each(|(key, want)| {
            let found = found.get(key).unwrap_or(&Value::Null);
            has(found, want).map_err(|path| format!(".{key}{path}"))
        }),
        (Value::Array(found), Value::Array(want)) if found.len() == want.len() => {
            let mut pairs = found.iter().zip(want).enumerate();
            pairs.try_for_each(|(i, (found, want))| {
                has(found, want).map_err(|path| format!("[{i}]{path}"))
            })
        }
        _ if found == want => Ok(()),
        _ => Err(String::new()),
    }
}
