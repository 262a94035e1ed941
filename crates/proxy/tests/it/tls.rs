//! What a listener's TLS context says of certificates, suites and groups.

use std::sync::Arc;
use std::time::Duration;

use lateen_tls::{
    Authority, ClientOptions, ConnInfo, Connector, Identity, IdentityStore, LeafRequest,
    ServerCheck,
};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::common::{Client, Proxy, cluster, free_port, hcm, listener};
use crate::oracle::both;

const DAY: Duration = Duration::from_secs(86_400);

/// A certificate of these names, as a resource has it.
pub(crate) fn certificate(authority: &Authority, names: &[&str]) -> Value {
    let request = LeafRequest::server(names.iter().copied(), DAY);
    let identity = authority.identity(&request).expect("issued");
    json!({ "certificate_chain": { "inline_string": identity.chain_pem() },
        "private_key": { "inline_string": identity.key_pem() } })
}

pub(crate) async fn proxy(certificates: Value, params: Value) -> Proxy {
    lateen_tls::install_provider();
    let routes = json!([{ "name": "all", "domains": ["*"],
        "routes": [{ "match": { "prefix": "/" }, "direct_response": { "status": 200 } }] }]);
    let port = free_port();
    let mut encrypted = listener("main", port, "INBOUND", hcm(routes));
    encrypted["filter_chains"][0]["transport_socket"] = json!({ "name": "tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": { "tls_certificates": certificates, "tls_params": params } } });
    Proxy::start(port, json!([encrypted]), json!([])).await
}

