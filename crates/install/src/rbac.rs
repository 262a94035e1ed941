//! Service accounts and what they may do.

use serde_json::{Value, json};

use crate::{
    Installation,
    rules::{self, Rule},
    settings,
};

/// What every cluster of a mesh has: an account by which other clusters read its endpoints.
pub(crate) fn base(installation: &Installation) -> Vec<Value> {
    let namespace = installation.namespace();
    let role = format!("istio-reader-clusterrole-{namespace}");
    vec![
        account("istio-reader-service-account", installation),
        cluster_role(&role, rules::manifests(rules::READER)),
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
    let analysis: &[Rule] = match installation.is_analysed() {
        true => rules::ANALYSIS,
        false => &[],
    };
    let everywhere = rules::CONTROL_PLANE.iter().chain(analysis);
    vec![
        own,
        cluster_role(&role_name, rules::manifests(everywhere)),
        cluster_binding(&role_name, &name, namespace),
        role(&name, namespace, rules::manifests(rules::OWN_NAMESPACE)),
        binding(&name, &name, namespace),
    ]
}

/// A gateway's account, which may read the certificates of its namespace.
pub(crate) fn gateway(gateway: &str, namespace: &str) -> Vec<Value> {
    let (name, account_name) = (
        format!("{gateway}-sds"),
        format!("{gateway}-service-account"),
    );
    vec![
        service_account(&account_name, namespace),
        role(&name, namespace, rules::manifests(rules::GATEWAY)),
        binding(&name, &account_name, namespace),
    ]
}

/// The account of whoever puts the plugin on nodes. The plugin comes as the same.
pub(crate) fn cni(name: &str, namespace: &str, is_openshift: bool) -> Vec<Value> {
    let more: &[Rule] = match is_openshift {
        true => rules::CNI_OPENSHIFT,
        false => &[],
    };
    let mut own = cluster_role(name, rules::manifests(rules::CNI.iter().chain(more)));
    let mut bound = cluster_binding(name, name, namespace);
    for object in [&mut own, &mut bound] {
        object["metadata"]["labels"] = json!({"k8s-app": "istio-cni-node"});
    }
    vec![
        service_account(name, namespace),
        own,
        bound,
        role(name, namespace, rules::manifests(rules::CNI_OWN_NAMESPACE)),
        binding(name, name, namespace),
    ]
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
