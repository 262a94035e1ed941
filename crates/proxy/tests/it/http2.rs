//! HTTP/2 on either side of the proxy, with peers that misbehave.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lateen_tls::{Authority, ClientOptions, Connector, Identity, IdentityStore, LeafRequest};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{Echo, Proxy, cluster, free_port, hcm, listener};

/// The limit of every wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// An HTTP/2 server that announces nothing unusual and refuses every stream, and their number.
async fn refusing() -> (SocketAddr, Arc<AtomicUsize>) {
    const PREFACE: usize = 24;
    const HEADERS: u8 = 1;
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = socket.local_addr().expect("bound");
    let refused = Arc::new(AtomicUsize::new(0));
    let count = refused.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = socket.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                stream.read_exact(&mut [0; PREFACE]).await?;
                stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await?;
                loop {
                    let mut head = [0; 9];
                    stream.read_exact(&mut head).await?;
                    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                    stream.read_exact(&mut vec![0; length as usize]).await?;
                    if head[3] == HEADERS {
                        count.fetch_add(1, Ordering::SeqCst);
                        let mut reset = vec![0, 0, 4, 3, 0];
                        reset.extend_from_slice(&head[5..]);
                        reset.extend_from_slice(&[0, 0, 0, 7]);
                        stream.write_all(&reset).await?;
                    }
                }
                #[allow(unreachable_code, reason = "says what the task returns")]
                std::io::Result::Ok(())
            });
        }
    });
    (address, refused)
}

/// It was asked again for ever, as fast as it could refuse.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_refuses_everything_is_not_asked_for_ever() {
    let (backend, refused) = refusing().await;
    let mut upstream = cluster("up", &[backend]);
    upstream["http2_protocol_options"] = json!({});
    let routes = json!([{ "name": "all", "domains": ["*"],
        "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "up" } }] }]);
    let port = free_port();
    let listeners = json!([listener("main", port, "OUTBOUND", hcm(routes))]);
    let proxy = Proxy::start(port, listeners, json!([upstream])).await;
    let mut client = proxy.client().await;
    // The first one opens the connection, the second one finds it.
    for _ in 0..2 {
        let before = refused.load(Ordering::SeqCst);
        let asked = tokio::time::timeout(PATIENCE, client.get("up", "/")).await;
        assert_eq!(asked.expect("an end").status, 503);
        assert!(refused.load(Ordering::SeqCst) - before <= 4);
    }
    proxy.stop().await;
}

/// Whoever agreed on HTTP/2 is not answered in HTTP/1.1, whatever it sends.
#[tokio::test(flavor = "multi_thread")]
async fn what_tls_agreed_upon_is_spoken() {
    lateen_tls::install_provider();
    let authority =
        Authority::self_signed("cluster.local", Duration::from_secs(3600)).expect("made");
    let request = LeafRequest::server(["localhost"], Duration::from_secs(3600));
    let server = Arc::new(IdentityStore::new(
        authority.identity(&request).expect("issued"),
    ));
    let (backend, _) = Echo::start("app").await;
    let routes = json!([{ "name": "all", "domains": ["*"],
        "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "app" } }] }]);
    let port = free_port();
    let mut encrypted = listener("main", port, "INBOUND", hcm(routes));
    encrypted["filter_chains"][0]["transport_socket"] = json!({ "name": "tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": { "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificate_sds_secret_configs": [{ "name": "default" }] } } });
    let clusters = json!([cluster("app", &[backend])]);
    let proxy = Proxy::with_identity(port, json!([encrypted]), clusters, server).await;
    let roots = Identity::roots_only(authority.root_pem()).expect("valid");
    let connector = Connector::new(
        Arc::new(IdentityStore::new(roots)),
        ClientOptions {
            check: lateen_tls::ServerCheck::ServerName,
            present_identity: false,
            alpn: vec![b"h2".to_vec()],
            ..ClientOptions::default()
        },
    );
    let raw = TcpStream::connect(("127.0.0.1", port)).await.expect("up");
    let mut stream = connector
        .connect(raw, Some("localhost"))
        .await
        .expect("trusted");
    let nonsense = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    stream.write_all(nonsense).await.expect("writable");
    let mut answer = Vec::new();
    let reading = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    // However the connection ends.
    let _ = reading.expect("an end");
    assert!(!answer.starts_with(b"HTTP/1"), "{}", answer.escape_ascii());
    proxy.stop().await;
}
