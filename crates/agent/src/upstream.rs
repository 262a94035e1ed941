//! Connections to the control plane: TLS verified against the mesh's root, HTTP/2 above it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use lateen_core::ports;
use lateen_tls::{ClientOptions, Connector, Identity, IdentityStore, ServerCheck};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tonic::transport::{Channel, Endpoint};

use crate::Error;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the control plane is and how it is verified.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    /// `host:port`.
    pub(crate) address: String,
    /// The roots; read for each connection, as the platform may replace them.
    pub(crate) root: PathBuf,
    /// The name to verify, when it is not the host.
    pub(crate) san: Option<String>,
}

/// A transport below HTTP/2, encrypted or not.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Transport for T {}

impl Upstream {
    /// The plaintext port is spoken to in plaintext, as by Istio's own clients.
    fn is_plaintext(&self) -> bool {
        self.address
            .rsplit_once(':')
            .is_some_and(|(_, p)| p == ports::XDS_PLAINTEXT.to_string())
    }

    fn host(&self) -> &str {
        self.address
            .rsplit_once(':')
            .map_or(self.address.as_str(), |(host, _)| host)
    }

    /// A gRPC channel; it connects when first used.
    pub(crate) fn channel(&self) -> Result<Channel, Error> {
        // The scheme is that of the stream that tonic sees; TLS is below it.
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address));
        let upstream = self.clone();
        let connector = tower::service_fn(move |_| {
            let upstream = upstream.clone();
            async move { upstream.connect().await }
        });
        Ok(endpoint
            .map_err(|e| self.failed(e))?
            .connect_with_connector_lazy(connector))
    }

    /// A connection for somebody who speaks HTTP/2 on it.
    pub(crate) async fn connect(&self) -> Result<TokioIo<Box<dyn Transport>>, Error> {
        let connect = async {
            let tcp = dial(&self.address).await.map_err(|e| self.failed(e))?;
            let transport: Box<dyn Transport> = match self.is_plaintext() {
                true => Box::new(tcp),
                false => self.secure(tcp).await?,
            };
            Ok(TokioIo::new(transport))
        };
        let timed = tokio::time::timeout(CONNECT_TIMEOUT, connect).await;
        timed.map_err(|_| self.failed(format!("no connection within {CONNECT_TIMEOUT:?}")))?
    }

    async fn secure(&self, tcp: TcpStream) -> Result<Box<dyn Transport>, Error> {
        let roots = std::fs::read_to_string(&self.root).map_err(Error::file(&self.root))?;
        let store = Arc::new(IdentityStore::new(Identity::roots_only(&roots)?));
        let alpn = vec![b"h2".to_vec()];
        let check = ServerCheck::ServerName;
        let options = ClientOptions {
            check,
            alpn,
            ..ClientOptions::default()
        };
        let name = self.san.as_deref().unwrap_or_else(|| self.host());
        let stream = Connector::new(store, options)
            .connect(tcp, Some(name))
            .await;
        Ok(Box::new(stream.map_err(|e| self.failed(e))?))
    }

    fn failed(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::ControlPlane {
            address: self.address.clone(),
            source: source.into(),
        }
    }
}

/// Connects to `host:port` with the proxy's mark, so that the pod's own capture rules let the
/// connection pass also where the agent's user cannot be told from the application's.
async fn dial(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in tokio::net::lookup_host(address).await? {
        match dial_one(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Gives a socket the proxy's mark, by which capture rules leave its packets alone.
pub(crate) fn mark<'a>(socket: impl Into<socket2::SockRef<'a>>) {
    // Needs CAP_NET_ADMIN. Without it the rules know us by our user.
    let _ = socket.into().set_mark(ports::PROXY_UID);
}

async fn dial_one(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    mark(&socket);
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
