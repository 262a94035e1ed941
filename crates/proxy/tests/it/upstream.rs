//! What a proxy does about hosts that misbehave: ejection, and tries that take too long.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use lateen_http::{Abort, Handler, Request, Response, ServerConfig};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::common::{Client, Proxy, cluster};

/// The limit of every wait for a condition.
const PATIENCE: Duration = Duration::from_secs(60);

/// A backend that answers as it is told to.
#[derive(Clone, Default)]
struct Moody {
    hits: Arc<AtomicUsize>,
    /// Answers 503.
    broken: Arc<AtomicBool>,
    /// Does not answer at all until this is taken back.
    stuck: Arc<AtomicBool>,
}

impl Moody {
    async fn start() -> (SocketAddr, Moody) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let moody = Moody::default();
        let handler = moody.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let handler = handler.clone();
                tokio::spawn(async move {
                    let config = ServerConfig::default();
                    let _ =
                        lateen_http::serve(stream, &config, handler, std::future::pending()).await;
                });
            }
        });
        (address, moody)
    }

    fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }
}

impl Handler for Moody {
    async fn handle(&self, _: Request) -> Result<Response, Abort> {
        self.hits.fetch_add(1, Ordering::SeqCst);
        if self.stuck.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.broken.load(Ordering::SeqCst) {
            return Ok(Response::text(503, "broken"));
        }
        Ok(Response::text(200, "fine"))
    }
}

/// A proxy before these hosts, with this outlier detection and retry policy.
async fn proxy(hosts: &[SocketAddr], outlier: Value, route: Value) -> Proxy {
    let mut upstream = cluster("up", hosts);
    if outlier.is_object() {
        upstream["outlier_detection"] = outlier;
    }
    Proxy::before(upstream, route).await
}

/// How many of as many requests were answered with each status: 200, and anything else.
async fn ask(client: &mut Client, n_requests: usize) -> (usize, usize) {
    let mut n_fine = 0;
    for _ in 0..n_requests {
        n_fine += usize::from(client.get("up", "/").await.status == 200);
    }
    (n_fine, n_requests - n_fine)
}

#[tokio::test]
async fn a_failing_host_is_ejected() {
    let (bad_at, bad) = Moody::start().await;
    let (good_at, good) = Moody::start().await;
    bad.broken.store(true, Ordering::SeqCst);
    let outlier = json!({ "consecutive_5xx": 3, "base_ejection_time": "300s" });
    let proxy = proxy(&[bad_at, good_at], outlier, json!({})).await;
    let mut client = proxy.client().await;
    while bad.hits() < 3 {
        ask(&mut client, 1).await;
    }
    let before = good.hits();
    assert_eq!(ask(&mut client, 30).await, (30, 0), "it is still asked");
    assert_eq!((bad.hits(), good.hits()), (3, before + 30));
    proxy.stop().await;
}

