//! What service accounts may do, each with the reason. The tables in `docs/security.md` are these,
//! which a test holds.
//!
//! Invariant: nothing is here that no code asks the API server for.

use serde_json::{Value, json};

/// A thing that an account may do.
pub(crate) struct Rule {
    groups: &'static [&'static str],
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
    /// What it is needed for.
    why: &'static str,
}

impl Rule {
    fn manifest(&self) -> Value {
        json!({"apiGroups": self.groups, "resources": self.resources, "verbs": self.verbs})
    }
}

/// As a role has them.
pub(crate) fn manifests<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> Value {
    rules.into_iter().map(Rule::manifest).collect()
}

const CORE: &[&str] = &[""];
const MESH: &[&str] = &[
    "networking.istio.io",
    "security.istio.io",
    "telemetry.istio.io",
    "extensions.istio.io",
];
const GATEWAY_API: &[&str] = &["gateway.networking.k8s.io"];
const WEBHOOKS: &[&str] = &["admissionregistration.k8s.io"];

const FOLLOW: &[&str] = &["list", "watch"];
const READ: &[&str] = &["get", "list", "watch"];

/// The control plane's, in the whole cluster.
pub(crate) const CONTROL_PLANE: &[Rule] = &[
    Rule {
        groups: CORE,
        resources: &["namespaces", "nodes", "pods", "services"],
        verbs: FOLLOW,
        why: "what proxies can call, and where it is",
    },
    Rule {
        groups: &["discovery.k8s.io"],
        resources: &["endpointslices"],
        verbs: FOLLOW,
        why: "the endpoints of Services",
    },
    Rule {
        groups: MESH,
        resources: &["*"],
        verbs: READ,
        why: "the mesh's configuration; each object once more before its status is written",
    },
    Rule {
        groups: MESH,
        resources: &["*/status"],
        verbs: &["patch"],
        why: "what objects are told of themselves",
    },
    Rule {
        groups: &["networking.istio.io"],
        resources: &["workloadentries"],
        verbs: &["create", "update", "delete"],
        why: "workloads that register themselves",
    },
    Rule {
        groups: GATEWAY_API,
        resources: &["*"],
        verbs: READ,
        why: "the Gateway API's objects; each once more before its status is written",
    },
    Rule {
        groups: GATEWAY_API,
        resources: &["*/status"],
        verbs: &["patch"],
        why: "what they are told of themselves",
    },
    Rule {
        groups: GATEWAY_API,
        resources: &["gatewayclasses"],
        verbs: &["create", "patch"],
        why: "class `istio`, where nobody has declared it",
    },
    Rule {
        groups: &["networking.k8s.io"],
        resources: &["ingresses", "ingressclasses"],
        verbs: READ,
        why: "Ingresses; each once more before its status is written",
    },
    Rule {
        groups: &["networking.k8s.io"],
        resources: &["ingresses/status"],
        verbs: &["patch"],
        why: "the addresses of Ingresses",
    },
    Rule {
        groups: &["apps"],
        resources: &["deployments"],
        verbs: &["get", "create", "patch"],
        why: "what Gateways run on, in their namespaces",
    },
    Rule {
        groups: CORE,
        resources: &["services", "serviceaccounts"],
        verbs: &["get", "create", "patch"],
        why: "what Gateways run on, in their namespaces",
    },
    Rule {
        groups: CORE,
        resources: &["secrets"],
        verbs: FOLLOW,
        why: "certificates that Gateways name, in any namespace",
    },
    Rule {
        groups: CORE,
        resources: &["configmaps"],
        verbs: READ,
        why: "the mesh's settings, the injector's, and roots that BackendTLSPolicies name",
    },
    Rule {
        groups: CORE,
        resources: &["configmaps"],
        verbs: &["create", "patch"],
        why: "the root certificate, `istio-ca-root-cert`, in every namespace",
    },
    Rule {
        groups: WEBHOOKS,
        resources: &[
            "mutatingwebhookconfigurations",
            "validatingwebhookconfigurations",
        ],
        verbs: &["list", "watch", "patch"],
        why: "the root certificate in webhooks that lead here; which revisions and tags there are",
    },
    Rule {
        groups: &["authentication.k8s.io"],
        resources: &["tokenreviews"],
        verbs: &["create"],
        why: "who a proxy is that shows a token",
    },
    Rule {
        groups: &["authorization.k8s.io"],
        resources: &["subjectaccessreviews"],
        verbs: &["create"],
        why: "whether a gateway may read Secrets, before it is given a certificate",
    },
];

