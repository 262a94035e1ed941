//! What service accounts may do, each with the reason. The tables in `docs/security.md` are these,
//! which a test holds.
//!
//! Invariant: nothing is here that no code asks the API server for.

use serde_json::{Value, json};

/// A thing that an account may do.
pub(crate) struct Rule {
    groups: &'static [&'static str],
    resources: &'static [&'static str],
    /// Of those, by name; none are all.
    names: &'static [&'static str],
    verbs: &'static [&'static str],
    /// What it is needed for.
    why: &'static str,
}

impl Rule {
    fn manifest(&self) -> Value {
        let mut rule =
            json!({"apiGroups": self.groups, "resources": self.resources, "verbs": self.verbs});
        if !self.names.is_empty() {
            rule["resourceNames"] = json!(self.names);
        }
        rule
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
        names: &[],
        verbs: FOLLOW,
        why: "what proxies can call, and where it is",
    },
    Rule {
        groups: &["discovery.k8s.io"],
        resources: &["endpointslices"],
        names: &[],
        verbs: FOLLOW,
        why: "the endpoints of Services",
    },
    Rule {
        groups: MESH,
        resources: &["*"],
        names: &[],
        verbs: READ,
        why: "the mesh's configuration; each object once more before its status is written",
    },
    Rule {
        groups: MESH,
        resources: &["*/status"],
        names: &[],
        verbs: &["patch"],
        why: "what objects are told of themselves",
    },
    Rule {
        groups: &["networking.istio.io"],
        resources: &["workloadentries"],
        names: &[],
        verbs: &["create", "update", "delete"],
        why: "workloads that register themselves",
    },
    Rule {
        groups: GATEWAY_API,
        resources: &["*"],
        names: &[],
        verbs: READ,
        why: "the Gateway API's objects; each once more before its status is written",
    },
    Rule {
        groups: GATEWAY_API,
        resources: &["*/status"],
        names: &[],
        verbs: &["patch"],
        why: "what they are told of themselves",
    },
    Rule {
        groups: GATEWAY_API,
        resources: &["gatewayclasses"],
        names: &[],
        verbs: &["create", "patch"],
        why: "class `istio`, where nobody has declared it",
    },
    Rule {
        groups: &["networking.k8s.io"],
        resources: &["ingresses", "ingressclasses"],
        names: &[],
        verbs: READ,
        why: "Ingresses; each once more before its status is written",
    },
    Rule {
        groups: &["networking.k8s.io"],
        resources: &["ingresses/status"],
        names: &[],
        verbs: &["patch"],
        why: "the addresses of Ingresses",
    },
    Rule {
        groups: &["apps"],
        resources: &["deployments"],
        names: &[],
        verbs: &["get", "create", "patch"],
        why: "what Gateways run on, in their namespaces",
    },
    Rule {
        groups: CORE,
        resources: &["services", "serviceaccounts"],
        names: &[],
        verbs: &["get", "create", "patch"],
        why: "what Gateways run on, in their namespaces",
    },
    Rule {
        groups: CORE,
        resources: &["secrets"],
        names: &[],
        verbs: FOLLOW,
        why: "certificates that Gateways name, in any namespace",
    },
    Rule {
        groups: CORE,
        resources: &["configmaps"],
        names: &[],
        verbs: READ,
        why: "the mesh's settings, the injector's, and roots that BackendTLSPolicies name",
    },
    Rule {
        groups: CORE,
        resources: &["configmaps"],
        names: &[],
        verbs: &["create", "patch"],
        why: "the root certificate, `istio-ca-root-cert`, in every namespace",
    },
    Rule {
        groups: WEBHOOKS,
        resources: &[
            "mutatingwebhookconfigurations",
            "validatingwebhookconfigurations",
        ],
        names: &[],
        verbs: &["list", "watch", "patch"],
        why: "the root certificate in webhooks that lead here; which revisions and tags there are",
    },
    Rule {
        groups: &["authentication.k8s.io"],
        resources: &["tokenreviews"],
        names: &[],
        verbs: &["create"],
        why: "who a proxy is that shows a token",
    },
    Rule {
        groups: &["authorization.k8s.io"],
        resources: &["subjectaccessreviews"],
        names: &[],
        verbs: &["create"],
        why: "whether a gateway may read Secrets, before it is given a certificate",
    },
];

/// Beside those, where analysis runs in the control plane.
pub(crate) const ANALYSIS: &[Rule] = &[
    Rule {
        groups: &["apps"],
        resources: &["deployments", "statefulsets", "daemonsets"],
        names: &[],
        verbs: FOLLOW,
        why: "workloads whose ports and users Services and the mesh contradict",
    },
    Rule {
        groups: &["apiextensions.k8s.io"],
        resources: &["customresourcedefinitions"],
        names: &[],
        verbs: FOLLOW,
        why: "versions of the Gateway API's definitions",
    },
];

