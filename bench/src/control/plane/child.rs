//! The simulated proxies' process, seen from the control plane's.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time::{Instant, timeout_at};

use crate::control::mesh::Size;
use crate::control::proxies::{Acked, Command, Dialect, Event, Options, Steady};

/// To make the proxies, and to say how far they are while they are busy.
const ANSWER: Duration = Duration::from_secs(60);

/// A running process; it ends with this value.
pub(super) struct Proxies {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Proxies {
    pub(super) async fn start(size: Size, client: Dialect, target: SocketAddr) -> Result<Self> {
        let program = std::env::current_exe().context("own path")?;
        let mut child = tokio::process::Command::new(program)
            .arg("control-plane-proxies")
            .args(Options::args(size, client, target))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start the proxies")?;
        let input = child.stdin.take().context("piped")?;
        let output = child.stdout.take().context("piped")?;
        let mut proxies = Proxies {
            child,
            input,
            lines: BufReader::new(output).lines(),
        };
        let ready = proxies.until(ANSWER, |event| matches!(event, Event::Ready).then_some(()));
        ready.await?.context("the proxies do not begin")?;
        Ok(proxies)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// Lets all connect. When they are steady, or how far they came.
    pub(super) async fn connect(&mut self, limit: Duration) -> Result<Result<Steady, String>> {
        self.tell(Command::Connect).await?;
        let steady = self.until(limit, |event| match event {
            Event::Steady(steady) => Some(steady),
            _ => None,
        });
        match steady.await? {
            Some(steady) => Ok(Ok(steady)),
            None => Ok(Err(self.status().await?)),
        }
    }

    /// Waits until all have acknowledged a change.
    pub(super) async fn acked(
        &mut self,
        change: u32,
        limit: Duration,
    ) -> Result<Result<Acked, String>> {
        let acked = self.until(limit, |event| match event {
            Event::Acked(acked) if acked.change == change => Some(acked),
            _ => None,
        });
        match acked.await? {
            Some(acked) => Ok(Ok(acked)),
            None => Ok(Err(self.status().await?)),
        }
    }

    async fn status(&mut self) -> Result<String> {
        self.tell(Command::Status).await?;
        let status = self.until(ANSWER, |event| match event {
            Event::Status(status) => Some(status),
            _ => None,
        });
        let Some(status) = status.await? else {
            return Ok("the proxies do not answer".to_owned());
        };
        let mut text = format!(
            "{} connected, {} steady, {} acknowledged, {:.1} MB received",
            status.connected,
            status.steady,
            status.acked,
            status.bytes as f64 / 1e6
        );
        if status.broken > 0 {
            text += &format!(", {} failures: {}", status.broken, status.reason);
        }
        Ok(text)
    }

    async fn tell(&mut self, command: Command) -> Result<()> {
        let written = self.input.write_all(command.line().as_bytes()).await;
        written.context("the proxies have ended")
    }

    /// The first event that is wanted, within a limit.
    async fn until<T>(
        &mut self,
        limit: Duration,
        wanted: impl Fn(Event) -> Option<T>,
    ) -> Result<Option<T>> {
        let deadline = Instant::now() + limit;
        loop {
            let Ok(line) = timeout_at(deadline, self.lines.next_line()).await else {
                return Ok(None);
            };
            let Some(line) = line? else {
                bail!("the proxies have ended");
            };
            let event = serde_json::from_str(&line).with_context(|| line.clone())?;
            if let Some(found) = wanted(event) {
                return Ok(Some(found));
            }
        }
    }
}
