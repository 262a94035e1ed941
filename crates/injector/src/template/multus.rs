//! Where a plugin of nodes is a network that pods name (Multus), pods are made to name it.
//!
//! Format: the annotation of the Kubernetes Network Custom Resource Definition De-facto Standard, a list
//! of `NAMESPACE/NAME` with commas between, or the same in JSON.

use serde_json::{Value, json};

use crate::values::{annotation, object};

/// On a pod: networks beside that of the cluster.
const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
/// The network that installations make, and its namespace.
const NETWORK: (&str, &str) = ("istio-cni", "default");

/// Makes a pod name the network, beside those that it names.
pub(super) fn add(pod: &mut Value) {
    let held = annotation(pod, NETWORKS).unwrap_or_default().trim();
    let added = match list(held) {
        Some(all) if all.iter().any(is_ours) => return,
        Some(mut all) => {
            all.push(json!({"name": NETWORK.0, "namespace": NETWORK.1}));
            Value::Array(all).to_string()
        }
        None if names(held).any(|name| name == joined()) => return,
        None if held.is_empty() => joined(),
        None => format!("{held}, {}", joined()),
    };
    object(&mut pod["metadata"], "annotations").insert(NETWORKS.into(), json!(added));
}

/// Takes it out again.
pub(super) fn remove(pod: &mut Value) {
    let Some(held) = annotation(pod, NETWORKS) else {
        return;
    };
    let (is_there, rest) = match list(held) {
        Some(mut all) => {
            let n_networks = all.len();
            all.retain(|network| !is_ours(network));
            let rest = (!all.is_empty()).then(|| Value::Array(all.clone()).to_string());
            (all.len() < n_networks, rest)
        }
        None => {
            let rest: Vec<&str> = names(held).filter(|name| *name != joined()).collect();
            let rest = (!rest.is_empty()).then(|| rest.join(", "));
            (names(held).any(|name| name == joined()), rest)
        }
    };
    if !is_there {
        return;
    }
    let annotations = object(&mut pod["metadata"], "annotations");
    match rest {
        Some(rest) => annotations.insert(NETWORKS.into(), json!(rest)),
        None => annotations.shift_remove(NETWORKS),
    };
}

fn joined() -> String {
    format!("{}/{}", NETWORK.1, NETWORK.0)
}

fn list(text: &str) -> Option<Vec<Value>> {
    serde_json::from_str(text).ok()
}

fn is_ours(network: &Value) -> bool {
    network["name"] == NETWORK.0 && network["namespace"] == NETWORK.1
}

fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_named_once_and_taken_out_again() {
        for (before, after) in [
            (None, "default/istio-cni"),
            (Some("a, b/c"), "a, b/c, default/istio-cni"),
            (
                Some(r#"[{"name":"a"}]"#),
                r#"[{"name":"a"},{"name":"istio-cni","namespace":"default"}]"#,
            ),
        ] {
            let mut pod = json!({"metadata": {"annotations": {"other": "x"}}});
            if let Some(before) = before {
                pod["metadata"]["annotations"][NETWORKS] = json!(before);
            }
            let untouched = pod.clone();
            add(&mut pod);
            assert_eq!(annotation(&pod, NETWORKS), Some(after));
            add(&mut pod);
            assert_eq!(annotation(&pod, NETWORKS), Some(after));
            remove(&mut pod);
            assert_eq!(pod, untouched);
        }
    }
}
