//! Volumes of the sidecar and of gateways.

use lateen_api::annotations;
use serde_json::{Value, json};

use super::Settings;
use crate::{
    config::said,
    values::{annotation, list},
};

/// The volume with what is laid over the proxy's bootstrap.
const BOOTSTRAP: &str = "custom-bootstrap-volume";

/// For a sidecar.
pub(super) fn sidecar(settings: &Settings<'_>) -> Vec<Value> {
    let mut volumes = gateway(settings);
    volumes.push(
        json!({"name": "istio-ca-crl", "configMap": {"name": "istio-ca-crl", "optional": true}}),
    );
    volumes
}

/// For a gateway.
pub(super) fn gateway(settings: &Settings<'_>) -> Vec<Value> {
    let token = &settings.params.config.global().sds.token;
    let audience = said(token.aud.as_deref()).unwrap_or("istio-ca");
    vec![
        json!({"name": "workload-socket", "emptyDir": {}}),
        json!({"name": "credential-socket", "emptyDir": {}}),
        json!({"name": "workload-certs", "emptyDir": {}}),
        json!({"name": "istio-envoy", "emptyDir": {"medium": "Memory"}}),
        json!({"name": "istio-data", "emptyDir": {}}),
        json!({"name": "istio-podinfo", "downwardAPI": {"items": [
            {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
            {"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}},
        ]}}),
        json!({"name": "istio-token", "projected": {"sources": [
            {"serviceAccountToken": {"audience": audience, "expirationSeconds": 43200, "path": "istio-token"}},
        ]}}),
        json!({"name": "istiod-ca-cert", "configMap": {"name": "istio-ca-root-cert"}}),
    ]
}

/// Where they are mounted.
pub(super) fn mounts(crl: bool) -> Vec<Value> {
    let all = [
        ("workload-socket", "/var/run/secrets/workload-spiffe-uds"),
        ("credential-socket", "/var/run/secrets/credential-uds"),
        (
            "workload-certs",
            "/var/run/secrets/workload-spiffe-credentials",
        ),
        ("istiod-ca-cert", "/var/run/secrets/istio"),
        ("istio-ca-crl", "/var/run/secrets/istio/crl"),
        ("istio-data", "/var/lib/istio/data"),
        ("istio-envoy", "/etc/istio/proxy"),
        ("istio-token", "/var/run/secrets/tokens"),
        ("istio-podinfo", "/etc/istio/pod"),
    ];
    let wanted = all
        .into_iter()
        .filter(|(name, _)| crl || *name != "istio-ca-crl");
    wanted
        .map(|(name, path)| json!({"name": name, "mountPath": path}))
        .collect()
}

/// Volumes that the pod's annotation adds.
pub(super) fn of_user(pod: &Value) -> Vec<Value> {
    named(pod, annotations::USER_VOLUME)
}

/// Where the pod's annotation mounts them.
pub(super) fn mounts_of_user(pod: &Value) -> Vec<Value> {
    named(pod, annotations::USER_VOLUME_MOUNT)
}

/// The volume with parts of Envoy's bootstrap, where the pod's annotation names a ConfigMap of them.
pub(super) fn of_bootstrap(pod: &Value) -> Option<Value> {
    let name = annotation(pod, annotations::BOOTSTRAP_OVERRIDE).filter(|name| !name.is_empty())?;
    Some(json!({"name": BOOTSTRAP, "configMap": {"name": name}}))
}

/// Mounts it, and tells the agent which file to lay over the bootstrap that it writes.
pub(super) fn mount_bootstrap(container: &mut Value) {
    let folder = "/etc/istio/custom-bootstrap";
    let file = format!("{folder}/custom_bootstrap.json");
    list(container, "env").push(json!({"name": "ISTIO_BOOTSTRAP_OVERRIDE", "value": file}));
    list(container, "volumeMounts").push(json!({"name": BOOTSTRAP, "mountPath": folder}));
}

/// Annotations hold one JSON object by name; what is not one was refused before.
fn named(pod: &Value, key: &str) -> Vec<Value> {
    let text = annotation(pod, key).unwrap_or_default();
    let Ok(Value::Object(all)) = serde_json::from_str(text) else {
        return Vec::new();
    };
    let with_name = |(name, mut value): (String, Value)| {
        value["name"] = json!(name);
        value
    };
    all.into_iter().map(with_name).collect()
}
