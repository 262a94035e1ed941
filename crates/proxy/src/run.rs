//! Starting and ending the proxy.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use lateen_tls::IdentityStore;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::drain::Drain;
use crate::error::Error;
use crate::node::Node;
use crate::secrets::Secrets;
use crate::state::{Event, State};
use crate::stats::Stats;
use crate::udp::Sessions;
use crate::worker::{self, Shared};
use crate::{admin, ads, bootstrap, clock, memory};

/// The number of workers where nobody says otherwise: Istio's default.
pub const DEFAULT_CONCURRENCY: usize = 2;

/// Where the bootstrap is.
#[derive(Debug, Clone)]
pub enum BootstrapSource {
    /// In a file.
    File(PathBuf),
    /// Here, as JSON.
    Json(String),
}

/// What the proxy needs to run.
#[derive(Debug, Clone)]
pub struct ProxyOptions {
    /// The bootstrap.
    pub bootstrap: BootstrapSource,
    /// The workload's certificate and roots, under the secret names `default` and `ROOTCA`. May be
    /// empty at first: handshakes are refused until it is filled.
    pub identity: Arc<IdentityStore>,
    /// The number of workers; 0 means one for each core.
    pub concurrency: usize,
    /// How long connections may finish what they are doing when the proxy ends.
    pub drain_time: Duration,
    /// Ends the proxy.
    pub shutdown: CancellationToken,
}

impl ProxyOptions {
    /// Usual options.
    pub fn new(bootstrap: BootstrapSource, identity: Arc<IdentityStore>) -> Self {
        ProxyOptions {
            bootstrap,
            identity,
            concurrency: DEFAULT_CONCURRENCY,
            drain_time: Duration::from_secs(5),
            shutdown: CancellationToken::new(),
        }
    }
}

/// Runs the proxy until `shutdown` is cancelled or an operator asks it to end. Must be called on a
/// tokio runtime; the workers' own runtimes are made here.
///
/// # Errors
/// When the bootstrap is not usable or what it defines cannot be bound.
pub async fn run(options: ProxyOptions) -> Result<(), Error> {
    let ProxyOptions {
        bootstrap,
        identity,
        concurrency,
        drain_time,
        shutdown,
    } = options;
    lateen_tls::install_provider();
    let text = match bootstrap {
        BootstrapSource::Json(text) => text,
        BootstrapSource::File(path) => {
            std::fs::read_to_string(&path).map_err(|source| Error::Io {
                what: path.display().to_string(),
                source,
            })?
        }
    };
    let (config, node) = memory::apart(|| {
        let config = bootstrap::parse(&text)?;
        let node = lateen_xds::json::to_value(&config.node).unwrap_or_default();
        Ok((config, node))
    })?;
    let shared = Arc::new(Shared {
        snapshot: ArcSwap::default(),
        changed_tx: watch::Sender::new(0),
        stats: Stats::new(),
        secrets: Arc::new(Secrets::new(identity)),
        node: Node::new(config.node, node),
        bootstrap: config.shown,
        drain: Drain::default(),
        drain_time,
        ready: AtomicBool::new(false),
        unhealthy: AtomicBool::new(false),
        epoch: clock::coarse(),
        sessions: Sessions::default(),
    });
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let count = if concurrency == 0 { cores } else { concurrency };
    let workers = (0..count)
        .map(|index| worker::start(index, shared.clone()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| Error::Io {
            what: "starting a worker".to_owned(),
            source,
        })?;

    let (events_tx, events_rx) = mpsc::unbounded_channel();
    let mut state = State::new(shared.clone(), workers, events_tx.clone());
    let raw = state.raw.clone();
    state
        .bootstrap(config.clusters, config.listeners, &config.local_cluster)
        .map_err(Error::Bootstrap)?;
    match config.ads {
        Some(target) => {
            let subscriber = ads::start(shared.node.message.clone(), target, events_tx.clone());
            state.attach(subscriber);
        }
        None => state.attach_nothing(),
    }
    let writer = tokio::spawn(state.run(events_rx));
    let identity = tokio::spawn(follow_identity(shared.clone(), events_tx.clone()));
    let admin = match config.admin {
        Some(address) => Some(admin::start(address, shared.clone(), raw, shutdown.clone()).await?),
        None => None,
    };
    tracing::info!(workers = count, node = %shared.node.message.id, "proxy started");

    shutdown.cancelled().await;
    drain(&shared).await;
    // Dropping the writer drops the workers' commands, which ends their threads.
    writer.abort();
    let _ = writer.await;
    identity.abort();
    drop::<mpsc::UnboundedSender<Event>>(events_tx);
    if let Some(admin) = admin {
        admin.abort();
    }
    Ok(())
}

/// Secrets that are made of the workload's own certificate and something else follow it.
async fn follow_identity(shared: Arc<Shared>, events_tx: mpsc::UnboundedSender<Event>) {
    let mut changed_rx = shared.secrets.identity().subscribe();
    while changed_rx.changed().await.is_ok() {
        shared.secrets.own_identity_changed();
        if events_tx.send(Event::IdentityChanged).is_err() {
            return;
        }
    }
}

/// Lets what is under way finish, for a bounded time.
async fn drain(shared: &Shared) {
    shared.drain.start();
    let end = tokio::time::Instant::now() + shared.drain_time;
    while shared.stats.downstream_active.value() > 0 && tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
