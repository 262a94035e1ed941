//! Whether a pod gets a sidecar.

use lateen_api::{annotations, labels, mesh::NamespaceSelector};
use serde_json::Value;

use crate::{
    Params,
    config::Policy,
    values::{annotation, label},
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

/// Decides about one pod. Its label is stronger than its annotation, and both than the selectors of the
/// configuration, of which those that forbid are stronger than those that ask; the policy is for the
/// rest.
pub fn decide(pod: &Value, namespace: &str, params: &Params) -> Decision {
    if pod["spec"]["hostNetwork"] == true {
        return Decision::Skip("the pod is on the host's network, whose traffic is not its own");
    }
    if IGNORED.contains(&namespace) {
        return Decision::Skip("pods of system namespaces are left alone");
    }
    let wish = label(pod, labels::SIDECAR_INJECT).or_else(|| annotation(pod, annotations::INJECT));
    match wish.unwrap_or_default().to_ascii_lowercase().as_str() {
        "" => by_configuration(pod, params),
        "y" | "yes" | "true" | "on" => Decision::Inject,
        _ => Decision::Skip("sidecar.istio.io/inject says no"),
    }
}

fn by_configuration(pod: &Value, params: &Params) -> Decision {
    let config = &params.config;
    if any_picks(&config.never_inject, pod) {
        return Decision::Skip("a neverInjectSelector picks the pod");
    }
    match config.policy {
        Policy::Enabled => Decision::Inject,
        Policy::Disabled if any_picks(&config.always_inject, pod) => Decision::Inject,
        Policy::Disabled => {
            Decision::Skip("the policy is disabled, and the pod does not ask for a sidecar")
        }
    }
}

/// Unlike elsewhere, a selector without parts picks nothing: one left empty by mistake must not decide
/// for every pod.
fn any_picks(selectors: &[NamespaceSelector], pod: &Value) -> bool {
    let has_parts = |selector: &NamespaceSelector| {
        !(selector.match_labels.is_empty() && selector.match_expressions.is_empty())
    };
    selectors
        .iter()
        .any(|selector| has_parts(selector) && selector.picks(|key| label(pod, key)))
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

    #[test]
    fn selectors_forbid_before_they_ask() {
        let config = |text: &str| {
            let config = crate::InjectorConfig::parse(text, "").expect(text);
            Params::default().with_config(config.into())
        };
        let labelled = |labels: Value| json!({"metadata": {"labels": labels}});
        let check = |text: &str, labels: Value, inject: bool| {
            let decision = decide(&labelled(labels), "default", &config(text));
            assert_eq!(decision == Decision::Inject, inject, "{text} {decision:?}");
        };
        let job = "{matchExpressions: [{key: job, operator: Exists}]}";
        let never = format!("neverInjectSelector: [{job}]");
        check(&never, json!({"job": "a"}), false);
        check(&never, json!({"app": "a"}), true);
        let asks = json!({"job": "a", "sidecar.istio.io/inject": "true"});
        check(&never, asks.clone(), true);
        check("policy: disabled", json!({}), false);
        check("policy: disabled", asks, true);
        let always = format!("policy: disabled\nalwaysInjectSelector: [{job}]");
        check(&always, json!({"job": "a"}), true);
        check(&always, json!({}), false);
        let both = format!("{always}\n{never}");
        check(&both, json!({"job": "a"}), false);
        check("neverInjectSelector: [{}]", json!({}), true);
    }
}
