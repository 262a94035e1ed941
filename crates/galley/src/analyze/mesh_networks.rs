//! Networks of the mesh: clusters that they name.

use std::collections::BTreeSet;

use super::{
    Code, Findings,
    index::Index,
    object::{entries, list, text},
};

/// On a Secret: it has the kubeconfig of a cluster.
const REMOTE: &str = "istio/multiCluster";
/// The name of the control plane's own cluster, where nobody gives it one.
const OWN: &str = "Kubernetes";

/// Clusters that nobody knows.
pub(super) fn check<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    let mut known = BTreeSet::from([OWN]);
    for secret in index.of("Secret") {
        if secret.label(REMOTE) == Some("true") {
            let value = &secret.written.value;
            known.extend(entries(&value["data"]).map(|(name, _)| name));
            known.extend(entries(&value["stringData"]).map(|(name, _)| name));
        }
    }
    let containers = index
        .of("Deployment")
        .iter()
        .filter(|of| of.label("app") == Some("istiod"));
    let containers = containers.flat_map(|of| list(&of.spec()["template"]["spec"]["containers"]));
    let variables = containers.flat_map(|container| list(&container["env"]));
    known.extend(
        variables
            .filter(|of| of["name"] == "CLUSTER_ID")
            .map(|of| text(&of["value"])),
    );
    for (network, of) in entries(&index.settings.networks["networks"]) {
        for endpoints in list(&of["endpoints"]) {
            let name = text(&endpoints["fromRegistry"]);
            if name.is_empty() || known.contains(name) {
                continue;
            }
            let what = format!(
                "network {network:?} is that of cluster {name:?}, which is unknown: no Secret with label \
                 {REMOTE} has its kubeconfig"
            );
            let root = &index.settings.root_namespace;
            let origin = ("MeshNetworks", root.as_str(), "meshnetworks");
            findings.add_named(origin, Code::UnknownMeshNetworksServiceRegistry, what);
        }
    }
}
