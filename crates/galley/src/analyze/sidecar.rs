//! Sidecars, and other objects of which a workload can have one alone.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{
    Code, Findings,
    index::{Index, Workload, selector},
    object::{Obj, in_words},
};

/// What is said of a kind that a workload has one of.
pub(super) struct OneOf<'a> {
    pub(super) kind: &'static str,
    /// The selector of an object.
    pub(super) selector: fn(&'a Value) -> &'a Value,
    /// Where that is written.
    pub(super) field: &'static str,
    /// Two select one pod.
    pub(super) same_pod: Code,
    /// Two are for all of a namespace.
    pub(super) same_namespace: Code,
}

/// Sidecars by their selectors.
pub(super) fn check<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    let of = OneOf {
        kind: "Sidecar",
        selector: |spec| &spec["workloadSelector"]["labels"],
        field: "spec.workloadSelector.labels",
        same_pod: Code::ConflictingSidecarWorkloadSelectors,
        same_namespace: Code::MultipleSidecarsWithoutWorkloadSelectors,
    };
    one_each(index, &of, findings);
    for object in index.of(of.kind) {
        ambient(index, object, (of.selector)(object.spec()), findings);
    }
}

/// Sidecars have no say over pods without one.
fn ambient<'a>(index: &Index<'a>, object: &Obj<'a>, labels: &Value, findings: &mut Findings<'a>) {
    let none = match selector(labels) {
        None => index.is_ambient(object.namespace),
        Some(selector) => {
            let pods = index.select(Some(object.namespace), selector);
            pods.iter().any(|(_, pod)| pod.is_ambient())
        }
    };
    if none {
        let what =
            "it selects workloads of the ambient mesh, which have no sidecar: it has no effect";
        findings.add(object, Code::IneffectivePolicy, "", what);
    }
}

/// An object with a selector, and the workloads that this selects.
type Selecting<'a> = (Obj<'a>, &'a Map<String, Value>, Vec<(usize, Workload<'a>)>);

/// Finds objects that contradict each other, and those that select nothing.
pub(super) fn one_each<'a>(index: &Index<'a>, of: &OneOf<'a>, findings: &mut Findings<'a>) {
    let mut whole: BTreeMap<&str, Vec<Obj<'a>>> = BTreeMap::new();
    let mut selecting: Vec<Selecting<'a>> = Vec::new();
    for object in index.of(of.kind) {
        let spec = object.spec();
        let by_target = !spec["targetRef"].is_null() || !spec["targetRefs"].is_null();
        match selector((of.selector)(spec)) {
            _ if by_target => {}
            None => whole.entry(object.namespace).or_default().push(*object),
            Some(selector) => {
                let pods = index.select(Some(object.namespace), selector);
                selecting.push((*object, selector, pods));
            }
        }
    }
    for (namespace, objects) in whole.into_iter().filter(|(_, objects)| objects.len() > 1) {
        let names = names(objects.iter());
        for object in &objects {
            let what = format!(
                "{}s {names} have no selector and so are all for namespace {namespace:?}; one of them \
                 holds, leave one",
                of.kind
            );
            findings.add(object, of.same_namespace, "", what);
        }
    }
    let mut by_pod: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (n, (object, selector, pods)) in selecting.iter().enumerate() {
        if pods.is_empty() {
            let what = format!(
                "Referenced selector not found: {:?}: no pod of the namespace has these labels",
                in_words(selector)
            );
            findings.add(object, Code::ReferencedResourceNotFound, of.field, what);
        }
        for (pod, _) in pods {
            by_pod.entry(*pod).or_default().push(n);
        }
    }
    let mut told = BTreeSet::new();
    for (pod, claims) in by_pod.into_iter().filter(|(_, claims)| claims.len() > 1) {
        for n in &claims {
            // Once an object: the pods of one workload are all alike.
            if !told.insert(*n) {
                continue;
            }
            let (object, _, pods) = &selecting[*n];
            let of_pod = pods.iter().find(|(other, _)| *other == pod);
            let pod = of_pod.map_or_else(String::new, |(_, pod)| pod.object.key());
            let what = format!(
                "{}s {} select the same pod {pod:?}; one of them holds for it",
                of.kind,
                names(claims.iter().map(|n| &selecting[*n].0)),
            );
            findings.add(object, of.same_pod, of.field, what);
        }
    }
}

fn names<'o, 'a: 'o>(objects: impl Iterator<Item = &'o Obj<'a>>) -> String {
    objects.map(Obj::key).collect::<Vec<_>>().join(", ")
}
