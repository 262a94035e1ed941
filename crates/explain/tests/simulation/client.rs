//! Who calls.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use lateen_core::SpiffeId;
use lateen_explain::{Call, Security};
use lateen_testkit::Network;
use lateen_tls::{
    Authority, ClientOptions, Connector, Identity, IdentityStore, LeafRequest, ServerCheck,
};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::DOMAIN;
use crate::backend::DAY;

/// The limit of every wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What a sidecar of another workload offers for requests, and for what is no HTTP.
const MESH_HTTP: &[&str] = &["istio-http/1.1", "istio", "http/1.1"];
const MESH_H2: &[&str] = &["istio-h2", "istio", "h2"];
const MESH_TCP: &[&str] = &["istio"];

/// What came of a call.
#[derive(Debug)]
pub(crate) enum Got {
    /// Nothing: the connection was refused or closed.
    Closed(String),
    /// A response.
    Response {
        status: u16,
        location: Option<String>,
        /// What the client should bring along the next time: the name of a cookie, or of a header.
        session: Option<String>,
        /// The status of a call by gRPC that ended in its headers.
        grpc: Option<String>,
        /// What a backend saw, where it was one that answered.
        seen: Option<Value>,
    },
    /// What a backend saw of a connection that is no HTTP.
    Bytes(Value),
}

/// What came of a call, and from where it was made.
#[derive(Debug)]
pub(crate) struct Answer {
    pub from: Option<SocketAddr>,
    pub got: Got,
}

/// Whom the client's certificate is from, where it shows one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Nothing,
    /// Signed by whom the server trusts.
    Trusted,
    /// Signed by somebody else.
    Foreign,
}

pub(crate) struct Client<'a> {
    pub network: &'a Network,
    pub authority: &'a Authority,
    /// The caller is outside.
    pub outside: bool,
    pub shown: Shown,
}

impl Client<'_> {
    pub(crate) async fn call(&self, call: &Call) -> Answer {
        let stream = match self.connect(call) {
            Ok(stream) => stream,
            Err(error) => {
                return Answer {
                    from: None,
                    got: Got::Closed(error.to_string()),
                };
            }
        };
        let from = stream.local_addr().ok();
        let exchange = tokio::time::timeout(PATIENCE, self.exchange(stream, call));
        let got = match exchange.await {
            Ok(Ok(got)) => got,
            Ok(Err(fault)) => Got::Closed(fault),
            Err(_) => panic!("neither answered nor closed in {PATIENCE:?}: {call:?}"),
        };
        Answer { from, got }
    }

    fn connect(&self, call: &Call) -> std::io::Result<TcpStream> {
        let connect = || {
            let domain = Domain::for_address(call.destination);
            let socket = Socket::new(domain, Type::STREAM, None)?;
            if self.outside {
                match call.source {
                    SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
                    SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
                }
                socket.bind(&SocketAddr::new(call.source.ip(), 0).into())?;
            }
            socket.connect_timeout(&call.destination.into(), PATIENCE)?;
            socket.set_nonblocking(true)?;
            Ok(std::net::TcpStream::from(socket))
        };
        let stream: std::io::Result<_> = if self.outside {
            self.network.outside(connect)
        } else {
            connect()
        };
        TcpStream::from_std(stream?)
    }

    async fn exchange(&self, stream: TcpStream, call: &Call) -> Result<Got, String> {
        let (identity, server_name, alpn) = match &call.security {
            Security::Plain => return speak(stream, call).await,
            Security::Tls {
                server_name, alpn, ..
            } => {
                let request = LeafRequest::server(["client.example.com"], DAY);
                let identity = match self.shown {
                    Shown::Nothing => Identity::roots_only(self.authority.root_pem()),
                    Shown::Trusted => self.authority.identity(&request),
                    Shown::Foreign => Authority::self_signed("somebody", DAY)
                        .and_then(|foreign| foreign.identity(&request)),
                };
                (identity, server_name.as_deref(), alpn.clone())
            }
            Security::Mesh => {
                let caller = SpiffeId::new(DOMAIN, "default", "caller").expect("an identity");
                let identity = self.authority.identity(&LeafRequest::spiffe(&caller, DAY));
                let alpn = match (call.http, call.h2) {
                    (true, true) => MESH_H2,
                    (true, false) => MESH_HTTP,
                    (false, _) => MESH_TCP,
                };
                let alpn = alpn.iter().map(|name| (*name).to_owned()).collect();
                (identity, None, alpn)
            }
        };
        let store = IdentityStore::empty();
        store.set(identity.expect("a certificate"));
        let options = ClientOptions {
            check: ServerCheck::Insecure,
            alpn: alpn.into_iter().map(String::into_bytes).collect(),
            ..ClientOptions::default()
        };
        let connector = Connector::new(Arc::new(store), options);
        let stream = connector.connect(stream, server_name).await;
        speak(stream.map_err(|error| error.to_string())?, call).await
    }
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    call: &Call,
) -> Result<Got, String> {
    if call.http {
        return request(stream, call).await;
    }
    let mut stream = BufReader::new(stream);
    let text = |error: std::io::Error| error.to_string();
    stream.write_all(b"ping\n").await.map_err(text)?;
    stream.flush().await.map_err(text)?;
    let mut line = String::new();
    if stream.read_line(&mut line).await.map_err(text)? == 0 {
        return Err("closed without an answer".to_owned());
    }
    let seen = serde_json::from_str(&line).map_err(|error| format!("{line:?}: {error}"))?;
    Ok(Got::Bytes(seen))
}

async fn request(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    call: &Call,
) -> Result<Got, String> {
    let text = |error: hyper::Error| error.to_string();
    let mut request = Request::builder().method(call.method.as_str());
    request = match call.h2 {
        true => {
            let scheme = lateen_route::RequestView::scheme(call);
            request.uri(format!("{scheme}://{}{}", call.authority, call.target))
        }
        false => request.uri(&call.target).header("host", &call.authority),
    };
    for (name, value) in &call.headers {
        request = request.header(name, value);
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let stream = TokioIo::new(stream);
    // The sender lives as long as the response is read.
    let (response, connection, _sender): (_, _, Box<dyn Any + Send>) = if call.h2 {
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await;
        let (mut sender, connection) = handshake.map_err(text)?;
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(text)?;
        (response, connection, Box::new(sender))
    } else {
        let handshake = hyper::client::conn::http1::handshake(stream).await;
        let (mut sender, connection) = handshake.map_err(text)?;
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(text)?;
        (response, connection, Box::new(sender))
    };
    let grpc = response.headers().get("grpc-status");
    let grpc = grpc.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let status = response.status().as_u16();
    let location = response.headers().get("location");
    let location = location.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let session = session(response.headers());
    let body = response.into_body().collect().await.map_err(text)?;
    connection.abort();
    Ok(Got::Response {
        status,
        location,
        session,
        grpc,
        seen: serde_json::from_slice(&body.to_bytes()).ok(),
    })
}

/// The name of the cookie that is set, or of the header that the table's sessions have.
fn session(headers: &hyper::HeaderMap) -> Option<String> {
    let set = headers.get("set-cookie");
    let cookie = set.and_then(|set| set.to_str().ok()?.split_once('='));
    let cookie = cookie.map(|(name, _)| format!("cookie {name}"));
    let header = headers.contains_key("x-session");
    cookie.or_else(|| header.then(|| "header x-session".to_owned()))
}