/// Beside those, where analysis runs in the control plane.
pub(crate) const ANALYSIS: &[Rule] = &[
    Rule {
        groups: &["apps"],
        resources: &["deployments", "statefulsets", "daemonsets"],
        verbs: FOLLOW,
        why: "workloads whose ports and users Services and the mesh contradict",
    },
    Rule {
        groups: &["apiextensions.k8s.io"],
        resources: &["customresourcedefinitions"],
        verbs: FOLLOW,
        why: "versions of the Gateway API's definitions",
    },
];

/// The control plane's, in its own namespace.
pub(crate) const OWN_NAMESPACE: &[Rule] = &[
    Rule {
        groups: CORE,
        resources: &["secrets"],
        verbs: &["get", "create"],
        why: "the certificate authority's key: `cacerts`, or `istio-ca-secret`, which it makes",
    },
    Rule {
        groups: &["coordination.k8s.io"],
        resources: &["leases"],
        verbs: &["get", "create", "update"],
        why: "which replica does what one does for all",
    },
];

/// What control planes of other clusters of the mesh read here.
pub(crate) const READER: &[Rule] = &[
    Rule {
        groups: MESH,
        resources: &["*"],
        verbs: READ,
        why: "workloads that the mesh's objects describe",
    },
    Rule {
        groups: CORE,
        resources: &[
            "endpoints",
            "pods",
            "services",
            "nodes",
            "namespaces",
            "secrets",
            "replicationcontrollers",
        ],
        verbs: READ,
        why: "what proxies can call, and where it is; certificates of gateways",
    },
    Rule {
        groups: &["discovery.k8s.io"],
        resources: &["endpointslices"],
        verbs: READ,
        why: "the endpoints of Services",
    },
    Rule {
        groups: &["apps"],
        resources: &["replicasets"],
        verbs: READ,
        why: "which workload a pod is of",
    },
    Rule {
        groups: &["authentication.k8s.io"],
        resources: &["tokenreviews"],
        verbs: &["create"],
        why: "who a proxy of this cluster is",
    },
    Rule {
        groups: &["authorization.k8s.io"],
        resources: &["subjectaccessreviews"],
        verbs: &["create"],
        why: "whether a gateway of this cluster may read Secrets",
    },
];

/// A gateway's, in its namespace.
pub(crate) const GATEWAY: &[Rule] = &[Rule {
    groups: CORE,
    resources: &["secrets"],
    verbs: READ,
    why: "being let have the certificates of its namespace by the control plane",
}];

/// Who has rules, and a table of them with their reasons, as the documentation has it.
pub fn tables() -> impl Iterator<Item = (&'static str, String)> {
    let all = [
        ("control plane", CONTROL_PLANE),
        ("analysis", ANALYSIS),
        ("own namespace", OWN_NAMESPACE),
        ("reader", READER),
        ("gateway", GATEWAY),
    ];
    all.into_iter().map(|(whose, rules)| (whose, table(rules)))
}

fn table(rules: &[Rule]) -> String {
    let head = "| group | resources | verbs | why |\n|---|---|---|---|\n".to_owned();
    let rows = rules.iter().map(|rule| {
        let groups = rule.groups.iter().map(|group| match *group {
            "" => "core",
            group => group,
        });
        let groups: Vec<_> = groups.collect();
        let resources = rule.resources.iter().map(|it| format!("`{it}`"));
        let resources: Vec<_> = resources.collect();
        format!(
            "| {} | {} | {} | {} |\n",
            groups.join(", "),
            resources.join(", "),
            rule.verbs.join(", "),
            rule.why
        )
    });
    rows.fold(head, |table, row| table + &row)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where people read it.
    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/security.md");

    #[test]
    fn each_right_is_in_the_page_with_its_reason() {
        let page = std::fs::read_to_string(PAGE).expect("the page");
        for (whose, table) in tables() {
            assert!(!table.contains("|  |"), "{whose}: a right has no reason");
            assert!(
                page.contains(&table),
                "{whose}: docs/security.md has not\n{table}"
            );
        }
    }

    #[test]
    fn nobody_may_write_what_grants_rights() {
        let all = [CONTROL_PLANE, ANALYSIS, OWN_NAMESPACE, READER, GATEWAY];
        for rule in all.into_iter().flatten() {
            let rights = ["rbac.authorization.k8s.io", "certificates.k8s.io"];
            assert!(!rule.groups.iter().any(|group| rights.contains(group)));
            assert!(!rule.verbs.contains(&"*") && !rule.groups.contains(&"*"));
        }
        // Elsewhere than at home, Secrets are read only.
        let secrets = CONTROL_PLANE
            .iter()
            .filter(|rule| rule.resources.contains(&"secrets"));
        assert!(secrets.into_iter().all(|rule| rule.verbs == FOLLOW));
    }
}
