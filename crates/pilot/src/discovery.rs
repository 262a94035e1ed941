//! The control plane's discovery server: inputs in, snapshots out, ports to serve them on.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use lateen_galley::ConfigSet;
use lateen_registry::World;
use lateen_xds::server::{self, Ads, Connection, Connections, STREAM_LIFETIME};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{error, info};

use crate::auth::Authenticate;
use crate::distribution::{Problems, Reports, Tracker};
use crate::engine::{Counts, Engine};
use crate::envoy_filter::PatchReport;
use crate::metrics::Metrics;
use crate::platform::Platform;
use crate::registration::{Registering, Registrar};
use crate::rights::{self, ASK_AGAIN, Rights};
use crate::secret::{CredentialSource, NoCredentials};
use crate::snapshot::Snapshot;
use crate::source::{Client, Core, Source};

/// The tonic service that [`Discovery::ads_service`] returns.
pub type AdsService = server::AdsService<Source>;

/// The longest that a change waits so that work on changes leaves time for other work.
const REST_MAX: Duration = Duration::from_millis(200);

/// What may be set.
#[derive(Clone)]
pub struct Options {
    /// Domain of service names.
    pub domain: String,
    /// Certificates for gateways.
    pub credentials: Arc<dyn CredentialSource>,
    /// How long a stream may live before its client must prove again who it is.
    pub stream_lifetime: Duration,
    /// How often it is asked again whether those who use Secrets may read them.
    pub ask_again: Duration,
    /// What debug pages say of this control plane, and whom they say it to.
    pub settings: Settings,
    /// Where workloads outside of the platform are registered; `None` refuses them.
    pub registering: Option<Registering>,
}

/// What is injected, by the name of the template.
pub type Templates = Arc<dyn Fn() -> BTreeMap<String, String> + Send + Sync>;

/// A control plane, as its debug pages know it.
#[derive(Clone)]
pub struct Settings {
    /// Its own namespace, whose workloads may see everything.
    pub namespace: String,
    /// What its cluster is called.
    pub cluster_id: String,
    /// Streams may be ended by request.
    pub unsafe_admin: bool,
    /// What it injects into pods.
    pub templates: Option<Templates>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            namespace: "istio-system".into(),
            cluster_id: "Kubernetes".into(),
            unsafe_admin: false,
            templates: None,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            domain: "cluster.local".into(),
            credentials: Arc::new(NoCredentials),
            stream_lifetime: STREAM_LIFETIME,
            ask_again: ASK_AGAIN,
            settings: Settings::default(),
            registering: None,
        }
    }
}

/// The discovery server. Cheap to clone; its task ends with the inputs.
#[derive(Clone)]
pub struct Discovery {
    pub(crate) core: Arc<Core>,
    pub(crate) connections: Arc<Connections<Client>>,
    rights: Rights,
    reports: watch::Receiver<Arc<Reports>>,
    problems: watch::Receiver<Arc<Problems>>,
    pushes: Arc<watch::Sender<u64>>,
}

impl Discovery {
    /// Starts to follow the inputs, on the current runtime.
    pub fn new(
        world: watch::Receiver<Arc<World>>,
        config: watch::Receiver<Arc<ConfigSet>>,
        options: Options,
    ) -> Discovery {
        let pushes = Arc::new(watch::Sender::new(0));
        let entries = config.clone();
        let mut inputs = Inputs {
            credentials: options.credentials.changes(),
            pushes: pushes.subscribe(),
            world,
            config,
            platform: Platform {
                domain: options.domain,
                cluster: options.settings.cluster_id.clone(),
            },
            newest: None,
        };
        let metrics = Metrics::new();
        let first = inputs.snapshot(&metrics);
        let engine = Engine::new(first.clone());
        let (snapshots_tx, snapshots) = watch::channel(first);
        let registering = options.registering;
        let registrar = registering.map(|with| {
            Registrar::start(with, options.stream_lifetime, entries, metrics.registry())
        });
        let core = Arc::new(Core {
            registrar,
            snapshots,
            engine,
            credentials: options.credentials,
            metrics,
            stream_lifetime: options.stream_lifetime,
            settings: options.settings,
        });
        let connections = Arc::<Connections<Client>>::default();
        let (reports_tx, reports) = watch::channel(Arc::default());
        let (problems_tx, problems) = watch::channel(Arc::default());
        let tracker = Tracker::new(core.clone(), connections.clone(), reports_tx, problems_tx);
        tokio::spawn(tracker.run());
        let rights = Rights::new(core.clone(), connections.clone());
        tokio::spawn(rights.clone().run(options.ask_again));
        tokio::spawn(inputs.follow(snapshots_tx, core.clone(), connections.clone()));
        Discovery {
            core,
            connections,
            rights,
            reports,
            problems,
            pushes,
        }
    }

    /// The ADS service for one port, delta and state of the world.
    pub fn ads_service(&self, auth: impl Authenticate) -> AdsService {
        let auth: Arc<dyn Authenticate> = Arc::new(auth);
        self.rights.ask_too(&auth);
        let source = Source {
            core: self.core.clone(),
            auth,
            discovery: self.clone(),
        };
        Ads::new(Arc::new(source), self.connections.clone()).into_service()
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.core.snapshots.borrow().clone()
    }

