//! Workers: one thread each, with a runtime of its own, listening sockets of its own and upstream
//! connections of its own. What they share is a snapshot and a few atomics.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use arcstr::ArcStr;
use lateen_balance::{Outcome, Pick, Priority};
use lateen_http::{Pool, Value};
use tokio::sync::{mpsc, watch};

use crate::clock;
use crate::cluster::{Address, Between, Cluster, HttpWant};
use crate::drain::Drain;
use crate::listener::accept_loop;
use crate::node::Node;
use crate::secrets::Secrets;
use crate::snapshot::{Routes, Snapshot};
use crate::socket::Listening;
use crate::stats::Stats;
use crate::udp::{self, Ending, Sessions};

/// How long a request waits for configuration that is on its way.
const WARMING: Duration = Duration::from_secs(5);
/// How long an unused upstream connection is kept where the cluster does not say.
const IDLE: Duration = Duration::from_secs(60);
/// How often unused ones are looked for.
const SWEEP: Duration = Duration::from_secs(10);
/// Unused HTTP/1 connections kept for one host and worker.
const MAX_IDLE: usize = 256;

/// What workers share.
pub(crate) struct Shared {
    pub snapshot: ArcSwap<Snapshot>,
    /// Counts snapshots.
    pub changed_tx: watch::Sender<u64>,
    pub stats: Stats,
    pub secrets: Arc<Secrets>,
    pub node: Node,
    /// The bootstrap as the admin pages show it: JSON without keys.
    pub bootstrap: String,
    /// Set when the whole proxy is to end.
    pub drain: Drain,
    pub drain_time: Duration,
    pub ready: AtomicBool,
    /// Set by an operator: health checks are to fail.
    pub unhealthy: AtomicBool,
    /// The start, by the coarse clock.
    pub epoch: Duration,
    /// Of datagrams.
    pub sessions: Sessions,
}

/// One worker.
pub(crate) struct Worker {
    pub shared: Arc<Shared>,
    pub pool: Pool<PoolKey, foldhash::fast::RandomState>,
}

/// Everything that makes two upstream connections interchangeable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    pub cluster: u64,
    pub address: Address,
    pub transport: usize,
    pub want: HttpWant,
    pub priority: Priority,
    pub sni: Option<String>,
    /// The client that it speaks for, where it says so.
    pub client: Option<Box<Between>>,
}

/// What former tries of a request say about the choice of a host.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tried<'a> {
    /// Where they went; others come first.
    pub hosts: &'a [usize],
    /// How often to draw to find others.
    pub draws: u32,
    /// Priorities that are passed over where others have hosts.
    pub priorities: &'a [u32],
}

impl Shared {
    /// Time since the start.
    pub(crate) fn uptime(&self) -> Duration {
        clock::coarse().saturating_sub(self.epoch)
    }

