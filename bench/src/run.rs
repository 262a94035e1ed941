//! One run from its options to its report.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::identity::{self, CLIENT, SERVER};
use crate::peer::{self, Found, Name, Stage};
use crate::plane::Plane;
use crate::ports::{BACKEND_H1, BACKEND_H2, BACKEND_TCP};
use crate::process::{Running, own};
use crate::report::{self, Facts};
use crate::rounds::{Lengths, Rounds};
use crate::sandbox;
use crate::workload::{WORKLOADS, Workload};

const ROUNDS: usize = 7;
const QUICK_ROUNDS: usize = 5;

/// What to measure, and where to write it.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Shorter measurements and fewer rounds; under ten minutes
    #[arg(long)]
    quick: bool,
    /// Rounds; each measures every proxy once with every workload
    #[arg(long)]
    rounds: Option<usize>,
    /// Only these workloads
    #[arg(long, num_args = 1..)]
    only: Vec<String>,
    /// Only these peers
    #[arg(long, num_args = 1..)]
    peer: Vec<Name>,
    /// Take processors before everybody else on the machine: less noise where others compute
    #[arg(long)]
    first: bool,
    /// Write every figure to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the report to this file, with its charts beside it
    #[arg(long)]
    markdown: Option<PathBuf>,
    /// What was built, for the report
    #[arg(long, hide = true)]
    commit: Option<String>,
}

impl Options {
    /// Faults that can be found before anything is started.
    pub(crate) fn check(&self) -> Result<()> {
        self.workloads()?;
        ensure!(self.rounds != Some(0), "--rounds 0 measures nothing");
        for file in [&self.json, &self.markdown].into_iter().flatten() {
            let parent = file
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            let there = parent.is_none_or(Path::is_dir);
            ensure!(there, "{}: no such directory", file.display());
        }
        Ok(())
    }

    fn workloads(&self) -> Result<Vec<&'static Workload>> {
        let known = || WORKLOADS.map(|workload| workload.name).join(", ");
        for name in &self.only {
            let found = WORKLOADS.iter().any(|workload| workload.name == name);
            ensure!(found, "no workload is named {name}; there are {}", known());
        }
        let wanted = |workload: &&Workload| {
            self.only.is_empty() || self.only.iter().any(|name| name == workload.name)
        };
        Ok(WORKLOADS.iter().filter(wanted).collect())
    }

    /// The proxies that are there, and what is missing.
    fn proxies(&self) -> Result<(Vec<Found>, Vec<String>)> {
        let mut there = vec![peer::find(Name::Lateen)?];
        let mut missing = Vec::new();
        let wanted = |name: &Name| self.peer.is_empty() || self.peer.contains(name);
        for name in Name::ALL.into_iter().skip(1).filter(wanted) {
            match peer::find(name) {
                Ok(found) => there.push(found),
                Err(error) => {
                    eprintln!("{error:#}");
                    missing.push(format!("{error:#}"));
                }
            }
        }
        Ok((there, missing))
    }
}

/// Runs in the namespaces that [`sandbox`] made.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let since = Instant::now();
    if options.first {
        sandbox::go_first()?;
    }
    let workloads = options.workloads()?;
    let (found, missing) = options.proxies()?;
    // The control plane answers here while this thread measures; after the start it has nothing
    // to do.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("a runtime")?;
    let stage = runtime.block_on(prepare())?;
    let mut backend = Running::start("backend", own("backend")?, &stage.scratch)?;
    backend.wait_for(&[BACKEND_H1, BACKEND_H2, BACKEND_TCP], &stage.scratch)?;
    let (lengths, usual) = if options.quick {
        (Lengths::QUICK, QUICK_ROUNDS)
    } else {
        (Lengths::FULL, ROUNDS)
    };
    let n_rounds = options.rounds.unwrap_or(usual);
    let versions = found.iter().map(|found| found.version.clone()).collect();
    let names: Vec<Name> = found.iter().map(|found| found.name).collect();
    let mut rounds = Rounds::start(stage, found, &workloads, lengths)?;
    for number in 0..n_rounds {
        eprintln!(
            "round {} of {n_rounds}, {:.0?} so far",
            number + 1,
            since.elapsed()
        );
        rounds.round(number, &workloads);
    }
    let facts = Facts {
        rounds: n_rounds,
        window: lengths.window,
        versions,
        names,
        missing,
        commit: options.commit.clone(),
        took: since.elapsed(),
        failures: std::mem::take(&mut rounds.failures),
    };
    let report = report::Report {
        facts: &facts,
        workloads: &workloads,
        samples: &rounds.samples,
    };
    report.write(options.json.as_deref(), options.markdown.as_deref())?;
    for failure in &facts.failures {
        eprintln!("failed: {failure}");
    }
    Ok(if facts.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Everything that proxies need to be started.
pub(crate) async fn prepare() -> Result<Stage> {
    sandbox::loopback().await?;
    let scratch = PathBuf::from(sandbox::SCRATCH).join("bench");
    std::fs::create_dir_all(&scratch)?;
    let ca = Arc::new(identity::authority().await?);
    Ok(Stage {
        client: identity::write(&ca, &scratch, CLIENT)?,
        server: identity::write(&ca, &scratch, SERVER)?,
        roots: ca.root_pem(),
        plane: Plane::start(ca).await?,
        scratch,
    })
}
