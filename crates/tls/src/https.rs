//! A TLS listener for HTTP and gRPC servers.
//!
//! Handshakes run side by side and under a time limit, so that a client that connects and says
//! nothing delays nobody. Handlers learn who called from [`PeerInfo`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::{Acceptor, ClientAuth, Error, IdentityStore, PeerInfo, ServerOptions, Stream, Version};

/// How long a client may take for its handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes that may run at once; beyond that, new connections wait in the kernel's queue.
const MAX_HANDSHAKES: usize = 1024;
/// Wait after an accept error such as "too many open files", as retrying at once only burns CPU.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Established connections from one or more TCP listeners.
///
/// Works with `axum::serve` (with connect-info [`PeerInfo`]), with a hyper loop by
/// [`Listener::next`], and with tonic's `serve_with_incoming` by [`Listener::into_incoming`].
#[derive(Debug)]
pub struct Listener {
    ready_rx: mpsc::Receiver<(Stream<TcpStream>, SocketAddr)>,
    local_addr: SocketAddr,
    // Aborted on drop: the sockets close with the listener.
    _accepting: JoinSet<()>,
}

impl Listener {
    /// Starts accepting on all of `listeners`. Must be called within a runtime.
    ///
    /// # Errors
    /// When there is no listener or its address is unknown.
    pub fn new(listeners: Vec<TcpListener>, acceptor: Acceptor) -> io::Result<Self> {
        let first = listeners.first().ok_or(io::ErrorKind::InvalidInput)?;
        let local_addr = first.local_addr()?;
        let (ready_tx, ready_rx) = mpsc::channel(64);
        let acceptor = Arc::new(acceptor);
        let limit = Arc::new(Semaphore::new(MAX_HANDSHAKES));
        let mut accepting = JoinSet::new();
        for listener in listeners {
            accepting.spawn(accept_loop(
                listener,
                acceptor.clone(),
                limit.clone(),
                ready_tx.clone(),
            ));
        }
        Ok(Self {
            ready_rx,
            local_addr,
            _accepting: accepting,
        })
    }

    /// A listener for HTTP/2 and HTTP/1.1 with the store's certificate.
    ///
    /// # Errors
    /// As [`Listener::new`].
    pub fn http(
        listeners: Vec<TcpListener>,
        store: Arc<IdentityStore>,
        client_auth: ClientAuth,
    ) -> io::Result<Self> {
        let lowest = ServerOptions::default().min_version;
        Self::http_from(lowest, listeners, store, client_auth)
    }

    /// The same, which speaks no version lower than this one.
    ///
    /// # Errors
    /// As [`Listener::new`].
    pub fn http_from(
        min_version: Version,
        listeners: Vec<TcpListener>,
        store: Arc<IdentityStore>,
        client_auth: ClientAuth,
    ) -> io::Result<Self> {
        let alpn = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let options = ServerOptions {
            client_auth,
            alpn,
            min_version,
            ..ServerOptions::default()
        };
        Self::new(listeners, Acceptor::new(store, options))
    }

    /// The next connection whose handshake is done.
    pub async fn next(&mut self) -> (Stream<TcpStream>, SocketAddr) {
        match self.ready_rx.recv().await {
            Some(ready) => ready,
            // The accept loops end only with us.
            None => std::future::pending().await,
        }
    }

    /// The connections as a stream, for `tonic`'s `serve_with_incoming`. Requests carry
    /// [`PeerInfo`] among their extensions.
    pub fn into_incoming(
        self,
    ) -> impl futures::Stream<Item = io::Result<Stream<TcpStream>>> + Send {
        futures::stream::unfold(self, |mut listener| async move {
            let (stream, _) = listener.next().await;
            Some((Ok(stream), listener))
        })
    }

    /// The address of the first listener.
    pub fn address(&self) -> SocketAddr {
        self.local_addr
    }
}

async fn accept_loop(
    listener: TcpListener,
    acceptor: Arc<Acceptor>,
    limit: Arc<Semaphore>,
    ready_tx: mpsc::Sender<(Stream<TcpStream>, SocketAddr)>,
) {
    let mut handshakes = JoinSet::new();
    loop {
        // Reap what is done; the set would otherwise grow with each connection.
        while handshakes.try_join_next().is_some() {}
        let permit = limit
            .clone()
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let (tcp, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let acceptor = acceptor.clone();
        let ready_tx = ready_tx.clone();
        handshakes.spawn(async move {
            match handshake(&acceptor, tcp).await {
                Ok(stream) => {
                    drop(permit);
                    // Fails only when the listener is gone, and the connection goes with it.
                    let _ = ready_tx.send((stream, peer)).await;
                }
                Err(error) => tracing::debug!(%peer, %error, "no TLS connection"),
            }
        });
    }
}

async fn handshake(acceptor: &Acceptor, tcp: TcpStream) -> Result<Stream<TcpStream>, Error> {
    tcp.set_nodelay(true).map_err(Error::Io)?;
    tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(tcp))
        .await
        .map_err(|_| Error::Timeout(HANDSHAKE_TIMEOUT))?
}

impl axum::serve::Listener for Listener {
    type Io = Stream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        self.next().await
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.local_addr)
    }
}

impl axum::extract::connect_info::Connected<axum::serve::IncomingStream<'_, Listener>>
    for PeerInfo
{
    fn connect_info(stream: axum::serve::IncomingStream<'_, Listener>) -> Self {
        PeerInfo::of(stream.io())
    }
}
