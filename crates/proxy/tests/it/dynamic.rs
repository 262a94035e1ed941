//! Hosts by the names that clients give.

use std::net::SocketAddr;

use lateen_tls::{ClientOptions, Connector, IdentityStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{Client, Echo, TCP, hcm, listener};
use crate::oracle::{Who, both};
use crate::tls;

fn cache(max_hosts: u32) -> Value {
    json!({ "name": "names", "dns_lookup_family": "V4_ONLY", "max_hosts": max_hosts })
}

fn clusters(max_hosts: u32) -> Value {
    json!([{ "name": "names", "connect_timeout": "1s", "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": { "name": "envoy.clusters.dynamic_forward_proxy", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig",
            "dns_cache_config": cache(max_hosts) } } }])
}

fn by_host(port: u16, max_hosts: u32) -> Value {
    let routes = json!([{ "name": "all", "domains": ["*"],
        "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "names" } }] }]);
    let mut manager = hcm(routes);
    let filter = json!({ "name": "names", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig",
        "dns_cache_config": cache(max_hosts) } });
    let filters = manager["http_filters"].as_array_mut().expect("filters");
    filters.insert(0, filter);
    json!([listener("main", port, "OUTBOUND", manager)])
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_to_the_host_that_they_name() {
    let (one, _echo) = Echo::start("one").await;
    let (two, _echo) = Echo::start("two").await;
    both(
        |port| by_host(port, 9),
        clusters(9),
        async |who, port| {
            let mut client = Client::connect(port, false).await;
            for (at, name) in [(one, "one"), (two, "two"), (one, "one")] {
                for host in ["localhost", "LOCALHOST", "127.0.0.1"] {
                    let seen = client.get(&format!("{host}:{}", at.port()), "/").await;
                    assert_eq!(seen.header("x-backend"), name, "{who:?}: {}", seen.text);
                }
            }
            let seen = client.get("no-such-name.invalid:80", "/").await;
            assert_eq!(
                (seen.status, seen.text.as_str()),
                (503, "DNS resolution failure"),
                "{who:?}"
            );
            // A port that is none is not the default one.
            for bad in ["localhost:0x50", "localhost:99999"] {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("open");
                let request = format!("GET / HTTP/1.1\r\nhost: {bad}\r\nconnection: close\r\n\r\n");
                stream.write_all(request.as_bytes()).await.expect("open");
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.expect("an answer");
                let is_refused = answer.starts_with("HTTP/1.1 400");
                let is_unknown = answer.starts_with("HTTP/1.1 503")
                    && answer.ends_with("DNS resolution failure");
                assert!(is_refused || is_unknown, "{who:?} {bad}: {answer}");
            }
        },
    )
    .await;
    both(
        |port| by_host(port, 1),
        clusters(1),
        async |who, port| {
            let mut client = Client::connect(port, false).await;
            let seen = client.get(&format!("localhost:{}", one.port()), "/").await;
            assert_eq!(seen.status, 200, "{who:?}: {}", seen.text);
            let seen = client.get(&format!("localhost:{}", two.port()), "/").await;
            assert_eq!(
                (seen.status, seen.text.as_str()),
                (503, "DNS cache overflow"),
                "{who:?}"
            );
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_verified_by_the_names_that_clients_give() {
    let day = std::time::Duration::from_secs(86_400);
    let authority = lateen_tls::Authority::self_signed("cluster.local", day).expect("made");
    let server = tls::proxy(
        json!([tls::certificate(&authority, &["localhost"])]),
        json!({}),
    )
    .await;
    let roots = json!({ "validation_context": {
        "trusted_ca": { "inline_string": authority.root_pem() } } });
    let nothing = json!({ "auto_sni": false, "auto_san_validation": false });
    // The default holds too where it need not. Without roots there is nothing to verify by: where that
    // may be, we take any server, and Envoy takes none.
    for (insecure, said, validation, ours, envoys) in [
        (false, None, &roots, [200, 503], [200, 503]),
        (true, None, &roots, [200, 503], [200, 503]),
        (true, Some(&nothing), &roots, [200; 2], [200; 2]),
        (true, None, &json!({}), [200; 2], [503; 2]),
    ] {
        let mut up = clusters(9);
        let config = &mut up[0]["cluster_type"]["typed_config"];
        config["allow_insecure_cluster_options"] = insecure.into();
        if let Some(said) = said {
            up[0]["upstream_http_protocol_options"] = said.clone();
        }
        up[0]["transport_socket"] = json!({ "name": "tls", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": validation } });
        both(
            |port| by_host(port, 9),
            up,
            async |who, port| {
                let statuses = if who == Who::Ours { ours } else { envoys };
                for (host, expect) in ["localhost", "127.0.0.1"].into_iter().zip(statuses) {
                    let mut client = Client::connect(port, false).await;
                    let seen = client.get(&format!("{host}:{}", server.port), "/").await;
                    assert_eq!(
                        seen.status, expect,
                        "{who:?} {host} {insecure} {said:?} {validation}: {}",
                        seen.text
                    );
                }
            },
        )
        .await;
    }
    server.stop().await;
}

/// A server that reads a little and says what it heard of.
async fn hears(word: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut seen = Vec::new();
            let heard = |seen: &[u8]| seen.windows(word.len()).any(|w| w == word.as_bytes());
            while !heard(&seen) {
                if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            let answer: &[u8] = if heard(&seen) { b"heard it" } else { b"" };
            let _ = stream.write_all(answer).await;
            // What is left unread would turn the end into a reset.
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut seen).await;
        }
    });
    address
}

/// What a TLS client says first.
async fn hello(name: Option<&str>) -> Vec<u8> {
    let (client, mut server) = tokio::io::duplex(1 << 16);
    let store = IdentityStore::empty();
    store.set(lateen_tls::Identity::roots_only("").expect("no roots"));
    let options = ClientOptions {
        check: lateen_tls::ServerCheck::Insecure,
        present_identity: false,
        ..ClientOptions::default()
    };
    let connector = Connector::new(store.into(), options);
    let mut seen = Vec::with_capacity(1 << 14);
    tokio::select! {
        ended = connector.connect(client, name) => panic!("{:?}", ended.err()),
        _ = server.read_buf(&mut seen) => {}
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_goes_to_the_host_that_it_names() {
    let address = hears("localhost").await;
    let make = |with_filter: bool, port| {
        let tcp = json!({ "@type": TCP, "stat_prefix": "t", "cluster": "names" });
        let mut listener = listener("main", port, "OUTBOUND", tcp);
        let port = json!({ "name": "port", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.set_filter_state.v3.Config",
            "on_new_connection": [{ "object_key": "envoy.upstream.dynamic_port",
                "format_string": { "text_format_source":
                    { "inline_string": address.port().to_string() } } }] } });
        let names = json!({ "name": "names", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig",
            "dns_cache_config": cache(9), "port_value": address.port() } });
        let filters = listener["filter_chains"][0]["filters"].as_array_mut();
        let filters = filters.expect("filters");
        filters.insert(0, port);
        if with_filter {
            filters.insert(1, names);
        }
        listener["listener_filters"] = json!([{ "name": "tls", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector" } }]);
        json!([listener])
    };
    // Without the filter that looks names up, none is known.
    for (with_filter, name, expect) in [
        (true, "localhost", "heard it"),
        (true, "no-such-name.invalid", ""),
        (false, "localhost", ""),
    ] {
        let make = |port| make(with_filter, port);
        both(make, clusters(9), async |who, port| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("open");
            let hello = hello(Some(name)).await;
            stream.write_all(&hello).await.expect("open");
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer).await;
            assert_eq!(answer, expect, "{who:?} {name:?}, filter: {with_filter}");
        })
        .await;
    }
}
