//! Policies: whether what they select is there, and whether they hold for it.

use super::{
    Code, Findings,
    index::{Index, selector},
    object::{Obj, in_words, list, texts},
};

/// Workloads that AuthorizationPolicies are for, and namespaces that they name.
pub(super) fn policies<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    for object in index.of("AuthorizationPolicy") {
        workloads(index, object, findings);
        namespaces(index, object, findings);
    }
}

fn targets(object: &Obj<'_>) -> bool {
    let spec = object.spec();
    !spec["targetRef"].is_null() || !spec["targetRefs"].is_null()
}

fn workloads<'a>(index: &Index<'a>, object: &Obj<'a>, findings: &mut Findings<'a>) {
    let is_root = object.namespace == index.settings.root_namespace;
    let labels = selector(&object.spec()["selector"]["matchLabels"]);
    if targets(object) || (is_root && labels.is_none()) {
        return;
    }
    let none = serde_json::Map::new();
    let namespace = (!is_root).then_some(object.namespace);
    let workloads = index.select(namespace, labels.unwrap_or(&none));
    let takes_part = workloads.iter().any(|(_, of)| {
        index.in_mesh(of) || of.is_ambient() || index.is_ambient(of.object.namespace)
    });
    if takes_part {
        return;
    }
    let (what, field) = match labels {
        None => (
            "no workload of the mesh is in its namespace".to_owned(),
            "metadata.namespace",
        ),
        Some(labels) => {
            let what = format!(
                "no workload of the mesh has the labels {}",
                in_words(labels)
            );
            (what, "spec.selector.matchLabels")
        }
    };
    let what = format!("{what}: the policy is for nobody");
    findings.add(object, Code::NoMatchingWorkloadsFound, field, what);
}

fn namespaces<'a>(index: &Index<'a>, object: &Obj<'a>, findings: &mut Findings<'a>) {
    for (r, rule) in list(&object.spec()["rules"]).iter().enumerate() {
        for (f, from) in list(&rule["from"]).iter().enumerate() {
            for of in ["namespaces", "notNamespaces"] {
                for (n, name) in texts(&from["source"][of]).enumerate() {
                    if index.namespaces().any(|known| fits(name, known)) {
                        continue;
                    }
                    let what = format!("Referenced namespace not found: {name:?}");
                    let field = format!("spec.rules[{r}].from[{f}].source.{of}[{n}]");
                    findings.add(object, Code::ReferencedResourceNotFound, &field, what);
                }
            }
        }
    }
}

/// `prod-*`, `*-test` and `*` as policies have them.
fn fits(pattern: &str, name: &str) -> bool {
    match (pattern.strip_suffix('*'), pattern.strip_prefix('*')) {
        (Some(prefix), _) => name.starts_with(prefix),
        (None, Some(suffix)) => name.ends_with(suffix),
        (None, None) => pattern == name,
    }
}

/// Kinds that are bound to gateways of the Gateway API by reference.
const BY_REFERENCE: [&str; 5] = [
    "RequestAuthentication",
    "AuthorizationPolicy",
    "WasmPlugin",
    "Telemetry",
    "TrafficExtension",
];

/// Selectors do not reach gateways of the Gateway API.
pub(super) fn of_gateways<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    for object in BY_REFERENCE.iter().flat_map(|kind| index.of(kind)) {
        let Some(labels) = selector(&object.spec()["selector"]["matchLabels"]) else {
            continue;
        };
        if targets(object) {
            continue;
        }
        let is_root = object.namespace == index.settings.root_namespace;
        let namespace = (!is_root).then_some(object.namespace);
        let pods = index.select(namespace, labels).into_iter();
        let mut gateways =
            pods.filter_map(|(_, pod)| pod.labels()[lateen_api::labels::GATEWAY_NAME].as_str());
        if let Some(gateway) = gateways.next() {
            let what = format!(
                "it selects pods of Gateway {gateway:?} of the Gateway API by label, which has no effect; \
                 name the Gateway in targetRefs"
            );
            findings.add(object, Code::IneffectiveSelector, "spec.selector", what);
        }
    }
}
