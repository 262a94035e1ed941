//! The run: everybody is started once, and then measured in turns.

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::load::Outcome;
use crate::peer::{Found, Instance, Name, Side, Stage};
use crate::ports::{BACKEND_H1, Ports};
use crate::process::{Holding, own, result};
use crate::samples::Samples;
use crate::usage::{Memory, memory};
use crate::workload::{Kind, Metric, Workload};

/// Instances beside the long-lived ones, for measurements of memory.
const FRESH: u16 = 40;
/// A process that takes connections has only begun to be idle.
const IDLE: Duration = Duration::from_secs(2);
const IDLE_CONNECTIONS: usize = 1000;
/// Connections that are open beforehand: the first ones touch code and fill what a process keeps
/// for all of them, which no later one adds to.
const FIRST_CONNECTIONS: usize = 100;
/// How long a proxy may take to count what it has answered.
const SETTLE: Duration = Duration::from_secs(3);

/// How long each measurement takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lengths {
    pub(crate) warm: Duration,
    pub(crate) window: Duration,
    /// Mebibytes in each direction.
    pub(crate) megabytes: u64,
}

impl Lengths {
    pub(crate) const FULL: Lengths = Lengths {
        warm: Duration::from_millis(700),
        window: Duration::from_millis(3000),
        megabytes: 1024,
    };
    pub(crate) const QUICK: Lengths = Lengths {
        warm: Duration::from_millis(300),
        window: Duration::from_millis(1200),
        megabytes: 384,
    };
}

/// A proxy's two sides.
#[derive(Debug)]
struct Pair {
    found: Found,
    inbound: Instance,
    /// Where a workload needs it.
    outbound: Option<Instance>,
}

/// Everything that runs.
#[derive(Debug)]
pub(crate) struct Rounds {
    stage: Stage,
    pairs: Vec<Pair>,
    lengths: Lengths,
    fresh: u16,
    pub(crate) samples: Samples,
    pub(crate) failures: Vec<String>,
}

impl Rounds {
    pub(crate) fn start(
        stage: Stage,
        found: Vec<Found>,
        workloads: &[&Workload],
        lengths: Lengths,
    ) -> Result<Self> {
        let mesh = |name| {
            let is_mesh = |workload: &&&Workload| matches!(workload.kind, Kind::Mesh { .. });
            workloads
                .iter()
                .filter(is_mesh)
                .any(|workload| workload.takes(name))
        };
        let mut pairs = Vec::new();
        for (index, found) in (0..).zip(found) {
            let (inner, outer) = (Ports::of(2 * index), Ports::of(2 * index + 1));
            let inbound = Instance::start(&found, &stage, Side::Inbound, inner)?;
            let outbound = mesh(found.name)
                .then(|| Instance::start(&found, &stage, Side::Outbound(inner), outer))
                .transpose()?;
            pairs.push(Pair {
                found,
                inbound,
                outbound,
            });
        }
        Ok(Rounds {
            stage,
            pairs,
            lengths,
            fresh: FRESH,
            samples: Samples::default(),
            failures: Vec::new(),
        })
    }

    /// One round: each workload with each proxy, in an order that differs from round to round.
    pub(crate) fn round(&mut self, number: usize, workloads: &[&Workload]) {
        for workload in workloads {
            let direct = match workload.kind {
                Kind::Latency { rate } => match self.direct(rate) {
                    Ok(outcome) => Some(outcome),
                    Err(error) => {
                        self.failures
                            .push(format!("{}, direct: {error:#}", workload.name));
                        continue;
                    }
                },
                _ => None,
            };
            for turn in 0..self.pairs.len() {
                let index = (turn + number) % self.pairs.len();
                let name = self.pairs[index].found.name;
                if !workload.takes(name) {
                    continue;
                }
                let values = self.measure(workload, index, direct.as_ref());
                let values = values.unwrap_or_else(|error| {
                    let name = name.as_str();
                    eprintln!("    {name} failed: {error:#}");
                    let round = number + 1;
                    let what = format!("round {round}, {}, {name}: {error:#}", workload.name);
                    self.failures.push(what);
                    Vec::new()
                });
                show(workload, name, &values);
                self.samples.add(workload, name, &values);
            }
        }
    }

    fn measure(
        &mut self,
        workload: &Workload,
        index: usize,
        direct: Option<&Outcome>,
    ) -> Result<Vec<(Metric, f64)>> {
        if workload.kind == Kind::Memory {
            return self.memory(index);
        }
        let pair = &self.pairs[index];
        let mut measured = vec![&pair.inbound];
        if matches!(workload.kind, Kind::Mesh { .. }) {
            measured.push(pair.outbound.as_ref().context("was started")?);
        }
        let before = answered(&measured)?;
        let outcome = result::<Outcome>(self.load(workload.kind, &measured)?)?;
        if workload.kind != Kind::Tcp {
            counted(&measured, &before, outcome.total)?;
        }
        Ok(values(workload.kind, &outcome, direct))
    }

