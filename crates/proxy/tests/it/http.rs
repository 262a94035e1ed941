//! HTTP through the proxy, from a static bootstrap: routing, rewriting, failing and counting.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::common::{Client, Echo, Proxy, cluster, free_port, hcm, listener};
use serde_json::{Value, json};

/// A proxy in front of two backends, with these routes for every authority.
async fn proxy(routes: Value) -> (Proxy, Echo, Echo) {
    let (a_address, a) = Echo::start("a").await;
    let (b_address, b) = Echo::start("b").await;
    let port = free_port();
    let hosts = json!([{ "name": "all", "domains": ["*"], "routes": routes }]);
    let gone = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let clusters = json!([
        cluster("a", &[a_address]),
        cluster("b", &[b_address]),
        cluster("half", &[gone, a_address]),
        cluster("gone", &[gone]),
        cluster("empty", &[]),
    ]);
    let listeners = json!([listener("main", port, "OUTBOUND", hcm(hosts))]);
    (Proxy::start(port, listeners, clusters).await, a, b)
}

fn to(prefix: &str, cluster: &str) -> Value {
    json!({ "match": { "prefix": prefix }, "route": { "cluster": cluster } })
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_rewrites_and_headers() {
    let jason = json!({
        "match": { "prefix": "/", "headers": [
            { "name": "end-user", "string_match": { "exact": "jason" } } ] },
        "route": { "cluster": "b" },
        "response_headers_to_add": [{ "header": { "key": "x-added", "value": "%RESPONSE_CODE%" } }],
    });
    let rewrite = json!({
        "match": { "prefix": "/old" },
        "route": { "cluster": "a", "prefix_rewrite": "/new", "host_rewrite_literal": "inner" },
        "request_headers_to_add": [{ "header": { "key": "x-a", "value": "1" } }],
    });
    let redirect = json!({ "match": { "path": "/moved" }, "redirect": {
        "https_redirect": true, "path_redirect": "/there", "response_code": "FOUND" } });
    let direct = json!({ "match": { "path": "/direct" }, "direct_response": {
        "status": 418, "body": { "inline_string": "teapot" } } });
    let routes = json!([jason, rewrite, redirect, direct, to("/", "a")]);
    let (proxy, ..) = proxy(routes).await;
    let mut client = proxy.client().await;

    let seen = client.get("reviews", "/x?y=1").await;
    assert_eq!(seen.status, 200);
    let json = seen.json();
    assert_eq!(json["backend"], "a");
    assert_eq!(json["target"], "/x?y=1");
    assert_eq!(json["authority"], "reviews");
    assert_eq!(
        json["headers"]["x-request-id"]
            .as_str()
            .expect("made")
            .len(),
        36
    );
    assert_eq!(json["headers"]["x-forwarded-proto"], "http");
    assert_eq!(seen.header("server"), "istio-envoy");
    assert!(
        seen.header("x-envoy-upstream-service-time")
            .parse::<u64>()
            .is_ok()
    );

    let seen = client
        .get_with("reviews", "/x", &[("end-user", "jason")])
        .await;
    assert_eq!(seen.json()["backend"], "b");
    assert_eq!(seen.header("x-added"), "200");

    let json = client.get("reviews", "/old/x?q").await.json();
    assert_eq!(
        (&json["target"], &json["authority"]),
        (&json!("/new/x?q"), &json!("inner"))
    );
    assert_eq!(json["headers"]["x-envoy-original-path"], "/old/x?q");
    assert_eq!(json["headers"]["x-a"], "1");

    let seen = client.get("reviews:80", "/moved?a=b").await;
    assert_eq!(
        (seen.status, seen.header("location")),
        (302, "https://reviews/there?a=b")
    );
    let seen = client.get("reviews", "/direct").await;
    assert_eq!((seen.status, seen.text.as_str()), (418, "teapot"));
    let seen = client.get("reviews", "/a/../b").await;
    assert_eq!(seen.json()["target"], "/b");
    let seen = client.post("reviews", "/p", "x".repeat(300_000)).await;
    assert_eq!(seen.json()["body"].as_str().expect("text").len(), 300_000);

    let mut http2 = Client::connect(proxy.port, true).await;
    let json = http2.get("reviews", "/h2").await.json();
    assert_eq!(
        (&json["version"], &json["target"]),
        (&json!("HTTP/1.1"), &json!("/h2"))
    );
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_and_metrics() {
    let weighted = json!({ "match": { "prefix": "/" }, "route": { "weighted_clusters": {
        "clusters": [{ "name": "a", "weight": 90 }, { "name": "b", "weight": 10 }] } } });
    let (proxy, a, b) = proxy(json!([weighted])).await;
    let mut client = proxy.client().await;
    for _ in 0..1000 {
        assert_eq!(client.get("x", "/").await.status, 200);
    }
    let (a, b) = (a.hits.load(Ordering::SeqCst), b.hits.load(Ordering::SeqCst));
    assert_eq!(a + b, 1000);
    assert!((60..150).contains(&b), "{b} of 1000");
    let metrics = proxy.admin("/stats/prometheus").await;
    let line = metrics
        .lines()
        .find(|line| line.starts_with("istio_requests_total{") && line.contains("\"a\""))
        .unwrap_or_else(|| panic!("no istio_requests_total in\n{metrics}"));
    for label in [
        r#"reporter="source""#,
        r#"source_workload="test-v1""#,
        r#"source_canonical_service="test""#,
        r#"response_code="200""#,
        r#"response_flags="-""#,
        r#"destination_service="a""#,
        r#"destination_workload="unknown""#,
        r#"request_protocol="http""#,
    ] {
        assert!(line.contains(label), "{label} not in {line}");
    }
    assert!(line.ends_with(&format!(" {a}")), "{line}");
    assert!(metrics.contains("envoy_cluster_upstream_rq_total{cluster_name=\"a\"}"));
    // One worker, one client at a time: one connection for each cluster.
    assert!(
        metrics.contains("envoy_cluster_upstream_cx_total{cluster_name=\"a\"} 1\n"),
        "{metrics}"
    );
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_say_what_they_are() {
    let limited =
        json!({ "match": { "path": "/slow" }, "route": { "cluster": "a", "timeout": "0.2s" } });
    let routes = json!([
        limited,
        to("/gone", "gone"),
        to("/empty", "empty"),
        to("/none", "nowhere"),
        to("/reset", "a"),
        to("/ok", "a")
    ]);
    let (proxy, ..) = proxy(routes).await;
    let mut client = proxy.client().await;
    let mut check = async |path: &str, status: u16, text: &str| {
        let seen = client.get("x", path).await;
        assert_eq!(seen.status, status, "{path}: {}", seen.text);
        assert!(seen.text.contains(text), "{path}: {}", seen.text);
    };
    check("/gone", 503, "upstream connect error").await;
    check("/empty", 503, "no healthy upstream").await;
    check("/none", 503, "").await;
    check("/unknown", 404, "").await;
    check("/slow", 504, "upstream request timeout").await;
    check("/reset", 503, "reset reason: connection termination").await;
    check("/ok", 200, "").await;
    let metrics = proxy.admin("/stats/prometheus").await;
    for flag in ["UF", "UH", "NC", "NR", "UT", "UC", "-"] {
        assert!(
            metrics.contains(&format!("response_flags=\"{flag}\"")),
            "{flag}"
        );
    }
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retries() {
    let retry = |on: &str, path: &str, cluster: &str| {
        json!({ "match": { "path": path }, "route": { "cluster": cluster, "retry_policy": {
            "retry_on": on, "num_retries": 2, "retry_back_off": { "base_interval": "0.001s" },
            "retry_host_predicate": [{ "name": "envoy.retry_host_predicates.previous_hosts" }],
            "host_selection_retry_max_attempts": "5" } } })
    };
    let istio = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
    let routes = json!([
        retry("5xx", "/flaky", "a"),
        retry(istio, "/half", "half"),
        retry(istio, "/s", "a"),
        to("/", "a")
    ]);
    let (proxy, a, _) = proxy(routes).await;
    let mut client = proxy.client().await;
    let seen = client.post("x", "/flaky", "body".to_owned()).await;
    assert_eq!(seen.status, 200);
    assert_eq!(seen.json()["body"], "body");
    assert_eq!(a.hits.load(Ordering::SeqCst), 2);
    for _ in 0..10 {
        assert_eq!(client.get("x", "/half").await.status, 200);
    }
    // Istio's conditions do not repeat what may have been processed.
    let before = a.hits.load(Ordering::SeqCst);
    assert_eq!(client.get("x", "/s?status=503").await.status, 503);
    assert_eq!(a.hits.load(Ordering::SeqCst), before + 1);
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults() {
    const FAULT: &str = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault";
    let all = json!({ "numerator": 100, "denominator": "HUNDRED" });
    let fault = |path: &str, fault: Value| {
        let mut route = to(path, "a");
        route["typed_per_filter_config"] = json!({ "envoy.filters.http.fault": fault });
        route
    };
    let abort = json!({ "@type": FAULT, "abort": { "http_status": 555, "percentage": all } });
    let delay = json!({ "@type": FAULT, "delay": { "fixed_delay": "0.3s", "percentage": all } });
    let routes = json!([fault("/abort", abort), fault("/delay", delay), to("/", "a")]);
    let (proxy, a, _) = proxy(routes).await;
    let mut client = proxy.client().await;
    let seen = client.get("x", "/abort").await;
    assert_eq!(
        (seen.status, seen.text.as_str()),
        (555, "fault filter abort")
    );
    let grpc = client
        .get_with("x", "/abort", &[("content-type", "application/grpc")])
        .await;
    assert_eq!((grpc.status, grpc.header("grpc-status")), (200, "2"));
    assert_eq!(a.hits.load(Ordering::SeqCst), 0);
    let start = Instant::now();
    assert_eq!(client.get("x", "/delay").await.status, 200);
    assert!(start.elapsed() >= Duration::from_millis(300));
    let metrics = proxy.admin("/stats/prometheus").await;
    assert!(metrics.contains("response_flags=\"FI\"") && metrics.contains("response_flags=\"DI\""));
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cross_origin() {
    let mut route = to("/", "a");
    route["typed_per_filter_config"] = json!({ "envoy.filters.http.cors": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": [{ "exact": "https://ok" }],
        "allow_methods": "GET,PUT", "max_age": "60",
    } });
    let (proxy, ..) = proxy(json!([route])).await;
    let mut client = proxy.client().await;
    let seen = client.get_with("x", "/", &[("origin", "https://ok")]).await;
    assert_eq!(seen.header("access-control-allow-origin"), "https://ok");
    let seen = client
        .get_with("x", "/", &[("origin", "https://bad")])
        .await;
    assert_eq!(seen.header("access-control-allow-origin"), "");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_interface() {
    let (proxy, ..) = proxy(json!([to("/", "a")])).await;
    assert_eq!(proxy.admin("/ready").await, "LIVE\n");
    let dump: Value = serde_json::from_str(&proxy.admin("/config_dump").await).expect("JSON");
    let kinds: Vec<&str> = dump["configs"]
        .as_array()
        .expect("list")
        .iter()
        .filter_map(|c| c["@type"].as_str())
        .collect();
    assert!(
        kinds.contains(&"type.googleapis.com/envoy.admin.v3.ClustersConfigDump"),
        "{kinds:?}"
    );
    let clusters: Value =
        serde_json::from_str(&proxy.admin("/clusters?format=json").await).expect("JSON");
    assert_eq!(clusters["cluster_statuses"][0]["name"], "a");
    assert!(
        proxy
            .admin("/clusters")
            .await
            .contains("::health_flags::healthy")
    );
    assert!(
        proxy
            .admin("/listeners")
            .await
            .contains(&format!("127.0.0.1:{}", proxy.port))
    );
    let info: Value = serde_json::from_str(&proxy.admin("/server_info").await).expect("JSON");
    assert_eq!(info["state"], "LIVE");
    proxy.stop().await;
}