/// What a client learns that asks for this name and verifies nothing.
async fn meet(proxy: &Proxy, sni: Option<&str>) -> ConnInfo {
    let nobody = Arc::new(IdentityStore::new(
        Identity::roots_only("").expect("no roots"),
    ));
    let options = ClientOptions {
        check: ServerCheck::Insecure,
        present_identity: false,
        ..ClientOptions::default()
    };
    let raw = TcpStream::connect(("127.0.0.1", proxy.port)).await;
    let connector = Connector::new(nobody, options);
    let stream = connector.connect(raw.expect("up"), sni).await;
    ConnInfo::clone(stream.expect("a handshake").info())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_is_that_of_the_name() {
    let authority = Authority::self_signed("cluster.local", DAY).expect("made");
    let names: [&[&str]; 3] = [&["first.test"], &["*.b.test"], &["x.b.test", "c.test"]];
    let certificates: Vec<Value> = names
        .iter()
        .map(|names| certificate(&authority, names))
        .collect();
    let proxy = proxy(json!(certificates), json!({})).await;
    for (sni, expect) in [
        (Some("first.test"), 0),
        (Some("y.b.test"), 1),
        (Some("X.b.test"), 2),
        (Some("c.test"), 2),
        (Some("y.x.b.test"), 0),
        (Some("other.test"), 0),
        (None, 0),
    ] {
        let info = meet(&proxy, sni).await;
        let shown = &info.peer.as_ref().expect("a certificate").dns;
        assert_eq!(shown[..], *names[expect], "{sni:?}");
    }
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_is_the_one_that_is_named() {
    let authority = Authority::self_signed("cluster.local", DAY).expect("made");
    let params = json!({
        "tls_maximum_protocol_version": "TLSv1_2",
        "cipher_suites": ["ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-GCM-SHA256"],
        "ecdh_curves": ["P-384"],
    });
    let certificates = json!([certificate(&authority, &["a.test"])]);
    let proxy = proxy(certificates, params).await;
    let info = meet(&proxy, Some("a.test")).await;
    assert_eq!(info.cipher, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_must_have_the_name_that_it_is_asked_for_by() {
    let authority = Authority::self_signed("cluster.local", DAY).expect("made");
    let server = proxy(json!([certificate(&authority, &["a.test"])]), json!({})).await;
    let routes = json!([{ "name": "all", "domains": ["*"],
        "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "up" } }] }]);
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let by_request = |verified: bool| {
        json!({ options: { "@type": format!("type.googleapis.com/{options}"),
            "explicit_http_config": { "http_protocol_options": {} },
            "upstream_http_protocol_options": {
                "auto_sni": true, "auto_san_validation": verified } } })
    };
    // The name is that of the request, or of the server that was chosen, or a fixed one.
    for (sni, hostname, by_socket, verified, statuses) in [
        ("z.test", "", None, true, [200, 503, 200, 503]),
        ("z.test", "", None, false, [200; 4]),
        ("z.test", "a.test", Some(true), true, [200; 4]),
        ("a.test", "z.test", Some(true), true, [503; 4]),
        ("a.test", "", Some(true), true, [200; 4]),
        ("a.test", "z.test", Some(false), true, [200; 4]),
    ] {
        let mut up = cluster("up", &[([127, 0, 0, 1], server.port).into()]);
        up["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["hostname"] =
            hostname.into();
        up["transport_socket"] = json!({ "name": "tls", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": sni, "auto_host_sni": by_socket.unwrap_or(false),
            "auto_sni_san_validation": by_socket.is_some(),
            "common_tls_context": { "validation_context": {
                "trusted_ca": { "inline_string": authority.root_pem() } } } } });
        if by_socket.is_none() {
            up["typed_extension_protocol_options"] = by_request(verified);
        }
        let make = |port| json!([listener("main", port, "OUTBOUND", hcm(routes.clone()))]);
        both(make, json!([up]), async |who, port| {
            let hosts = ["a.test", "b.test", "a.test:443", "[::1]:443"];
            for (host, expect) in hosts.into_iter().zip(statuses) {
                let mut client = Client::connect(port, false).await;
                let seen = client.get(host, "/").await;
                assert_eq!(
                    seen.status, expect,
                    "{who:?} {host} {sni} {hostname} {by_socket:?} {verified}"
                );
            }
        })
        .await;
    }
    server.stop().await;
}

/// Whether a server that knows some certificates beforehand takes a client of that identity.
async fn is_taken(port: u16, client: &Identity) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let options = ClientOptions {
        check: ServerCheck::Insecure,
        ..ClientOptions::default()
    };
    let own = Identity::from_pem(client.chain_pem(), client.key_pem(), client.roots_pem());
    let connector = Connector::new(Arc::new(IdentityStore::new(own.expect("its own"))), options);
    let raw = TcpStream::connect(("127.0.0.1", port)).await.expect("up");
    let Ok(mut stream) = connector.connect(raw, Some("a.test")).await else {
        return false;
    };
    // A server's refusal comes after the client's own part of the handshake.
    let request = b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n";
    let mut answer = Vec::new();
    let _ = stream.write_all(request).await;
    let _ = stream.read_to_end(&mut answer).await;
    answer.starts_with(b"HTTP/1.1 200")
}

#[tokio::test(flavor = "multi_thread")]
async fn only_clients_that_are_known_beforehand_are_taken() {
    use base64::Engine as _;
    lateen_tls::install_provider();
    let authority = Authority::self_signed("cluster.local", DAY).expect("made");
    let client = || {
        let request = LeafRequest::server(["client.test"], DAY);
        authority.identity(&request).expect("issued")
    };
    let (known, other) = (client(), client());
    let info = known.info().expect("a certificate");
    let key = info.key_digest().expect("a key");
    let key = base64::engine::general_purpose::STANDARD.encode(key);
    let wrong = "07".repeat(32);
    for (pins, expect) in [
        (json!({}), [true, true]),
        (
            json!({ "verify_certificate_hash": [info.sha256()] }),
            [true, false],
        ),
        (json!({ "verify_certificate_spki": [key] }), [true, false]),
        (
            json!({ "verify_certificate_hash": [wrong], "verify_certificate_spki": [key] }),
            [true, false],
        ),
        (
            json!({ "verify_certificate_hash": [wrong] }),
            [false, false],
        ),
    ] {
        let mut validation = pins.clone();
        validation["trusted_ca"] = json!({ "inline_string": authority.root_pem() });
        let routes = json!([{ "name": "all", "domains": ["*"],
            "routes": [{ "match": { "prefix": "/" }, "direct_response": { "status": 200 } }] }]);
        let server = certificate(&authority, &["a.test"]);
        let make = |port| {
            let mut encrypted = listener("main", port, "INBOUND", hcm(routes.clone()));
            encrypted["filter_chains"][0]["transport_socket"] = json!({ "name": "tls", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "require_client_certificate": true,
                "common_tls_context": { "tls_certificates": [server],
                    "validation_context": validation } } });
            json!([encrypted])
        };
        both(make, json!([]), async |who, port| {
            for (client, expect) in [&known, &other].into_iter().zip(expect) {
                assert_eq!(is_taken(port, client).await, expect, "{who:?} {pins}");
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_whose_certificate_was_revoked_are_refused() {
    lateen_tls::install_provider();
    let authority = Authority::self_signed("cluster.local", DAY).expect("made");
    let stranger = Authority::self_signed("other.local", DAY).expect("made");
    let issue = |name: &str| {
        let request = LeafRequest::server([name], DAY);
        authority.identity(&request).expect("issued")
    };
    let (good, bad) = (issue("good.test"), issue("bad.test"));
    let info = bad.info().expect("a certificate");
    let lists = |of: &Authority, revoked: &[&lateen_tls::CertInfo]| {
        of.revoke(revoked, DAY).expect("a list")
    };
    let inline = |identity: &Identity| {
        json!({ "certificate_chain": { "inline_string": identity.chain_pem() },
            "private_key": { "inline_string": identity.key_pem() } })
    };
    for (list, expect) in [
        (lists(&authority, &[]), [true, true]),
        (lists(&authority, &[info]), [true, false]),
        // One of somebody else says nothing of ours, so that nobody is known to be good.
        (lists(&stranger, &[]), [false, false]),
    ] {
        let validation = json!({ "trusted_ca": { "inline_string": authority.root_pem() },
            "crl": { "inline_string": list } });
        let answer = json!([{ "name": "all", "domains": ["*"],
            "routes": [{ "match": { "prefix": "/" }, "direct_response": { "status": 200 } }] }]);
        let make = |port| {
            let mut encrypted = listener("main", port, "INBOUND", hcm(answer.clone()));
            encrypted["filter_chains"][0]["transport_socket"] = json!({ "name": "tls", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "require_client_certificate": true,
                "common_tls_context": { "tls_certificates": [inline(&good)],
                    "validation_context": validation } } });
            json!([encrypted])
        };
        both(make, json!([]), async |who, port| {
            for (client, expect) in [&good, &bad].into_iter().zip(expect) {
                assert_eq!(
                    is_taken(port, client).await,
                    expect,
                    "{who:?} as the server"
                );
            }
        })
        .await;
        // The other way round.
        let routes = json!([{ "name": "all", "domains": ["*"], "routes": [
            { "match": { "prefix": "/good" }, "route": { "cluster": "good" } },
            { "match": { "prefix": "/bad" }, "route": { "cluster": "bad" } }] }]);
        let servers = [
            proxy(json!([inline(&good)]), json!({})).await,
            proxy(json!([inline(&bad)]), json!({})).await,
        ];
        let clusters: Vec<Value> = ["good", "bad"]
            .into_iter()
            .zip(&servers)
            .map(|(name, server)| {
                let mut up = cluster(name, &[([127, 0, 0, 1], server.port).into()]);
                up["transport_socket"] = json!({ "name": "tls", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                    "common_tls_context": { "validation_context": validation } } });
                up
            })
            .collect();
        let make = |port| json!([listener("main", port, "OUTBOUND", hcm(routes.clone()))]);
        both(make, json!(clusters), async |who, port| {
            let mut client = Client::connect(port, false).await;
            for (path, expect) in ["/good", "/bad"].into_iter().zip(expect) {
                let seen = client.get("up", path).await;
                let status = if expect { 200 } else { 503 };
                assert_eq!(
                    seen.status, status,
                    "{who:?} as the client, {path}: {}",
                    seen.text
                );
            }
        })
        .await;
        for server in servers {
            server.stop().await;
        }
    }
}
