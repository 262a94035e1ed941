//! The accept loop of one listener on one worker, and what happens to each connection before its
//! filter chain takes over.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arcstr::ArcStr;
use bytes::BytesMut;
use lateen_route::ConnectionView;
use tokio::net::{TcpListener, TcpStream};

use super::inspect::{Findings, inspect, prefix};
use super::stream::{DownstreamIo, Prefixed};
use super::{Connection, Downstream, Listener, Network, Texts};
use crate::drain::Drain;
use crate::http::serve_http;
use crate::network::proxy_tcp;
use crate::socket;
use crate::stats::SeriesCache;
use crate::worker::Worker;

/// Connections that are taken at one wake-up; those that are being served have their turn then.
const BATCH: usize = 32;
/// Wait after an error such as "too many open files": others may close some meanwhile.
const RETRY: Duration = Duration::from_millis(50);

/// Accepts connections until told to stop.
pub(crate) async fn accept_loop(
    worker: Arc<Worker>,
    name: ArcStr,
    socket: TcpListener,
    stop: Arc<Drain>,
) {
    let mut stopped = pin!(stop.wait());
    loop {
        for _ in 0..BATCH {
            let accepted = tokio::select! {
                biased;
                () = &mut stopped => return,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, remote)) => {
                    tokio::spawn(serve(worker.clone(), name.clone(), stream, remote));
                }
                Err(error) => {
                    tracing::warn!(listener = %name, %error, "accept failed");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Serves one connection. This future lives as long as the connection, and what it holds is what
/// an idle connection costs: what only the beginning needs is boxed and freed.
async fn serve(worker: Arc<Worker>, name: ArcStr, stream: TcpStream, remote: SocketAddr) {
    let _tracked = worker.shared.stats.listener_connection(&name);
    let prepared = Box::pin(prepare(&worker, &name, stream, remote)).await;
    let (connection, io) = match prepared {
        Ok(prepared) => prepared,
        Err(reason) => {
            tracing::debug!(listener = %name, %remote, reason, "connection refused");
            return;
        }
    };
    drop(name);
    let chain = connection.chain.clone();
    match &chain.network {
        Network::Close => {}
        Network::Tcp(tcp) => Box::pin(proxy_tcp(&worker, tcp.clone(), connection, io)).await,
        Network::Http(hcm) => Box::pin(serve_http(&worker, hcm.clone(), connection, io)).await,
    }
}

/// Finds the filter chain of a connection and ends its TLS.
async fn prepare(
    worker: &Arc<Worker>,
    name: &ArcStr,
    mut stream: TcpStream,
    remote: SocketAddr,
) -> Result<(Arc<Connection>, DownstreamIo), String> {
    let own = stream.local_addr().map_err(|error| error.to_string())?;
    let (listener, local) = listener_of(worker, name, &stream, own)?;
    let remote = canonical(remote);
    let mut seen = BytesMut::new();
    let findings = look(&listener, &mut stream, &mut seen).await?;
    let view = ConnectionView {
        destination: local,
        source: remote,
        server_name: findings.sni.as_deref(),
        transport: if findings.tls { "tls" } else { "raw_buffer" },
        application: &findings.application,
    };
    let chain = listener.select(&view).ok_or("no filter chain matches")?;
    let stream = Prefixed {
        prefix: prefix(seen),
        stream,
    };
    let (io, tls) = match &chain.transport {
        Downstream::Raw => (DownstreamIo::Raw(stream), None),
        Downstream::Tls(acceptor) => {
            let handshake = tokio::time::timeout(chain.handshake_timeout, acceptor.accept(stream));
            let stream = match handshake.await {
                Err(_) => return Err("TLS handshake timed out".to_owned()),
                Ok(Err(error)) => {
                    worker.shared.stats.tls_failure(&listener.name);
                    return Err(error.to_string());
                }
                Ok(Ok(stream)) => stream,
            };
            let info = stream.info().clone();
            (DownstreamIo::Tls(Box::new(stream)), Some(info))
        }
    };
    let connection = Connection {
        local,
        remote,
        sni: findings.sni,
        tls,
        listener,
        chain,
        series: SeriesCache::default(),
        texts: Texts::default(),
    };
    Ok((Arc::new(connection), io))
}

/// The listener that serves a connection, and where its client meant to go.
fn listener_of(
    worker: &Worker,
    name: &ArcStr,
    stream: &TcpStream,
    own: SocketAddr,
) -> Result<(Arc<Listener>, SocketAddr), String> {
    let snapshot = worker.shared.snapshot.load();
    let listener = snapshot.listeners.get(name).ok_or("the listener is gone")?;
    let local = if listener.original_dst {
        socket::original_dst(stream, own)
    } else {
        own
    };
    let local = canonical(local);
    let redirected = local != canonical(own);
    let listener = if listener.use_original_dst && redirected {
        snapshot.listener_for(local).unwrap_or(listener)
    } else {
        listener
    };
    Ok((listener.clone(), local))
}

/// Inspects, at most as long as the listener allows.
async fn look(
    listener: &Listener,
    stream: &mut TcpStream,
    seen: &mut BytesMut,
) -> Result<Findings, String> {
    let work = inspect(listener, stream, seen);
    if listener.filter_timeout.is_zero() {
        return work.await.map_err(|error| error.to_string());
    }
    match tokio::time::timeout(listener.filter_timeout, work).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        // A server that speaks first waits for no client's bytes.
        Err(_) if listener.continue_on_timeout => Ok(Findings::default()),
        Err(_) => Err("nothing to inspect arrived in time".to_owned()),
    }
}

/// An IPv4 address as such, also where an IPv6 socket took it.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of what a function of these arguments returns.
    fn size<A, B, C, D, F>(_: impl FnOnce(A, B, C, D) -> F) -> usize {
        std::mem::size_of::<F>()
    }

    #[test]
    #[allow(clippy::print_stderr, reason = "the figures are of interest")]
    fn an_idle_connection_holds_a_small_future() {
        let (task, http) = (size(serve), size(served_http));
        eprintln!("task {task}, http {http}, tcp {}", size(served_tcp));
        assert!(task <= 256, "{task}");
        assert!(http <= 1200, "{http}");
    }

    async fn served_http(
        worker: Arc<Worker>,
        hcm: Arc<crate::http::Hcm>,
        connection: Arc<Connection>,
        io: DownstreamIo,
    ) {
        serve_http(&worker, hcm, connection, io).await;
    }

    async fn served_tcp(
        worker: Arc<Worker>,
        tcp: Arc<crate::listener::TcpProxy>,
        connection: Arc<Connection>,
        io: DownstreamIo,
    ) {
        proxy_tcp(&worker, tcp, connection, io).await;
    }
}
