//! TLS for gRPC: a connector for tonic's clients, and peers for its servers.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

use crate::{CertInfo, Connector, Error, Stream};

/// Limit for TCP connect and handshake together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Intervals of Istio's agents: a dead control plane is noticed within 40 s.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Who is on the other end of a connection. Found among the extensions of a tonic request, and as
/// `ConnectInfo<PeerInfo>` with axum.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// Its address, when it came over TCP.
    pub address: Option<SocketAddr>,
    /// Its verified certificate, when it presented one.
    pub cert: Option<Arc<CertInfo>>,
}

/// An IPv4 client is known as one at a socket for both families too.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl PeerInfo {
    pub(crate) fn of(stream: &Stream<TcpStream>) -> Self {
        Self {
            address: stream.get_ref().peer_addr().ok().map(plain),
            cert: stream.info().peer.clone(),
        }
    }

    /// The SPIFFE identity that the peer proved.
    pub fn spiffe(&self) -> Option<&lateen_core::SpiffeId> {
        self.cert.as_ref()?.spiffe.as_ref()
    }
}

impl tonic::transport::server::Connected for Stream<TcpStream> {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        PeerInfo::of(self)
    }
}

/// Connects tonic's channels over TLS, by `Endpoint::connect_with_connector`.
#[derive(Debug, Clone)]
pub struct GrpcConnector {
    tls: Arc<Connector>,
    sni: Option<Arc<str>>,
}

impl GrpcConnector {
    /// Takes its TLS behaviour from `tls`, which should offer `h2`.
    pub fn new(tls: Arc<Connector>) -> Self {
        Self { tls, sni: None }
    }

    /// Asks for (and, under [`ServerCheck::ServerName`](crate::ServerCheck), verifies) this name
    /// whatever host is connected to.
    #[must_use]
    pub fn with_sni(mut self, name: &str) -> Self {
        self.sni = Some(name.into());
        self
    }

    /// A channel to `host:port` that connects when first used and again when it was lost.
    ///
    /// # Errors
    /// When the address is not of that form.
    pub fn channel(&self, address: &str) -> Result<Channel, Error> {
        // The scheme is that of the stream that tonic sees; TLS is the connector's business.
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|e| Error::Config(format!("address {address:?}: {e}")))?
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        Ok(endpoint.connect_with_connector_lazy(self.clone()))
    }

    async fn connect(self, uri: Uri) -> Result<TokioIo<Stream<TcpStream>>, Error> {
        let host = uri
            .host()
            .ok_or_else(|| Error::ServerName(uri.to_string()))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(443);
        let tcp = TcpStream::connect((host, port)).await.map_err(Error::Io)?;
        tcp.set_nodelay(true).map_err(Error::Io)?;
        let sni = self.sni.as_deref().unwrap_or(host);
        Ok(TokioIo::new(self.tls.connect(tcp, Some(sni)).await?))
    }
}

impl tower_service::Service<Uri> for GrpcConnector {
    type Response = TokioIo<Stream<TcpStream>>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connect = self.clone().connect(uri);
        Box::pin(async move {
            tokio::time::timeout(CONNECT_TIMEOUT, connect)
                .await
                .map_err(|_| Error::Timeout(CONNECT_TIMEOUT))?
        })
    }
}
