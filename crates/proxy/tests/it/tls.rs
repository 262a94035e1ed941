//! What a listener's TLS context says of certificates, suites and groups.

use std::sync::Arc;
use std::time::Duration;

use lateen_tls::{
    Authority, ClientOptions, ConnInfo, Connector, Identity, IdentityStore, LeafRequest,
    ServerCheck,
};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::common::{Proxy, free_port, hcm, listener};

const DAY: Duration = Duration::from_secs(86_400);

/// A certificate of these names, as a resource has it.
fn certificate(authority: &Authority, names: &[&str]) -> Value {
    let request = LeafRequest::server(names.iter().copied(), DAY);
    let identity = authority.identity(&request).expect("issued");
    json!({ "certificate_chain": { "inline_string": identity.chain_pem() },
        "private_key": { "inline_string": identity.key_pem() } })
}

async fn proxy(certificates: Value, params: Value) -> Proxy {
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