    /// Milliseconds since the start, never 0.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.uptime().as_millis())
            .unwrap_or(u64::MAX)
            .saturating_add(1)
    }

    /// Makes a new world visible.
    pub(crate) fn publish(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
        self.changed_tx.send_modify(|generation| *generation += 1);
    }

    /// A cluster by name. One whose hosts were never heard of is waited for: its route arrived a
    /// moment too early.
    pub(crate) async fn cluster(&self, name: &str) -> Option<Arc<Cluster>> {
        let find = || self.snapshot.load().clusters.get(name).cloned();
        let found = find()?;
        if found.warm {
            return Some(found);
        }
        self.wait(|| find().filter(|cluster| cluster.warm))
            .await
            .or_else(find)
    }

    /// A route configuration by name. One that is on its way is waited for.
    pub(crate) async fn routes(&self, name: &str) -> Option<Routes> {
        let find = || self.snapshot.load().routes.get(name).cloned();
        match find() {
            Some(found) => Some(found),
            None => self.wait(find).await,
        }
    }

    async fn wait<T>(&self, find: impl Fn() -> Option<T>) -> Option<T> {
        let mut changed_rx = self.changed_tx.subscribe();
        let looking = async {
            loop {
                if let Some(found) = find() {
                    return Some(found);
                }
                changed_rx.changed().await.ok()?;
            }
        };
        tokio::time::timeout(WARMING, looking).await.ok().flatten()
    }

    /// A host of a cluster.
    pub(crate) fn pick(
        &self,
        cluster: &Cluster,
        hash: Option<u64>,
        tried: Tried<'_>,
    ) -> Option<usize> {
        let mut random = || fastrand::u64(..);
        let mut pick = Pick {
            now: self.now(),
            random: &mut random,
            hash,
            tried: tried.hosts,
            attempts: tried.draws,
            avoid: tried.priorities,
        };
        let found = cluster.hosts.balancer.pick(&cluster.hosts.specs, &mut pick);
        if found.is_none() {
            cluster.stats.cx_none_healthy.inc();
        }
        found
    }

    /// Reports how a request to a host ended.
    pub(crate) fn report(&self, cluster: &Cluster, index: usize, outcome: Outcome) {
        let Some(config) = &cluster.spec.outlier else {
            return;
        };
        let specs = &cluster.hosts.specs;
        let balancer = &cluster.hosts.balancer;
        if balancer.report(config, specs, index, outcome, self.now()) {
            let host = &cluster.hosts.hosts[index].address;
            tracing::info!(cluster = %cluster.spec.name, %host, "host ejected");
        }
    }

    /// Reports that a host could not be reached.
    pub(crate) fn local_failure(&self, cluster: &Cluster, index: Option<usize>) {
        if let Some(index) = index {
            self.report(cluster, index, Outcome::LocalFailure);
        }
    }

    /// The time for `Date`, made once per second and thread.
    pub(crate) fn date(&self) -> Value {
        thread_local! {
            static DATE: RefCell<(i64, Option<Value>)> = const { RefCell::new((0, None)) };
        }
        let now = clock::unix_second();
        DATE.with_borrow_mut(|(second, text)| {
            if *second != now || text.is_none() {
                let date = jiff::Timestamp::from_second(now).unwrap_or_default();
                let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
                *text = Value::new(date.as_bytes()).ok();
                *second = now;
            }
            text.clone().unwrap_or_else(|| Value::from_static(""))
        })
    }

    /// True where traffic should come.
    pub(crate) fn is_live(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
            && !self.unhealthy.load(Ordering::Relaxed)
            && !self.drain.is_set()
    }
}

/// What a worker is told.
pub(crate) enum Command {
    /// Accept on this socket.
    Listen {
        name: ArcStr,
        socket: Listening,
        stop: Arc<Drain>,
    },
    /// Take datagrams from this socket.
    Receive {
        name: ArcStr,
        socket: std::net::UdpSocket,
        ending: Arc<Ending>,
    },
}

/// Starts a worker's thread. It ends when its commands do, with whatever is still under way.
pub(crate) fn start(
    index: usize,
    shared: Arc<Shared>,
) -> std::io::Result<mpsc::UnboundedSender<Command>> {
    let (commands_tx, mut commands_rx) = mpsc::unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name(format!("worker-{index}"))
        .spawn(move || {
            let worker = Arc::new(Worker {
                shared,
                pool: Pool::new(MAX_IDLE),
            });
            runtime.block_on(async {
                tokio::spawn(lateen_http::flush_turns());
                tokio::spawn(sweep(worker.clone()));
                while let Some(command) = commands_rx.recv().await {
                    obey(&worker, command);
                }
            });
        })?;
    Ok(commands_tx)
}

fn obey(worker: &Arc<Worker>, command: Command) {
    let unusable = |name: &ArcStr, error: std::io::Error| {
        tracing::error!(listener = %name, %error, "socket not usable");
    };
    match command {
        Command::Listen { name, socket, stop } => match socket.into_acceptor() {
            Ok(socket) => {
                tokio::spawn(accept_loop(worker.clone(), name, socket, stop));
            }
            Err(error) => unusable(&name, error),
        },
        Command::Receive {
            name,
            socket,
            ending,
        } => match tokio::net::UdpSocket::from_std(socket) {
            Ok(socket) => {
                tokio::spawn(udp::receive(worker.clone(), name, socket, ending));
            }
            Err(error) => unusable(&name, error),
        },
    }
}

/// Closes what nobody uses any more.
async fn sweep(worker: Arc<Worker>) {
    let mut timer = tokio::time::interval(SWEEP);
    loop {
        timer.tick().await;
        let snapshot = worker.shared.snapshot.load_full();
        let idle: HashMap<u64, Duration> = snapshot
            .clusters
            .values()
            .map(|cluster| (cluster.id, cluster.spec.http.idle_timeout.unwrap_or(IDLE)))
            .collect();
        drop(snapshot);
        worker.pool.sweep(|key| idle.get(&key.cluster).copied());
    }
}
