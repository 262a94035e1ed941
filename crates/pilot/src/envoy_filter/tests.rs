//! Patches, what they are laid over, and what comes out, as YAML.

mod bootstrap;
mod clusters;
mod listeners;
mod old;
mod routes;
mod selection;
mod served;

use std::collections::BTreeMap;

use lateen_core::Labels;
use lateen_xds::types::cluster::Cluster;
use lateen_xds::types::listener::Listener;
use lateen_xds::types::route::RouteConfiguration;
use lateen_xds::{NamedMessage, json};
use serde_json::Value;

use super::when::{ClusterFacts, Table};
use super::{Book, Patches, Selected, Who};
use crate::fixture::config;
use lateen_api::networking::PatchContext;

/// One EnvoyFilter of namespace `default` with these items of `configPatches`.
fn patches(items: &str) -> String {
    let items = items.replace('\n', "\n  ");
    format!("kind: EnvoyFilter\nmetadata: {{name: f}}\nspec:\n  configPatches:\n  {items}\n")
}

fn book(yaml: &str) -> Book {
    let mut book = Book::default();
    assert!(book.renew(&config(yaml)));
    book
}

fn who<'a>(labels: &'a Labels, metadata: &'a BTreeMap<String, String>) -> Who<'a> {
    Who {
        router: false,
        ours: false,
        namespace: "default",
        labels,
        version: "1.31.0",
        metadata,
    }
}

fn select(book: &mut Book, change: impl FnOnce(&mut Who<'_>)) -> Selected {
    let (labels, metadata) = (Labels::new(), BTreeMap::new());
    let mut who = who(&labels, &metadata);
    change(&mut who);
    book.select(who)
}

/// Type URLs by short names.
const TYPES: [(&str, &str); 5] = [
    (
        "$HCM",
        "network.http_connection_manager.v3.HttpConnectionManager",
    ),
    ("$TCP", "network.tcp_proxy.v3.TcpProxy"),
    ("$ECHO", "network.echo.v3.Echo"),
    ("$ROUTER", "http.router.v3.Router"),
    ("$LUA", "http.lua.v3.Lua"),
];

fn with_types(yaml: &str) -> String {
    let prefix = "type.googleapis.com/envoy.extensions.filters";
    let types = TYPES.iter();
    types.fold(yaml.to_owned(), |text, (name, message)| {
        text.replace(name, &format!("{prefix}.{message}"))
    })
}

fn read<M: NamedMessage>(yaml: &str) -> M {
    let yaml = with_types(yaml);
    let value: Value = serde_saphyr::from_str(&yaml).expect("YAML");
    json::from_value(value).expect("a message")
}

/// Applies patches of one object and compares what comes out, and what is said of each patch.
#[track_caller]
fn check<M: NamedMessage + PartialEq + std::fmt::Debug>(
    yaml: &str,
    before: &str,
    after: &str,
    faults: &[&str],
    apply: impl FnOnce(&Patches, M) -> M,
    change: impl FnOnce(&mut Who<'_>),
) {
    let mut book = book(&with_types(yaml));
    let selected = select(&mut book, change);
    let before: M = read(before);
    let found = match &selected.all {
        Some(patches) => apply(patches, before),
        None => before,
    };
    let want: M = read(after);
    let show = |message: &M| json::to_value(message).expect("JSON");
    assert_eq!(show(&found), show(&want), "{yaml}");
    let reports = book.report().into_iter();
    let said = reports.filter_map(|r| Some(format!("{}: {}", r.field, r.fault?)));
    let said: Vec<_> = said.collect();
    assert_eq!(said.len(), faults.len(), "{said:#?}");
    for (said, want) in said.iter().zip(faults) {
        assert!(said.contains(want), "{said:?} has no {want:?}");
    }
}

#[track_caller]
fn check_listener(context: PatchContext, items: &str, before: &str, after: &str, faults: &[&str]) {
    let apply = |patches: &Patches, listener: Listener| patches.listener(context, listener);
    let router = context == PatchContext::Gateway;
    let change = |who: &mut Who<'_>| who.router = router;
    check(&patches(items), before, after, faults, apply, change);
}

#[track_caller]
fn check_cluster(items: &str, before: &str, after: &str, faults: &[&str]) {
    let apply = |patches: &Patches, cluster: Cluster| {
        let name = cluster.name.clone();
        let facts = ClusterFacts::named(&name);
        patches.cluster(PatchContext::SidecarOutbound, &facts, cluster)
    };
    check(&patches(items), before, after, faults, apply, |_| ());
}

#[track_caller]
fn check_routes(table: &Table<'_>, items: &str, before: &str, after: &str, faults: &[&str]) {
    let apply = |patches: &Patches, config: RouteConfiguration| {
        patches.routes(PatchContext::SidecarOutbound, table, config)
    };
    check(&patches(items), before, after, faults, apply, |_| ());
}
