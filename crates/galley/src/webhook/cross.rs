//! Checks of a document against what is in force.

use lateen_api::{
    Object, kinds,
    networking::{Gateway, MESH_GATEWAY, Server, VirtualService, gateway_key},
};
use serde_json::Value;

use crate::{
    ConfigSet, Fault, GATEWAY_SERVICE,
    fault::{Faults, Path},
    unsupported,
};

pub(super) fn check(
    document: &Value,
    config: &ConfigSet,
    faults: &mut Vec<Fault>,
    warnings: &mut Vec<String>,
) {
    let text = |key: &str| {
        document
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    if let Some(kind) = kinds::find(text("apiVersion"), text("kind")) {
        unsupported::not_in_force(kind.kind, faults, warnings);
        unsupported::check(kind.kind, document, faults, warnings);
    }
    match document.get("kind").and_then(Value::as_str) {
        Some("VirtualService") => {
            if let Ok(object) = Object::from_value(document) {
                unknown_gateways(&object, config, warnings);
            }
        }
        Some("Gateway") => {
            if let Ok(object) = Object::from_value(document) {
                let mut found = Faults::default();
                port_clashes(&object, config, &mut found);
                faults.extend(found.0);
            }
        }
        _ => {}
    }
}

fn unknown_gateways(
    object: &Object<VirtualService>,
    config: &ConfigSet,
    warnings: &mut Vec<String>,
) {
    let root = Path::root("spec");
    let list = root.field("gateways");
    for (n, gateway) in object.spec.gateways.iter().enumerate() {
        if gateway == MESH_GATEWAY {
            continue;
        }
        let key = gateway_key(gateway, &object.meta.namespace);
        if !config.gateways.iter().any(|g| g.key() == key) {
            let at = list.index(n);
            warnings.push(format!(
                "{at}: there is no Gateway {key} (yet); until there is, \
                 these routes do not apply to it"
            ));
        }
    }
}

/// Two Gateways may share a port of the same workloads as long as both speak the same family of
/// protocols there; the older one holds the port.
fn port_clashes(object: &Object<Gateway>, config: &ConfigSet, faults: &mut Faults) {
    let others = config.gateways.iter().filter(|other| {
        let same = (&other.meta.namespace, &other.meta.name)
            == (&object.meta.namespace, &object.meta.name);
        // What the Gateway API's listeners became is bound to Services instead.
        let selects = !other.meta.annotations.contains_key(GATEWAY_SERVICE);
        !same && selects && selects_same(&object.spec, &other.spec)
    });
    let others: Vec<_> = others.collect();
    let root = Path::root("spec");
    let list = root.field("servers");
    for (n, server) in object.spec.servers.iter().enumerate() {
        let clash = others.iter().find_map(|other| {
            other
                .spec
                .servers
                .iter()
                .find(|held| clashes(server, held))
                .map(|held| (other, held))
        });
        let Some((other, held)) = clash else { continue };
        let (server, entry) = (list.index(n), server.port.as_ref());
        let number = entry.map_or(0, |port| port.number);
        let protocol = held.port.as_ref().map_or("", |port| port.protocol.as_str());
        faults.add(
            &server.field("port"),
            format!(
                "port {number} is in use by Gateway {} for {protocol}",
                other.key()
            ),
            "choose another port, the same kind of protocol, or another selector",
        );
    }
}

fn selects_same(a: &Gateway, b: &Gateway) -> bool {
    let within = |x: &Gateway, y: &Gateway| {
        x.selector
            .iter()
            .all(|(key, value)| y.selector.get(key) == Some(value))
    };
    within(a, b) || within(b, a)
}

fn clashes(server: &Server, held: &Server) -> bool {
    let (Some(a), Some(b)) = (&server.port, &held.port) else {
        return false;
    };
    a.number == b.number && server.bind == held.bind && family(&a.protocol) != family(&b.protocol)
}

#[derive(PartialEq)]
enum Family {
    Http,
    Tls,
    Tcp,
}

fn family(protocol: &str) -> Family {
    match protocol.to_ascii_uppercase().as_str() {
        "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB" | "HTTP_PROXY" => Family::Http,
        "HTTPS" | "TLS" => Family::Tls,
        _ => Family::Tcp,
    }
}