/// The control plane's, in its own namespace.
pub(crate) const OWN_NAMESPACE: &[Rule] = &[
    Rule {
        groups: CORE,
        resources: &["secrets"],
        names: &[],
        verbs: &["get", "create"],
        why: "the certificate authority's key: `cacerts`, or `istio-ca-secret`, which it makes",
    },
    Rule {
        groups: &["coordination.k8s.io"],
        resources: &["leases"],
        names: &[],
        verbs: &["get", "create", "update"],
        why: "which replica does what one does for all",
    },
];

/// What control planes of other clusters of the mesh read here.
pub(crate) const READER: &[Rule] = &[
    Rule {
        groups: CORE,
        resources: &["namespaces", "nodes", "pods", "services"],
        names: &[],
        verbs: FOLLOW,
        why: "what proxies can call, and where it is",
    },
    Rule {
        groups: &["discovery.k8s.io"],
        resources: &["endpointslices"],
        names: &[],
        verbs: FOLLOW,
        why: "the endpoints of Services",
    },
];

/// A gateway's, in its namespace.
pub(crate) const GATEWAY: &[Rule] = &[Rule {
    groups: CORE,
    resources: &["secrets"],
    names: &[],
    verbs: READ,
    why: "being let have the certificates of its namespace by the control plane",
}];

/// Of whoever puts the plugin on nodes, and of the plugin.
pub(crate) const CNI: &[Rule] = &[Rule {
    groups: CORE,
    resources: &["pods"],
    names: &[],
    verbs: READ,
    why: "what is to be captured in a pod; which pods of the node were there before the plugin",
}];

/// Beside those, on OpenShift.
pub(crate) const CNI_OPENSHIFT: &[Rule] = &[Rule {
    groups: &["security.openshift.io"],
    resources: &["securitycontextconstraints"],
    names: &["privileged"],
    verbs: &["use"],
    why: "folders of the node",
}];

/// The same account's, in its own namespace.
pub(crate) const CNI_OWN_NAMESPACE: &[Rule] = &[Rule {
    groups: &["apps"],
    resources: &["daemonsets"],
    names: &["istio-cni-node"],
    verbs: &["get"],
    why: "whether another one comes after it, for which the plugin stays",
}];

/// Who has rules, and a table of them with their reasons, as the documentation has it.
pub fn tables() -> impl Iterator<Item = (&'static str, String)> {
    let all = [
        ("control plane", CONTROL_PLANE),
        ("analysis", ANALYSIS),
        ("own namespace", OWN_NAMESPACE),
        ("reader", READER),
        ("gateway", GATEWAY),
        ("plugin of nodes", CNI),
        ("plugin of nodes on OpenShift", CNI_OPENSHIFT),
        ("plugin of nodes in its namespace", CNI_OWN_NAMESPACE),
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
        let names = rule.names.iter().map(|it| format!("named `{it}`"));
        let resources: Vec<_> = resources.chain(names).collect();
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
        let of_mesh = [CONTROL_PLANE, ANALYSIS, OWN_NAMESPACE, READER, GATEWAY];
        let of_nodes = [CNI, CNI_OPENSHIFT, CNI_OWN_NAMESPACE];
        // Whoever takes a node over has its plugin's account, and with it nothing to write.
        for rule in of_nodes.into_iter().flatten() {
            let verbs = ["get", "list", "watch", "use"];
            assert!(rule.verbs.iter().all(|verb| verbs.contains(verb)));
        }
        for rule in of_mesh.into_iter().chain(of_nodes).flatten() {
            let rights = ["rbac.authorization.k8s.io", "certificates.k8s.io"];
            assert!(!rule.groups.iter().any(|group| rights.contains(group)));
            assert!(!rule.verbs.contains(&"*") && !rule.groups.contains(&"*"));
        }
        // Who comes from another cluster reads no secret and no settings.
        let reads = READER.iter().flat_map(|rule| rule.resources);
        let mut reads = reads.filter(|it| ["secrets", "configmaps", "*"].contains(it));
        assert_eq!(reads.next(), None);
        // Elsewhere than at home, Secrets are read only.
        let secrets = CONTROL_PLANE
            .iter()
            .filter(|rule| rule.resources.contains(&"secrets"));
        assert!(secrets.into_iter().all(|rule| rule.verbs == FOLLOW));
    }
}
