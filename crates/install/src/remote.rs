//! A cluster whose control plane is elsewhere: the Service that leads there, and its webhooks. Where the
//! mesh's configuration is in this cluster, its settings are, too.

use serde_json::{Value, json};

use crate::{Installation, config, control_plane, installation::first_text, webhooks};

pub(crate) fn all(installation: &Installation) -> Vec<Value> {
    let mut all = config::all(installation);
    let address = installation.values().global.remote_pilot_address.as_deref();
    if let Some(address) = first_text([address]) {
        all.extend(leading_to(address, installation));
    }
    all.push(webhooks::injector(installation));
    if judges(installation) {
        all.push(webhooks::validator(installation));
    }
    all
}

/// Whether objects are judged, where the mesh's are here. Nobody in this cluster puts a certificate into
/// the webhook, so that it is the one that the injector's is given, or one that everybody trusts.
fn judges(installation: &Installation) -> bool {
    let values = installation.values();
    let known = [
        values.base.validation_url.as_deref(),
        values.istiod_remote.injection_ca_bundle.as_deref(),
    ];
    wants_judging(installation) && first_text(known).is_some()
}

fn wants_judging(installation: &Installation) -> bool {
    installation.holds_configuration()
        && installation.values().global.config_validation != Some(false)
}

/// Objects that nobody judges, though that is asked for.
pub(crate) fn without_effect(installation: &Installation) -> Option<String> {
    let is_here = installation.pilot().is_none() && installation.is_remote();
    (is_here && wants_judging(installation) && !judges(installation)).then(|| {
        "spec.values.global.configValidation: has no effect without values.base.validationURL or values.istiodRemote.injectionCABundle, as it is not known where the control plane is, or whom to trust there".to_owned()
    })
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
