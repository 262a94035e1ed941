//! Measures the sidecar beside Envoy, nginx and haproxy, and the control plane with thousands of
//! simulated sidecars. `README.md` says how and why.
//!
//! One program in several roles: `run` makes namespaces and starts itself again in them as `inside`,
//! which starts proxies, backends (`backend`) and load generators (`load`), each pinned to a core
//! (`exec`).

mod backend;
mod compare;
mod control;
mod identity;
mod load;
mod peer;
mod plane;
mod ports;
mod process;
mod report;
mod resources;
mod rounds;
mod run;
mod samples;
mod sandbox;
mod usage;
mod wire;
mod workload;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::run::Options;

#[derive(Debug, Parser)]
#[command(
    name = "lateen-bench",
    version,
    about = "Measures the sidecar beside its peers"
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Measure, in namespaces of its own
    Run(Options),
    /// The same, in namespaces that are there
    #[command(hide = true)]
    Inside(Options),
    /// Measure the control plane
    ControlPlane(control::Options),
    /// The same, one mesh; prints the result as JSON
    #[command(hide = true)]
    ControlPlaneMesh(control::MeshOptions),
    /// The simulated proxies of one mesh
    #[command(hide = true)]
    ControlPlaneProxies(control::ProxiesOptions),
    /// Send valid, odd and malformed HTTP/1 through all proxies, in namespaces of its own
    Compare(compare::Options),
    /// The same, in namespaces that are there
    #[command(hide = true)]
    CompareInside(compare::Options),
    /// Generate load; prints the result as JSON
    #[command(subcommand)]
    Load(load::Load),
    /// Serve fixed answers
    Backend,
    /// Run a command on one core
    Exec {
        core: usize,
        #[arg(last = true)]
        command: Vec<String>,
    },
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let task = Cli::parse().task;
    match start(task, args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lateen-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(task: Task, mut args: Vec<String>) -> Result<ExitCode> {
    match task {
        Task::Run(options) => {
            options.check()?;
            "inside".clone_into(&mut args[0]);
            return sandbox::run(&args);
        }
        Task::Inside(options) => {
            sandbox::prepare()?;
            process::pin(process::LOAD_CORE)?;
            return run::run(&options);
        }
        Task::Compare(_) => {
            "compare-inside".clone_into(&mut args[0]);
            return sandbox::run(&args);
        }
        Task::CompareInside(options) => {
            sandbox::prepare()?;
            return compare::run(&options);
        }
        Task::ControlPlane(options) => control::run(&options)?,
        Task::ControlPlaneMesh(options) => control::mesh(&options)?,
        Task::ControlPlaneProxies(options) => control::proxies(&options)?,
        Task::Load(load) => runtime()?.block_on(load::run(load))?,
        Task::Backend => runtime()?.block_on(backend::run())?,
        Task::Exec { core, command } => process::exec(core, &command)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("a runtime")
}
