use std::sync::Arc;

use super::*;
use crate::shared::Shared;

fn filter(name: &str, namespace: &str, rest: &str) -> String {
    format!(
        "---\nkind: EnvoyFilter\nmetadata: {{name: {name}, namespace: {namespace}{}}}\n",
        rest.split_once('|').map_or("", |(meta, _)| meta)
    ) + &format!(
        "spec: {{{} configPatches: [{{applyTo: CLUSTER, patch: {{operation: REMOVE}}}}]}}\n",
        rest.split_once('|').map_or(rest, |(_, spec)| spec)
    )
}

fn names(selected: &Selected) -> Vec<String> {
    let patches = selected.all.iter().flat_map(|patches| &patches.list);
    patches.map(|patch| patch.object.name.to_string()).collect()
}

#[test]
fn the_order_in_which_they_are_applied() {
    let yaml = [
        filter(
            "late",
            "default",
            ", creationTimestamp: '2026-01-02T00:00:00Z'|",
        ),
        filter(
            "b",
            "default",
            ", creationTimestamp: '2026-01-01T00:00:00Z'|",
        ),
        filter(
            "a",
            "default",
            ", creationTimestamp: '2026-01-01T00:00:00Z'|",
        ),
        filter(
            "root",
            "istio-system",
            ", creationTimestamp: '2026-01-09T00:00:00Z'|",
        ),
        filter("first", "default", "priority: -1,"),
        filter("last", "istio-system", "priority: 5,"),
        filter("other", "elsewhere", ""),
    ];
    let mut book = book(&yaml.concat());
    let found = select(&mut book, |_| ());
    assert_eq!(names(&found), ["first", "root", "a", "b", "late", "last"]);
}

#[test]
fn whom_they_are_for() {
    let labels: Labels = [("app", "a")].into_iter().collect();
    let gateway: Labels = [(lateen_api::labels::GATEWAY_NAME, "gw")]
        .into_iter()
        .collect();
    let of = |name: &str| {
        format!("targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: {name}}}],")
    };
    let yaml = [
        filter("own", "default", "workloadSelector: {labels: {app: a}},"),
        filter("others", "default", "workloadSelector: {labels: {app: b}},"),
        filter("old", "default", "workloadLabels: {app: a},"),
        filter(
            "root",
            "istio-system",
            "workloadSelector: {labels: {app: a}},",
        ),
        filter("gw", "default", &of("gw")),
        filter("gw2", "default", &of("gw2")),
    ];
    let mut book = book(&yaml.concat());
    let metadata = BTreeMap::new();
    let found = book.select(who(&labels, &metadata));
    assert_eq!(names(&found), ["root", "old", "own"]);
    let found = book.select(who(&gateway, &metadata));
    assert_eq!(names(&found), ["gw"]);
}

#[test]
fn what_a_proxy_says_of_itself() {
    let yaml = patches(
        "- applyTo: CLUSTER
  match: {proxy: {proxyVersion: '^1\\.31.*'}}
  patch: {operation: REMOVE}
- applyTo: CLUSTER
  match: {proxy: {metadata: {TEAM: a}}}
  patch: {operation: REMOVE}",
    );
    let mut book = book(&yaml);
    let labels = Labels::new();
    let mut fields = |version, team: &str| {
        let metadata = [("TEAM".to_owned(), team.to_owned())].into_iter().collect();
        let selected = book.select(Who {
            version,
            ..who(&labels, &metadata)
        });
        let patches = selected.all.iter().flat_map(|patches| &patches.list);
        patches.map(|patch| patch.field.clone()).collect::<Vec<_>>()
    };
    assert_eq!(fields("1.31.2", "b"), ["spec.configPatches[0]"]);
    assert_eq!(fields("1.30.0", "a"), ["spec.configPatches[1]"]);
    assert!(fields("1.30.0", "b").is_empty());
}

/// Proxies with the same patches share what is made for them, also across changes elsewhere.
#[test]
fn the_same_patches_are_the_same_allocation() {
    let yaml = filter("a", "default", "")
        + &filter("b", "default", "workloadSelector: {labels: {app: b}},");
    let first = config(&yaml);
    let mut book = Book::default();
    book.renew(&first);
    let before = select(&mut book, |_| ());
    assert_eq!(before, select(&mut book, |_| ()));
    assert_ne!(before, select(&mut book, |who| who.router = true));
    assert!(!book.renew(&first));
    let mut second = first.clone();
    second.envoy_filters.pop();
    assert!(book.renew(&second));
    book.sweep();
    assert_eq!(before, select(&mut book, |_| ()));
    second.envoy_filters.clear();
    assert!(book.renew(&second));
    assert_eq!(select(&mut book, |_| ()), Selected::default());
    let held = |selected: &Selected| {
        selected
            .all
            .as_ref()
            .map(|Shared(set)| Arc::strong_count(set))
    };
    assert!(held(&before).is_some_and(|n| n >= 2));
}

#[test]
fn what_leads_out_does_not_depend_on_inbound_patches() {
    let inbound = "- applyTo: CLUSTER
  match: {context: SIDECAR_INBOUND}
  patch: {operation: REMOVE}";
    let mut book = book(&patches(inbound));
    let selected = select(&mut book, |_| ());
    assert!(selected.all.is_some());
    assert_eq!(selected.outward(), Selected::default());
}
