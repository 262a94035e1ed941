//! The control plane under measurement, one mesh of one size: this process has nothing but pilot and what
//! publishes to it, so that its memory and its time are the control plane's.

mod child;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use lateen_galley::ConfigSet;
use lateen_pilot::{Anonymous, Discovery};
use lateen_registry::World;
use lateen_xds::server::listen;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tonic::transport::server::TcpIncoming;

use super::mesh::{Mesh, Size};
use super::proxies::{Dialect, now, raise_descriptors};
use crate::usage::{self, Memory};
use child::Proxies;

/// As the product has them.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two changes: each is the first one for a while, as somebody's `kubectl apply` is.
const PAUSE: Duration = Duration::from_millis(300);
/// Allocations and windows settle before memory is read.
const SETTLE: Duration = Duration::from_secs(1);

/// What to measure on a mesh.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(super) size: Size,
    /// Which proxy is simulated
    #[arg(long, default_value = "ours")]
    pub(super) client: Dialect,
    /// Changes of one endpoint
    #[arg(long, default_value_t = 0)]
    pub(super) endpoints: usize,
    /// Changes of one VirtualService
    #[arg(long, default_value_t = 0)]
    pub(super) routes: usize,
    /// Seconds in which nothing happens
    #[arg(long, default_value_t = 0)]
    pub(super) idle: u64,
    /// Let all connect again at once
    #[arg(long)]
    pub(super) reconnect: bool,
    /// Seconds after which a step is given up
    #[arg(long, default_value_t = 300)]
    pub(super) limit: u64,
}

impl Options {
    /// Arguments that read as these options.
    pub(super) fn args(&self) -> Vec<String> {
        let pairs = [
            ("--services", self.size.services.to_string()),
            ("--proxies", self.size.proxies.to_string()),
            ("--ports", self.size.ports.to_string()),
            ("--client", self.client.as_str().to_owned()),
            ("--endpoints", self.endpoints.to_string()),
            ("--routes", self.routes.to_string()),
            ("--idle", self.idle.to_string()),
            ("--limit", self.limit.to_string()),
        ];
        let pairs = pairs.into_iter();
        let mut args: Vec<_> = pairs
            .flat_map(|(name, value)| [name.to_owned(), value])
            .collect();
        args.extend(self.reconnect.then(|| "--reconnect".to_owned()));
        args
    }
}

/// What became of a step.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Step<T> {
    /// It was not asked for, or what comes before it was not reached
    #[default]
    Skipped,
    Reached(T),
    /// Not within so many seconds; how far it came
    NotReached(f64, String),
}

impl<T> Step<T> {
    pub(super) fn reached(&self) -> Option<&T> {
        match self {
            Step::Reached(value) => Some(value),
            Step::Skipped | Step::NotReached(..) => None,
        }
    }
}

/// Everybody connects, for the first time or again. Seconds, and bytes of memory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Connected {
    /// From being told to the last acknowledgement.
    pub(super) seconds: f64,
    /// From the last connection to the last acknowledgement.
    pub(super) after_last_connection: f64,
    /// Time of the control plane on a processor.
    pub(super) cpu: f64,
    /// The same of the proxies.
    pub(super) proxies_cpu: f64,
    /// Processors that others used meanwhile.
    pub(super) others: f64,
    pub(super) resources: u64,
    pub(super) bytes: u64,
    /// Proxies that hold what they held before.
    pub(super) unchanged: usize,
    /// Connections that failed, and why.
    pub(super) broken: u64,
    pub(super) reasons: BTreeMap<String, u64>,
    /// Before and after.
    pub(super) memory: [Memory; 2],
    /// The most that the process ever had.
    pub(super) peak: u64,
}

/// A change, as often as it was made. Seconds until all had acknowledged it, in the order made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Changes {
    pub(super) last: Vec<f64>,
    /// Until half of the proxies had.
    pub(super) median: Vec<f64>,
    /// Time of the control plane on a processor, for one change.
    pub(super) cpu: f64,
    pub(super) others: f64,
}

/// One mesh.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Measured {
    pub(super) size: Size,
    pub(super) client: Dialect,
    pub(super) first: Step<Connected>,
    pub(super) endpoint: Step<Changes>,
    pub(super) route: Step<Changes>,
    /// Part of a processor while nothing happens.
    pub(super) idle: Step<f64>,
    pub(super) again: Step<Connected>,
}

/// Measures one mesh and prints the result as JSON.
pub(crate) fn run(options: &Options) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).context("tie the control plane to its launcher")?;
    raise_descriptors(options.size.proxies + 64)?;
    // As the product's own.
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
    let measured = runtime.block_on(measure(options))?;
    serde_json::to_writer(std::io::stdout().lock(), &measured).context("say what was measured")
}

async fn measure(options: &Options) -> Result<Measured> {
    let mut plane = Plane::start(options).await?;
    let mut measured = Measured {
        size: options.size,
        client: options.client,
        first: plane.connect().await?,
        endpoint: Step::Skipped,
        route: Step::Skipped,
        idle: Step::Skipped,
        again: Step::Skipped,
    };
    if measured.first.reached().is_none() {
        return Ok(measured);
    }
    measured.endpoint = plane.changes(options.endpoints, Plane::endpoint).await?;
    measured.route = plane.changes(options.routes, Plane::route).await?;
    if options.idle > 0 {
        measured.idle = plane.idle(Duration::from_secs(options.idle)).await?;
    }
    if options.reconnect {
        measured.again = plane.connect().await?;
    }
    Ok(measured)
}

