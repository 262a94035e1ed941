//! Whoever a proxy may reach: a server on some ports of every address, which tells what it saw.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use lateen_core::SpiffeId;
use lateen_registry::World;
use lateen_testkit::Network;
use lateen_tls::{
    Acceptor, Authority, ClientAuth, ConnInfo, IdentityStore, LeafRequest, PeerRule, ServerOptions,
};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::DOMAIN;

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// What names stand for that nobody knows.
const ANSWER: [u8; 4] = [198, 51, 100, 1];

/// What TLS of the mesh, and any other, agrees on here.
/// What can be HTTP/1.1 is.
const ALPN: [&str; 6] = [
    "istio-http/1.1",
    "http/1.1",
    "http/1.0",
    "istio-h2",
    "h2",
    "istio",
];

/// The port at which gateways of other networks pass on what comes, by its server name.
const NETWORK_GATEWAY: u16 = 15443;

/// Longer than any limit of a case.
const SLOW: Duration = Duration::from_secs(20);

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// All servers of a test.
#[derive(Clone)]
pub(crate) struct Backends {
    world: Arc<World>,
    authority: Arc<Authority>,
    /// What came, as it was told to who asked.
    seen: Arc<Mutex<Vec<Value>>>,
}

impl Backends {
    pub(crate) fn new(world: Arc<World>, authority: Arc<Authority>) -> Self {
        Backends {
            world,
            authority,
            seen: Arc::default(),
        }
    }

    /// All that came.
    pub(crate) fn seen(&self) -> Vec<Value> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }

    /// Serves a port of every address of the thread's network.
    pub(crate) fn serve(&self, listener: TcpListener) {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        let own = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let own = own.clone();
                tokio::spawn(async move {
                    let at = stream.local_addr().expect("connected");
                    // Whoever breaks off learns it on the other side.
                    let _ = own.connection(Box::new(stream), at, Vec::new()).await;
                });
            }
        });
    }

    fn connection(
        &self,
        mut stream: Box<dyn Io>,
        at: SocketAddr,
        mut layers: Vec<Value>,
    ) -> BoxFuture<'_, std::io::Result<()>> {
        Box::pin(async move {
            let mut first = [0; 1];
            if stream.read(&mut first).await? == 0 {
                return Ok(());
            }
            let stream = Again {
                first: Some(first[0]),
                stream,
            };
            if first[0] == 0x16 {
                let accepted = self.acceptor(at).accept(stream).await;
                let stream = accepted.map_err(std::io::Error::other)?;
                layers.push(layer(stream.info()));
                return self.connection(Box::new(stream), at, layers).await;
            }
            if first[0].is_ascii_uppercase() {
                self.http(stream, at, layers).await
            } else {
                self.bytes(stream, at, &layers).await
            }
        })
    }

    /// Answers a line with what was seen.
    async fn bytes(
        &self,
        mut stream: Again,
        at: SocketAddr,
        layers: &[Value],
    ) -> std::io::Result<()> {
        let seen = self.note(json!({ "at": at.to_string(), "layers": layers }));
        stream.write_all(format!("{seen}\n").as_bytes()).await?;
        stream.flush().await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
        Ok(())
    }

    async fn http(&self, stream: Again, at: SocketAddr, layers: Vec<Value>) -> std::io::Result<()> {
        let service = hyper::service::service_fn(|request: Request<Incoming>| {
            let seen = self.note(seen(&request, at, &layers));
            let header = |name: &str| request.headers().get(name)?.to_str().ok();
            let is_slow = header("x-slow").is_some();
            // As often as it says, each request of a case for itself.
            let fails = header("x-fail").and_then(|times| times.parse().ok());
            let fails = fails.is_some_and(|times| self.n_seen(header("x-case")) <= times);
            async move {
                if is_slow {
                    tokio::time::sleep(SLOW).await;
                }
                Response::builder()
                    .status(if fails { 503 } else { 200 })
                    .body(Full::new(Bytes::from(seen.to_string())))
            }
        });
        let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
        let served = builder.serve_connection(TokioIo::new(stream), service);
        served.await.map_err(std::io::Error::other)
    }

    /// How many requests of a case came.
    pub(crate) fn n_seen(&self, case: Option<&str>) -> usize {
        let all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let is_own = |seen: &&Value| seen["headers"]["x-case"].as_str() == case;
        all.iter().filter(is_own).count()
    }

    fn note(&self, seen: Value) -> Value {
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(seen.clone());
        seen
    }

    /// With the certificate of the workload at an address, or of somebody outside.
    fn acceptor(&self, at: SocketAddr) -> Acceptor {
        let workload = self.world.workload(at.ip());
        let request = match workload {
            Some(workload) => {
                let identity =
                    SpiffeId::new(DOMAIN, &workload.namespace, &workload.service_account);
                LeafRequest::spiffe(&identity.expect("an identity"), DAY)
            }
            // All that is behind the gateways of these tests has this account.
            None if at.port() == NETWORK_GATEWAY => {
                let identity = SpiffeId::new(DOMAIN, "default", "default");
                LeafRequest::spiffe(&identity.expect("an identity"), DAY)
            }
            None => LeafRequest::server(["outside.example.com"], DAY),
        };
        let store = IdentityStore::empty();
        store.set(self.authority.identity(&request).expect("a certificate"));
        let options = ServerOptions {
            client_auth: ClientAuth::Optional(PeerRule::AnyTrusted),
            alpn: ALPN.map(|name| name.as_bytes().to_vec()).to_vec(),
            ..ServerOptions::default()
        };
        Acceptor::new(Arc::new(store), options)
    }
}

