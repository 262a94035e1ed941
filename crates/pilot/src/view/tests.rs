//! Whole tables and listeners, from YAML to the messages' JSON.

mod aliases;
mod datagrams;
mod families;
mod gateways;
mod http;
mod names;
mod networks;
mod outbound;
mod samples;
mod scoped;

use lateen_xds::json;
use serde_json::Value;

use super::View;
use crate::engine::Vantage;
use crate::fixture::snapshot;
use crate::key::Key;
use crate::proxy::Proxy;
use crate::snapshot::Snapshot;

/// In full, as a gateway's is; nothing but what is asked for may count for a sidecar.
fn vantage(snapshot: &Snapshot, proxy: &Proxy) -> Vantage {
    let workload = snapshot.world.workload(proxy.ip).map(|w| &**w);
    let vantage = Vantage::of_node(proxy).with(workload, snapshot.node_counts());
    vantage.outbound(snapshot)
}

/// The route table of this name.
#[track_caller]
fn table(yaml: &str, proxy: &Proxy, name: &str) -> Value {
    let snapshot = snapshot(yaml);
    let vantage = vantage(&snapshot, proxy);
    let view = View::new(&snapshot, &vantage);
    let table = view
        .routes(name)
        .unwrap_or_else(|| panic!("no table {name}"));
    json::to_value(&table.generate()).expect("the message's JSON")
}

/// The routes of one virtual host of a table.
#[track_caller]
fn routes(yaml: &str, proxy: &Proxy, name: &str, host: &str) -> Value {
    let table = table(yaml, proxy, name);
    let hosts = table["virtual_hosts"].as_array().expect("hosts");
    let found = hosts.iter().find(|h| h["name"] == host);
    let found = found.unwrap_or_else(|| panic!("no {host} in {table:#}"));
    found["routes"].clone()
}

/// All listeners of a gateway.
fn gateway_listeners(yaml: &str, proxy: &Proxy) -> Vec<Value> {
    let snapshot = snapshot(yaml);
    let vantage = vantage(&snapshot, proxy);
    let view = View::new(&snapshot, &vantage);
    let listener = |key: Key| match key {
        Key::Gateway(key) => json::to_value(&key.generate()).expect("the message's JSON"),
        other => panic!("a gateway has {other:?}"),
    };
    view.outbound_listeners()
        .into_iter()
        .map(listener)
        .collect()
}
