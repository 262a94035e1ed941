//! The programs of the public samples beside Bookinfo: httpbin, helloworld, tcp-echo, websockets,
//! health-check and the echo server of the gRPC sample.
//!
//! Paths, fields, arguments, environment and ports are those of the programs that the samples' images
//! hold, as far as the samples and what is written about them use them; the programs are our own. The
//! local platform maps the images to them, so that the samples' manifests work unchanged and offline.

mod echo;
mod health;
mod helloworld;
mod httpbin;
mod serve;
mod tcp_echo;
mod websockets;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Why a sample could not be started or went down.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port cannot be had, or its server failed.
    #[error("cannot serve on port {port}: {source}")]
    Serve {
        /// The port.
        port: u16,
        /// Why.
        source: std::io::Error,
    },
    /// The machine gave no runtime.
    #[error("cannot start: {0}")]
    Runtime(#[source] std::io::Error),
    /// A client got no answer.
    #[error("{0}: {1}")]
    NoAnswer(String, String),
    /// No port was asked for.
    #[error("there is nothing to do: no port is given")]
    NoPort,
}

/// Run one of the programs of the public samples
#[derive(Debug, Parser)]
#[command(
    name = "sample",
    after_help = "Example: lateen sample httpbin --port 8080"
)]
struct Args {
    #[command(subcommand)]
    sample: Sample,
}

#[derive(Debug, Subcommand)]
enum Sample {
    /// Answers what was asked: headers, delays, status codes, redirects
    Httpbin(httpbin::Args),
    /// Says hello with its version and its host
    Helloworld(helloworld::Args),
    /// Sends each line back behind a word
    TcpEcho(tcp_echo::Args),
    /// A page that shows what others change, over WebSocket
    Websockets(websockets::Args),
    /// A web server with a probe
    Health(health::Args),
    /// Says over HTTP, TCP and gRPC what it was sent
    Echo(echo::Args),
    /// Asks an echo server, and says what came
    Client(echo::client::Args),
}

/// Runs the sample that the arguments name; the first argument is the program's name.
///
/// Returns after SIGTERM or SIGINT, once the requests at hand are answered.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Args = match lateen_bookinfo::begin(args) {
        Ok(args) => args,
        Err(code) => return code,
    };
    match run(args.sample) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "sample: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(sample: Sample) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.map_err(Error::Runtime)?.block_on(async {
        match sample {
            Sample::Httpbin(args) => args.run().await,
            Sample::Helloworld(args) => args.run().await,
            Sample::TcpEcho(args) => args.run().await,
            Sample::Websockets(args) => args.run().await,
            Sample::Health(args) => args.run().await,
            Sample::Echo(args) => args.run().await,
            Sample::Client(args) => args.run().await,
        }
    })
}

/// The name of the machine, which in a pod is the pod's.
fn hostname() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
