//! HTTPS with a certificate authority of the test's own.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, body::Bytes};
use hyper_util::rt::{TokioExecutor, TokioIo};
use lateen_tls::{
    Authority, ClientOptions, ConnInfo, Connector, CsrKey, Identity, IdentityStore, Issued,
    LeafRequest, ServerCheck, Stream,
};
use tokio::net::TcpStream;

const DAY: Duration = Duration::from_secs(86_400);

/// A root that only this test knows.
pub fn authority(name: &str) -> anyhow::Result<Authority> {
    Ok(Authority::self_signed(name, DAY)?)
}

/// A server's certificate and key.
pub fn server(authority: &Authority, host: &str) -> anyhow::Result<Issued> {
    let request = LeafRequest::server([host], DAY);
    Ok(authority.issue(&request, CsrKey::Generate)?)
}

/// What a client trusts, and who it says it is.
pub fn client_identity(
    trusts: &Authority,
    signed_by: Option<&Authority>,
) -> anyhow::Result<Identity> {
    let Some(authority) = signed_by else {
        return Ok(Identity::roots_only(trusts.root_pem())?);
    };
    let request = LeafRequest::server(["client.example.com"], DAY);
    let issued = authority.issue(&request, CsrKey::Generate)?;
    let key = issued.key_pem.context("made here")?;
    Ok(Identity::from_pem(
        &issued.chain_pem,
        &key,
        trusts.root_pem(),
    )?)
}

/// A request over TLS, and what the handshake agreed on.
pub async fn get(
    stream: TcpStream,
    identity: Identity,
    (host, path): (&str, &str),
    alpn: &str,
) -> anyhow::Result<(Response<Bytes>, Arc<ConnInfo>)> {
    let stream = connect(stream, identity, ServerCheck::ServerName, host, alpn).await?;
    ask(stream, host, path).await
}

/// The handshake of a client that asks for this server name and offers one protocol.
pub async fn connect(
    stream: TcpStream,
    identity: Identity,
    check: ServerCheck,
    sni: &str,
    alpn: &str,
) -> anyhow::Result<Stream<TcpStream>> {
    let options = ClientOptions {
        check,
        alpn: vec![alpn.as_bytes().to_vec()],
        ..ClientOptions::default()
    };
    let connector = Connector::new(Arc::new(IdentityStore::new(identity)), options);
    Ok(connector.connect(stream, Some(sni)).await?)
}

/// A request in the protocol that the handshake agreed on.
pub async fn ask(
    stream: Stream<TcpStream>,
    host: &str,
    path: &str,
) -> anyhow::Result<(Response<Bytes>, Arc<ConnInfo>)> {
    let info = stream.info().clone();
    let io = TokioIo::new(stream);
    let request = Request::get(format!("https://{host}{path}"));
    let response = if info.alpn.as_deref() == Some(b"h2") {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        sender
            .send_request(request.body(Empty::<Bytes>::new())?)
            .await?
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
        tokio::spawn(connection);
        let request = Request::get(path).header("host", host);
        sender
            .send_request(request.body(Empty::<Bytes>::new())?)
            .await?
    };
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok((Response::from_parts(head, body), info))
}
