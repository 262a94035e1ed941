//! The TCP proxy.

use std::sync::Arc;

use lateen_core::Reason;
use lateen_decode::Discovery;
use tokio::time::Instant;

use super::copy;
use super::relay::{Bounds, Ended};
use super::splice::splice;
use super::tunnel::{self, Tunneled};
use crate::cluster::{Cluster, ConnectError, Connected, Host, To, Unresolved, connect};
use crate::http::log::{Entry, write_logs};
use crate::listener::{Connection, DownstreamIo, TcpProxy};
use crate::stats::TcpLabels;
use crate::worker::{Tried, Worker};

/// Serves one connection.
pub(crate) async fn proxy_tcp(
    worker: &Arc<Worker>,
    tcp: Arc<TcpProxy>,
    connection: Arc<Connection>,
    mut io: DownstreamIo,
) {
    let mut entry = Entry::tcp(&connection);
    let choice = tcp.target.choose(fastrand::u64(..), |_| None);
    let Some(name) = choice.map(|choice| choice.cluster.to_owned()) else {
        return;
    };
    entry.cluster = name.as_str().into();
    let outcome = serve(worker, &tcp, &connection, &mut io, &name, &mut entry).await;
    if let Err(reason) = outcome {
        entry.reasons.push(reason);
    }
    write_logs(
        &[&tcp.access_logs, &connection.listener.access_logs],
        &entry,
    );
}

async fn serve(
    worker: &Arc<Worker>,
    tcp: &TcpProxy,
    connection: &Connection,
    io: &mut DownstreamIo,
    name: &str,
    entry: &mut Entry,
) -> Result<(), Reason> {
    let cluster = worker
        .shared
        .cluster(name)
        .await
        .ok_or(Reason::NoClusterFound)?;
    let hash = tcp
        .by_source
        .then(|| lateen_balance::hash_bytes(connection.remote.ip().to_string().as_bytes()));
    let named = match cluster.is_dynamic() {
        false => None,
        true => Some(Box::pin(named(worker, tcp, connection, &cluster)).await?),
    };
    let mut tried = Vec::new();
    let mut failure = Reason::NoHealthyUpstream;
    for _ in 0..tcp.connect_attempts {
        let host = match &named {
            Some(host) => Some((None, host.clone())),
            None => pick(worker, &cluster, connection, hash, &tried),
        };
        let Some((index, host)) = host else {
            break;
        };
        entry.host = Some(host.address.clone());
        let to = To {
            address: &host.address,
            name: &host.hostname,
            transport: host.transport,
            client: connection.between(),
        };
        match reach(&cluster, to, tcp, entry).await {
            Ok(upstream) => {
                return relay(
                    worker, tcp, connection, &cluster, &host, io, upstream, entry,
                )
                .await;
            }
            Err(ConnectError::Overflow(_)) => return Err(Reason::UpstreamOverflow),
            Err(error) => {
                failure = Reason::UpstreamConnectionFailure;
                entry.failure = error.to_string();
                worker.shared.local_failure(&cluster, index);
                tried.extend(index);
            }
        }
    }
    Err(failure)
}

/// The host that a TLS client names.
async fn named(
    worker: &Worker,
    tcp: &TcpProxy,
    connection: &Connection,
    cluster: &Cluster,
) -> Result<Arc<Host>, Reason> {
    let name = connection.sni.as_deref().ok_or(Reason::NoHealthyUpstream)?;
    // Without the filter that looks names up, none is known.
    let port = tcp.name_port.ok_or(Reason::NoHealthyUpstream)?;
    let found = cluster.named_host(name, port, worker.shared.now()).await;
    found.map_err(|error| match error {
        Unresolved::Full => Reason::UpstreamOverflow,
        Unresolved::Failed => Reason::DnsResolutionFailed,
    })
}

/// The way to a host, or through it.
enum Upstream {
    Direct(Connected),
    /// Boxed by what it holds; few connections are.
    Through(Tunneled),
}

async fn reach(
    cluster: &Cluster,
    to: To<'_>,
    tcp: &TcpProxy,
    entry: &Entry,
) -> Result<Upstream, ConnectError> {
    match &tcp.tunnel {
        None => Ok(Upstream::Direct(connect(cluster, to).await?)),
        Some(tunnel) => {
            let opening = Box::pin(tunnel::open(cluster, to, tunnel, entry));
            Ok(Upstream::Through(opening.await?))
        }
    }
}

/// A host, and its place in the cluster's list where it is in one.
fn pick(
    worker: &Worker,
    cluster: &Cluster,
    connection: &Connection,
    hash: Option<u64>,
    tried: &[usize],
) -> Option<(Option<usize>, Arc<Host>)> {
    if let Discovery::OriginalDst { port, .. } = &cluster.spec.discovery {
        let address = connection.original_dst(*port)?;
        return Some((None, Arc::new(Host::at(address))));
    }
    let tried = Tried {
        hosts: tried,
        draws: 3,
        ..Tried::default()
    };
    let index = worker.shared.pick(cluster, hash, tried)?;
    Some((Some(index), cluster.hosts.hosts[index].clone()))
}

#[allow(
    clippy::too_many_arguments,
    reason = "the parts of one connection, used once"
)]
async fn relay(
    worker: &Arc<Worker>,
    tcp: &TcpProxy,
    connection: &Connection,
    cluster: &Arc<Cluster>,
    host: &Host,
    io: &mut DownstreamIo,
    mut upstream: Upstream,
    entry: &mut Entry,
) -> Result<(), Reason> {
    entry.upstream_local = match &upstream {
        Upstream::Direct(connected) => connected.local,
        Upstream::Through(tunneled) => tunneled.local,
    };
    let labels = TcpLabels::new(&worker.shared, connection, cluster, host);
    let series = labels.map(|labels| worker.shared.stats.tcp(&labels));
    if let Some(series) = &series {
        series.opened.inc();
    }
    let count = |sent: u64, received: u64| {
        if let Some(series) = &series {
            // Istio counts from the server's side: what the client sent was received.
            series.received.add(sent);
            series.sent.add(received);
        }
    };
    let bounds = Bounds {
        idle: tcp.idle_timeout,
        until: tcp
            .max_duration
            .map(|most| Instant::from_std(entry.started) + most),
    };
    let raw = match &mut upstream {
        Upstream::Direct(connected) => connected.io.raw_mut(),
        Upstream::Through(_) => None,
    };
    let (copied, result) = match (io.raw_mut(), raw) {
        (Some((prefix, down)), Some((up, stats))) => {
            let count = |sent: u64, received: u64| {
                count(sent, received);
                stats.tx_bytes.add(sent);
                stats.rx_bytes.add(received);
            };
            splice(std::mem::take(prefix), down, up, bounds, count).await
        }
        _ => match &mut upstream {
            Upstream::Direct(connected) => copy(io, &mut connected.io, bounds, count).await,
            Upstream::Through(tunneled) => copy(io, &mut tunneled.io, bounds, count).await,
        },
    };
    if let Some(series) = &series {
        series.closed.inc();
    }
    entry.bytes_received = copied.sent;
    entry.bytes_sent = copied.received;
    match copied.ended {
        Some(Ended::Idle) => Err(Reason::StreamIdleTimeout),
        Some(Ended::Over) => Err(Reason::DurationTimeout),
        None => result.map_err(|_| Reason::UpstreamConnectionTermination),
    }
}