struct Plane {
    mesh: Mesh,
    world: watch::Sender<Arc<World>>,
    config: watch::Sender<Arc<ConfigSet>>,
    proxies: Proxies,
    limit: Duration,
}

/// Time on processors at one moment, nanoseconds.
struct Spent {
    at: u64,
    plane: u64,
    proxies: u64,
    machine: u64,
}

impl Plane {
    async fn start(options: &Options) -> Result<Self> {
        let mesh = Mesh::new(options.size)?;
        let (world, _) = watch::channel(mesh.world.clone());
        let (config, _) = watch::channel(mesh.config.clone());
        let discovery = Discovery::new(
            world.subscribe(),
            config.subscribe(),
            lateen_pilot::Options::default(),
        );
        let listener = listen((Ipv4Addr::LOCALHOST, 0).into())?;
        let target = listener.local_addr()?;
        let server = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .add_service(discovery.ads_service(Anonymous));
        // As on the port with TLS, which is the sidecars'.
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        tokio::spawn(server.serve_with_incoming(incoming));
        Ok(Plane {
            mesh,
            world,
            config,
            proxies: Proxies::start(options.size, options.client, target).await?,
            limit: Duration::from_secs(options.limit),
        })
    }

    fn spent(&self) -> Result<Spent> {
        Ok(Spent {
            at: now(),
            plane: usage::cpu_ns(&[std::process::id()])?,
            proxies: usage::cpu_ns(&[self.proxies.pid()])?,
            machine: usage::machine_ns()?,
        })
    }

    /// All proxies connect; those that are connected let go of that.
    async fn connect(&mut self) -> Result<Step<Connected>> {
        let memory = usage::memory(std::process::id())?;
        let before = self.spent()?;
        let steady = self.proxies.connect(self.limit).await?;
        let after = self.spent()?;
        let steady = match steady {
            Ok(steady) => steady,
            Err(status) => return Ok(Step::NotReached(self.limit.as_secs_f64(), status)),
        };
        tokio::time::sleep(SETTLE).await;
        Ok(Step::Reached(Connected {
            seconds: seconds(steady.told, steady.at),
            after_last_connection: seconds(steady.connected, steady.at),
            cpu: seconds(before.plane, after.plane),
            proxies_cpu: seconds(before.proxies, after.proxies),
            others: before.others(&after),
            resources: steady.resources,
            bytes: steady.bytes,
            unchanged: steady.unchanged,
            broken: steady.broken,
            reasons: steady.reasons,
            memory: [memory, usage::memory(std::process::id())?],
            peak: usage::peak(std::process::id())?,
        }))
    }

    /// Prepares the next change of one endpoint; the returned function publishes it.
    fn endpoint(&mut self) -> Result<u32> {
        self.mesh.move_endpoint()
    }

    fn route(&mut self) -> Result<u32> {
        self.mesh.change_route()
    }

    /// Publishes what is new.
    fn publish(&self) {
        if !Arc::ptr_eq(&self.world.borrow(), &self.mesh.world) {
            self.world.send_replace(self.mesh.world.clone());
        }
        if !Arc::ptr_eq(&self.config.borrow(), &self.mesh.config) {
            self.config.send_replace(self.mesh.config.clone());
        }
    }

    /// The same kind of change so often, or as often as fits into the limit.
    async fn changes(
        &mut self,
        n: usize,
        make: fn(&mut Self) -> Result<u32>,
    ) -> Result<Step<Changes>> {
        if n == 0 {
            return Ok(Step::Skipped);
        }
        let started = now();
        let (mut last, mut median) = (Vec::new(), Vec::new());
        let (mut cpu, mut others) = (0.0, 0.0);
        while last.len() < n && Duration::from_nanos(now() - started) < self.limit {
            // Making the change is not the control plane's work.
            let change = make(self)?;
            tokio::time::sleep(PAUSE).await;
            let before = self.spent()?;
            self.publish();
            let acked = match self.proxies.acked(change, self.limit).await? {
                Ok(acked) => acked,
                Err(status) => return Ok(Step::NotReached(self.limit.as_secs_f64(), status)),
            };
            let after = self.spent()?;
            last.push(seconds(before.at, acked.last));
            median.push(seconds(before.at, acked.median));
            cpu += seconds(before.plane, after.plane);
            others += before.others(&after);
        }
        let n = last.len() as f64;
        Ok(Step::Reached(Changes {
            last,
            median,
            cpu: cpu / n,
            others: others / n,
        }))
    }

    async fn idle(&self, time: Duration) -> Result<Step<f64>> {
        let before = self.spent()?;
        tokio::time::sleep(time).await;
        let after = self.spent()?;
        let part = seconds(before.plane, after.plane) / seconds(before.at, after.at);
        Ok(Step::Reached(part))
    }
}

impl Spent {
    /// Processors that neither we nor the proxies used, on average.
    fn others(&self, after: &Spent) -> f64 {
        let own = seconds(self.plane, after.plane) + seconds(self.proxies, after.proxies);
        let all = seconds(self.machine, after.machine);
        (all - own).max(0.0) / seconds(self.at, after.at)
    }
}

fn seconds(from: u64, to: u64) -> f64 {
    Duration::from_nanos(to.saturating_sub(from)).as_secs_f64()
}
