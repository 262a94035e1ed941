//! Clients of a proxy, which name the host and the port in the request's target, beside real Envoy.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::{Echo, cluster, hcm, listener};
use crate::oracle::{Who, both};

#[tokio::test]
async fn the_target_says_which_host_and_which_port() {
    let (web, _) = Echo::start("web").await;
    let (shop, _) = Echo::start("shop").await;
    let host = |name: &str, domains: &[&str], to: &str| {
        json!({ "name": name, "domains": domains,
            "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": to } }] })
    };
    let hosts = json!([
        host("web", &["web", "web:80"], "web"),
        host("shop", &["web:8080", "shop:8080"], "shop"),
        host("others", &["*"], "others"),
    ]);
    let mut filter = hcm(hosts);
    filter["route_config"]["ignore_port_in_host_matching"] = false.into();
    let listeners = |port| json!([listener("main", port, "OUTBOUND", filter.clone())]);
    // Nobody was redirected, so that nothing says where others are: not at the listener itself, which
    // would ask itself without end.
    let others = json!({ "name": "others", "type": "ORIGINAL_DST", "connect_timeout": "1s",
        "lb_policy": "CLUSTER_PROVIDED" });
    let clusters = json!([cluster("web", &[web]), cluster("shop", &[shop]), others]);
    both(listeners, clusters, async |who: Who, port| {
        for (target, expect) in [
            ("http://web/a", Some("web")),
            ("http://web:80/a", Some("web")),
            ("http://web:8080/a", Some("shop")),
            ("http://shop:8080/a?b", Some("shop")),
            ("http://shop/a", None),
        ] {
            let stream = TcpStream::connect(("127.0.0.1", port)).await;
            let mut stream = stream.expect("listening");
            // What a client says beside the target counts for nothing (RFC 9112, section 3.2.2).
            let text =
                format!("GET {target} HTTP/1.1\r\nhost: elsewhere\r\nconnection: close\r\n\r\n");
            stream.write_all(text.as_bytes()).await.expect("open");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("an answer");
            let status = if expect.is_some() {
                "HTTP/1.1 200"
            } else {
                "HTTP/1.1 503"
            };
            assert!(answer.starts_with(status), "{who:?} {target}: {answer}");
            let has = |text: &str| assert!(answer.contains(text), "{who:?} {target}: {answer}");
            let Some(backend) = expect else {
                has("no healthy upstream");
                continue;
            };
            has(&format!("\"backend\":\"{backend}\""));
            has("\"target\":\"/a");
            let authority = target.trim_start_matches("http://").split('/').next();
            has(&format!(
                "\"authority\":\"{}\"",
                authority.unwrap_or_default()
            ));
        }
    })
    .await;
}
