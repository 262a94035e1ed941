//! The state of streams, services and configuration.

use std::time::SystemTime;

use lateen_api::Object;
use lateen_xds::TypeUrl;
use lateen_xds::server::{Connection, Name, NameSet, TypeStatus};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::Client;
use crate::Dialect;
use crate::discovery::Discovery;
use crate::snapshot::Snapshot;

const TYPES: [(&str, TypeUrl); 6] = [
    ("cluster", TypeUrl::CLUSTER),
    ("listener", TypeUrl::LISTENER),
    ("route", TypeUrl::ROUTE),
    ("endpoint", TypeUrl::ENDPOINT),
    ("extensionconfig", TypeUrl::EXTENSION),
    ("secret", TypeUrl::SECRET),
];

/// How far each proxy got: per type, the newest response sent and the newest one accepted.
pub(super) fn syncz(discovery: &Discovery) -> Value {
    let snapshot = discovery.snapshot();
    let each = |connection: &Connection<Client>| {
        let proxy = &connection.client.proxy;
        let types = connection.types();
        let mut entry = Map::new();
        let kind = if proxy.is_router() {
            "router"
        } else {
            "sidecar"
        };
        for (key, value) in [
            ("cluster_id", json!(proxy.cluster_id)),
            (
                "proxy",
                json!(format!("{}.{}", proxy.name, proxy.namespace)),
            ),
            ("proxy_type", json!(kind)),
            ("proxy_version", json!(proxy.version)),
            ("istio_version", json!(running_version(proxy))),
            ("generation_acked", json!(connection.acked_generation())),
            ("generation", json!(snapshot.generation)),
        ] {
            entry.insert(key.into(), value);
        }
        for (name, type_url) in &TYPES {
            // What of our proxy's tables changes are their virtual hosts.
            let hosts = types
                .get(&TypeUrl::VIRTUAL_HOST)
                .filter(|_| *type_url == TypeUrl::ROUTE && proxy.dialect == Dialect::Lateen);
            if let Some(status) = hosts.or_else(|| types.get(type_url)) {
                insert_status(&mut entry, name, status);
            }
        }
        Value::Object(entry)
    };
    let connections = discovery.connections.list();
    connections
        .iter()
        .map(|connection| each(connection))
        .collect()
}

/// The version of what runs in the pod.
fn running_version(proxy: &crate::Proxy) -> &str {
    match proxy.own_version.as_str() {
        "" => &proxy.version,
        own => own,
    }
}

fn insert_status(entry: &mut Map<String, Value>, name: &str, status: &TypeStatus) {
    entry.insert(format!("{name}_sent"), json!(status.sent));
    entry.insert(format!("{name}_acked"), json!(status.acked));
    if let Some((nonce, reason)) = &status.refused {
        entry.insert(format!("{name}_nacked"), json!(nonce));
        entry.insert(format!("{name}_error"), json!(reason));
    }
    if status.held_back > 0 {
        entry.insert(format!("{name}_held_back"), json!(status.held_back));
    }
}

pub(super) fn connections(discovery: &Discovery) -> Value {
    let connections = discovery.connections.list();
    let clients = connections.iter().map(|connection| {
        json!({
            "connectionId": format!("{}-{}", connection.node, connection.id),
            "connectedAt": seconds(connection.since),
            "address": connection.address.map(|address| address.to_string()),
        })
    });
    json!({"totalClients": connections.len(), "clients": clients.collect::<Vec<_>>()})
}

pub(super) fn adsz(discovery: &Discovery) -> Value {
    let connections = discovery.connections.list();
    let client = |connection: &Connection<Client>| {
        let watches = connection.types().into_iter().map(|(type_url, status)| {
            let watch = json!({
                "wildcard": status.wildcard,
                "names": names(&status.names),
                "resources": status.resources,
                "sent": status.sent,
                "acked": status.acked,
                "refused": status.refused,
            });
            (type_url.short().to_owned(), watch)
        });
        json!({
            "connectionId": format!("{}-{}", connection.node, connection.id),
            "connectedAt": seconds(connection.since),
            "address": connection.address.map(|address| address.to_string()),
            "protocol": connection.protocol,
            "identity": connection.client.identity.as_ref().map(ToString::to_string),
            "generationAcked": connection.acked_generation(),
            "watches": watches.collect::<Map<_, _>>(),
        })
    };
    let clients: Vec<_> = connections
        .iter()
        .map(|connection| client(connection))
        .collect();
    json!({"totalClients": clients.len(), "clients": clients})
}

