//! Webhooks of injectors: whether they are there, and whether one pod is injected twice.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    Code, Findings,
    index::Index,
    injection::selected,
    object::{Obj, list, text},
};

/// What the names of injectors' webhooks end with.
const INJECTOR: &str = "sidecar-injector.istio.io";

/// Services that are called, and pods for which two are.
pub(super) fn check<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    let mut hooks: Vec<(Obj<'a>, usize, &'a Value)> = Vec::new();
    for object in index.of("MutatingWebhookConfiguration") {
        for (n, hook) in list(&object.written.value["webhooks"]).iter().enumerate() {
            if text(&hook["name"]).ends_with(INJECTOR) {
                hooks.push((*object, n, hook));
            }
        }
    }
    services(index, &hooks, findings);
    overlaps(&hooks, findings);
}

fn services<'a>(
    index: &Index<'a>,
    hooks: &[(Obj<'a>, usize, &Value)],
    findings: &mut Findings<'a>,
) {
    // Files without Services say nothing of what is in a cluster.
    if index.of("Service").is_empty() {
        return;
    }
    for (object, n, hook) in hooks {
        let service = &hook["clientConfig"]["service"];
        let (namespace, name) = (text(&service["namespace"]), text(&service["name"]));
        if name.is_empty() || index.find("Service", namespace, name).is_some() {
            continue;
        }
        let what = format!(
            "webhook {:?} calls Service {namespace}/{name}, which is not there: pods that it is for \
             cannot be made",
            text(&hook["name"])
        );
        findings.add(
            object,
            Code::InvalidWebhook,
            &format!("webhooks[{n}].clientConfig.service"),
            what,
        );
    }
}

/// Tries the combinations of labels that the webhooks ask about.
fn overlaps<'a>(hooks: &[(Obj<'a>, usize, &Value)], findings: &mut Findings<'a>) {
    let names = ["istio-injection", "istio.io/rev", "sidecar.istio.io/inject"];
    let said = names.map(|name| {
        let selectors = hooks
            .iter()
            .flat_map(|(_, _, hook)| [&hook["namespaceSelector"], &hook["objectSelector"]]);
        let mut values: BTreeSet<Option<&str>> = BTreeSet::from([None]);
        for selector in selectors {
            values.extend(selector["matchLabels"][name].as_str().map(Some));
            let asks = list(&selector["matchExpressions"])
                .iter()
                .filter(|of| of["key"] == name);
            values.extend(
                asks.flat_map(|of| list(&of["values"]))
                    .filter_map(Value::as_str)
                    .map(Some),
            );
        }
        values
    });
    let [injection, revision, inject] = &said;
    let mut told: BTreeSet<(&str, &str)> = BTreeSet::new();
    for of_namespace in combinations("istio-injection", injection, "istio.io/rev", revision) {
        for of_pod in combinations("sidecar.istio.io/inject", inject, "istio.io/rev", revision) {
            let called = hooks.iter().filter(|(_, _, hook)| {
                selected(&hook["namespaceSelector"], &of_namespace)
                    && selected(&hook["objectSelector"], &of_pod)
            });
            let called: Vec<_> = called.collect();
            for (object, n, hook) in &called {
                let other = called.iter().find(|(other, ..)| !other.is(object));
                let Some((other, _, twin)) = other else {
                    continue;
                };
                if !told.insert((object.name, text(&hook["name"]))) {
                    continue;
                }
                let what = format!(
                    "webhook {:?} and {:?} of {} are both called for pods with labels {of_pod} in \
                     namespaces with labels {of_namespace}",
                    text(&hook["name"]),
                    text(&twin["name"]),
                    other.name
                );
                findings.add(
                    object,
                    Code::InvalidWebhook,
                    &format!("webhooks[{n}]"),
                    what,
                );
            }
        }
    }
}

fn combinations(
    first: &str,
    firsts: &BTreeSet<Option<&str>>,
    second: &str,
    seconds: &BTreeSet<Option<&str>>,
) -> Vec<Value> {
    let mut all = Vec::new();
    for one in firsts {
        for other in seconds {
            let mut labels = json!({});
            if let Some(value) = one {
                labels[first] = json!(value);
            }
            if let Some(value) = other {
                labels[second] = json!(value);
            }
            all.push(labels);
        }
    }
    all
}