    /// How much is kept for the proxies that are connected.
    pub fn counts(&self) -> Counts {
        self.core.engine.counts()
    }

    /// The control plane's own namespace.
    pub(crate) fn namespace(&self) -> &str {
        &self.core.settings.namespace
    }

    /// Makes everything anew, and sends each proxy what it turns out to lack.
    pub(crate) fn push_all(&self) {
        self.pushes.send_modify(|n| *n += 1);
    }

    /// How far each object got.
    pub fn reports(&self) -> watch::Receiver<Arc<Reports>> {
        self.reports.clone()
    }

    /// What objects do to each other.
    pub fn problems(&self) -> watch::Receiver<Arc<Problems>> {
        self.problems.clone()
    }

    /// What became of each patch of an EnvoyFilter, in the order in which they are made.
    pub fn patches(&self) -> Vec<PatchReport> {
        self.core.engine.patches()
    }

    /// Proxies by their streams; what agents ask for beside them is left out.
    pub(crate) fn proxies(&self) -> Vec<Arc<Connection<Client>>> {
        let mut proxies = self.connections.list();
        proxies.retain(|connection| !connection.client.proxy.is_agent);
        proxies
    }

    /// Streams that are open, on all ports.
    pub fn connections(&self) -> &Arc<Connections<Client>> {
        &self.connections
    }
}

struct Inputs {
    world: watch::Receiver<Arc<World>>,
    config: watch::Receiver<Arc<ConfigSet>>,
    credentials: watch::Receiver<u64>,
    /// Counts wishes that everything be made anew.
    pushes: watch::Receiver<u64>,
    platform: Platform,
    newest: Option<Arc<Snapshot>>,
}

impl Inputs {
    fn snapshot(&mut self, metrics: &Metrics) -> Arc<Snapshot> {
        let started = Instant::now();
        let world = self.world.borrow_and_update().clone();
        let mut config = self.config.borrow_and_update().clone();
        if self.pushes.has_changed().unwrap_or(false) {
            self.pushes.mark_unchanged();
            // Equal and not the same: everything depends on the mesh's settings.
            let mesh = Arc::new((*config.mesh).clone());
            config = Arc::new(ConfigSet {
                mesh,
                ..(*config).clone()
            });
        }
        metrics.services.set(count(world.services.len()));
        metrics
            .virtual_services
            .set(count(config.virtual_services.len()));
        let snapshot = match &self.newest {
            Some(newest) => newest.next(newest.generation + 1, world, config),
            None => Snapshot::new(1, world, config, self.platform.clone()),
        };
        let snapshot = Arc::new(snapshot);
        self.newest = Some(snapshot.clone());
        let took = started.elapsed();
        metrics.snapshot_time.observe(took.as_secs_f64() * 1e3);
        snapshot
    }

    /// A change goes out at once. Where the next one is there by then, half of the time is left to
    /// the streams: a rest as long as the work took.
    async fn follow(
        mut self,
        snapshots: watch::Sender<Arc<Snapshot>>,
        core: Arc<Core>,
        connections: Arc<Connections<Client>>,
    ) {
        let mut rested = Instant::now();
        while let Some(credentials) = self.changed(&core.metrics).await {
            let since = Instant::now();
            tokio::time::sleep_until(rested).await;
            let waited = since.elapsed();
            core.metrics.debounce.observe(waited.as_secs_f64() * 1e3);
            let started = Instant::now();
            let credentials = credentials || self.credentials_changed();
            // A fault of ours in one change must not be the end of all later ones.
            let published = catch_unwind(AssertUnwindSafe(|| {
                let snapshot = self.snapshot(&core.metrics);
                core.engine.publish(snapshot.clone(), credentials);
                snapshot
            }));
            match published {
                Ok(snapshot) => {
                    info!(generation = snapshot.generation, "new snapshot");
                    let before = snapshots.send_replace(snapshot.clone());
                    rights::let_come_back(&connections, &before, &snapshot);
                }
                Err(_) => {
                    core.engine.cache.failed();
                    error!("a change could not be published; the next one will bring it");
                }
            }
            let done = Instant::now();
            rested = done + (done - started).min(REST_MAX);
        }
    }

    /// Whether credentials changed since it was last asked.
    fn credentials_changed(&mut self) -> bool {
        let changed = self.credentials.has_changed().unwrap_or(false);
        self.credentials.mark_unchanged();
        changed
    }

    /// Waits for any input to change: whether it was credentials. `None` when the world has ended.
    async fn changed(&mut self, metrics: &Metrics) -> Option<bool> {
        let (of, open) = tokio::select! {
            changed = self.world.changed() => ("service", changed.is_ok()),
            Ok(()) = self.config.changed() => ("config", true),
            Ok(()) = self.credentials.changed() => ("secret", true),
            Ok(()) = self.pushes.changed() => {
                self.pushes.mark_changed();
                ("debug", true)
            }
        };
        if !open {
            return None;
        }
        metrics.triggers.with(&[arcstr::ArcStr::from(of)]).inc();
        Some(of == "secret")
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
