//! The accept loop of one listener on one worker, and what happens to each connection before its
//! filter chain takes over.

use std::net::SocketAddr;
use std::sync::Arc;

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

/// Accepts connections until told to stop.
pub(crate) async fn accept_loop(
    worker: Arc<Worker>,
    name: ArcStr,
    socket: TcpListener,
    stop: Arc<Drain>,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.wait() => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, remote)) => {
                let task = serve(worker.clone(), name.clone(), stream, remote);
                tokio::spawn(task);
            }
            Err(error) => {
                // Out of descriptors, most likely: give others time to close some.
                tracing::warn!(listener = %name, %error, "accept failed");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(worker: Arc<Worker>, name: ArcStr, stream: TcpStream, remote: SocketAddr) {
    let _tracked = worker.shared.stats.listener_connection(&name);
    if let Err(reason) = serve_connection(&worker, &name, stream, remote).await {
        tracing::debug!(listener = %name, %remote, reason, "connection refused");
    }
}

async fn serve_connection(
    worker: &Arc<Worker>,
    name: &ArcStr,
    mut stream: TcpStream,
    remote: SocketAddr,
) -> Result<(), String> {
    let snapshot = worker.shared.snapshot.load_full();
    let listener = snapshot.listeners.get(name).ok_or("the listener is gone")?;
    let own = stream.local_addr().map_err(|error| error.to_string())?;
    let remote = canonical(remote);
    socket::tune(&stream);
    let local = if listener.original_dst {
        socket::original_dst(&stream, own)
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
    let listener = listener.clone();
    drop(snapshot);

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
    let connection = Arc::new(Connection {
        local,
        remote,
        sni: findings.sni,
        tls,
        listener,
        chain,
        series: SeriesCache::default(),
        texts: Texts::default(),
    });
    match &connection.chain.network {
        Network::Close => {}
        Network::Tcp(tcp) => proxy_tcp(worker, tcp.clone(), connection.clone(), io).await,
        Network::Http(hcm) => serve_http(worker, hcm.clone(), connection.clone(), io).await,
    }
    Ok(())
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