    /// The generator for a workload.
    fn load(&self, kind: Kind, measured: &[&Instance]) -> Result<Command> {
        let ports = measured.last().context("somebody is measured")?.ports;
        let mut command = own("load")?;
        let mut add = |args: &[&str]| {
            command.args(args);
        };
        let port = match kind {
            Kind::H1 { body, tls } => {
                add(&["h1", "--body", &body.to_string()]);
                if tls { ports.tls() } else { ports.h1() }
            }
            Kind::H2 {
                connections,
                streams,
            } => {
                let (connections, streams) = (connections.to_string(), streams.to_string());
                add(&["h2", "--connections", &connections, "--streams", &streams]);
                ports.h2()
            }
            Kind::Mesh { rate: None } => {
                add(&["h1"]);
                ports.outbound()
            }
            Kind::Mesh { rate: Some(rate) } => {
                add(&["open", "--rate", &rate.to_string()]);
                ports.outbound()
            }
            Kind::Latency { rate } => {
                add(&["open", "--rate", &rate.to_string()]);
                ports.h1()
            }
            Kind::Handshake => {
                add(&["handshake"]);
                ports.tls()
            }
            Kind::Tcp => {
                add(&["tcp", "--megabytes", &self.lengths.megabytes.to_string()]);
                ports.tcp()
            }
            Kind::Memory => ports.h1(),
        };
        if matches!(kind, Kind::Handshake | Kind::H1 { tls: true, .. }) {
            command.arg("--identity").arg(&self.stage.client);
        }
        self.timed(&mut command, port);
        for instance in measured {
            command.args(["--watch", &instance.pid().to_string()]);
        }
        Ok(command)
    }

    fn timed(&self, command: &mut Command, port: u16) {
        let millis = |time: Duration| time.as_millis().to_string();
        command
            .args(["--port", &port.to_string()])
            .args(["--warm", &millis(self.lengths.warm)])
            .args(["--window", &millis(self.lengths.window)]);
    }

    /// The same requests without a proxy.
    fn direct(&self, rate: u32) -> Result<Outcome> {
        let mut command = own("load")?;
        command.args(["open", "--rate", &rate.to_string()]);
        self.timed(&mut command, BACKEND_H1);
        result(command)
    }

    fn memory(&mut self, index: usize) -> Result<Vec<(Metric, f64)>> {
        let (idle, plain) = self.fresh(index, false)?;
        let (_, tls) = self.fresh(index, true)?;
        Ok(vec![
            (Metric::Idle, idle.rss as f64 / 1e6),
            (Metric::IdlePss, idle.pss as f64 / 1e6),
            (Metric::IdleAnonymous, idle.anonymous as f64 / 1e6),
            (Metric::PerConnection, plain),
            (Metric::PerTlsConnection, tls),
        ])
    }

    /// Memory of a fresh process, and KiB for each idle connection.
    fn fresh(&mut self, index: usize, tls: bool) -> Result<(Memory, f64)> {
        let ports = Ports::of(self.fresh);
        self.fresh += 1;
        let found = &self.pairs[index].found;
        let instance = Instance::start(found, &self.stage, Side::Inbound, ports)?;
        sleep(IDLE);
        let idle = settled(instance.pid())?;
        let port = if tls { ports.tls() } else { ports.h1() };
        let open = |connections: usize| {
            let mut command = own("load")?;
            command.args(["idle", "--port", &port.to_string()]);
            command.args(["--connections", &connections.to_string()]);
            if tls {
                command.arg("--identity").arg(&self.stage.client);
            }
            Holding::start(command)
        };
        let first = open(FIRST_CONNECTIONS)?;
        let before = settled(instance.pid())?;
        let holding = open(IDLE_CONNECTIONS)?;
        let after = settled(instance.pid())?;
        drop((first, holding));
        let grown = after.rss as f64 - before.rss as f64;
        Ok((idle, grown / 1024.0 / IDLE_CONNECTIONS as f64))
    }
}

fn values(kind: Kind, outcome: &Outcome, direct: Option<&Outcome>) -> Vec<(Metric, f64)> {
    let scale = if kind == Kind::Tcp { 1e6 } else { 1e3 };
    let mut values = vec![
        (Metric::Cpu, outcome.cpu_ns as f64 / scale / outcome.units),
        (Metric::Rate, outcome.units / outcome.seconds),
        (Metric::Busy, outcome.cpu_ns as f64 / 1e7 / outcome.seconds),
        (Metric::P50, outcome.p50),
        (Metric::P99, outcome.p99),
    ];
    if let Some(direct) = direct {
        values.push((Metric::AddedP50, outcome.p50 - direct.p50));
        values.push((Metric::AddedP99, outcome.p99 - direct.p99));
    }
    values
}

fn answered(instances: &[&Instance]) -> Result<Vec<Option<u64>>> {
    instances
        .iter()
        .map(|instance| instance.answered())
        .collect()
}

/// Checks that each proxy has counted exactly the requests that were answered.
fn counted(instances: &[&Instance], before: &[Option<u64>], total: u64) -> Result<()> {
    for (instance, before) in instances.iter().zip(before) {
        let Some(before) = before else { continue };
        let since = Instant::now();
        loop {
            let counted = instance.answered()?.unwrap_or(0).saturating_sub(*before);
            if counted == total {
                break;
            }
            ensure!(
                since.elapsed() < SETTLE && counted < total,
                "it counted {counted} of {total} requests"
            );
            sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

/// Memory once it stays the same.
fn settled(pid: u32) -> Result<Memory> {
    let since = Instant::now();
    let mut last = memory(pid)?;
    let mut same = 0;
    while same < 3 && since.elapsed() < SETTLE {
        sleep(Duration::from_millis(100));
        let now = memory(pid)?;
        same = if now.rss == last.rss { same + 1 } else { 0 };
        last = now;
    }
    Ok(last)
}

fn show(workload: &Workload, name: Name, values: &[(Metric, f64)]) {
    let shown: Vec<_> = workload
        .metrics()
        .iter()
        .filter_map(|metric| values.iter().find(|(known, _)| known == metric))
        .map(|(metric, value)| format!("{} {value:.1}", metric.title(workload.kind)))
        .collect();
    eprintln!(
        "    {:10} {:8} {}",
        workload.name,
        name.as_str(),
        shown.join("  ")
    );
}
