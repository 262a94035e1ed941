//! Objects in, objects and statuses out.

use std::sync::Arc;

use lateen_core::{Hostname, Protocol};
use lateen_registry::{Namespace, Provider, Resolution, Service, ServicePort, TargetPort};
use serde_json::json;
use tokio::sync::watch;

use super::*;
use crate::{CredentialFault, Credentials};

mod backend_tls;
mod gateways;
mod routes;
mod samples;
mod sessions;

/// Secrets `cert` and `other` are good, `bad` holds something else.
struct Secrets;

impl Credentials for Secrets {
    fn check(&self, _namespace: &str, name: &str) -> Result<(), CredentialFault> {
        match name {
            "cert" | "other" => Ok(()),
            "bad" => Err(CredentialFault::Malformed("no certificate".into())),
            _ => Err(CredentialFault::Missing),
        }
    }

    fn check_roots(
        &self,
        of: RootsKind,
        _namespace: &str,
        name: &str,
    ) -> Result<(), CredentialFault> {
        match (of, name) {
            (RootsKind::ConfigMap, "roots") | (RootsKind::Secret, "cert") => Ok(()),
            (_, "bad") => Err(CredentialFault::Malformed("no roots".into())),
            _ => Err(CredentialFault::Missing),
        }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}

fn service(name: &str, namespace: &str, ports: &[u16], balancer: &[&str]) -> Arc<Service> {
    let port = |port: &u16| ServicePort {
        name: format!("p{port}").into(),
        port: *port,
        target_port: TargetPort::Number(*port),
        protocol: Protocol::Http,
    };
    Arc::new(Service {
        hostname: Hostname::service(name, namespace, "cluster.local"),
        name: name.into(),
        namespace: namespace.into(),
        provider: Provider::Kubernetes,
        addresses: Vec::new(),
        address_ranges: Vec::new(),
        ports: ports.iter().map(port).collect(),
        resolution: Resolution::ClientSide,
        external: false,
        labels: lateen_core::Labels::new(),
        selector: lateen_core::Labels::new(),
        created: None,
        export_to: Vec::new(),
        subject_alt_names: Vec::new(),
        external_name: None,
        load_balancer: balancer.iter().map(|ip| (*ip).to_owned()).collect(),
        distribution: None,
        allocated: Vec::new(),
    })
}

/// Services `a`, `b` and `dns`, which takes datagrams, of two namespaces, and one before the proxies of gateway `edge`.
fn world() -> World {
    let services = [
        service("a", "default", &[80, 81], &[]),
        service("b", "default", &[80], &[]),
        service("a", "other", &[80], &[]),
        service(
            "edge-istio",
            "default",
            &[80, 443, 8443, 9000, 15021],
            &["192.0.2.7"],
        ),
        service(
            "istio-ingressgateway",
            "istio-system",
            &[80, 443],
            &["192.0.2.8"],
        ),
    ];
    let mut dns = service("dns", "default", &[53], &[]);
    let of = Arc::get_mut(&mut dns).expect("nobody else's");
    of.ports[0].protocol = Protocol::Udp;
    let services = services.into_iter().chain([dns]);
    let namespace = |name: &str, (label, value): (&str, &str)| {
        let labels = [(label, value)].into_iter().collect();
        let namespace = Namespace {
            name: name.into(),
            labels,
        };
        (name.to_owned(), Arc::new(namespace))
    };
    World {
        services: services.map(|s| (s.id(), s)).collect(),
        namespaces: [
            namespace("default", ("team", "tx")),
            namespace("other", ("team", "ty")),
            namespace("revisioned", ("istio.io/rev", "canary")),
        ]
        .into(),
        ..World::default()
    }
}

/// What documents become. Those without a namespace are in `default`.
pub(crate) fn read(yaml: &str) -> Translation {
    read_in(yaml, &MeshConfig::default())
}

pub(crate) fn read_in(yaml: &str, mesh: &MeshConfig) -> Translation {
    read_with(yaml, mesh, &Secrets)
}

fn read_with(yaml: &str, mesh: &MeshConfig, secrets: &dyn Credentials) -> Translation {
    let mut objects = Objects::default();
    for mut document in serde_saphyr::from_multiple::<Value>(yaml).expect("YAML") {
        if document.is_null() {
            continue;
        }
        let meta = &mut document["metadata"];
        if meta["namespace"].is_null() {
            meta["namespace"] = json!("default");
        }
        if matches!(
            document["kind"].as_str(),
            Some("GatewayClass" | "IngressClass")
        ) {
            document["metadata"]["namespace"] = json!("");
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let group = text(&document["apiVersion"]);
        let group = group.split('/').next().unwrap_or_default();
        let mut kinds = lateen_registry::WATCHED_KINDS.iter();
        let kind = kinds
            .find(|kind| kind.group == group && document["kind"] == kind.kind)
            .expect("a watched kind");
        let meta = &document["metadata"];
        let key = ObjectRef::new(kind.id(), text(&meta["namespace"]), text(&meta["name"]));
        assert_eq!(objects.set(&key, Some(&document)), Some(true), "{key}");
    }
    translate(Around {
        in_mesh: false,
        objects: &objects,
        world: &world(),
        credentials: &credentials::Once::new(secrets),
        mesh,
        domain: "cluster.local",
    })
}

/// A Gateway `edge` with these listeners.
fn edge(listeners: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge, generation: 3}}\n\
         spec: {{gatewayClassName: istio, listeners: [{listeners}]}}\n"
    )
}

const HTTP: &str = "{name: http, port: 80, protocol: HTTP}";

/// A route of a kind in `default`, for `edge`.
fn route(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}, generation: 2}}\n\
         spec:\n  parentRefs: [{{name: edge}}]\n  {spec}\n"
    )
}

/// The rules of the VirtualService for a host, as JSON.
#[track_caller]
pub(crate) fn rules(out: &Translation, host: &str) -> Value {
    let mut all = out.virtual_services.iter();
    let found = all.find(|object| object.spec.hosts == [host]);
    let found = found.unwrap_or_else(|| panic!("no rules for {host} in {out:#?}"));
    serde_json::to_value(&found.spec.http).expect("plain data")
}

#[track_caller]
pub(crate) fn status<'a>(out: &'a Translation, kind: &'static str, name: &str) -> &'a Value {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    let key = ObjectRef::new(kind, namespace, name);
    let said = out.statuses.get(&key);
    &said.unwrap_or_else(|| panic!("no status of {key}")).status
}

/// `Type=Status/Reason` of each condition.
fn words(conditions: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let word = |c: &Value| {
        assert_ne!(text(&c["message"]), "", "a condition needs a message");
        let (kind, status, reason) = (text(&c["type"]), text(&c["status"]), text(&c["reason"]));
        format!("{kind}={status}/{reason}")
    };
    conditions
        .as_array()
        .into_iter()
        .flatten()
        .map(word)
        .collect()
}

/// Asserts that `found` has all that `want` has. Lists have the same length; objects may have more.
#[track_caller]
pub(crate) fn assert_has(found: &Value, want: &Value) {
    fn has(found: &Value, want: &Value) -> bool {
        match (found, want) {
            (Value::Object(found), Value::Object(want)) => want
                .iter()
                .all(|(key, want)| has(found.get(key).unwrap_or(&Value::Null), want)),
            (Value::Array(found), Value::Array(want)) => {
                found.len() == want.len() && found.iter().zip(want).all(|(f, w)| has(f, w))
            }
            _ => found == want,
        }
    }
    assert!(has(found, want), "found: {found:#}\n want: {want:#}");
}
