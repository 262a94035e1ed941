//! The roles that users know by name: `cluster-admin`, and `admin`, `edit` and `view` for a namespace.
//!
//! The latter are put together from every role that says by a label that it belongs to them, those of the
//! platform and those of whoever brings kinds of their own. Whoever has `edit` also has what `view` gives,
//! and so on: the narrower role is part of the wider one.

use serde_json::{Value, json};

use crate::apiserver::auth::MASTERS;

const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 8] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
];

const RBAC: &str = "rbac.authorization.k8s.io";

/// Kinds of workloads and what belongs to them.
const WORKLOADS: [&str; 5] = [
    "apps",
    "batch",
    "autoscaling",
    "policy",
    "networking.k8s.io",
];
/// Kinds of the mesh, which are here before whoever installs it says who may use them.
const MESH: [&str; 5] = [
    "networking.istio.io",
    "security.istio.io",
    "telemetry.istio.io",
    "extensions.istio.io",
    "gateway.networking.k8s.io",
];

/// Roles, and who has them from the start.
pub(super) fn all() -> Vec<Value> {
    let everything = json!([
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
        {"nonResourceURLs": ["*"], "verbs": ["*"]},
    ]);
    let discovery = json!([{"nonResourceURLs": ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez",
        "/readyz", "/openapi", "/openapi/*", "/version", "/version/"], "verbs": ["get"]}]);
    let reviews = json!([
        {"apiGroups": ["authorization.k8s.io"], "verbs": ["create"],
         "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"]},
        {"apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"], "verbs": ["create"]},
    ]);
    let mut all = vec![
        role("cluster-admin", &everything),
        role("system:discovery", &discovery),
        role("system:basic-user", &reviews),
        binding("cluster-admin", "cluster-admin", MASTERS),
        binding(
            "system:discovery",
            "system:discovery",
            "system:authenticated",
        ),
        binding(
            "system:basic-user",
            "system:basic-user",
            "system:authenticated",
        ),
    ];
    all.extend(of_namespaces());
    all
}

/// `view`, `edit` and `admin`, with what they begin with.
fn of_namespaces() -> Vec<Value> {
    let wider = [
        ("view", Some("edit")),
        ("edit", Some("admin")),
        ("admin", None),
    ];
    let mut rules = Vec::new();
    let mut roles = Vec::new();
    for ((name, part_of), own) in wider
        .into_iter()
        .zip([viewing(), editing(), administering()])
    {
        let mut parts = role(&format!("system:aggregate-to-{name}"), &own);
        parts["metadata"]["labels"][label(name)] = "true".into();
        rules.extend(own.as_array().cloned().unwrap_or_default());
        let mut whole = role(name, &json!(rules));
        whole["aggregationRule"] =
            json!({"clusterRoleSelectors": [{"matchLabels": {label(name): "true"}}]});
        if let Some(wider) = part_of {
            whole["metadata"]["labels"][label(wider)] = "true".into();
        }
        roles.extend([parts, whole]);
    }
    roles
}

/// The label of roles that are part of another.
fn label(name: &str) -> String {
    format!("{RBAC}/aggregate-to-{name}")
}

fn viewing() -> Value {
    json!([
        {"apiGroups": [""], "verbs": READ, "resources": ["pods", "pods/log", "pods/status", "services",
            "services/status", "endpoints", "configmaps", "serviceaccounts", "events", "namespaces",
            "namespaces/status"]},
        {"apiGroups": WORKLOADS, "resources": ["*"], "verbs": READ},
        {"apiGroups": ["discovery.k8s.io", "events.k8s.io"], "resources": ["*"], "verbs": READ},
        {"apiGroups": MESH, "resources": ["*"], "verbs": READ},
    ])
}

fn editing() -> Value {
    json!([
        // Not where services lead: whoever writes that reaches other namespaces' pods through a gateway.
        {"apiGroups": [""], "verbs": WRITE, "resources": ["pods", "services", "configmaps", "secrets",
            "serviceaccounts", "events"]},
        // To run programs in pods and to reach their ports.
        {"apiGroups": [""], "verbs": ["create"], "resources": ["pods/exec", "pods/attach", "pods/portforward",
            "pods/eviction", "serviceaccounts/token"]},
        {"apiGroups": WORKLOADS, "resources": ["*"], "verbs": WRITE},
        {"apiGroups": ["events.k8s.io"], "resources": ["*"], "verbs": WRITE},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": WRITE},
        {"apiGroups": MESH, "resources": ["*"], "verbs": WRITE},
    ])
}

fn administering() -> Value {
    json!([
        {"apiGroups": [RBAC], "resources": ["roles", "rolebindings"], "verbs": WRITE},
        {"apiGroups": ["authorization.k8s.io"], "resources": ["localsubjectaccessreviews"],
         "verbs": ["create"]},
    ])
}

fn role(name: &str, rules: &Value) -> Value {
    json!({
        "apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRole", "rules": rules,
        "metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
    })
}

fn binding(name: &str, role: &str, group: &str) -> Value {
    json!({
        "apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRoleBinding",
        "metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": RBAC, "kind": "Group", "name": group}],
    })
}
