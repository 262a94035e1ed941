//! The HTTPS listener under axum, over loopback.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::routing::get;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use lateen_tls::{
    Authority, ClientAuth, ClientOptions, Connector, IdentityStore, LeafRequest, PeerInfo,
    PeerRule, ServerCheck, https,
};
use tokio::net::{TcpListener, TcpStream};

const HOUR: Duration = Duration::from_secs(3600);

async fn who(ConnectInfo(peer): ConnectInfo<PeerInfo>) -> String {
    let cert = peer.cert.expect("a certificate is required");
    format!(
        "{} in {:?}",
        cert.common_name.as_deref().unwrap_or("nobody"),
        cert.organizations
    )
}

#[tokio::test]
async fn handlers_see_the_callers_certificate_and_silent_callers_delay_nobody() {
    let root = Authority::self_signed("test", HOUR).expect("a root");
    let server = root
        .identity(&LeafRequest::server(["localhost"], HOUR))
        .expect("a leaf");
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let auth = ClientAuth::Required(PeerRule::AnyTrusted);
    let listener = https::Listener::http(vec![tcp], Arc::new(IdentityStore::new(server)), auth)
        .expect("a listener");
    let address = listener.address();
    let app = axum::Router::new().route("/", get(who));
    let service = app.into_make_service_with_connect_info::<PeerInfo>();
    tokio::spawn(async move { axum::serve(listener, service).await });

    let silent = TcpStream::connect(address).await.expect("connects");
    let admin = LeafRequest::client("kubernetes-admin", &["system:masters", "dev"], HOUR);
    let admin = root.identity(&admin).expect("a leaf");
    let options = ClientOptions {
        check: ServerCheck::ServerName,
        ..ClientOptions::default()
    };
    let client = Connector::new(Arc::new(IdentityStore::new(admin)), options);
    let tcp = TcpStream::connect(address).await.expect("connects");
    let stream = client
        .connect(tcp, Some("localhost"))
        .await
        .expect("the server is trusted");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .expect("HTTP");
    tokio::spawn(connection);
    let request = hyper::Request::get("/").header("host", "localhost");
    let request = request.body(Empty::<Bytes>::new()).expect("a request");
    let response = sender.send_request(request).await.expect("an answer");
    let body = response
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    assert_eq!(body, r#"kubernetes-admin in ["system:masters", "dev"]"#);
    drop(silent);
}
