//! Connections to the control plane: TLS verified against the mesh's root, HTTP/2 above it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use lateen_core::ports;
use lateen_tls::{
    ClientOptions, Connector, GrpcConnector, Identity, IdentityStore, ServerCheck, Stream,
};
use tokio::net::TcpStream;
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

    fn connector(&self) -> Result<Arc<Connector>, Error> {
        let roots = std::fs::read_to_string(&self.root).map_err(Error::file(&self.root))?;
        let store = Arc::new(IdentityStore::new(Identity::roots_only(&roots)?));
        let alpn = vec![b"h2".to_vec()];
        let check = ServerCheck::ServerName;
        let options = ClientOptions {
            check,
            alpn,
            ..ClientOptions::default()
        };
        Ok(Arc::new(Connector::new(store, options)))
    }

    /// A gRPC channel; it connects when first used.
    pub(crate) fn channel(&self) -> Result<Channel, Error> {
        if self.is_plaintext() {
            let endpoint = Endpoint::from_shared(format!("http://{}", self.address));
            return Ok(endpoint.map_err(|e| self.failed(e))?.connect_lazy());
        }
        let grpc = GrpcConnector::new(self.connector()?);
        let grpc = match &self.san {
            Some(san) => grpc.with_sni(san),
            None => grpc,
        };
        Ok(grpc.channel(&self.address)?)
    }

    /// A connection for somebody who speaks HTTP/2 himself.
    pub(crate) async fn connect(&self) -> Result<Transport, Error> {
        let connect = async {
            let tcp = TcpStream::connect(&self.address)
                .await
                .map_err(|e| self.failed(e))?;
            tcp.set_nodelay(true).map_err(|e| self.failed(e))?;
            if self.is_plaintext() {
                return Ok(Transport::Plain(TokioIo::new(tcp)));
            }
            let sni = self.san.as_deref().unwrap_or_else(|| self.host());
            let stream = self.connector()?.connect(tcp, Some(sni)).await;
            let stream = stream.map_err(|e| self.failed(e))?;
            Ok(Transport::Tls(TokioIo::new(Box::new(stream))))
        };
        let timed = tokio::time::timeout(CONNECT_TIMEOUT, connect).await;
        timed.map_err(|_| self.failed(format!("no connection within {CONNECT_TIMEOUT:?}")))?
    }

    fn failed(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::ControlPlane {
            address: self.address.clone(),
            source: source.into(),
        }
    }
}

/// A transport below HTTP/2.
pub(crate) enum Transport {
    Plain(TokioIo<TcpStream>),
    Tls(TokioIo<Box<Stream<TcpStream>>>),
}
