//! Datagrams while listeners, clusters and hosts change.

use std::net::SocketAddr;
use std::sync::Arc;

use lateen_tls::IdentityStore;
use lateen_xds::TypeUrl;
use lateen_xds::json::from_value;
use lateen_xds::server::Resource;
use lateen_xds::types::{cluster as cluster_pb, endpoint as endpoint_pb, listener as listener_pb};
use serde_json::{Value, json};

use super::{Client, SILENCE, all_to, at, echo, futures_of, proxied};
use crate::common::{Proxy, free_port, socket};
use crate::discovery::{Source, eds, until};

fn resource(listener: Value) -> Resource {
    let message: listener_pb::Listener = from_value(listener).expect("a listener");
    Resource::new(message.name.as_str(), &message)
}

/// Whether a client that is new is answered by that host.
async fn is_answered_by(name: &str, port: u16) -> bool {
    let client = Client::new().await;
    client.send(port, "x").await;
    let answer = client.receive(SILENCE).await;
    answer.is_some_and(|answer| answer.split(' ').next() == Some(name))
}

/// A proxy that is told of the clusters `a` and `b`, each of one host, and of a listener.
async fn discovering(hosts: [SocketAddr; 2], port: u16, listener: Value) -> (Arc<Source>, Proxy) {
    let (source, xds) = Source::start().await;
    let ((a, a_hosts), (b, b_hosts)) = (eds("a", hosts[0]), eds("b", hosts[1]));
    source.set(&TypeUrl::CLUSTER, vec![a, b]);
    source.set(&TypeUrl::ENDPOINT, vec![a_hosts, b_hosts]);
    source.set(&TypeUrl::LISTENER, vec![resource(listener)]);
    let proxy = Proxy::with_discovery(port, xds, Arc::new(IdentityStore::empty())).await;
    until("ready", async || proxy.admin("/ready").await == "LIVE\n").await;
    (source, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_lose_nothing_and_sessions_outlive_their_listener() {
    let ((a, _), (b, _)) = (echo("a").await, echo("b").await);
    let (source, xds) = Source::start().await;
    let port = free_port();
    let ((a_cluster, a_hosts), (b_cluster, b_hosts)) = (eds("a", a), eds("b", b));
    let set = |config: Value| source.set(&TypeUrl::LISTENER, vec![resource(proxied(port, config))]);
    source.set(&TypeUrl::CLUSTER, vec![a_cluster, b_cluster]);
    source.set(&TypeUrl::ENDPOINT, vec![a_hosts.clone(), b_hosts.clone()]);
    set(all_to("a"));
    let identity = Arc::new(IdentityStore::empty());
    let proxy = Proxy::with_discovery(port, xds, identity).await;
    until("ready", async || proxy.admin("/ready").await == "LIVE\n").await;
    let client = Client::new().await;
    let first = client.ask(port, "x").await;

    // Each datagram is answered, whatever becomes of the listener meanwhile; the session stays.
    for n in 0..40 {
        let mut config = all_to("a");
        config["idle_timeout"] = format!("{}s", 20 + n).into();
        set(config);
        for _ in 0..5 {
            assert_eq!(client.ask(port, "x").await, first);
        }
    }
    // Another cluster is another session.
    set(all_to("b"));
    until("b", async || client.ask(port, "x").await.starts_with("b ")).await;

    // A host that is gone is left.
    let (_, moved) = eds("b", a);
    source.set(&TypeUrl::ENDPOINT, vec![a_hosts.clone(), moved]);
    until("a", async || client.ask(port, "x").await.starts_with("a ")).await;
    source.set(&TypeUrl::ENDPOINT, vec![a_hosts, b_hosts]);
    until("b", async || client.ask(port, "x").await.starts_with("b ")).await;

    // Without the listener, whoever has a session keeps it, and nobody gets a new one.
    source.set(&TypeUrl::LISTENER, vec![]);
    let other = async || Client::new().await.is_ignored(port, "x").await;
    until("no new sessions", other).await;
    assert!(client.ask(port, "x").await.starts_with("b "));

    // A new listener at that address gets all there is.
    set(all_to("a"));
    until("a", async || is_answered_by("a", port).await).await;
    for client in futures_of(20, Client::new).await {
        assert!(client.ask(port, "x").await.starts_with("a "));
    }
    assert!(client.ask(port, "x").await.starts_with("a "));
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_in_the_place_of_another_has_its_room() {
    let ((a, _), (b, _)) = (echo("a").await, echo("b").await);
    let (source, xds) = Source::start().await;
    let limited: cluster_pb::Cluster = from_value(json!({
        "name": "up", "type": "EDS", "connect_timeout": "1s",
        "eds_cluster_config": { "eds_config": { "ads": {} } },
        "circuit_breakers": { "thresholds": [{ "max_connections": 1 }] },
    }))
    .expect("a cluster");
    let port = free_port();
    source.set(&TypeUrl::CLUSTER, vec![Resource::new("up", &limited)]);
    source.set(&TypeUrl::ENDPOINT, vec![eds("up", a).1]);
    let listener = resource(proxied(port, all_to("up")));
    source.set(&TypeUrl::LISTENER, vec![listener]);
    let proxy = Proxy::with_discovery(port, xds, Arc::new(IdentityStore::empty())).await;
    until("ready", async || proxy.admin("/ready").await == "LIVE\n").await;
    let client = Client::new().await;
    for (name, host) in [("a", a), ("b", b), ("a", a), ("b", b)] {
        source.set(&TypeUrl::ENDPOINT, vec![eds("up", host).1]);
        let host = host.to_string();
        until("moved", async || {
            proxy.admin("/clusters").await.contains(&host)
        })
        .await;
        assert!(client.ask(port, "x").await.starts_with(name), "{name}");
    }
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_listed_twice_is_one_host() {
    let ((a, _), (b, _)) = (echo("a").await, echo("b").await);
    let (source, xds) = Source::start().await;
    let cluster: cluster_pb::Cluster = from_value(json!({
        "name": "up", "type": "EDS", "connect_timeout": "1s",
        "eds_cluster_config": { "eds_config": { "ads": {} } },
        "common_lb_config": { "healthy_panic_threshold": { "value": 0 } },
    }))
    .expect("a cluster");
    let hosts = |list: &[(SocketAddr, &str)]| {
        let hosts = list.iter().map(|(host, health)| {
            let address = socket("127.0.0.1", host.port());
            json!({ "health_status": health, "endpoint": { "address": address } })
        });
        let hosts: Vec<Value> = hosts.collect();
        let message: endpoint_pb::ClusterLoadAssignment =
            from_value(json!({ "cluster_name": "up", "endpoints": [{ "lb_endpoints": hosts }] }))
                .expect("endpoints");
        vec![Resource::new("up", &message)]
    };
    let port = free_port();
    source.set(&TypeUrl::CLUSTER, vec![Resource::new("up", &cluster)]);
    source.set(&TypeUrl::ENDPOINT, hosts(&[(a, "HEALTHY")]));
    let listener = resource(proxied(port, all_to("up")));
    source.set(&TypeUrl::LISTENER, vec![listener]);
    let proxy = Proxy::with_discovery(port, xds, Arc::new(IdentityStore::empty())).await;
    until("ready", async || proxy.admin("/ready").await == "LIVE\n").await;
    let client = Client::new().await;
    let first = client.ask(port, "x").await;

    // The first of both is not well, and so the other one is chosen: it is where the session leads.
    let twice = [(a, "UNHEALTHY"), (a, "HEALTHY"), (b, "UNHEALTHY")];
    source.set(&TypeUrl::ENDPOINT, hosts(&twice));
    until("three hosts", async || {
        proxy.admin("/clusters").await.contains(&b.to_string())
    })
    .await;
    for _ in 0..3 {
        assert_eq!(client.ask(port, "x").await, first);
    }
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_with_each_host_are_those_of_the_cluster_and_outlive_the_listener() {
    let (host, _) = echo("host").await;
    let port = free_port();
    let each = |cluster: &str| {
        let mut config = all_to(cluster);
        config["use_per_packet_load_balancing"] = true.into();
        proxied(port, config)
    };
    let (source, proxy) = discovering([host; 2], port, each("a")).await;
    let client = Client::new().await;
    let first = client.ask(port, "x").await;
    assert_eq!(client.ask(port, "x").await, first);
    source.set(&TypeUrl::LISTENER, vec![resource(each("b"))]);
    until("b", async || client.ask(port, "x").await != first).await;
    let second = client.ask(port, "x").await;
    source.set(&TypeUrl::LISTENER, vec![]);
    let is_gone = async || !is_answered_by("host", port).await;
    until("no new sessions", is_gone).await;
    assert_eq!(client.ask(port, "x").await, second);
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_of_listeners_that_are_gone_hide_no_others() {
    let ((a, _), (b, _)) = (echo("a").await, echo("b").await);
    let port = free_port();
    let one = || resource(proxied(port, all_to("a")));
    let any = || {
        let mut listener = proxied(port, all_to("b"));
        listener["name"] = "any".into();
        listener["address"] = at("0.0.0.0", port);
        resource(listener)
    };
    let (source, proxy) = discovering([a, b], port, proxied(port, all_to("a"))).await;
    let client = Client::new().await;
    // As long as one client goes on.
    let others_have = async |name: &str| {
        client.send(port, "x").await;
        is_answered_by(name, port).await
    };
    until("a", async || others_have("a").await).await;
    // The other one comes afterwards.
    source.set(&TypeUrl::LISTENER, vec![]);
    let is_gone = async || !others_have("a").await;
    until("no new sessions", is_gone).await;
    source.set(&TypeUrl::LISTENER, vec![any()]);
    until("b", async || others_have("b").await).await;
    // It is there already.
    source.set(&TypeUrl::LISTENER, vec![any(), one()]);
    until("a", async || others_have("a").await).await;
    source.set(&TypeUrl::LISTENER, vec![any()]);
    until("b", async || others_have("b").await).await;
    proxy.stop().await;
}
