//! What a connection manager bounds, and what it says of fields that nobody reads.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::{Echo, Proxy, cluster, free_port, hcm, listener};

/// A proxy whose connection manager has these fields beside the usual ones.
async fn proxy(fields: Value) -> (Proxy, Echo) {
    let (address, echo) = Echo::start("app").await;
    let mut manager = hcm(json!([{ "name": "all", "domains": ["*"],
        "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "app" } }] }]));
    for (name, value) in fields.as_object().into_iter().flatten() {
        manager[name] = value.clone();
    }
    let port = free_port();
    let listeners = json!([listener("main", port, "OUTBOUND", manager)]);
    let clusters = json!([cluster("app", &[address])]);
    (Proxy::start(port, listeners, clusters).await, echo)
}

/// Everything that comes until the proxy ends the connection.
async fn until_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    let within = tokio::time::timeout(Duration::from_secs(20), read).await;
    within.expect("an end").expect("readable");
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", proxy.port)).await;
    stream.expect("the proxy listens")
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_has_so_many_requests() {
    let options = json!({ "max_requests_per_connection": 2 });
    let (proxy, _echo) = proxy(json!({ "common_http_protocol_options": options })).await;
    let mut stream = connect(&proxy).await;
    for _ in 0..3 {
        stream.write_all(GET).await.expect("open");
    }
    let text = until_end(&mut stream).await.to_ascii_lowercase();
    assert_eq!(text.matches("http/1.1 200").count(), 2, "{text}");
    assert_eq!(text.matches("connection: close").count(), 1, "{text}");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_becomes_so_old() {
    let options = json!({ "max_connection_duration": "0.2s" });
    let (proxy, _echo) = proxy(json!({ "common_http_protocol_options": options })).await;
    let mut stream = connect(&proxy).await;
    stream.write_all(GET).await.expect("open");
    let text = until_end(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_comes_in_time_and_has_so_many_fields() {
    let options = json!({ "max_headers_count": 3 });
    let fields = json!({ "common_http_protocol_options": options,
        "request_headers_timeout": "0.2s" });
    let (proxy, _echo) = proxy(fields).await;
    let mut stream = connect(&proxy).await;
    stream.write_all(b"GET / HTTP/1.1\r\n").await.expect("open");
    let text = until_end(&mut stream).await;
    assert!(!text.contains(" 200 "), "{text}");
    let mut stream = connect(&proxy).await;
    let many = b"GET / HTTP/1.1\r\nhost: a\r\na: 1\r\nb: 2\r\nc: 3\r\n\r\n";
    stream.write_all(many).await.expect("open");
    let text = until_end(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 431"), "{text}");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_that_nobody_reads_are_named() {
    let (proxy, _echo) = proxy(json!({ "via": "us" })).await;
    let listed: Value = serde_json::from_str(&proxy.admin("/unread").await).expect("JSON");
    let of = |name: &str| {
        let entries = listed["unread"].as_array().expect("a list");
        let found = entries.iter().find(|entry| entry["name"] == name);
        found.map(|entry| entry["fields"].clone())
    };
    let field = "filter_chains[0].filters[0].typed_config.via";
    assert_eq!(of("main"), Some(json!([field])), "{listed:#}");
    assert_eq!(of("app"), None, "{listed:#}");
    assert!(
        proxy
            .admin("/stats")
            .await
            .contains("lateen.unread_fields: 1\n")
    );
    let metrics = proxy.admin("/stats/prometheus").await;
    assert!(metrics.contains("lateen_unread_fields 1\n"), "{metrics}");
    proxy.stop().await;
}
