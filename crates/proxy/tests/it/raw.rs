//! Exchanges whose peers are driven byte by byte, so that what is odd or late can be had at all.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::{Echo, Proxy, cluster, free_port, hcm, listener};

/// The limit of every wait.
const PATIENCE: Duration = Duration::from_secs(60);

async fn within<T>(future: impl Future<Output = T>) -> T {
    let result = tokio::time::timeout(PATIENCE, future).await;
    result.expect("nothing hangs")
}

/// Reads until the text ends so.
async fn read_to(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let byte = within(stream.read_u8()).await;
        let seen = text.escape_ascii().to_string();
        text.push(byte.unwrap_or_else(|error| panic!("{error} after {seen}")));
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// A proxy of these clusters, with these routes.
async fn proxy(clusters: Value, routes: Value) -> Proxy {
    let manager = hcm(json!([{ "name": "all", "domains": ["*"], "routes": routes }]));
    let port = free_port();
    let listeners = json!([listener("main", port, "OUTBOUND", manager)]);
    Proxy::start(port, listeners, clusters).await
}

async fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", proxy.port)).await;
    stream.expect("the proxy listens")
}

/// Bytes that are no UTF-8 hid a header from matching, and what is inverted let the request
/// through (the class of CVE-2026-73552).
#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_is_no_utf8_is_seen_by_routes() {
    let (address, _echo) = Echo::start("app").await;
    let deny = |test: Value| {
        json!({ "match": { "prefix": "/", "headers": [test] },
        "direct_response": { "status": 403 } })
    };
    let cases = [
        (json!({ "name": "role", "present_match": true }), 403),
        (
            json!({ "name": "role", "present_match": true, "invert_match": true }),
            200,
        ),
        (
            json!({ "name": "role", "string_match": { "contains": "admin" } }),
            403,
        ),
        (
            json!({ "name": "role", "string_match": { "safe_regex": { "regex": ".*admin.*" } } }),
            403,
        ),
        (
            json!({ "name": "role", "string_match": { "safe_regex": { "regex": ".*admin.*" } },
                "invert_match": true, "treat_missing_header_as_empty": true }),
            200,
        ),
    ];
    for (test, expect) in cases {
        let allow = json!({ "match": { "prefix": "/" }, "route": { "cluster": "app" } });
        let routes = json!([deny(test.clone()), allow]);
        let proxy = proxy(json!([cluster("app", &[address])]), routes).await;
        let mut client = connect(&proxy).await;
        let request = b"GET / HTTP/1.1\r\nhost: a\r\nrole: x\xffadmin\r\n\r\n";
        client.write_all(request).await.expect("open");
        let head = read_to(&mut client, "\r\n\r\n").await;
        let status = format!("HTTP/1.1 {expect} ");
        assert!(head.starts_with(&status), "{test}: {head}");
        proxy.stop().await;
    }
}