fn layer(info: &ConnInfo) -> Value {
    let peer = info.peer.as_ref().and_then(|peer| peer.spiffe.as_ref());
    json!({ "sni": info.sni, "peer": peer.map(ToString::to_string) })
}

fn seen(request: &Request<Incoming>, at: SocketAddr, layers: &[Value]) -> Value {
    let headers: serde_json::Map<String, Value> = request
        .headers()
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.to_string(), value.into_owned().into())
        })
        .collect();
    let authority = request.uri().authority().map(ToString::to_string);
    json!({
        "at": at.to_string(),
        "layers": layers,
        "version": format!("{:?}", request.version()),
        "method": request.method().as_str(),
        "path": request.uri().path_and_query().map(|path| path.as_str()),
        "authority": authority.map_or_else(|| headers.get("host").cloned(), |text| Some(text.into())),
        "headers": headers,
    })
}

/// Listeners on a port of every address of the current network, one of each family.
pub(crate) fn listen(port: u16) -> [TcpListener; 2] {
    let every: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    every.map(|any| {
        let any = SocketAddr::from((any, port));
        let socket = Socket::new(Domain::for_address(any), Type::STREAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("a socket option");
        socket.set_nonblocking(true).expect("a socket option");
        if any.is_ipv6() {
            socket.set_only_v6(true).expect("a socket option");
        }
        socket.bind(&any.into()).expect("a free port");
        socket.listen(1024).expect("listens");
        socket.into()
    })
}

/// Answers every question for an address with the same one, and all others with nothing.
pub(crate) fn serve_names(network: &Network) {
    let socket = network.outside(|| {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
        socket.set_freebind_v4(true).expect("a socket option");
        socket.set_nonblocking(true).expect("a socket option");
        let at = SocketAddr::from((Network::NAME_SERVER, 53));
        socket.bind(&at.into()).expect("a free port");
        UdpSocket::from(socket)
    });
    let socket = tokio::net::UdpSocket::from_std(socket).expect("a socket");
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((n, from)) = socket.recv_from(&mut buffer).await {
            if let Some(answer) = answer(&buffer[..n]) {
                let _ = socket.send_to(&answer, from).await;
            }
        }
    });
}

/// The answer to a question (RFC 1035, section 4).
fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let name_end = 12 + query.get(12..)?.iter().position(|byte| *byte == 0)? + 1;
    let question = query.get(12..name_end + 4)?;
    let is_address = query.get(name_end..name_end + 2)? == [0, 1];
    let mut out = query.get(..2)?.to_vec();
    out.extend([0x81, 0x80, 0, 1, 0, u8::from(is_address), 0, 0, 0, 0]);
    out.extend(question);
    if is_address {
        // The name again, an address, of the Internet, for a minute.
        out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        out.extend(ANSWER);
    }
    Some(out)
}

/// A stream whose first byte was looked at.
struct Again {
    first: Option<u8>,
    stream: Box<dyn Io>,
}

impl AsyncRead for Again {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        if let Some(first) = self.first.take() {
            buffer.put_slice(&[first]);
            return std::task::Poll::Ready(Ok(()));
        }
        std::pin::Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Again {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
