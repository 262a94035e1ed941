//! Patches on what a proxy is served: through the engine, as the server asks for it.

use std::sync::Arc;

use lateen_xds::TypeUrl;
use lateen_xds::server::{NameSet, Names};

use super::*;
use crate::engine::Engine;
use crate::fixture::{ingress, service, sidecar};
use crate::{Proxy, Snapshot};
use lateen_core::Protocol;
use lateen_registry::World;

fn snapshot(yaml: &str) -> Arc<Snapshot> {
    let services = [
        service("a", &[(80, 8080, Protocol::Http)]),
        service(
            "b",
            &[(80, 8080, Protocol::Http), (90, 9090, Protocol::Tcp)],
        ),
    ];
    let services = services.into_iter().map(|s| (s.id(), s)).collect();
    let world = World {
        services,
        ..World::default()
    };
    Arc::new(Snapshot::new(
        1,
        Arc::new(world),
        Arc::new(config(yaml)),
        "cluster.local",
    ))
}

fn names(engine: &Engine, proxy: &Proxy, type_url: &TypeUrl) -> Vec<String> {
    let names = NameSet::default();
    let served = engine.served(proxy);
    let all = served.resources(&engine.cache, type_url, Names::All(&names));
    let mut names: Vec<_> = all
        .iter()
        .map(|resource| resource.name.to_string())
        .collect();
    names.sort();
    names
}

#[test]
fn clusters_and_listeners_come_and_go() {
    let yaml = patches(
        "- applyTo: CLUSTER
  match: {context: SIDECAR_OUTBOUND, cluster: {service: b.default.svc.cluster.local, portNumber: 80}}
  patch: {operation: REMOVE}
- applyTo: CLUSTER
  patch: {operation: ADD, value: {name: mine}}
- applyTo: CLUSTER
  match: {context: SIDECAR_INBOUND}
  patch: {operation: ADD, value: {name: inner}}
- applyTo: CLUSTER
  patch: {operation: ADD, value: {name: 'outbound|80||a.default.svc.cluster.local'}}
- applyTo: LISTENER
  match: {listener: {name: 0.0.0.0_90}}
  patch: {operation: REMOVE}
- applyTo: LISTENER
  patch: {operation: ADD, value: {name: extra}}
- applyTo: LISTENER
  match: {context: GATEWAY}
  patch: {operation: ADD, value: {name: edge}}",
    );
    let engine = Engine::new(snapshot(&yaml));
    let proxy = sidecar("a");
    assert_eq!(
        names(&engine, &proxy, &TypeUrl::CLUSTER),
        [
            "BlackHoleCluster",
            "InboundPassthroughCluster",
            "PassthroughCluster",
            "inbound|8080||",
            "inner",
            "mine",
            "outbound|80||a.default.svc.cluster.local",
            "outbound|90||b.default.svc.cluster.local",
        ]
    );
    assert_eq!(
        names(&engine, &proxy, &TypeUrl::LISTENER),
        ["0.0.0.0_80", "extra", "virtualInbound", "virtualOutbound"]
    );
    let faults = engine
        .patches()
        .into_iter()
        .filter_map(|report| report.fault);
    let faults: Vec<_> = faults.collect();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(
        faults[0].contains("there is one of that name already"),
        "{faults:?}"
    );
    let unused = engine
        .patches()
        .into_iter()
        .filter(|report| report.applied == 0);
    let unused: Vec<_> = unused.map(|report| report.field).collect();
    assert_eq!(unused, ["spec.configPatches[3]", "spec.configPatches[6]"]);
}

#[test]
fn a_change_of_patches_reaches_the_proxies_that_they_are_for() {
    let yaml = patches(
        "- applyTo: CLUSTER
  match: {cluster: {portNumber: 80}}
  patch: {operation: MERGE, value: {connect_timeout: 1s}}",
    );
    let before = snapshot("");
    let engine = Engine::new(before.clone());
    let (mut own, mut other) = (engine.join(&sidecar("a")), engine.join(&ingress()));
    let served =
        |of: &tokio::sync::watch::Receiver<Arc<crate::engine::Served>>| of.borrow().clone();
    let (was, stays) = (served(&own), served(&other));
    own.mark_unchanged();
    other.mark_unchanged();
    let mut config = lateen_galley::ConfigSet::clone(&before.config);
    config.envoy_filters = super::config(&yaml).envoy_filters;
    let next = Snapshot::new(2, before.world.clone(), Arc::new(config), "cluster.local");
    engine.publish(Arc::new(next), false);
    assert!(own.has_changed().expect("open"));
    assert!(
        Arc::ptr_eq(&stays, &served(&other)),
        "it is in another namespace"
    );
    let names = NameSet::default();
    let cluster = |served: &crate::engine::Served, name: &str| {
        let all = served.resources(&engine.cache, &TypeUrl::CLUSTER, Names::All(&names));
        let found = all.into_iter().find(|r| &*r.name == name);
        found.expect("there").version()
    };
    let is = served(&own);
    let http = "outbound|80||b.default.svc.cluster.local";
    assert_ne!(cluster(&was, http), cluster(&is, http));
    let tcp = "outbound|90||b.default.svc.cluster.local";
    assert_eq!(cluster(&was, tcp), cluster(&is, tcp));
}

#[test]
fn extensions_are_served_by_name() {
    let yaml = patches(
        "- applyTo: EXTENSION_CONFIG
  match: {context: SIDECAR_INBOUND}
  patch: {operation: ADD, value: {name: mine, typed_config: {'@type': $LUA, inline_code: x}}}",
    );
    let mut book = book(&with_types(&yaml));
    let selected = select(&mut book, |_| ());
    assert!(selected.extension("mine").is_some());
    assert!(selected.extension("other").is_none());
}

#[test]
fn what_is_laid_over_bootstraps_is_one_resource() {
    let yaml = patches(
        "- applyTo: BOOTSTRAP
  patch: {operation: MERGE, value: {stats_flush_interval: 1s}}",
    );
    for yaml in [yaml.as_str(), ""] {
        let engine = Engine::new(snapshot(yaml));
        let proxy = sidecar("a");
        let found = names(&engine, &proxy, &TypeUrl::BOOTSTRAP);
        assert_eq!(found, [lateen_xds::names::BOOTSTRAP_PARTS], "{yaml}");
    }
}
