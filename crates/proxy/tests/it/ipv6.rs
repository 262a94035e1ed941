//! Listeners at addresses of both families, and sources of connections for each.

use std::net::SocketAddr;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{Proxy, TCP, cluster, free_port, listener, socket};

/// A server that tells who connects to it.
async fn server(at: &str) -> SocketAddr {
    let listener = TcpListener::bind((at, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, peer)) = listener.accept().await {
            let _ = stream.write_all(peer.ip().to_string().as_bytes()).await;
        }
    });
    address
}

async fn told(at: &str, port: u16) -> String {
    let mut stream = TcpStream::connect((at, port)).await.expect("it listens");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("an answer");
    text
}

#[tokio::test]
async fn both_families_are_listened_at_and_connected_from() {
    let to = [
        ("four", server("127.0.0.1").await),
        ("six", server("::1").await),
    ];
    let ports = [free_port(), free_port()];
    let listeners = to.iter().zip(ports).map(|((name, _), port)| {
        let filter = json!({"@type": TCP, "stat_prefix": "tcp", "cluster": name});
        let mut listener = listener(name, port, "INBOUND", filter);
        listener["additional_addresses"] = json!([{"address": socket("::1", port)}]);
        listener
    });
    let clusters = to.iter().map(|(name, address)| {
        let mut cluster = cluster(name, &[*address]);
        cluster["upstream_bind_config"] = json!({
            "source_address": {"address": "127.0.0.6", "port_value": 0},
            "extra_source_addresses": [{"address": {"address": "::1", "port_value": 0}}],
        });
        cluster
    });
    let (listeners, clusters) = (listeners.collect(), clusters.collect());
    let proxy = Proxy::start(ports[0], listeners, clusters).await;
    for (port, source) in ports.into_iter().zip(["127.0.0.6", "::1"]) {
        for at in ["127.0.0.1", "::1"] {
            assert_eq!(told(at, port).await, source, "by {at}");
        }
    }
    proxy.stop().await;
}
