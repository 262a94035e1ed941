use lateen_xds::types::bootstrap::Bootstrap;
use lateen_xds::{decode_any, names::BOOTSTRAP_PARTS};

use super::*;

#[track_caller]
fn check_bootstrap(items: &str, after: &str, faults: &[&str], change: impl FnOnce(&mut Who<'_>)) {
    let apply = |patches: &Patches, _| patches.bootstrap();
    check::<Bootstrap>(&patches(items), "{}", after, faults, apply, change);
}

const ALL: &str = "\
- applyTo: BOOTSTRAP
  patch: {operation: MERGE, value: {stats_flush_interval: 1s, static_resources: {clusters: [{name: a}]}}}
- applyTo: BOOTSTRAP
  match: {context: SIDECAR_OUTBOUND}
  patch: {operation: MERGE, value: {stats_flush_interval: 2s, static_resources: {clusters: [{name: b}]}}}
- applyTo: BOOTSTRAP
  match: {context: GATEWAY}
  patch: {operation: MERGE, value: {node: {cluster: edge}}}
- applyTo: BOOTSTRAP
  match: {proxy: {metadata: {a: b}}}
  patch: {operation: MERGE, value: {node: {cluster: other}}}";

#[test]
fn parts_of_bootstraps_are_laid_over_each_other() {
    let of_sidecar =
        "{stats_flush_interval: 2s, static_resources: {clusters: [{name: a}, {name: b}]}}";
    check_bootstrap(ALL, of_sidecar, &[], |_| ());
    let of_gateway = "{stats_flush_interval: 1s, node: {cluster: edge}, static_resources: {clusters: [{name: a}]}}";
    check_bootstrap(ALL, of_gateway, &[], |who| who.router = true);
    let ignored = "does nothing with stats_flush_interval";
    check_bootstrap(ALL, of_sidecar, &[ignored, ignored], |who| who.ours = true);
    let wrong = "- applyTo: BOOTSTRAP\n  patch: {operation: MERGE, value: {stats_flush: 1s}}";
    check_bootstrap(wrong, "{}", &["value: "], |_| ());
}

#[test]
fn every_proxy_is_told_even_of_nothing() {
    let mut book = book(&patches(ALL));
    let one = select(&mut book, |_| ()).bootstrap();
    assert_eq!(one.name.as_str(), BOOTSTRAP_PARTS);
    let nothing = Selected::default().bootstrap();
    assert_eq!(nothing.name.as_str(), BOOTSTRAP_PARTS);
    assert!(nothing.value().is_empty());
    let any = lateen_xds::Any {
        type_url: lateen_xds::TypeUrl::BOOTSTRAP.to_string(),
        value: one.value().to_vec(),
    };
    let parts: Bootstrap = decode_any(&any).expect("a message");
    assert_eq!(parts.static_resources.expect("set").clusters.len(), 2);
}

/// What proxies start from is nothing to what leads out: those who differ in it share all else.
#[test]
fn it_keeps_nobody_apart() {
    let mut book = book(&patches(ALL));
    let selected = select(&mut book, |_| ());
    assert!(selected.all.is_some());
    assert_eq!(selected.outward(), Selected::default());
}
