//! Datagrams, from clients to hosts and back; where Envoy is at hand, through both.

mod updates;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::UdpSocket;

use crate::common::{self, Proxy, TCP, cluster, free_port, hcm, listener};
use crate::discovery::until;
use crate::oracle::{Who, both};

/// The limit of every wait.
const PATIENCE: Duration = Duration::from_secs(30);
/// After so long without an answer there is none to come.
const SILENCE: Duration = Duration::from_millis(300);

/// A server that answers each datagram with its name, the address that it came from, and the
/// datagram; `big N` with N bytes.
async fn echo(name: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let address = socket.local_addr().expect("bound");
    let hits = Arc::new(AtomicUsize::new(0));
    let counted = hits.clone();
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            counted.fetch_add(1, Ordering::SeqCst);
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let answer = match text.strip_prefix("big ") {
                Some(size) => "x".repeat(size.parse().expect("a number")),
                None => format!("{name} {client} {text}"),
            };
            let _ = socket.send_to(answer.as_bytes(), client).await;
        }
    });
    (address, hits)
}

/// A client with an address of its own.
struct Client(UdpSocket);

impl Client {
    async fn new() -> Client {
        Client(UdpSocket::bind("127.0.0.1:0").await.expect("a free port"))
    }

    async fn send(&self, port: u16, text: &str) {
        let sent = self.0.send_to(text.as_bytes(), ("127.0.0.1", port)).await;
        sent.expect("sent");
    }

    async fn receive(&self, limit: Duration) -> Option<String> {
        let mut buffer = vec![0; 65_536];
        let received = tokio::time::timeout(limit, self.0.recv_from(&mut buffer)).await;
        let (length, _) = received.ok()?.expect("a socket");
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    async fn ask(&self, port: u16, text: &str) -> String {
        self.send(port, text).await;
        self.receive(PATIENCE).await.expect("an answer")
    }

    async fn is_ignored(&self, port: u16, text: &str) -> bool {
        self.send(port, text).await;
        self.receive(SILENCE).await.is_none()
    }
}

fn at(address: &str, port: u16) -> Value {
    json!({ "socket_address": { "protocol": "UDP", "address": address, "port_value": port } })
}

fn proxied(port: u16, mut config: Value) -> Value {
    config["@type"] =
        "type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig".into();
    config["stat_prefix"] = "test".into();
    json!({
        "name": "datagrams",
        "address": at("127.0.0.1", port),
        "listener_filters": [
            { "name": "envoy.filters.udp_listener.udp_proxy", "typed_config": config },
        ],
    })
}

fn to(cluster: &str) -> Value {
    json!({ "action": { "name": "route", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.Route",
        "cluster": cluster } } })
}

fn all_to(cluster: &str) -> Value {
    json!({ "matcher": { "on_no_match": to(cluster) } })
}

/// A listener of datagrams, and one of connections at the same port: by it one sees that they are
/// there, and that a port is of both.
fn listeners(port: u16, config: Value) -> Value {
    let tcp = json!({ "@type": TCP, "stat_prefix": "tcp", "cluster": "nobody" });
    json!([
        proxied(port, config),
        listener("connections", port, "OUTBOUND", tcp)
    ])
}

fn clusters(list: &[(&str, SocketAddr)]) -> Value {
    let mut all: Vec<_> = list
        .iter()
        .map(|(name, host)| cluster(name, &[*host]))
        .collect();
    all.push(cluster("nobody", &[]));
    all.into()
}

