//! A cluster whose control plane is elsewhere: the Service that leads there, and its webhook.

use serde_json::{Value, json};

use crate::{Installation, config, control_plane, installation::first_text, webhooks};

pub(crate) fn all(installation: &Installation) -> Vec<Value> {
    let mut all = vec![config::injector(installation)];
    let address = installation.values().global.remote_pilot_address.as_deref();
    if let Some(address) = first_text([address]) {
        all.extend(leading_to(address, installation));
    }
    all.push(webhooks::injector(installation));
    all
}

/// The usual Service without pods behind it: by name, or by the address that its endpoints have.
fn leading_to(address: &str, installation: &Installation) -> Vec<Value> {
    let mut service = control_plane::service(installation);
    if let Some(spec) = service["spec"].as_object_mut() {
        spec.shift_remove("selector");
    }
    let Ok(ip) = address.parse::<std::net::IpAddr>() else {
        service["spec"]["type"] = json!("ExternalName");
        service["spec"]["externalName"] = json!(address);
        return vec![service];
    };
    let ports = [("https-dns", 15012), ("https-webhook", 15017)];
    let ports = ports.map(|(name, port)| json!({"name": name, "port": port, "protocol": "TCP"}));
    let name = installation.revisioned("istiod");
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{name}-remote"),
            "namespace": installation.namespace(),
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": if ip.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
        "ports": ports,
    });
    vec![service, slice]
}