/// In their order, for people.
fn names(of: &NameSet) -> Vec<&str> {
    let mut names: Vec<_> = of.iter().map(Name::as_str).collect();
    names.sort_unstable();
    names
}

fn seconds(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// All configuration, as the objects that users wrote.
pub(super) fn configz(snapshot: &Snapshot) -> Value {
    let config = &snapshot.config;
    let mut all = Vec::new();
    let networking = "networking.istio.io/v1";
    list(
        &mut all,
        networking,
        "VirtualService",
        &config.virtual_services,
    );
    list(
        &mut all,
        networking,
        "DestinationRule",
        &config.destination_rules,
    );
    list(&mut all, networking, "Gateway", &config.gateways);
    list(
        &mut all,
        networking,
        "ServiceEntry",
        &config.service_entries,
    );
    list(
        &mut all,
        networking,
        "WorkloadEntry",
        &config.workload_entries,
    );
    list(&mut all, networking, "Sidecar", &config.sidecars);
    list(
        &mut all,
        "networking.istio.io/v1alpha3",
        "EnvoyFilter",
        &config.envoy_filters,
    );
    list(
        &mut all,
        "networking.istio.io/v1beta1",
        "ProxyConfig",
        &config.proxy_configs,
    );
    let security = "security.istio.io/v1";
    list(
        &mut all,
        security,
        "PeerAuthentication",
        &config.peer_authentications,
    );
    Value::Array(all)
}

fn list<T: Serialize>(
    all: &mut Vec<Value>,
    api_version: &str,
    kind: &str,
    objects: &[std::sync::Arc<Object<T>>],
) {
    for object in objects {
        all.push(json!({
            "apiVersion": api_version,
            "kind": kind,
            "metadata": object.meta,
            "spec": object.spec,
        }));
    }
}

pub(super) fn endpointz(snapshot: &Snapshot) -> Value {
    let each = |(key, endpoints): (
        &lateen_registry::EndpointKey,
        &std::sync::Arc<[lateen_registry::Endpoint]>,
    )| {
        let endpoints: Vec<_> = endpoints
            .iter()
            .map(|e| {
                json!({
                    "address": e.address,
                    "port": e.port,
                    "labels": e.labels,
                    "serviceAccount": e.service_account,
                    "namespace": e.namespace,
                    "workload": e.workload_name,
                    "locality": e.locality.to_string(),
                    "tlsMode": if e.mtls { "istio" } else { "disabled" },
                    "weight": e.weight,
                    "ready": e.ready,
                })
            })
            .collect();
        json!({
            "service": key.service.hostname.as_str(),
            "portName": key.port_name.as_str(),
            "endpoints": endpoints,
        })
    };
    snapshot.world.endpoints.iter().map(each).collect()
}

pub(super) fn registryz(snapshot: &Snapshot) -> Value {
    let port = |port: &lateen_registry::ServicePort| {
        json!({
            "name": port.name.as_str(),
            "port": port.port,
            "targetPort": match &port.target_port {
                lateen_registry::TargetPort::Number(number) => json!(number),
                lateen_registry::TargetPort::Name(name) => json!(name),
            },
            "protocol": port.protocol.to_string(),
        })
    };
    let services = snapshot.world.services.values().map(|service| {
        json!({
            "hostname": service.hostname.as_str(),
            "name": service.name,
            "namespace": service.namespace,
            "addresses": service.addresses,
            "ports": service.ports.iter().map(port).collect::<Vec<_>>(),
            "resolution": format!("{:?}", service.resolution),
            "external": service.external,
            "labels": service.labels,
            "exportTo": service.export_to,
        })
    });
    services.collect()
}
