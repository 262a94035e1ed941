//! Bytes through the proxy: TCP, WebSocket, and mutual TLS between two listeners.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{Echo, Proxy, TCP, cluster, free_port, hcm, listener};
use lateen_core::SpiffeId;
use lateen_tls::{Authority, IdentityStore, LeafRequest};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A server that reads to the end and answers with what it read.
async fn reader() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.expect("readable");
                stream.write_all(&all).await.expect("writable");
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_with_half_close() {
    let address = reader().await;
    let port = free_port();
    let filter = json!({ "@type": TCP, "stat_prefix": "t", "cluster": "t" });
    let listeners = json!([listener("tcp", port, "OUTBOUND", filter)]);
    let proxy = Proxy::start(port, listeners, json!([cluster("t", &[address])])).await;
    let mut stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("listening");
    let payload = vec![7_u8; 3_000_000];
    let (mut read, mut write) = stream.split();
    let sending = async {
        write.write_all(&payload).await.expect("writable");
        write.shutdown().await.expect("open");
    };
    let mut back = Vec::new();
    let (_, result) = tokio::join!(sending, read.read_to_end(&mut back));
    result.expect("readable");
    assert_eq!(back.len(), payload.len());
    tokio::time::sleep(Duration::from_millis(100)).await;
    let metrics = proxy.admin("/stats/prometheus").await;
    let find = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("no {name} in\n{metrics}"))
            .to_owned()
    };
    assert!(find("istio_tcp_connections_opened_total{").ends_with(" 1"));
    assert!(find("istio_tcp_connections_closed_total{").ends_with(" 1"));
    assert!(find("istio_tcp_received_bytes_total{").ends_with(" 3000000"));
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn websocket_bytes_pass_after_the_switch() {
    let server = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = server.local_addr().expect("bound");
    tokio::spawn(async move {
        let (mut stream, _) = server.accept().await.expect("a connection");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a head"));
        }
        let head = String::from_utf8(head).expect("text").to_ascii_lowercase();
        assert!(
            head.contains("upgrade: websocket") && head.contains("connection: upgrade"),
            "{head}"
        );
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello")
            .await
            .expect("open");
        let mut ping = [0; 4];
        stream.read_exact(&mut ping).await.expect("bytes");
        stream.write_all(&ping).await.expect("open");
    });
    let port = free_port();
    let hosts = json!([{ "name": "all", "domains": ["*"], "routes": [
        { "match": { "prefix": "/" }, "route": { "cluster": "w" } } ] }]);
    let listeners = json!([listener("ws", port, "OUTBOUND", hcm(hosts))]);
    let proxy = Proxy::start(port, listeners, json!([cluster("w", &[address])])).await;
    let mut stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("listening");
    stream
        .write_all(
            b"GET /chat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        )
        .await
        .expect("open");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a head"));
    }
    let head = String::from_utf8(head).expect("text").to_ascii_lowercase();
    assert!(
        head.starts_with("http/1.1 101") && head.contains("upgrade: websocket"),
        "{head}"
    );
    let mut hello = [0; 5];
    stream.read_exact(&mut hello).await.expect("bytes");
    assert_eq!(&hello, b"hello");
    stream.write_all(b"ping").await.expect("open");
    let mut ping = [0; 4];
    stream.read_exact(&mut ping).await.expect("bytes");
    assert_eq!(&ping, b"ping");
    drop(stream);
    proxy.stop().await;
}

fn identity(authority: &Authority, account: &str) -> Arc<IdentityStore> {
    let id: SpiffeId = format!("spiffe://cluster.local/ns/default/sa/{account}")
        .parse()
        .expect("valid");
    let request = LeafRequest::spiffe(&id, Duration::from_secs(3600));
    Arc::new(IdentityStore::new(
        authority.identity(&request).expect("issued"),
    ))
}

fn common_tls(sans: Value) -> Value {
    json!({
        "alpn_protocols": ["istio-peer-exchange", "istio"],
        "tls_certificate_sds_secret_configs": [{ "name": "default" }],
        "combined_validation_context": {
            "default_validation_context": { "match_typed_subject_alt_names": sans },
            "validation_context_sds_secret_config": { "name": "ROOTCA" },
        },
    })
}

