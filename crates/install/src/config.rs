//! ConfigMaps: the mesh's configuration and the injector's.

use serde_json::{Value, json};

use crate::{Installation, installation::Source};

pub(crate) fn all(installation: &Installation) -> Vec<Value> {
    let mut all = Vec::new();
    if installation.holds_configuration() {
        all.push(mesh(installation));
    }
    all.push(injector(installation));
    all
}

fn mesh(installation: &Installation) -> Value {
    let networks = installation.values().global.mesh_networks.clone();
    let networks = json!({"networks": networks.unwrap_or_else(|| json!({}))});
    let data = json!({
        "mesh": yaml(&installation.mesh_config()),
        "meshNetworks": yaml(&networks),
    });
    config_map("istio", installation, data)
}

/// How pods are injected, and the settings that the built-in templates are filled with.
fn injector(installation: &Installation) -> Value {
    let (config, values) = injector_texts(installation);
    let data = json!({"config": config, "values": values});
    config_map("istio-sidecar-injector", installation, data)
}

/// The two texts of the injector's ConfigMap: `config` and `values`.
pub(crate) fn injector_texts(installation: &Installation) -> (String, String) {
    let values = installation.values();
    let webhook = &values.sidecar_injector_webhook;
    let policy = match values.global.proxy.auto_inject.as_deref() {
        Some("disabled") => "disabled",
        _ => "enabled",
    };
    let templates = Some(&webhook.default_templates).filter(|list| !list.is_empty());
    let sidecar = vec!["sidecar".to_owned()];
    let config = json!({
        "policy": policy,
        "defaultTemplates": templates.unwrap_or(&sidecar),
        "templates": webhook.templates,
        "neverInjectSelector": webhook.never_inject_selector,
        "alwaysInjectSelector": webhook.always_inject_selector,
        "injectedAnnotations": webhook.injected_annotations,
    });
    let mut shown = installation.settings().clone();
    let all = [
        "pilot",
        "gateways",
        "base",
        "cni",
        "meshConfig",
        "istiodRemote",
    ];
    for part in all {
        if let Some(parts) = shown.as_object_mut() {
            parts.shift_remove(part);
        }
    }
    // Of the control plane's settings, this one is the injector's.
    shown["pilot"]["cni"] = installation.settings()["pilot"]["cni"].clone();
    shown["pilot"]["cni"]["enabled"] = json!(installation.is_cni_used());
    shown["revision"] = json!(installation.revision());
    // `spec.namespace` says it as well, which templates do not see.
    shown["global"]["istioNamespace"] = json!(installation.namespace());
    let image = installation.proxy_image(Source::default());
    shown["global"]["proxy"]["image"] = json!(image);
    shown["global"]["multiCluster"]["clusterName"] = json!(installation.cluster_id());
    (yaml(&config), format!("{shown:#}"))
}

fn yaml(value: &Value) -> String {
    serde_yaml_ng::to_string(value).expect("JSON is YAML")
}

fn config_map(name: &str, installation: &Installation, data: Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": installation.revisioned(name),
            "namespace": installation.namespace(),
        },
        "data": data,
    })
}
