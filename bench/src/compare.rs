//! Sends the same valid, odd and malformed HTTP/1 through our proxy, Envoy, nginx and haproxy, each in
//! front of a backend that writes down what it gets.
//!
//! Ours must keep the rules of [`verdict`] in each case. Where it forwards what another refuses or
//! frames differently, `docs/http-differences.md` must give the reason, and each reason there must
//! still be needed.

mod cases;
mod client;
mod reasons;
mod recorder;
mod strict;
mod verdict;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use crate::peer::{self, Found, Instance, Name, Side, Stage};
use crate::ports::Ports;
use crate::run::prepare;
use cases::{Case, MARKER};
use reasons::Reasons;
use recorder::Recorder;
use verdict::{Outcome, differences};

/// What to send, and what to hold it against.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only cases whose name begins so
    #[arg(long)]
    only: Option<String>,
    /// Write what became of every case with every proxy to this file
    #[arg(long)]
    all: Option<PathBuf>,
    /// The table of reasons
    #[arg(long, default_value = "docs/http-differences.md")]
    reasons: PathBuf,
}

/// Runs in the namespaces that [`crate::sandbox`] made.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let reasons = std::fs::read_to_string(&options.reasons)
        .with_context(|| options.reasons.display().to_string())?;
    let mut reasons = Reasons::parse(&reasons);
    let only = options.only.as_deref().unwrap_or("");
    let mut cases = cases::all();
    cases.retain(|case| case.name.starts_with(only));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("a runtime")?;
    let stage = runtime.block_on(prepare())?;
    let outcomes = everybody(&stage, &cases)?;
    if let Some(file) = &options.all {
        write_all(file, &cases, &outcomes)?;
    }
    let failed = judge(&cases, &outcomes, &mut reasons);
    // A part of the cases needs a part of the reasons.
    let idle = if only.is_empty() {
        reasons.unused()
    } else {
        Vec::new()
    };
    for line in failed.iter().chain(&idle) {
        eprintln!("{line}");
    }
    eprintln!(
        "{} cases, {} proxies, {} differences with a reason, {} faults, {} reasons without a difference",
        cases.len(),
        outcomes.len(),
        reasons.used(),
        failed.len(),
        idle.len()
    );
    Ok(if failed.is_empty() && idle.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

type Outcomes = BTreeMap<Name, Vec<Outcome>>;

/// Instances of each proxy among which cases are dealt out: most of their time they wait.
const LANES: u16 = 3;

/// All cases through all proxies, everywhere at the same time; each instance has its own backend.
fn everybody(stage: &Stage, cases: &[Case]) -> Result<Outcomes> {
    let mut running = Vec::new();
    for (index, name) in (0..).zip(Name::ALL) {
        let found: Found = peer::find(name)?;
        eprintln!("{}", found.version);
        for lane in 0..LANES {
            let ports = Ports::of(index * LANES + lane);
            let recorder = Recorder::start(ports.recorder())?;
            let instance = Instance::start(&found, stage, Side::Plain, ports)?;
            running.push((name, lane, recorder, instance));
        }
    }
    let mut outcomes: BTreeMap<Name, Vec<(usize, Outcome)>> = BTreeMap::new();
    std::thread::scope(|scope| -> Result<()> {
        let mut threads = Vec::new();
        for (name, lane, recorder, instance) in &running {
            let port = instance.ports.h1();
            let own = cases.iter().enumerate().skip(usize::from(*lane));
            let own = own.step_by(usize::from(LANES));
            let task = move || -> Result<Vec<(usize, Outcome)>> {
                own.map(|(index, case)| Ok((index, one(case, port, recorder)?)))
                    .collect()
            };
            threads.push((*name, scope.spawn(task)));
        }
        for (name, thread) in threads {
            let own = thread.join().expect("cases do not panic");
            let own = own.with_context(|| name.as_str())?;
            outcomes.entry(name).or_default().extend(own);
        }
        Ok(())
    })?;
    let sorted = outcomes.into_iter().map(|(name, mut all)| {
        all.sort_by_key(|(index, _)| *index);
        (name, all.into_iter().map(|(_, outcome)| outcome).collect())
    });
    Ok(sorted.collect())
}

/// One case through one proxy.
fn one(case: &Case, port: u16, recorder: &Recorder) -> Result<Outcome> {
    recorder.begin(case.script.clone());
    let mut bytes = case.bytes.clone();
    if !case.alone {
        bytes.extend_from_slice(
            format!("{MARKER} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n").as_bytes(),
        );
    }
    let heard = client::exchange(port, &bytes, &[&case.method])?;
    recorder.settle();
    let record = recorder.take();
    recorder.begin(None);
    let probe = b"GET /probe HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    let probe = client::exchange(port, probe, &[])?;
    let probe_record = recorder.take();
    Ok(Outcome {
        heard,
        record,
        probe,
        probe_record,
    })
}

/// Every rule that ours broke, and every difference without a reason.
fn judge(cases: &[Case], outcomes: &Outcomes, reasons: &mut Reasons) -> Vec<String> {
    let mut failed = Vec::new();
    let ours = &outcomes[&Name::Lateen];
    for (index, case) in cases.iter().enumerate() {
        let mine = &ours[index];
        for broken in mine.broken(case) {
            failed.push(format!(
                "{}: {broken}\n    lateen {}",
                case.name,
                mine.summary()
            ));
        }
        for (name, theirs) in outcomes.iter().filter(|(name, _)| **name != Name::Lateen) {
            let theirs = &theirs[index];
            for difference in differences(mine, theirs) {
                if !reasons.explain(&case.name, difference, name.as_str()) {
                    failed.push(format!(
                        "{}: {difference}, {}\n    lateen {}\n    {} {}",
                        case.name,
                        name.as_str(),
                        mine.summary(),
                        name.as_str(),
                        theirs.summary()
                    ));
                }
            }
        }
    }
    failed
}

fn write_all(file: &PathBuf, cases: &[Case], outcomes: &Outcomes) -> Result<()> {
    let mut out = std::fs::File::create(file).with_context(|| file.display().to_string())?;
    for (index, case) in cases.iter().enumerate() {
        writeln!(out, "{}\n    {}", case.name, case.bytes.escape_ascii())?;
        for (name, all) in outcomes {
            writeln!(out, "    {:8} {}", name.as_str(), all[index].summary())?;
            for broken in all[index].broken(case) {
                writeln!(out, "             broke: {broken}")?;
            }
        }
    }
    Ok(())
}
