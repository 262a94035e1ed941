//! Service accounts and what they may do.

use serde_json::{Value, json};

use crate::{Installation, settings};

/// What every cluster of a mesh has: an account by which other clusters read its endpoints.
pub(crate) fn base(installation: &Installation) -> Vec<Value> {
    let namespace = installation.namespace();
    let role = format!("istio-reader-clusterrole-{namespace}");
    vec![
        account("istio-reader-service-account", installation),
        cluster_role(&role, reader_rules()),
        cluster_binding(&role, "istio-reader-service-account", namespace),
    ]
}

/// The control plane's account and what it may do.
pub(crate) fn control_plane(installation: &Installation) -> Vec<Value> {
    let namespace = installation.namespace();
    let name = installation.revisioned("istiod");
    let role_name = format!(
        "{}-{namespace}",
        installation.revisioned("istiod-clusterrole")
    );
    let mut own = account(&name, installation);
    let annotations = &installation.values().pilot.service_account_annotations;
    settings::add(&mut own["metadata"], "annotations", annotations);
    vec![
        own,
        cluster_role(&role_name, control_plane_rules()),
        cluster_binding(&role_name, &name, namespace),
        role(&name, namespace, own_namespace_rules()),
        binding(&name, &name, namespace),
    ]
}

/// A gateway's account, which may read the certificates of its namespace.
pub(crate) fn gateway(gateway: &str, namespace: &str) -> Vec<Value> {
    let (name, account_name) = (
        format!("{gateway}-sds"),
        format!("{gateway}-service-account"),
    );
    let secrets = json!([rule(&[""], &["secrets"], READ)]);
    vec![
        service_account(&account_name, namespace),
        role(&name, namespace, secrets),
        binding(&name, &account_name, namespace),
    ]
}

fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": groups, "resources": resources, "verbs": verbs})
}

const READ: &[&str] = &["get", "watch", "list"];

fn control_plane_rules() -> Value {
    json!([
        rule(
            &["admissionregistration.k8s.io"],
            &[
                "mutatingwebhookconfigurations",
                "validatingwebhookconfigurations"
            ],
            &["get", "list", "watch", "update", "patch"]
        ),
        rule(
            &[
                "networking.istio.io",
                "security.istio.io",
                "telemetry.istio.io",
                "extensions.istio.io"
            ],
            &["*"],
            READ
        ),
        rule(
            &["networking.istio.io"],
            &["workloadentries"],
            &[
                "get", "watch", "list", "update", "patch", "create", "delete"
            ]
        ),
        rule(
            &[
                "networking.istio.io",
                "security.istio.io",
                "telemetry.istio.io",
                "extensions.istio.io"
            ],
            &["*/status"],
            &["get", "update", "patch"]
        ),
        rule(
            &["gateway.networking.k8s.io"],
            &["gatewayclasses"],
            &["create", "patch"]
        ),
        // What runs Gateways of class istio, in their namespaces.
        rule(
            &["apps"],
            &["deployments"],
            &["get", "create", "update", "patch"]
        ),
        rule(
            &[""],
            &["services", "serviceaccounts"],
            &["create", "update", "patch"]
        ),
        rule(
            &["apiextensions.k8s.io"],
            &["customresourcedefinitions"],
            READ
        ),
        rule(
            &[""],
            &[
                "pods",
                "nodes",
                "services",
                "namespaces",
                "endpoints",
                "secrets",
                "configmaps",
                "serviceaccounts"
            ],
            READ
        ),
        rule(
            &[""],
            &["configmaps"],
            &["create", "get", "list", "watch", "update", "patch"]
        ),
        rule(&[""], &["events"], &["create", "patch", "update"]),
        rule(&["discovery.k8s.io"], &["endpointslices"], READ),
        rule(
            &["networking.k8s.io"],
            &["ingresses", "ingressclasses"],
            READ
        ),
        rule(&["networking.k8s.io"], &["ingresses/status"], &["*"]),
        rule(&["authentication.k8s.io"], &["tokenreviews"], &["create"]),
        rule(
            &["authorization.k8s.io"],
            &["subjectaccessreviews"],
            &["create"]
        ),
        rule(
            &["coordination.k8s.io"],
            &["leases"],
            &["get", "list", "watch", "create", "update", "patch"]
        ),
        rule(
            &["gateway.networking.k8s.io"],
            &["*"],
            &["get", "watch", "list", "update", "patch"]
        ),
    ])
}

fn reader_rules() -> Value {
    json!([
        rule(
            &[
                "networking.istio.io",
                "security.istio.io",
                "telemetry.istio.io",
                "extensions.istio.io"
            ],
            &["*"],
            READ
        ),
        rule(
            &[""],
            &[
                "endpoints",
                "pods",
                "services",
                "nodes",
                "namespaces",
                "secrets",
                "replicationcontrollers"
            ],
            READ
        ),
        rule(&["discovery.k8s.io"], &["endpointslices"], READ),
        rule(&["apps"], &["replicasets"], READ),
        rule(&["authentication.k8s.io"], &["tokenreviews"], &["create"]),
        rule(
            &["authorization.k8s.io"],
            &["subjectaccessreviews"],
            &["create"]
        ),
    ])
}

/// The authority's key is a Secret, and leaders are elected, in the control plane's own namespace.
fn own_namespace_rules() -> Value {
    json!([
        rule(
            &[""],
            &["secrets"],
            &[
                "create", "get", "watch", "list", "update", "patch", "delete"
            ]
        ),
        rule(
            &[""],
            &["configmaps"],
            &[
                "create", "get", "watch", "list", "update", "patch", "delete"
            ]
        ),
        rule(
            &["coordination.k8s.io"],
            &["leases"],
            &["get", "list", "watch", "create", "update", "patch"]
        ),
    ])
}

fn account(name: &str, installation: &Installation) -> Value {
    let mut account = service_account(name, installation.namespace());
    let secrets = installation.values().global.image_pull_secrets.iter();
    let secrets: Vec<Value> = secrets.map(|name| json!({"name": name})).collect();
    let secrets = Some(secrets).filter(|list| !list.is_empty());
    settings::replace(&mut account, "imagePullSecrets", secrets);
    account
}

fn service_account(name: &str, namespace: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": namespace},
    })
}

const RBAC: &str = "rbac.authorization.k8s.io";

fn cluster_role(name: &str, rules: Value) -> Value {
    json!({
        "apiVersion": format!("{RBAC}/v1"),
        "kind": "ClusterRole",
        "metadata": {"name": name, "labels": {"app": "istiod"}},
        "rules": rules,
    })
}

fn cluster_binding(name: &str, account: &str, namespace: &str) -> Value {
    json!({
        "apiVersion": format!("{RBAC}/v1"),
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name, "labels": {"app": "istiod"}},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    })
}

fn role(name: &str, namespace: &str, rules: Value) -> Value {
    json!({
        "apiVersion": format!("{RBAC}/v1"),
        "kind": "Role",
        "metadata": {"name": name, "namespace": namespace},
        "rules": rules,
    })
}

fn binding(name: &str, account: &str, namespace: &str) -> Value {
    json!({
        "apiVersion": format!("{RBAC}/v1"),
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    })
}
