use axum::body::Body;
use lateen_tls::LeafRequest;
use tower::ServiceExt;

use super::*;
use crate::testing::{DAY, Pod};

/// Serves a router on loopback and returns its port.
async fn app(router: Router) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

fn status(pod: &Pod, extra: &[(&str, &str)]) -> Arc<Status> {
    let config = pod.config("localhost:1", extra);
    Arc::new(Status::new(config, Arc::new(IdentityStore::empty()), None))
}

fn certify(pod: &Pod, status: &Status) {
    let id = "spiffe://cluster.local/ns/default/sa/default"
        .parse()
        .expect("an identity");
    status.identity.set(
        pod.authority
            .identity(&LeafRequest::spiffe(&id, DAY))
            .expect("a leaf"),
    );
}

async fn ask(
    status: &Arc<Status>,
    method: &str,
    path: &str,
    from: [u8; 4],
) -> (StatusCode, String) {
    let request = hyper::Request::builder()
        .method(method)
        .uri(path)
        .header("user-agent", "kube-probe/1.32")
        // The kubelet sends what the probe's definition says, as rewriting leaves it there.
        .header("x-mine", "1")
        .extension(ConnectInfo(SocketAddr::from((from, 1))))
        .body(Body::empty())
        .expect("a request");
    let response = router(status.clone())
        .oneshot(request)
        .await
        .expect("infallible");
    let code = response.status();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20)
        .await
        .expect("a body");
    (code, String::from_utf8_lossy(&body).into_owned())
}

const LOCAL: [u8; 4] = [127, 0, 0, 1];

