//! Service accounts and what they may do.

use serde_json::{Value, json};

use crate::{Options, Profile};

pub(crate) fn all(options: &Options) -> Vec<Value> {
    let ns = options.namespace.as_str();
    let mut out = vec![
        account("istiod", ns),
        account("istio-reader-service-account", ns),
        cluster_role(&format!("istiod-clusterrole-{ns}"), control_plane_rules()),
        cluster_binding(&format!("istiod-clusterrole-{ns}"), "istiod", ns),
        cluster_role(&format!("istio-reader-clusterrole-{ns}"), reader_rules()),
        cluster_binding(
            &format!("istio-reader-clusterrole-{ns}"),
            "istio-reader-service-account",
            ns,
        ),
        role("istiod", ns, own_namespace_rules()),
        binding("istiod", "istiod", ns),
    ];
    for gateway in gateway_names(options) {
        let (name, account_name) = (
            format!("{gateway}-sds"),
            format!("{gateway}-service-account"),
        );
        out.push(account(&account_name, ns));
        out.push(role(
            &name,
            ns,
            json!([rule(&[""], &["secrets"], &["get", "watch", "list"])]),
        ));
        out.push(binding(&name, &account_name, ns));
    }
    out
}

pub(crate) fn gateway_names(options: &Options) -> &'static [&'static str] {
    match options.profile {
        Profile::Default => &["istio-ingressgateway"],
        Profile::Demo => &["istio-ingressgateway", "istio-egressgateway"],
        Profile::Minimal | Profile::Empty => &[],
    }
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

fn account(name: &str, namespace: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": namespace, "labels": {"release": "istio"}},
    })
}

const RBAC: &str = "rbac.authorization.k8s.io";

fn cluster_role(name: &str, rules: Value) -> Value {
    json!({
        "apiVersion": format!("{RBAC}/v1"),
        "kind": "ClusterRole",
        "metadata": {"name": name, "labels": {"app": "istiod", "release": "istio"}},
        "rules": rules,
    })
}

fn cluster_binding(name: &str, account: &str, namespace: &str) -> Value {
    json!({
        "apiVersion": format!("{RBAC}/v1"),
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name, "labels": {"app": "istiod", "release": "istio"}},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    })
}

fn role(name: &str, namespace: &str, rules: Value) -> Value {
    json!({
        "apiVersion": format!("{RBAC}/v1"),
        "kind": "Role",
        "metadata": {"name": name, "namespace": namespace, "labels": {"release": "istio"}},
        "rules": rules,
    })
}

fn binding(name: &str, account: &str, namespace: &str) -> Value {
    json!({
        "apiVersion": format!("{RBAC}/v1"),
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": namespace, "labels": {"release": "istio"}},
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    })
}
