//! What runs beside the proxy in a pod.
//!
//! The agent obtains the workload's certificate and renews it, writes the proxy's bootstrap, runs
//! our proxy in this process or Envoy in a child, carries xDS to the control plane with the
//! workload's token, serves secrets to Envoy, answers names and the probes of the application,
//! tells the health of a workload outside of the platform, merges metrics, and drains on the way out.
//!
//! Invariant: the agent alone talks to the certificate authority, and the key never leaves the pod.

mod bootstrap;
mod certificates;
mod cli;
mod config;
mod dns;
mod envoy;
mod error;
mod grpc;
mod health;
mod http;
mod inprocess;
mod metadata;
mod names;
mod relay;
mod request;
mod run;
mod sds;
mod status;
#[cfg(test)]
mod testing;
mod upstream;

use std::ffi::OsString;
use std::process::ExitCode;

pub use error::Error;

/// Runs the `pilot-agent` command; the first argument is its name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    cli::main(args)
}

/// Runs `pilot-agent proxy` with these arguments.
pub fn proxy(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = ["pilot-agent", "proxy"].map(OsString::from);
    cli::main(command.into_iter().chain(args))
}
