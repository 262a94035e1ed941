//! Labels by which an installation knows what it made.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{Installation, merge::merge};

/// On everything that an installation made: who made it. Istio's own installer uses the other labels
/// as well, and what it made is not ours.
const MANAGER: (&str, &str) = ("app.kubernetes.io/managed-by", "lateen");
/// On everything that an installation made: the name of its document. Installations of other names
/// leave it alone.
pub const OWNER: &str = "install.operator.istio.io/owning-resource";
/// On everything that an installation made: the namespace of its control plane.
pub const OWNER_NAMESPACE: &str = "install.operator.istio.io/owning-resource-namespace";
/// Which part of an installation an object belongs to.
pub const COMPONENT: &str = "operator.istio.io/component";
/// Which revision an object belongs to.
pub const REVISION: &str = "istio.io/rev";

/// What [`OWNER`] says where the document has no name.
const UNKNOWN: &str = "unknown";

/// Selects what installations made, in all namespaces.
pub fn owned() -> String {
    format!("{}={},{OWNER}", MANAGER.0, MANAGER.1)
}

/// Selects what installations of a revision made, with their control plane in a namespace.
pub fn owned_by(namespace: &str, revision: &str) -> String {
    format!(
        "{},{OWNER_NAMESPACE}={namespace},{REVISION}={revision}",
        owned()
    )
}

/// Selects what the same installation made before, of the same name and revision.
pub fn owned_alike(installation: &Installation) -> String {
    let (namespace, revision) = (installation.namespace(), installation.revision());
    let of_revision = owned_by(namespace, revision);
    format!(
        "{of_revision},{OWNER}={}",
        installation.name().unwrap_or(UNKNOWN)
    )
}

/// Selects what an addon made, which is of no revision.
pub(crate) fn owned_by_addon(owner: &str, namespace: &str) -> String {
    format!(
        "{}={},{OWNER}={owner},{OWNER_NAMESPACE}={namespace}",
        MANAGER.0, MANAGER.1
    )
}

/// Whether an object with these labels is one that installations made.
pub fn is_owned(labels: &BTreeMap<String, String>) -> bool {
    labels
        .get(MANAGER.0)
        .is_some_and(|manager| manager == MANAGER.1)
        && labels.contains_key(OWNER)
}

/// Labels of what an installation made, whatever component it is of.
pub(crate) fn of_owner(name: Option<&str>, namespace: &str) -> Value {
    json!({
        MANAGER.0: MANAGER.1,
        OWNER: name.unwrap_or(UNKNOWN),
        OWNER_NAMESPACE: namespace,
    })
}

/// Labels of a namespace that is made for an installation before its objects are.
pub fn owner_labels(namespace: &str) -> BTreeMap<String, String> {
    let labels = of_owner(None, namespace);
    let labels = labels.as_object().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    labels
        .map(|(key, value)| (key.clone(), text(value)))
        .collect()
}

/// Marks an object as the installation's. What all revisions share belongs to none, and on a namespace
/// the label would ask for injection.
pub(crate) fn own(object: &mut Value, component: &str, installation: &Installation) {
    let is_namespace = object["kind"] == "Namespace";
    let labels = &mut object["metadata"]["labels"];
    if !labels.is_object() {
        *labels = json!({});
    }
    let owner = of_owner(installation.name(), installation.namespace());
    merge(labels, &owner);
    labels[COMPONENT] = json!(component);
    if component != "Base" && !is_namespace {
        labels[REVISION] = json!(installation.revision());
    }
    labels["release"] = json!("istio");
}

/// Marks an object as an addon's. It is of no revision, as all of them show in it.
pub(crate) fn own_addon(object: &mut Value, component: &str, owner: &str, namespace: &str) {
    let labels = &mut object["metadata"]["labels"];
    merge(labels, &of_owner(Some(owner), namespace));
    labels[COMPONENT] = json!(component);
    labels["release"] = json!("istio");
}

/// Kinds that installations make, in the order in which they are taken away: first what asks for
/// others, last what others need.
pub const KINDS: &[(&str, &str)] = &[
    (
        "admissionregistration.k8s.io/v1",
        "MutatingWebhookConfiguration",
    ),
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingWebhookConfiguration",
    ),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("policy/v1", "PodDisruptionBudget"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "DaemonSet"),
    ("discovery.k8s.io/v1", "EndpointSlice"),
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("k8s.cni.cncf.io/v1", "NetworkAttachmentDefinition"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("v1", "ServiceAccount"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ("v1", "Namespace"),
];
