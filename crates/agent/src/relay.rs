//! Carries xDS from the proxy, on a Unix socket, to the control plane over TLS.
//!
//! Each stream gets the pod's current token on its way. The proxy, ours or Envoy, thus needs
//! neither the token nor the control plane's root, and reconnects when the upstream goes away.
//! Bytes are not looked at: whatever gRPC method is called is carried.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Mutex;

use crate::Error;
use crate::config::AgentConfig;
use crate::upstream::{Transport, Upstream};

/// A control plane that vanished without a word is noticed within 40 s, as by Istio's agent.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// A full push to a large mesh should not wait for window updates.
const WINDOW: u32 = 4 << 20;

type Answer = Response<Either<Incoming, Empty<Bytes>>>;

/// The relay.
pub(crate) struct Relay {
    config: Arc<AgentConfig>,
    upstream: Upstream,
    /// The one connection to the control plane, shared by all streams.
    connection: Mutex<Option<SendRequest<Incoming>>>,
}

impl Relay {
    pub(crate) fn new(config: Arc<AgentConfig>) -> Self {
        let upstream = Upstream {
            address: config.discovery_address.clone(),
            root: config.paths.xds_root.clone(),
            san: config.control_plane_san.clone(),
        };
        Self {
            config,
            upstream,
            connection: Mutex::new(None),
        }
    }

    /// Accepts proxies on the socket; never returns.
    pub(crate) async fn serve(self: Arc<Self>, listener: UnixListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(self.clone().serve_one(stream));
                }
                Err(error) => {
                    tracing::warn!(%error, "accept failed on the xDS socket");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn serve_one(self: Arc<Self>, stream: UnixStream) {
        let service = service_fn(|request| {
            let relay = self.clone();
            async move { Ok::<_, Infallible>(relay.carry(request).await) }
        });
        let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "xDS connection of the proxy ended");
        }
    }

    async fn carry(&self, mut request: Request<Incoming>) -> Answer {
        let sent = async {
            let token = std::fs::read_to_string(&self.config.paths.token);
            let token = token.map_err(Error::file(&self.config.paths.token))?;
            let mut sender = self.sender().await?;
            prepare(&mut request, &self.upstream.address, token.trim());
            sender
                .send_request(request)
                .await
                .map_err(|e| self.failed(e))
        };
        match sent.await {
            Ok(response) => response.map(Either::Left),
            Err(error) => {
                tracing::warn!(%error, "xDS is not carried");
                unavailable(&error)
            }
        }
    }

    async fn sender(&self) -> Result<SendRequest<Incoming>, Error> {
        let mut connection = self.connection.lock().await;
        if let Some(sender) = connection.as_ref().filter(|s| !s.is_closed()) {
            return Ok(sender.clone());
        }
        let sender = self.handshake(self.upstream.connect().await?).await?;
        *connection = Some(sender.clone());
        Ok(sender)
    }

    async fn handshake(
        &self,
        io: TokioIo<Box<dyn Transport>>,
    ) -> Result<SendRequest<Incoming>, Error> {
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .handshake(io)
            .await
            .map_err(|e| self.failed(e))?;
        let address = self.upstream.address.clone();
        tokio::spawn(async move {
            match connection.await {
                Ok(()) => tracing::info!(%address, "control plane closed the connection"),
                Err(error) => tracing::warn!(%address, %error, "control plane connection broke"),
            }
        });
        Ok(sender)
    }

    fn failed(&self, error: hyper::Error) -> Error {
        Error::ControlPlane {
            address: self.upstream.address.clone(),
            source: error.into(),
        }
    }
}

/// Binds a Unix socket, replacing what an earlier run left behind.
pub(crate) fn bind(path: &Path) -> Result<UnixListener, Error> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(Error::file(directory))?;
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::file(path)(e)),
        _ => {}
    }
    UnixListener::bind(path).map_err(|source| Error::Listen {
        address: path.display().to_string(),
        source,
    })
}

/// Addresses the request to the control plane, in the name of this pod.
fn prepare(request: &mut Request<Incoming>, address: &str, token: &str) {
    let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
    if let Ok(uri) = Uri::builder()
        .scheme("https")
        .authority(address)
        .path_and_query(path)
        .build()
    {
        *request.uri_mut() = uri;
    }
    if let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {token}")) {
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
    }
}

/// gRPC's "trailers only" answer with status UNAVAILABLE, which clients retry with back-off.
fn unavailable(error: &Error) -> Answer {
    let message = error
        .to_string()
        .replace(|c: char| c.is_control() || !c.is_ascii(), " ");
    let message = message.replace('%', "%25");
    Response::builder()
        .status(StatusCode::OK)
        .header("content-type", "application/grpc")
        .header("grpc-status", "14")
        .header("grpc-message", message)
        .body(Either::Right(Empty::new()))
        .expect("the headers are printable ASCII")
}

#[cfg(test)]
mod tests;
