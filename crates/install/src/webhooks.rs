//! Webhook configurations. The control plane puts its root certificate into them when it runs.

use serde_json::{Value, json};

use crate::{
    Installation,
    installation::{DEFAULT_REVISION, first_text},
    settings,
};

pub(crate) fn all(installation: &Installation) -> Vec<Value> {
    let mut all = vec![injector(installation)];
    if installation.values().global.config_validation != Some(false) {
        all.push(validator(installation));
    }
    all
}

/// Where the API server asks: the Service, or what stands for it outside the cluster.
fn client(installation: &Installation, url: Option<&String>, path: &str) -> Value {
    match first_text([url.map(String::as_str)]) {
        Some(url) => json!({"url": url}),
        None => json!({"service": {
            "name": installation.revisioned("istiod"),
            "namespace": installation.namespace(),
            "path": path,
            "port": 443,
        }}),
    }
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
/// Namespaces of the platform, which nothing is injected into unasked.
const SYSTEM: [&str; 4] = [
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "local-path-storage",
];

/// The webhook of a revision.
pub(crate) fn injector(installation: &Installation) -> Value {
    let values = installation.values();
    let remote = &values.istiod_remote;
    let path = first_text([remote.injection_path.as_deref()]).unwrap_or("/inject");
    let mut client = client(installation, remote.injection_url.as_ref(), path);
    let bundle = first_text([remote.injection_ca_bundle.as_deref()]);
    settings::replace(&mut client, "caBundle", bundle);
    let webhook = &values.sidecar_injector_webhook;
    let reinvocation = first_text([webhook.reinvocation_policy.as_deref()]);
    let webhooks = injection(
        installation.revision(),
        &client,
        reinvocation.unwrap_or("Never"),
        webhook.enable_namespaces_by_default == Some(true),
    );
    // Two installations in one cluster must not take each other's webhook.
    let mut name = installation.revisioned("istio-sidecar-injector");
    if installation.namespace() != "istio-system" {
        name = format!("{name}-{}", installation.namespace());
    }
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name, "labels": {"app": "sidecar-injector"}},
        "webhooks": webhooks,
    })
}

/// A namespace or a pod asks for injection, by revision or at all: selectors that no pod meets twice.
/// Pods that name no revision are the default one's; with `everywhere`, those whose namespaces say
/// nothing, too.
pub(crate) fn injection(
    revision: &str,
    client: &Value,
    reinvocation: &str,
    everywhere: bool,
) -> Vec<Value> {
    let unlabelled = json!([absent(INJECTION), absent(REVISION)]);
    let mut selectors = vec![
        (
            "rev.namespace",
            json!([one_of(REVISION, revision), absent(INJECTION)]),
            json!([other_than(INJECT, "false")]),
        ),
        (
            "rev.object",
            unlabelled.clone(),
            json!([other_than(INJECT, "false"), one_of(REVISION, revision)]),
        ),
    ];
    if revision == DEFAULT_REVISION {
        selectors.push((
            "namespace",
            json!([one_of(INJECTION, "enabled")]),
            json!([other_than(INJECT, "false")]),
        ));
        selectors.push((
            "object",
            unlabelled,
            json!([one_of(INJECT, "true"), absent(REVISION)]),
        ));
    }
    // Of two revisions one alone may take what names none.
    if everywhere && revision == DEFAULT_REVISION {
        let name = "kubernetes.io/metadata.name";
        let elsewhere = json!({"key": name, "operator": "NotIn", "values": SYSTEM});
        selectors.push((
            "auto",
            json!([absent(INJECTION), absent(REVISION), elsewhere]),
            json!([absent(INJECT), absent(REVISION)]),
        ));
    }
    let webhooks = selectors.into_iter().map(|(name, namespaces, objects)| {
        json!({
            "name": format!("{name}.sidecar-injector.istio.io"),
            "clientConfig": client,
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
            "namespaceSelector": {"matchExpressions": namespaces},
            "objectSelector": {"matchExpressions": objects},
            "failurePolicy": "Fail",
            "reinvocationPolicy": reinvocation,
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        })
    });
    webhooks.collect()
}

pub(crate) fn validator(installation: &Installation) -> Value {
    let name = installation.revisioned("istio-validator");
    let values = installation.values();
    let url = values.base.validation_url.as_ref();
    let mut client = client(installation, url, "/validate");
    let bundle = first_text([values.istiod_remote.injection_ca_bundle.as_deref()]);
    settings::replace(&mut client, "caBundle", bundle);
    let mut judged = vec![Judged::OfRevision(installation.revision())];
    if installation.revision() == DEFAULT_REVISION {
        judged.push(Judged::OfNone);
    }
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {
            "name": format!("{name}-{}", installation.namespace()),
            "labels": {"app": "istiod", "istio": "istiod"},
        },
        "webhooks": validation(&client, &judged),
    })
}

/// Objects that a control plane judges. Those that name a revision are left to that one alone.
pub(crate) enum Judged<'a> {
    OfRevision(&'a str),
    /// What names no revision.
    OfNone,
}

/// Judges objects of the mesh's kinds. What asks a Service that it cannot trust yet lets objects pass that
/// nobody answers for: it is made before the control plane runs, which closes it when it serves.
pub(crate) fn validation(client: &Value, judged: &[Judged<'_>]) -> Value {
    let groups = [
        "security.istio.io",
        "networking.istio.io",
        "telemetry.istio.io",
        "extensions.istio.io",
    ];
    let waits = client["service"].is_object() && client["caBundle"].is_null();
    let policy = if waits { "Ignore" } else { "Fail" };
    let webhooks = judged.iter().map(|judged| {
        let (name, objects) = match judged {
            Judged::OfRevision(revision) => ("rev.validation", one_of(REVISION, revision)),
            Judged::OfNone => ("validation", absent(REVISION)),
        };
        json!({
            "name": format!("{name}.istio.io"),
            "clientConfig": client,
            "rules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": groups, "apiVersions": ["*"], "resources": ["*"]}],
            "objectSelector": {"matchExpressions": [objects]},
            "failurePolicy": policy,
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        })
    });
    webhooks.collect()
}
