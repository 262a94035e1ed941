//! Tasks of the repository itself: `cargo xtask tidy`, `bench`, `compare`, `conformance`, `deploy`
//! and `image`.

mod bench;
mod conformance;
mod deploy;
mod image;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask is in the repository")?;
    let tasks: Vec<_> = std::env::args().skip(1).collect();
    match tasks.split_first() {
        Some((task, [])) if task == "tidy" => tidy::run(root),
        Some((task, args)) if task == "bench" => bench::run(root, args.to_vec()),
        Some((task, args)) if task == "compare" => bench::compare(root, args),
        Some((task, args)) if task == "conformance" => conformance::run(root, args),
        Some((task, args)) if task == "deploy" => deploy::run(root, args),
        Some((task, args)) if task == "image" => image::run(root, args),
        _ => bail!(
            "usage: cargo xtask TASK\n\n  tidy     check crate arrows, module files, words and paths\n  \
             bench    measure the sidecar beside Envoy, nginx and haproxy (--help says more)\n  \
             bench control-plane  measure the control plane with simulated sidecars (--help, too)\n  \
             compare  send odd HTTP/1 through all of them and hold the sidecar to its rules\n  \
             conformance [NAME…]  put h2spec, grpcio, Autobahn and others before and behind it, and run the \
             Gateway API's suite against a mesh\n  \
             deploy   write Helm charts and manifests to deploy/\n  \
             image [NAME…]  write images of the control plane and the proxy as archives"
        ),
    }
}