/// A mutual TLS hop: client proxy, server proxy that is strict, backend.
#[tokio::test(flavor = "multi_thread")]
async fn mutual_tls_between_two_proxies() {
    lateen_tls::install_provider();
    let authority =
        Authority::self_signed("cluster.local", Duration::from_secs(3600)).expect("made");
    let (backend, _) = Echo::start("app").await;
    let server_port = free_port();
    let hosts = |cluster: &str| {
        json!([{ "name": "all", "domains": ["*"],
            "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": cluster } }] }])
    };
    let mut inbound = hcm(hosts("app"));
    inbound["forward_client_cert_details"] = "APPEND_FORWARD".into();
    inbound["set_current_client_cert_details"] =
        json!({ "subject": true, "dns": true, "uri": true });
    let mut strict = listener("inbound", server_port, "INBOUND", inbound);
    strict["listener_filters"] = json!([
        { "name": "envoy.filters.listener.tls_inspector", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector" } },
        { "name": "envoy.filters.listener.http_inspector", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector" } },
    ]);
    strict["filter_chains"][0]["filter_chain_match"] = json!({ "transport_protocol": "tls", "application_protocols": ["istio-http/1.1", "istio"] });
    strict["filter_chains"][0]["transport_socket"] = json!({ "name": "tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": common_tls(json!([])), "require_client_certificate": true } });
    let server = Proxy::with_identity(
        server_port,
        json!([strict]),
        json!([cluster("app", &[backend])]),
        identity(&authority, "server"),
    )
    .await;

    let upstream = |name: &str, account: &str| {
        let mut cluster = cluster(name, &[([127, 0, 0, 1], server_port).into()]);
        let sans = json!([{ "san_type": "URI", "matcher": {
            "exact": format!("spiffe://cluster.local/ns/default/sa/{account}") } }]);
        cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["metadata"] = json!({
            "filter_metadata": {
                "envoy.transport_socket_match": { "tlsMode": "istio" },
                "istio": { "workload": "server-v1;default;server;v1;Kubernetes" },
            } });
        cluster["transport_socket_matches"] = json!([
            { "name": "tlsMode-istio", "match": { "tlsMode": "istio" }, "transport_socket": {
                "name": "envoy.transport_sockets.tls", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                    "sni": "outbound_.80_._.server.default.svc.cluster.local",
                    "common_tls_context": common_tls(sans) } } },
            { "name": "tlsMode-disabled", "match": {}, "transport_socket": {
                "name": "envoy.transport_sockets.raw_buffer", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer" } } },
        ]);
        cluster
    };
    let client_port = free_port();
    let routes = json!([{ "name": "all", "domains": ["*"], "routes": [
        { "match": { "prefix": "/wrong" }, "route": { "cluster": "wrong" } },
        { "match": { "prefix": "/" }, "route": { "cluster": "right" } } ] }]);
    let client_proxy = Proxy::with_identity(
        client_port,
        json!([listener("outbound", client_port, "OUTBOUND", hcm(routes))]),
        json!([upstream("right", "server"), upstream("wrong", "another")]),
        identity(&authority, "client"),
    )
    .await;

    let mut client = client_proxy.client().await;
    let seen = client.get("server", "/").await;
    assert_eq!(seen.status, 200, "{}", seen.text);
    let json = seen.json();
    let cert = json["headers"]["x-forwarded-client-cert"]
        .as_str()
        .expect("told");
    assert!(
        cert.contains("By=spiffe://cluster.local/ns/default/sa/server;Hash="),
        "{cert}"
    );
    assert!(
        cert.contains("URI=spiffe://cluster.local/ns/default/sa/client"),
        "{cert}"
    );
    assert!(json["headers"].get("x-envoy-peer-metadata").is_none());
    assert_eq!(seen.header("x-envoy-peer-metadata"), "");

    let seen = client.get("server", "/wrong").await;
    assert_eq!(
        seen.status, 503,
        "another identity than expected must not be trusted"
    );

    let metrics = server.admin("/stats/prometheus").await;
    let line = metrics
        .lines()
        .find(|line| line.starts_with("istio_requests_total{"));
    let line = line.unwrap_or_else(|| panic!("no istio_requests_total in\n{metrics}"));
    for label in [
        r#"reporter="destination""#,
        r#"source_workload="test-v1""#,
        r#"source_principal="spiffe://cluster.local/ns/default/sa/client""#,
        r#"destination_principal="spiffe://cluster.local/ns/default/sa/server""#,
        r#"connection_security_policy="mutual_tls""#,
    ] {
        assert!(line.contains(label), "{label} not in {line}");
    }
    let metrics = client_proxy.admin("/stats/prometheus").await;
    assert!(
        metrics.contains(r#"destination_canonical_service="#),
        "{metrics}"
    );

    // Who speaks plain text is refused.
    let mut plain = TcpStream::connect(("127.0.0.1", server_port))
        .await
        .expect("listening");
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .expect("open");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    client_proxy.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn a_connection_ends_when_its_time_is_over() {
    let address = reader().await;
    let port = free_port();
    let filter = json!({ "@type": TCP, "stat_prefix": "t", "cluster": "t",
        "max_downstream_connection_duration": "0.3s" });
    let listeners = json!([listener("tcp", port, "OUTBOUND", filter)]);
    let proxy = Proxy::start(port, listeners, json!([cluster("t", &[address])])).await;
    let stream = TcpStream::connect(("127.0.0.1", port)).await;
    let (mut read, mut write) = stream.expect("listening").into_split();
    // Whatever moves meanwhile.
    let sending = tokio::spawn(async move {
        while write.write_all(b"more").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let mut back = Vec::new();
    let patience = Duration::from_secs(60);
    let ended = tokio::time::timeout(patience, read.read_to_end(&mut back)).await;
    // By a reset or in order, but it ends, and the backend has not answered.
    let _ = ended.expect("it ends");
    assert_eq!(back, b"");
    sending.await.expect("no panic");
    proxy.stop().await;
}