#[tokio::test]
async fn an_ejected_host_comes_back() {
    let (bad_at, bad) = Moody::start().await;
    let (good_at, _good) = Moody::start().await;
    bad.broken.store(true, Ordering::SeqCst);
    let outlier = json!({ "consecutive_5xx": 1, "base_ejection_time": "0.3s" });
    let proxy = proxy(&[bad_at, good_at], outlier, json!({})).await;
    let mut client = proxy.client().await;
    while bad.hits() == 0 {
        ask(&mut client, 1).await;
    }
    bad.broken.store(false, Ordering::SeqCst);
    let before = bad.hits();
    let patience = std::time::Instant::now();
    while bad.hits() == before {
        assert_eq!(ask(&mut client, 1).await, (1, 0));
        assert!(patience.elapsed() < PATIENCE, "it never came back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    proxy.stop().await;
}

#[tokio::test]
async fn hosts_that_time_out_are_ejected_too() {
    let (stuck_at, stuck) = Moody::start().await;
    let (good_at, _good) = Moody::start().await;
    stuck.stuck.store(true, Ordering::SeqCst);
    let outlier = json!({ "consecutive_5xx": 2, "base_ejection_time": "300s",
        "max_ejection_percent": 100 });
    let proxy = proxy(&[stuck_at, good_at], outlier, json!({ "timeout": "0.2s" })).await;
    let mut client = proxy.client().await;
    while stuck.hits() < 2 {
        ask(&mut client, 1).await;
    }
    assert_eq!(ask(&mut client, 20).await, (20, 0), "it is still asked");
    assert_eq!(stuck.hits(), 2);
    proxy.stop().await;
}

#[tokio::test]
async fn a_try_that_takes_too_long_is_followed_by_another() {
    let (stuck_at, stuck) = Moody::start().await;
    let (good_at, good) = Moody::start().await;
    stuck.stuck.store(true, Ordering::SeqCst);
    let retry = json!({ "retry_policy": {
        "retry_on": "5xx", "num_retries": 2, "per_try_timeout": "0.2s",
        "retry_host_predicate": [{ "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": { "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate" } }],
        "host_selection_retry_max_attempts": "5",
    } });
    let proxy = proxy(&[stuck_at, good_at], Value::Null, retry).await;
    let mut client = proxy.client().await;
    while stuck.hits() == 0 {
        assert_eq!(ask(&mut client, 1).await, (1, 0), "the retry did not help");
    }
    assert!(good.hits() >= 1);
    let stats = proxy.admin("/stats/prometheus").await;
    let retries = stats
        .lines()
        .find(|line| line.starts_with("envoy_cluster_upstream_rq_retry{"));
    assert!(
        retries.is_some_and(|line| !line.ends_with(" 0")),
        "{retries:?}"
    );
    proxy.stop().await;
}

#[tokio::test]
async fn tries_that_all_take_too_long_end_in_a_timeout() {
    let (stuck_at, stuck) = Moody::start().await;
    stuck.stuck.store(true, Ordering::SeqCst);
    let retry = json!({ "retry_policy": { "retry_on": "5xx", "num_retries": 2,
        "per_try_timeout": "0.1s" } });
    let proxy = proxy(&[stuck_at], Value::Null, retry).await;
    let mut client = proxy.client().await;
    let seen = client.get("up", "/").await;
    assert_eq!(seen.status, 504, "{}", seen.text);
    assert_eq!(stuck.hits(), 3, "one try and two more");
    proxy.stop().await;
}

/// The type of what a cluster says of HTTP.
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

#[tokio::test]
async fn a_cluster_says_what_a_failure_is() {
    let (at, backend) = Moody::start().await;
    let errors = json!({ "http_response_headers_match": { "headers": [
        { "name": ":status", "string_match": { "exact": "200" } } ] } });
    let mut upstream = cluster("up", &[at]);
    upstream["outlier_detection"] =
        json!({ "consecutive_5xx": 2, "base_ejection_time": "300s", "max_ejection_percent": 100 });
    upstream["common_lb_config"] = json!({ "healthy_panic_threshold": { "value": 0 } });
    upstream["typed_extension_protocol_options"] = json!({ HTTP_OPTIONS: {
        "@type": format!("type.googleapis.com/{HTTP_OPTIONS}"),
        "explicit_http_config": { "http_protocol_options": {} },
        "outlier_detection": { "error_matcher": errors } } });
    let proxy = Proxy::before(upstream, json!({})).await;
    let mut client = proxy.client().await;
    // What is no failure by the matcher ejects nobody.
    backend.broken.store(true, Ordering::SeqCst);
    assert_eq!(ask(&mut client, 5).await, (0, 5));
    assert_eq!(backend.hits(), 5);
    backend.broken.store(false, Ordering::SeqCst);
    assert_eq!(ask(&mut client, 5).await, (2, 3));
    assert_eq!(backend.hits(), 7);
    proxy.stop().await;
}

#[tokio::test]
async fn only_requests_with_the_right_headers_are_tried_again() {
    let (at, backend) = Moody::start().await;
    backend.broken.store(true, Ordering::SeqCst);
    let retry = json!({ "retry_on": "5xx", "num_retries": 2,
        "retry_back_off": { "base_interval": "0.001s" },
        "retriable_request_headers": [{ "name": "x-again", "string_match": { "exact": "yes" } }] });
    let proxy = proxy(&[at], json!(null), json!({ "retry_policy": retry })).await;
    let mut client = proxy.client().await;
    assert_eq!(client.get("up", "/").await.status, 503);
    assert_eq!(backend.hits(), 1);
    let again = [("x-again", "yes")];
    assert_eq!(client.get_with("up", "/", &again).await.status, 503);
    assert_eq!(backend.hits(), 4);
    proxy.stop().await;
}

#[tokio::test]
async fn a_try_that_is_quiet_for_too_long_is_followed_by_another() {
    let (stuck_at, stuck) = Moody::start().await;
    stuck.stuck.store(true, Ordering::SeqCst);
    let retry = |attempts: u32| {
        json!({ "timeout": "0s", "retry_policy": { "retry_on": "5xx", "num_retries": attempts,
            "per_try_idle_timeout": "0.1s", "retry_back_off": { "base_interval": "0.001s" } } })
    };
    for (attempts, hits) in [(2, 3), (0, 4)] {
        let proxy = proxy(&[stuck_at], json!(null), retry(attempts)).await;
        let seen = proxy.client().await.get("up", "/").await;
        assert_eq!(seen.status, 504, "{}", seen.text);
        assert_eq!(stuck.hits(), hits);
        proxy.stop().await;
    }
}

#[tokio::test]
async fn important_requests_have_limits_of_their_own() {
    let (at, backend) = Moody::start().await;
    backend.stuck.store(true, Ordering::SeqCst);
    let mut upstream = cluster("up", &[at]);
    upstream["circuit_breakers"] = json!({ "thresholds": [
        { "priority": "DEFAULT", "max_requests": 1 }, { "priority": "HIGH", "max_requests": 0 } ] });
    for (priority, refused) in [("DEFAULT", false), ("HIGH", true)] {
        let before = backend.hits();
        let action = json!({ "priority": priority, "timeout": "0.2s" });
        let proxy = Proxy::before(upstream.clone(), action).await;
        let status = proxy.client().await.get("up", "/").await.status;
        assert_eq!(status, if refused { 503 } else { 504 });
        assert_eq!(backend.hits(), before + usize::from(!refused));
        let text = proxy.admin("/clusters").await;
        assert!(
            text.contains("up::high_priority::max_requests::0"),
            "{text}"
        );
        proxy.stop().await;
    }
}
