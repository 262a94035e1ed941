//! `/clusters`.

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Json, Response};
use lateen_balance::{Limits, Priority, Resource};
use serde_json::{Value, json};

use super::{Context, Params, pipe_address, socket_address};
use crate::cluster::{Address, Cluster};

pub(super) async fn handle(State(context): State<Context>, Query(params): Params) -> Response {
    let snapshot = context.shared.snapshot.load_full();
    let now = context.shared.now();
    let mut clusters: Vec<_> = snapshot.clusters.values().collect();
    clusters.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
    if params.get("format").is_some_and(|format| format == "json") {
        let list: Vec<Value> = clusters
            .iter()
            .map(|cluster| as_json(cluster, now))
            .collect();
        return Json(json!({ "cluster_statuses": list })).into_response();
    }
    clusters
        .iter()
        .map(|cluster| as_text(cluster, now))
        .collect::<String>()
        .into_response()
}

fn as_json(cluster: &Cluster, now: u64) -> Value {
    let thresholds = priorities(cluster).map(|(priority, limits)| {
        json!({
            "priority": priority.0,
            "max_connections": limits.connections,
            "max_pending_requests": limits.pending,
            "max_requests": limits.requests,
            "max_retries": limits.retries,
        })
    });
    let hosts = cluster
        .hosts
        .hosts
        .iter()
        .zip(&cluster.hosts.specs)
        .map(|(host, spec)| {
            let health = if spec.healthy { "HEALTHY" } else { "UNHEALTHY" };
            let active = spec.state.active.load(std::sync::atomic::Ordering::Relaxed);
            let mut region = host.locality.split('/');
            let mut part = || region.next().unwrap_or("").to_owned();
            json!({
                "address": host_address(&host.address),
                "stats": [{ "type": "GAUGE", "name": "rq_active", "value": active.to_string() }],
                "health_status": {
                    "eds_health_status": health,
                    "failed_outlier_check": spec.state.is_ejected(now),
                },
                "weight": spec.weight,
                "priority": spec.priority,
                "hostname": &*host.hostname,
                "locality": { "region": part(), "zone": part(), "sub_zone": part() },
            })
        });
    let hosts: Vec<Value> = hosts.collect();
    json!({
        "name": &*cluster.spec.name,
        "added_via_api": true,
        "host_statuses": hosts,
        "circuit_breakers": { "thresholds": thresholds },
    })
}

/// The names of the priorities, in JSON and in text, with the limits that requests of them have.
fn priorities(cluster: &Cluster) -> [((&str, &str, Priority), &Limits); 2] {
    let spec = &cluster.spec;
    [
        (("DEFAULT", "default", Priority::Default), &spec.limits),
        (("HIGH", "high", Priority::High), &spec.high_limits),
    ]
}

/// An address in the JSON form of Envoy's messages.
fn host_address(address: &Address) -> Value {
    match address {
        Address::Ip(address) => socket_address(*address),
        Address::Path(path) => pipe_address(path),
    }
}

fn as_text(cluster: &Cluster, now: u64) -> String {
    let name = &cluster.spec.name;
    let mut text = String::new();
    let mut line = |rest: String| {
        text.push_str(name);
        text.push_str("::");
        text.push_str(&rest);
        text.push('\n');
    };
    for ((_, name, priority), limits) in priorities(cluster) {
        let mut limit = |what: &str, value: u32| line(format!("{name}_priority::{what}::{value}"));
        limit("max_connections", limits.connections);
        limit("max_pending_requests", limits.pending);
        limit("max_requests", limits.requests);
        limit("max_retries", limits.retries);
        let active = cluster.breaker.active(Resource::Request, priority);
        limit("rq_active", active);
    }
    line("added_via_api::true".to_owned());
    for (host, spec) in cluster.hosts.hosts.iter().zip(&cluster.hosts.specs) {
        let address = &host.address;
        let active = spec.state.active.load(std::sync::atomic::Ordering::Relaxed);
        let health = match (spec.healthy, spec.state.is_ejected(now)) {
            (_, true) => "/failed_outlier_check",
            (true, false) => "healthy",
            (false, false) => "/failed_eds_health",
        };
        line(format!("{address}::rq_active::{active}"));
        line(format!("{address}::hostname::{}", host.hostname));
        line(format!("{address}::health_flags::{health}"));
        line(format!("{address}::weight::{}", spec.weight));
        line(format!("{address}::priority::{}", spec.priority));
    }
    text
}
