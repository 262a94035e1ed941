//! Webhook configurations. The control plane puts its root certificate into them when it runs.

use serde_json::{Value, json};

use crate::Options;

pub(crate) fn all(options: &Options) -> Vec<Value> {
    vec![injector(options), validator(options)]
}

fn service(options: &Options, path: &str) -> Value {
    json!({"service": {"name": "istiod", "namespace": options.namespace, "path": path, "port": 443}})
}

fn absent(key: &str) -> Value {
    json!({"key": key, "operator": "DoesNotExist"})
}

fn one_of(key: &str, value: &str) -> Value {
    json!({"key": key, "operator": "In", "values": [value]})
}

fn other_than(key: &str, value: &str) -> Value {
    json!({"key": key, "operator": "NotIn", "values": [value]})
}

const INJECTION: &str = "istio-injection";
const REVISION: &str = "istio.io/rev";
const INJECT: &str = "sidecar.istio.io/inject";

/// A namespace or a pod asks for injection, by revision or at all: four selectors that no pod meets
/// twice.
fn injector(options: &Options) -> Value {
    let unlabelled = json!([absent(INJECTION), absent(REVISION)]);
    let webhooks = [
        (
            "rev.namespace",
            json!([one_of(REVISION, "default"), absent(INJECTION)]),
            json!([other_than(INJECT, "false")]),
        ),
        (
            "rev.object",
            unlabelled.clone(),
            json!([other_than(INJECT, "false"), one_of(REVISION, "default")]),
        ),
        (
            "namespace",
            json!([one_of(INJECTION, "enabled")]),
            json!([other_than(INJECT, "false")]),
        ),
        (
            "object",
            unlabelled,
            json!([one_of(INJECT, "true"), absent(REVISION)]),
        ),
    ];
    let webhooks = webhooks.map(|(name, namespaces, objects)| {
        json!({
            "name": format!("{name}.sidecar-injector.istio.io"),
            "clientConfig": service(options, "/inject"),
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
            "namespaceSelector": {"matchExpressions": namespaces},
            "objectSelector": {"matchExpressions": objects},
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        })
    });
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {
            "name": "istio-sidecar-injector",
            "labels": {"app": "sidecar-injector", "istio.io/rev": "default", "release": "istio"},
        },
        "webhooks": webhooks,
    })
}

fn validator(options: &Options) -> Value {
    let groups = [
        "security.istio.io",
        "networking.istio.io",
        "telemetry.istio.io",
        "extensions.istio.io",
    ];
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {
            "name": format!("istio-validator-{}", options.namespace),
            "labels": {"app": "istiod", "istio": "istiod", "istio.io/rev": "default", "release": "istio"},
        },
        "webhooks": [{
            "name": "rev.validation.istio.io",
            "clientConfig": service(options, "/validate"),
            "rules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": groups, "apiVersions": ["*"], "resources": ["*"]}],
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }],
    })
}
