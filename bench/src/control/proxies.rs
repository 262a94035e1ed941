//! The process of the simulated proxies: one thread, a task for each, told what to do by lines on its
//! standard input and saying by lines of JSON what became of it.

mod board;
mod connection;

use std::cell::RefCell;
use std::io::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use lateen_xds::json;
use lateen_xds::types::core::Node;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::{Semaphore, watch};
use tokio::task::LocalSet;

use super::catalog::Catalog;
use super::client::Client;
use super::mesh::Size;
use super::response::Protocol;
use board::Board;
pub(super) use board::{Acked, Status, Steady};

/// Attempts to connect at a time: the queue of a listening socket holds not many more, and what does
/// not fit waits a second for its next packet.
const CONNECTING: usize = 256;
/// After so long without a response, what is steady is said to be.
const QUIET: Duration = Duration::from_millis(300);
const TICK: Duration = Duration::from_millis(20);
const SCRATCH: usize = 256 << 10;

/// Which proxy is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Dialect {
    /// Ours: delta, names what it has
    Ours,
    /// Envoy: state of the world, names what it asks for with each answer
    Envoy,
}

impl Dialect {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Dialect::Ours => "ours",
            Dialect::Envoy => "envoy",
        }
    }
}

/// What the process is started with.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    size: Size,
    #[arg(long)]
    client: Dialect,
    #[arg(long)]
    target: SocketAddr,
}

impl Options {
    /// Arguments that read as these options.
    pub(super) fn args(size: Size, client: Dialect, target: SocketAddr) -> Vec<String> {
        let pairs = [
            ("--services", size.services.to_string()),
            ("--proxies", size.proxies.to_string()),
            ("--ports", size.ports.to_string()),
            ("--client", client.as_str().to_owned()),
            ("--target", target.to_string()),
        ];
        let pairs = pairs.into_iter();
        pairs
            .flat_map(|(name, value)| [name.to_owned(), value])
            .collect()
    }
}

/// What the process is told, a line each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    /// Every proxy opens a connection, and drops the one that it has
    Connect,
    /// Say how far it is
    Status,
}

impl Command {
    pub(super) fn line(self) -> &'static str {
        match self {
            Command::Connect => "connect\n",
            Command::Status => "status\n",
        }
    }
}

/// What the process says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Event {
    /// It can be told what to do
    Ready,
    Steady(Steady),
    Acked(Acked),
    Status(Status),
}

/// Nanoseconds of the clock that all processes of a machine share.
pub(super) fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
    time.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// What all proxies share. One thread, so that nothing here is ever borrowed twice.
struct Shared {
    catalog: RefCell<Catalog>,
    board: RefCell<Board>,
    scratch: RefCell<Vec<u8>>,
    connecting: Semaphore,
    target: SocketAddr,
    protocol: Protocol,
}

/// Descriptors for both ends of as many connections as the machine allows.
pub(super) fn raise_descriptors(wanted: usize) -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    anyhow::ensure!(
        hard >= wanted as u64,
        "the limit of open files is {hard}; {wanted} are needed (ulimit -Hn)"
    );
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raise the limit of descriptors")
}

/// Runs until standard input ends.
pub(crate) fn run(options: &Options) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).context("tie the proxies to the control plane")?;
    raise_descriptors(options.size.proxies + 64)?;
    let runtime = crate::runtime()?;
    LocalSet::new().block_on(&runtime, serve(options))
}

async fn serve(options: &Options) -> Result<()> {
    let ours = options.client == Dialect::Ours;
    let shared = Rc::new(Shared {
        catalog: RefCell::default(),
        board: RefCell::new(Board::new(options.size.proxies)),
        scratch: RefCell::new(vec![0; SCRATCH]),
        connecting: Semaphore::new(CONNECTING),
        target: options.target,
        protocol: if ours {
            Protocol::Delta
        } else {
            Protocol::StateOfTheWorld
        },
    });
    let (epoch_tx, epoch) = watch::channel(0_u64);
    for number in 0..options.size.proxies {
        let node = options.size.pod(number).node(options.size, ours);
        let node: Node = json::from_value(node).context("a node")?;
        let node = lateen_xds::pack_any(&node).value;
        let client = Client::new(shared.protocol, node);
        tokio::task::spawn_local(connection::run(
            client,
            number,
            shared.clone(),
            epoch.clone(),
        ));
    }
    say(&Event::Ready)?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            line = lines.next_line() => match line?.as_deref() {
                Some("connect") => {
                    shared.board.borrow_mut().start(now());
                    epoch_tx.send_modify(|epoch| *epoch += 1);
                }
                Some("status") => say(&Event::Status(shared.board.borrow().status()))?,
                Some(_) => {}
                None => return Ok(()),
            },
            _ = tick.tick() => {
                let steady = shared.board.borrow_mut().steady_since(QUIET);
                if let Some(steady) = steady {
                    say(&Event::Steady(steady))?;
                }
                let acked = shared.board.borrow_mut().acked_by_all();
                for acked in acked {
                    say(&Event::Acked(acked))?;
                }
            }
        }
    }
}

fn say(event: &Event) -> Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line)?;
    out.flush().context("say what happened")
}