#[tokio::test]
async fn readiness_needs_a_certificate_and_a_ready_proxy_and_ends_with_a_drain() {
    let pod = Pod::new();
    let admin = app(Router::new().route("/ready", get(|| async { "LIVE\n" }))).await;
    let config = format!("proxyAdminPort: {admin}");
    let status = status(&pod, &[("PROXY_CONFIG", &config)]);
    let (code, why) = ask(&status, "GET", "/healthz/ready", LOCAL).await;
    assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
    assert!(why.contains("no certificate"), "{why}");
    certify(&pod, &status);
    assert_eq!(
        ask(&status, "GET", "/healthz/ready", LOCAL).await.0,
        StatusCode::OK
    );
    assert_eq!(
        ask(&status, "POST", "/drain", LOCAL).await.0,
        StatusCode::OK
    );
    let (code, why) = ask(&status, "GET", "/healthz/ready", LOCAL).await;
    assert_eq!(
        (code, why.as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    );
}

#[tokio::test]
async fn a_sidecar_that_answers_names_is_ready_when_it_was_told_of_them() {
    let pod = Pod::new();
    let admin = app(Router::new().route("/ready", get(|| async { "LIVE\n" }))).await;
    let proxy = format!("proxyAdminPort: {admin}");
    for (role, proxyless, waits) in [
        (Role::Sidecar, false, true),
        (Role::Sidecar, true, false),
        (Role::Router, false, false),
    ] {
        let config = pod.config("localhost:1", &[("PROXY_CONFIG", &proxy)]);
        let mut config = Arc::into_inner(config).expect("nobody else has it");
        (config.role, config.proxyless) = (role, proxyless);
        let (tables_tx, tables) = watch::channel(Arc::<Table>::default());
        let identity = Arc::new(IdentityStore::empty());
        let status = Arc::new(Status::new(Arc::new(config), identity, Some(tables)));
        certify(&pod, &status);
        let (code, why) = ask(&status, "GET", "/healthz/ready", LOCAL).await;
        let expect = if waits {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::OK
        };
        assert_eq!(code, expect, "{role:?} {why}");
        assert_eq!(why.starts_with("names: "), waits, "{why}");
        // There may be none.
        tables_tx.send_replace(Arc::default());
        let (code, why) = ask(&status, "GET", "/healthz/ready", LOCAL).await;
        assert_eq!(code, StatusCode::OK, "{role:?} {why}");
    }
}

#[tokio::test]
async fn only_the_pod_itself_may_end_its_proxy() {
    let pod = Pod::new();
    let status = status(&pod, &[]);
    for path in ["/quitquitquit", "/drain"] {
        let (code, _) = ask(&status, "POST", path, [10, 0, 0, 1]).await;
        assert_eq!(code, StatusCode::FORBIDDEN, "{path}");
        let (code, _) = ask(&status, "GET", path, LOCAL).await;
        assert_eq!(code, StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
    assert_eq!(
        ask(&status, "POST", "/quitquitquit", LOCAL).await.0,
        StatusCode::OK
    );
    status.quit_asked().await;
}

#[tokio::test]
async fn probes_ask_the_application_what_the_kubelet_would_have_asked() {
    let pod = Pod::new();
    let echo = |headers: HeaderMap| async move {
        let values = |name: &str| {
            let all = headers.get_all(name).iter();
            all.filter_map(|v| v.to_str().ok().map(str::to_owned))
                .collect::<Vec<_>>()
        };
        format!("{:?} {:?}", values("user-agent"), values("x-mine"))
    };
    let missing = || async { StatusCode::IM_A_TEAPOT };
    let port = app(Router::new()
        .route("/ok", get(echo))
        .route("/bad", get(missing)))
    .await;
    let probers = serde_json::json!({
        "/app-health/c/readyz": { "httpGet": { "path": "/ok", "port": port,
            "httpHeaders": [{ "name": "x-mine", "value": "1" }] } },
        "/app-health/c/livez": { "httpGet": { "path": "/bad", "port": port } },
        "/app-health/c/startupz": { "tcpSocket": { "port": port } },
        "/app-health/d/readyz": { "tcpSocket": { "port": 1 } },
        "/app-health/d/livez": { "exec": { "command": ["true"] } },
    });
    let status = status(&pod, &[("ISTIO_KUBE_APP_PROBERS", &probers.to_string())]);
    let get = async |path: &str| ask(&status, "GET", path, [10, 0, 0, 1]).await;
    let (code, text) = get("/app-health/c/readyz").await;
    assert_eq!(
        (code, text.as_str()),
        (StatusCode::OK, r#"["kube-probe/1.32"] ["1"]"#)
    );
    assert_eq!(get("/app-health/c/livez").await.0, StatusCode::IM_A_TEAPOT);
    assert_eq!(get("/app-health/c/startupz").await.0, StatusCode::OK);
    assert_eq!(
        get("/app-health/d/readyz").await.0,
        StatusCode::INTERNAL_SERVER_ERROR
    );
    let (code, text) = get("/app-health/d/livez").await;
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(text.contains("not supported"), "{text}");
    assert_eq!(get("/app-health/x/livez").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn hooks_run_in_the_application() {
    let pod = Pod::new();
    let (asked_tx, mut asked) = tokio::sync::mpsc::unbounded_channel();
    // Longer than a probe may take by default.
    let slow = move |headers: HeaderMap| {
        let asked_tx = asked_tx.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            let mine = headers.get("x-mine").and_then(|v| v.to_str().ok());
            asked_tx.send(mine.map(str::to_owned)).expect("listened to");
        }
    };
    let port = app(Router::new().route("/bye", get(slow))).await;
    let hooks = serde_json::json!({
        "/app-lifecycle/c/prestopz": { "httpGet": { "path": "/bye", "port": port } },
        "/app-lifecycle/c/poststartz": { "tcpSocket": { "port": 1 } },
    });
    let status = status(&pod, &[("ISTIO_KUBE_APP_PROBERS", &hooks.to_string())]);
    let get = async |path: &str| ask(&status, "GET", path, [10, 0, 0, 1]).await.0;
    assert_eq!(get("/app-lifecycle/c/prestopz").await, StatusCode::OK);
    assert_eq!(asked.recv().await, Some(Some("1".to_owned())));
    let failed = get("/app-lifecycle/c/poststartz").await;
    assert_eq!(failed, StatusCode::INTERNAL_SERVER_ERROR);
    let unknown = get("/app-lifecycle/d/prestopz").await;
    assert_eq!(unknown, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn metrics_are_merged_and_a_missing_part_costs_only_itself() {
    let pod = Pod::new();
    let application = || async { "# TYPE mine counter\nmine 1\n# EOF\n" };
    let app_port = app(Router::new().route("/metrics", get(application))).await;
    let proxy = || async { "# TYPE theirs counter\ntheirs 2\n" };
    let proxy_port = app(Router::new().route("/stats/prometheus", get(proxy))).await;
    let annotations = serde_json::json!({ "scrape": "true", "port": app_port.to_string() });
    let annotations = annotations.to_string();
    for (metrics_port, theirs) in [(proxy_port.to_string(), true), ("1".to_owned(), false)] {
        let status = status(
            &pod,
            &[
                ("ISTIO_PROMETHEUS_ANNOTATIONS", &annotations),
                ("ENVOY_PROMETHEUS_PORT", &metrics_port),
            ],
        );
        certify(&pod, &status);
        let (code, text) = ask(&status, "GET", "/stats/prometheus", [10, 0, 0, 1]).await;
        assert_eq!(code, StatusCode::OK);
        assert!(text.contains("mine 1\n") && !text.contains("EOF"), "{text}");
        assert_eq!(text.contains("theirs 2\n"), theirs, "{text}");
        assert!(text.contains("istio_agent_cert_expiry_seconds{resource_name=\"default\"} 8"));
        let failures = format!(
            "istio_agent_scrape_failures{{type=\"envoy\"}} {}",
            u8::from(!theirs)
        );
        assert!(text.contains(&failures), "{text}");
    }
}
