//! Labels by which an installation knows what it made.

use serde_json::{Value, json};

use crate::Installation;

/// On everything that an installation made: it may be changed and taken away by the next one.
pub const OWNER: &str = "install.operator.istio.io/owning-resource";
/// Which part of an installation an object belongs to.
pub const COMPONENT: &str = "operator.istio.io/component";
/// Which revision an object belongs to.
pub const REVISION: &str = "istio.io/rev";

/// What [`OWNER`] says: the installation has no object of its own.
const UNKNOWN: &str = "unknown";

/// Selects what installations made; with a revision, what that one made.
pub fn owned_by(revision: Option<&str>) -> String {
    match revision {
        Some(revision) => format!("{OWNER},{REVISION}={revision}"),
        None => OWNER.to_owned(),
    }
}

/// Marks an object as the installation's. What all revisions share belongs to none.
pub(crate) fn own(object: &mut Value, component: &str, installation: &Installation) {
    let labels = &mut object["metadata"]["labels"];
    if !labels.is_object() {
        *labels = json!({});
    }
    labels[OWNER] = json!(UNKNOWN);
    labels[COMPONENT] = json!(component);
    if component != "Base" {
        labels[REVISION] = json!(installation.revision());
    }
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
    ("discovery.k8s.io/v1", "EndpointSlice"),
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("v1", "ServiceAccount"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ("v1", "Namespace"),
];
