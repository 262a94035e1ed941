//! Measures the control plane: pilot in one process, thousands of simulated sidecars over real gRPC in
//! another.
//!
//! `control-plane` plans meshes and starts this program again for each of them, as `control-plane-mesh`,
//! which serves and changes the mesh and starts `control-plane-proxies`. Each mesh so begins with a fresh
//! process, and one that hangs is ended without taking the run with it.

mod catalog;
mod client;
mod mesh;
mod plan;
mod plane;
mod protobuf;
mod proxies;
mod report;
mod response;
mod wire;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;

use plane::{Measured, Step};
pub(crate) use plane::{Options as MeshOptions, run as mesh};
use proxies::Dialect;
pub(crate) use proxies::{Options as ProxiesOptions, run as proxies};

/// Beyond the limits of its steps, a mesh has to be made and to come to rest.
const SLACK: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);

/// What to measure, and where to write it.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Small meshes and few repetitions; some five minutes where everything is slow
    #[arg(long)]
    quick: bool,
    /// Services of the main mesh
    #[arg(long)]
    services: Option<usize>,
    /// Proxies of the main mesh
    #[arg(long)]
    proxies: Option<usize>,
    /// Ports that the HTTP services of the main mesh are spread over
    #[arg(long)]
    ports: Option<usize>,
    /// Only meshes with these proxies
    #[arg(long, num_args = 1..)]
    client: Vec<Dialect>,
    /// Only these parts
    #[arg(long, num_args = 1..)]
    only: Vec<plan::Part>,
    /// Seconds after which a step is given up
    #[arg(long)]
    limit: Option<u64>,
    /// Write every figure to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the report to this file
    #[arg(long)]
    markdown: Option<PathBuf>,
    /// What was built, for the report
    #[arg(long, hide = true)]
    commit: Option<String>,
}

/// A mesh of the plan and what was found, or why nothing was.
#[derive(Debug)]
struct Found {
    part: plan::Part,
    measured: Result<Measured, String>,
}

/// Measures everything in the plan and writes the report. A missed bar is no failure; a mesh that
/// cannot be measured at all is.
pub(crate) fn run(options: &Options) -> Result<()> {
    let since = Instant::now();
    let plan = plan::plan(options);
    ensure!(!plan.is_empty(), "nothing is left to measure");
    let mut found = Vec::new();
    for (number, (part, mesh)) in plan.iter().enumerate() {
        let size = mesh.size;
        eprintln!(
            "{} of {}: {part:?}, {} services × {} proxies on {} ports, {}; {:.0?} so far",
            number + 1,
            plan.len(),
            size.services,
            size.proxies,
            size.ports,
            mesh.client.as_str(),
            since.elapsed()
        );
        let measured = one(mesh).map_err(|error| format!("{error:#}"));
        if let Err(error) = &measured {
            eprintln!("failed: {error}");
        }
        found.push(Found {
            part: *part,
            measured,
        });
    }
    let report = report::Report {
        commit: options.commit.as_deref(),
        quick: options.quick,
        took: since.elapsed(),
        found: &found,
    };
    report.write(options.json.as_deref(), options.markdown.as_deref())?;
    let failed = found.iter().filter(|found| found.measured.is_err()).count();
    ensure!(failed == 0, "{failed} meshes could not be measured");
    Ok(())
}

/// Measures one mesh in a process of its own.
fn one(options: &MeshOptions) -> Result<Measured> {
    let program = std::env::current_exe().context("own path")?;
    let mut child = Command::new(program)
        .arg("control-plane-mesh")
        .args(options.args())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("start the mesh")?;
    let deadline = Instant::now() + options.most() + SLACK;
    // What it says fits into the pipe, and it says it at its end.
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            anyhow::bail!("it did not end within {:.0?}", options.most() + SLACK);
        }
        std::thread::sleep(LOOK);
    }
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{}", output.status);
    serde_json::from_slice(&output.stdout).context("what was measured")
}

impl MeshOptions {
    /// The longest that its steps may take together.
    fn most(&self) -> Duration {
        let limit = Duration::from_secs(self.limit);
        // A series of changes begins its last one within its limit.
        limit * 6 + Duration::from_secs(self.idle)
    }
}
