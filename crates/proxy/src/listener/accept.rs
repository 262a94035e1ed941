//! The accept loop of one listener on one worker, and what happens to each connection before its
//! filter chain takes over.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arcstr::ArcStr;
use bytes::BytesMut;
use lateen_decode::ProxyHeader;
use lateen_route::ConnectionView;

use super::inspect::{Findings, inspect, prefix, proxy_header};
use super::stream::{DownstreamIo, Prefixed};
use super::{Connection, Downstream, Listener, Network, Texts};
use crate::drain::Drain;
use crate::http::serve_http;
use crate::network::proxy_tcp;
use crate::socket::{Acceptor, Stream};
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
    socket: Acceptor,
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

/// A part of a connection's life, and what follows it. The task of a connection holds one part at a
/// time and has no room for others: what the present part needs is what an idle connection costs.
struct Phase(Pin<Box<dyn Future<Output = Option<Phase>> + Send>>);

impl Future for Phase {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(next) = ready!(self.0.as_mut().poll(cx)) {
            *self = next;
        }
        Poll::Ready(())
    }
}

/// Serves one connection.
fn serve(worker: Arc<Worker>, name: ArcStr, stream: Stream, remote: SocketAddr) -> Phase {
    Phase(Box::pin(async move {
        match prepare(&worker, &name, stream, remote).await {
            Ok((connection, io)) => hand_on(worker, connection, io),
            Err(reason) => {
                tracing::debug!(listener = %name, %remote, reason, "connection refused");
                None
            }
        }
    }))
}

/// Gives a connection to its filter chain.
fn hand_on(worker: Arc<Worker>, connection: Arc<Connection>, io: DownstreamIo) -> Option<Phase> {
    let chain = connection.chain.clone();
    match &chain.network {
        Network::Close => None,
        Network::Tcp(tcp) => {
            let tcp = tcp.clone();
            Some(Phase(Box::pin(async move {
                proxy_tcp(&worker, tcp, connection, io).await;
                None
            })))
        }
        Network::Http(hcm) => {
            let serving = serve_http(worker, hcm.clone(), connection, io);
            Some(Phase(Box::pin(async move {
                if let Err(error) = serving.await {
                    tracing::debug!(%error, "downstream connection ended");
                }
                None
            })))
        }
    }
}

/// Finds the filter chain of a connection and ends its TLS.
async fn prepare(
    worker: &Arc<Worker>,
    name: &ArcStr,
    mut stream: Stream,
    remote: SocketAddr,
) -> Result<(Arc<Connection>, DownstreamIo), String> {
    let tracked = worker.shared.stats.listener_connection(name);
    let own = stream.local_addr().map_err(|error| error.to_string())?;
    let (listener, mut local, mut is_restored) = listener_of(worker, name, &stream, own)?;
    let direct_remote = canonical(remote);
    let mut remote = direct_remote;
    let mut seen = BytesMut::new();
    if let Some(header) = listener.proxy_header {
        // Boxed, since few listeners ask for it.
        let named = Box::pin(named_addresses(&listener, header, &mut stream, &mut seen)).await?;
        if let Some((source, destination)) = named {
            is_restored |= canonical(destination) != local;
            (remote, local) = (canonical(source), canonical(destination));
        }
    }
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
        is_restored,
        remote,
        direct_remote,
        sni: findings.sni,
        tls,
        listener,
        chain,
        series: SeriesCache::default(),
        texts: Texts::default(),
        n_answered: Default::default(),
        _tracked: tracked,
    };
    Ok((Arc::new(connection), io))
}

/// The listener that serves a connection, where its client meant to go, and whether the kernel says so.
fn listener_of(
    worker: &Worker,
    name: &ArcStr,
    stream: &Stream,
    own: SocketAddr,
) -> Result<(Arc<Listener>, SocketAddr, bool), String> {
    let snapshot = worker.shared.snapshot.load();
    let listener = snapshot.listeners.get(name).ok_or("the listener is gone")?;
    let asked = match listener.original_dst {
        true => stream.original_dst(own),
        false => None,
    };
    let local = canonical(asked.unwrap_or(own));
    let redirected = local != canonical(own);
    let listener = if listener.use_original_dst && redirected {
        snapshot.listener_for(local).unwrap_or(listener)
    } else {
        listener
    };
    Ok((listener.clone(), local, asked.is_some()))
}

/// The addresses that the PROXY header of a connection names, where it names any.
async fn named_addresses(
    listener: &Listener,
    header: ProxyHeader,
    stream: &mut Stream,
    seen: &mut BytesMut,
) -> Result<Option<(SocketAddr, SocketAddr)>, String> {
    let work = proxy_header(header, stream, seen);
    let limit = match listener.filter_timeout {
        Duration::ZERO => Duration::MAX,
        limit => limit,
    };
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        // Whoever goes on without it would take the balancer for the client.
        Err(_) => Err("no PROXY header arrived in time".to_owned()),
    }
}

/// Inspects, at most as long as the listener allows.
async fn look(
    listener: &Listener,
    stream: &mut Stream,
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
        let (task, http) = (size(serve), size(serve_http));
        eprintln!("task {task}, http {http}, tcp {}", size(served_tcp));
        // More than this takes twice the room together with the runtime's own part.
        assert!(task <= 32, "{task}");
        assert!(http <= 64, "{http}");
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