/// A statistic of a proxy.
async fn stat(proxy: &Proxy, name: &str) -> u64 {
    let text = proxy.admin("/stats").await;
    let start = format!("{name}: ");
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    line.map_or(0, |value| value.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_go_to_a_host_and_back() {
    let (host, _) = echo("a").await;
    both(
        |port| listeners(port, all_to("up")),
        clusters(&[("up", host)]),
        async |who, port| {
            let clients = [Client::new().await, Client::new().await];
            let mut seen = BTreeSet::new();
            for client in &clients {
                for n in 0..3 {
                    let answer = client.ask(port, &n.to_string()).await;
                    let parts: Vec<_> = answer.split(' ').collect();
                    assert_eq!((parts[0], parts[2]), ("a", &*n.to_string()), "{who:?}");
                    seen.insert(parts[1].to_owned());
                }
            }
            // Each has one session.
            assert_eq!(seen.len(), clients.len(), "{who:?}: {seen:?}");
            // Answers may be of any length, where nobody says otherwise.
            assert_eq!(clients[0].ask(port, "big 20000").await.len(), 20_000);
            // A datagram may have nothing in it.
            assert!(clients[0].ask(port, "").await.starts_with("a "));
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_is_dropped() {
    let (host, hits) = echo("a").await;
    let mut small = all_to("up");
    small["upstream_socket_config"] = json!({ "max_rx_datagram_size": 3000, "prefer_gro": false });
    both(
        |port| listeners(port, small.clone()),
        clusters(&[("up", host)]),
        async |who, port| {
            let client = Client::new().await;
            let before = hits.load(Ordering::SeqCst);
            // 1500 bytes, where nobody says otherwise.
            let long = "x".repeat(1501);
            assert!(client.is_ignored(port, &long).await, "{who:?}");
            assert_eq!(hits.load(Ordering::SeqCst), before, "{who:?}");
            assert!(client.ask(port, &long[1..]).await.ends_with(&long[1..]));
            assert!(client.is_ignored(port, "big 3001").await, "{who:?}");
            assert_eq!(client.ask(port, "big 3000").await.len(), 3000, "{who:?}");
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_datagrams_pass() {
    let (host, _) = echo("a").await;
    let large = json!({ "max_rx_datagram_size": 65_535 });
    let mut config = all_to("up");
    config["upstream_socket_config"] = large.clone();
    both(
        |port| {
            let mut all = listeners(port, config.clone());
            all[0]["udp_listener_config"] = json!({ "downstream_socket_config": large.clone() });
            all
        },
        clusters(&[("up", host)]),
        async |who, port| {
            let client = Client::new().await;
            let answer = client.ask(port, &"x".repeat(60_000)).await;
            assert!(answer.len() > 60_000, "{who:?}: {}", answer.len());
            assert_eq!(client.ask(port, "big 65507").await.len(), 65_507, "{who:?}");
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_are_those_of_envoy() {
    let ((a, _), (b, _)) = (echo("a").await, echo("b").await);
    let share = json!({
        "predicate": { "single_predicate": {
            "input": { "name": "port", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.matching.common_inputs.network.v3.SourcePortInput" } },
            "custom_match": { "name": "share", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.matching.input_matchers.runtime_fraction.v3.RuntimeFraction",
                "runtime_fraction": { "runtime_key": "none", "default_value": {
                    "numerator": 700_000, "denominator": "MILLION" } },
                "seed": 7 } } } },
        "on_match": to("a"),
    });
    let config = json!({ "matcher": {
        "matcher_list": { "matchers": [share] }, "on_no_match": to("b") } });
    let clients: Vec<_> = futures_of(40, Client::new).await;
    let ours = std::sync::Mutex::new(Vec::new());
    both(
        |port| listeners(port, config.clone()),
        clusters(&[("a", a), ("b", b)]),
        async |who, port| {
            let mut chosen = Vec::new();
            for client in &clients {
                let answer = client.ask(port, "x").await;
                chosen.push(answer[..1].to_owned());
            }
            match who {
                Who::Ours => *ours.lock().expect("not poisoned") = chosen,
                Who::Envoy => assert_eq!(*ours.lock().expect("not poisoned"), chosen),
            }
        },
    )
    .await;
    let ours = ours.into_inner().expect("not poisoned");
    let n = ours.iter().filter(|name| *name == "a").count();
    // 28 with a deviation of 3.
    assert!((14..=39).contains(&n), "{n}");
}

async fn futures_of<T, F: Future<Output = T>>(n: usize, make: impl Fn() -> F) -> Vec<T> {
    let mut all = Vec::new();
    for _ in 0..n {
        all.push(make().await);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_bounded_and_end_when_idle() {
    let (host, _) = echo("a").await;
    let mut up = clusters(&[("up", host)]);
    up[0]["circuit_breakers"] = json!({ "thresholds": [{ "max_connections": 2 }] });
    let mut config = all_to("up");
    config["idle_timeout"] = "1s".into();
    both(
        |port| listeners(port, config.clone()),
        up,
        async |who, port| {
            let clients: Vec<_> = futures_of(3, Client::new).await;
            let first = clients[0].ask(port, "x").await;
            clients[1].ask(port, "x").await;
            assert!(clients[2].is_ignored(port, "x").await, "{who:?}");
            // Once the others are idle there is room again.
            until("room", async || !clients[2].is_ignored(port, "x").await).await;
            let again = clients[0].ask(port, "x").await;
            assert_ne!(first, again, "{who:?}: a session lives for ever");
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_counted_and_logged() {
    let (host, _) = echo("a").await;
    let log = std::env::temp_dir().join(format!("lateen-udp-{}", std::process::id()));
    let mut config = all_to("up");
    config["idle_timeout"] = "0.2s".into();
    config["access_log"] = json!([{ "name": "file", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
        "path": log, "log_format": { "text_format_source": { "inline_string":
            "%UPSTREAM_CLUSTER% %BYTES_RECEIVED%/%BYTES_SENT% %RESPONSE_FLAGS% \
             %DOWNSTREAM_REMOTE_ADDRESS% %UPSTREAM_HOST% \
             %DYNAMIC_METADATA(udp.proxy.session:datagrams_received)%\n" } } } }]);
    let port = free_port();
    let proxy = Proxy::start(port, listeners(port, config), clusters(&[("up", host)])).await;
    let client = Client::new().await;
    let sent: usize = client.ask(port, "ab").await.len() + client.ask(port, "cd").await.len();
    assert_eq!(stat(&proxy, "udp.test.downstream_sess_active").await, 1);
    assert!(client.is_ignored(port, &"x".repeat(2000)).await);
    until("idle", async || {
        stat(&proxy, "udp.test.idle_timeout").await == 1
            && stat(&proxy, "udp.test.downstream_sess_active").await == 0
    })
    .await;
    for (name, want) in [
        ("udp.test.downstream_sess_total", 1),
        ("udp.test.downstream_sess_rx_datagrams", 2),
        ("udp.test.downstream_sess_rx_bytes", 4),
        ("udp.test.downstream_sess_tx_datagrams", 2),
        ("udp.test.downstream_sess_tx_bytes", sent as u64),
        ("cluster.up.udp.sess_tx_datagrams", 2),
        ("cluster.up.udp.sess_rx_datagrams", 2),
        ("cluster.up.upstream_cx_tx_bytes_total", 4),
        ("listener.datagrams.udp.downstream_rx_datagram_dropped", 1),
    ] {
        assert_eq!(stat(&proxy, name).await, want, "{name}");
    }
    let metrics = proxy.admin("/stats/prometheus").await;
    for line in [
        "envoy_udp_downstream_sess_total{udp_prefix=\"test\"} 1",
        "envoy_cluster_udp_sess_tx_datagrams{cluster_name=\"up\"} 2",
        "# TYPE envoy_udp_downstream_sess_active gauge",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    let from = client.0.local_addr().expect("bound");
    let want = format!("up 4/{sent} - {from} {host} 2\n");
    until("a line", async || {
        std::fs::read_to_string(&log).is_ok_and(|text| text == want)
    })
    .await;
    let dump: Value = serde_json::from_str(&proxy.admin("/config_dump").await).expect("JSON");
    let listeners = dump["configs"][2]["static_listeners"].as_array();
    let mut listeners = listeners.expect("a list").iter().map(|of| &of["listener"]);
    let ours = listeners.find(|listener| listener["name"] == "datagrams");
    let address = &ours.expect("in the dump")["address"]["socket_address"];
    assert_eq!(address["protocol"], "UDP");
    std::fs::remove_file(&log).expect("a log");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_route_or_a_host_nothing_comes_back() {
    let port = free_port();
    let mut routes = listeners(
        port,
        json!({ "matcher": { "matcher_list": { "matchers": [{
        "predicate": { "single_predicate": {
            "input": { "name": "port", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.matching.common_inputs.network.v3.DestinationPortInput" } },
            "value_match": { "exact": port.to_string() } } },
        "on_match": to("nobody") }] } } }),
    );
    let elsewhere = free_port();
    let mut second = routes[0].clone();
    second["name"] = "second".into();
    second["address"] = at("127.0.0.1", elsewhere);
    routes.as_array_mut().expect("a list").push(second);
    let proxy = Proxy::start(port, routes, clusters(&[])).await;
    let client = Client::new().await;
    assert!(client.is_ignored(port, "x").await);
    assert!(client.is_ignored(elsewhere, "x").await);
    assert_eq!(
        stat(&proxy, "cluster.nobody.upstream_cx_none_healthy").await,
        1
    );
    assert_eq!(stat(&proxy, "udp.test.downstream_sess_no_route").await, 1);
    assert_eq!(stat(&proxy, "udp.test.downstream_sess_total").await, 0);
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_for_each_datagram_or_for_each_client() {
    let ((a, a_hits), (b, b_hits)) = (echo("a").await, echo("b").await);
    let up = |policy: &str| {
        let mut up = cluster("up", &[a, b]);
        up["lb_policy"] = policy.into();
        json!([up, cluster("nobody", &[])])
    };
    let mut each = all_to("up");
    each["use_per_packet_load_balancing"] = true.into();
    both(
        |port| listeners(port, each.clone()),
        up("ROUND_ROBIN"),
        async |who, port| {
            let client = Client::new().await;
            let before = [&a_hits, &b_hits].map(|hits| hits.load(Ordering::SeqCst));
            for _ in 0..10 {
                client.ask(port, "x").await;
            }
            let after = [&a_hits, &b_hits].map(|hits| hits.load(Ordering::SeqCst));
            assert_eq!(after, before.map(|n| n + 5), "{who:?}");
        },
    )
    .await;
    let mut hashed = all_to("up");
    hashed["hash_policies"] = json!([{ "source_ip": true }]);
    both(
        |port| listeners(port, hashed.clone()),
        up("RING_HASH"),
        async |who, port| {
            let mut names = BTreeSet::new();
            for client in futures_of(10, Client::new).await {
                names.insert(client.ask(port, "x").await[..1].to_owned());
            }
            assert_eq!(names.len(), 1, "{who:?}: {names:?}");
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_from_where_the_question_went() {
    let (host, _) = echo("a").await;
    for any in ["0.0.0.0", "::"] {
        let port = free_port();
        let mut all = listeners(port, all_to("up"));
        all[0]["address"] = at(any, port);
        let proxy = Proxy::start(port, all, clusters(&[("up", host)])).await;
        for address in ["127.0.0.1", "127.0.0.2", "::1"] {
            if any == "0.0.0.0" && address == "::1" {
                continue;
            }
            let own = if address == "::1" {
                "[::1]:0"
            } else {
                "127.0.0.1:0"
            };
            let client = UdpSocket::bind(own).await.expect("a free port");
            // Connected, so that it hears nobody else.
            client.connect((address, port)).await.expect("a route");
            client.send(b"x").await.expect("sent");
            let mut buffer = [0; 100];
            let answer = tokio::time::timeout(PATIENCE, client.recv(&mut buffer)).await;
            answer
                .unwrap_or_else(|_| panic!("no answer from {address} at {any}"))
                .expect("a datagram");
        }
        proxy.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_leaves_a_host_that_is_ejected() {
    let ((a, _), (b, _)) = (echo("a").await, echo("b").await);
    let mut up = cluster("up", &[a, b]);
    up["outlier_detection"] = json!({ "consecutive_5xx": 1, "base_ejection_time": "300s" });
    let routes = json!([{ "name": "all", "domains": ["*"],
        "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "up" } }] }]);
    let port = free_port();
    let all = json!([
        proxied(port, all_to("up")),
        listener("main", port, "OUTBOUND", hcm(routes))
    ]);
    let proxy = Proxy::start(port, all, json!([up])).await;
    let clients = [Client::new().await, Client::new().await];
    let names = async || {
        let mut names = BTreeSet::new();
        for client in &clients {
            names.insert(client.ask(port, "x").await[..1].to_owned());
        }
        names.len()
    };
    assert_eq!(names().await, 2, "each client has another host");
    // Nobody takes connections at either, so that one of them is ejected; then the other cannot be.
    let seen = common::Client::connect(port, false)
        .await
        .get("up", "/")
        .await;
    assert_eq!(seen.status, 503);
    assert_eq!(names().await, 1, "nobody stays with it");
    proxy.stop().await;
}
