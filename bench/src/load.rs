//! Load generators. Each is a process of its own that prints one JSON result, or what was wrong.

mod closed;
mod gauge;
mod h1;
mod h2;
mod handshake;
mod idle;
mod open;
mod tcp;
mod tls;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

/// How long a generator may take beyond its measurement. Bytes have no fixed time at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to send.
#[derive(Debug, Subcommand)]
pub(crate) enum Load {
    /// HTTP/1.1, each connection with one request at a time
    H1(H1),
    /// HTTP/2 in plain text, each connection with so many streams at a time
    H2(H2),
    /// HTTP/1.1 at fixed moments, timed from the moment at which each request was due
    Open(Open),
    /// A connection with a full TLS handshake for each request
    Handshake(Handshake),
    /// Bytes in both directions
    Tcp(Tcp),
    /// Connections that do nothing after one request; waits until its input ends
    Idle(Idle),
}

#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Port of the proxy
    #[arg(long)]
    port: u16,
    /// Processes whose time on a processor is measured
    #[arg(long)]
    watch: Vec<u32>,
    /// Milliseconds before the measurement
    #[arg(long, default_value_t = 500)]
    warm: u64,
    /// Milliseconds of the measurement
    #[arg(long, default_value_t = 2000)]
    window: u64,
}

#[derive(Debug, Args)]
pub(crate) struct H1 {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Bytes of a body that comes back; none means GET
    #[arg(long, default_value_t = 0)]
    body: usize,
    /// Directory with a certificate to present over TLS
    #[arg(long)]
    identity: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct H2 {
    #[command(flatten)]
    common: Common,
    #[arg(long)]
    connections: usize,
    #[arg(long)]
    streams: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Open {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Requests per second
    #[arg(long)]
    rate: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Handshake {
    #[command(flatten)]
    common: Common,
    /// Connections at a time
    #[arg(long, default_value_t = 4)]
    connections: usize,
    #[arg(long)]
    identity: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Tcp {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Mebibytes in each direction, all connections together
    #[arg(long)]
    megabytes: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Idle {
    /// Port of the proxy
    #[arg(long)]
    port: u16,
    #[arg(long)]
    connections: usize,
    #[arg(long)]
    identity: Option<PathBuf>,
}

/// What a generator saw.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Requests from start to end, warming up and winding down included. All succeeded.
    pub(crate) total: u64,
    /// Requests in the measured window; gigabytes for bytes.
    pub(crate) units: f64,
    /// Length of the window, seconds.
    pub(crate) seconds: f64,
    /// Time that the watched processes had a processor in the window, nanoseconds.
    pub(crate) cpu_ns: u64,
    /// Median time to an answer, microseconds.
    pub(crate) p50: f64,
    /// 99th percentile of the same.
    pub(crate) p99: f64,
}

impl Common {
    fn warm(&self) -> Duration {
        Duration::from_millis(self.warm)
    }

    fn window(&self) -> Duration {
        Duration::from_millis(self.window)
    }
}

/// Ends the process where an answer never comes.
fn limit(args: &Load) {
    let common = match args {
        Load::H1(H1 { common, .. })
        | Load::H2(H2 { common, .. })
        | Load::Open(Open { common, .. })
        | Load::Handshake(Handshake { common, .. })
        | Load::Tcp(Tcp { common, .. }) => common,
        // It waits on purpose.
        Load::Idle(_) => return,
    };
    let limit = common.warm() + common.window() + PATIENCE;
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        eprintln!("no end after {limit:?}: an answer is missing");
        std::process::exit(1);
    });
}

/// Runs a generator and prints what it saw.
pub(crate) async fn run(load: Load) -> Result<()> {
    limit(&load);
    let outcome = match load {
        Load::H1(args) => h1::run(args).await?,
        Load::H2(args) => h2::run(args).await?,
        Load::Open(args) => open::run(&args)?,
        Load::Handshake(args) => handshake::run(args).await?,
        Load::Tcp(args) => tcp::run(args).await?,
        Load::Idle(args) => return idle::run(args).await,
    };
    let text = serde_json::to_string(&outcome)?;
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}
