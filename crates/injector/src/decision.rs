//! Whether a pod gets a sidecar.

use lateen_api::{annotations, labels};
use serde_json::Value;

use crate::{
    Params,
    values::{annotation, items, label, name},
};

/// Whether a pod gets a sidecar, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It does.
    Inject,
    /// It does not.
    Skip(&'static str),
}

/// Namespaces whose pods the cluster itself depends on.
const IGNORED: [&str; 4] = [
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "local-path-storage",
];

/// Decides about one pod; the label is stronger than the annotation.
pub fn decide(pod: &Value, namespace: &str, params: &Params) -> Decision {
    if pod["spec"]["hostNetwork"] == true {
        return Decision::Skip("the pod is on the host's network, whose traffic is not its own");
    }
    if IGNORED.contains(&namespace) {
        return Decision::Skip("pods of system namespaces are left alone");
    }
    if is_injected(pod) {
        return Decision::Skip("the pod has a sidecar already");
    }
    let wish = label(pod, labels::SIDECAR_INJECT).or_else(|| annotation(pod, annotations::INJECT));
    let inject = match wish.unwrap_or_default().to_ascii_lowercase().as_str() {
        "" => params.inject_by_default,
        "y" | "yes" | "true" | "on" => true,
        _ => false,
    };
    if inject {
        Decision::Inject
    } else {
        Decision::Skip("sidecar.istio.io/inject says no")
    }
}

fn is_injected(pod: &Value) -> bool {
    let spec = &pod["spec"];
    let all = items(spec, "containers")
        .iter()
        .chain(items(spec, "initContainers"));
    annotation(pod, annotations::STATUS).is_some()
        && all
            .into_iter()
            .any(|container| name(container) == crate::template::PROXY)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_beat_annotations() {
        let check = |pod: Value, namespace: &str, inject: bool| {
            let decision = decide(&pod, namespace, &Params::new("proxyv2"));
            assert_eq!(decision == Decision::Inject, inject, "{pod} {decision:?}");
        };
        let key = "sidecar.istio.io/inject";
        check(json!({}), "default", true);
        check(json!({}), "kube-system", false);
        check(json!({"spec": {"hostNetwork": true}}), "default", false);
        check(
            json!({"metadata": {"labels": {key: "false"}}}),
            "default",
            false,
        );
        check(
            json!({"metadata": {"annotations": {key: "no"}}}),
            "default",
            false,
        );
        check(
            json!({"metadata": {"labels": {key: "true"}, "annotations": {key: "false"}}}),
            "default",
            true,
        );
    }
}
