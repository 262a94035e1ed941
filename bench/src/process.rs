//! Starting what is measured and what measures, each on a core of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// The proxies' core.
pub(crate) const PROXY_CORE: usize = 0;
/// The core of load generators, backends and the control plane.
pub(crate) const LOAD_CORE: usize = 1;

const START: Duration = Duration::from_secs(30);

/// Keeps this process, and what it starts, on one core.
pub(crate) fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set)
        .with_context(|| format!("cannot use core {core}: two cores are needed"))
}

/// Becomes another program on a core. Returns only when that fails.
pub(crate) fn exec(core: usize, command: &[String]) -> Result<()> {
    pin(core)?;
    let (program, args) = command.split_first().context("no program")?;
    let error = Command::new(program).args(args).exec();
    Err(error).with_context(|| format!("cannot run {program}"))
}

/// A command that runs on a core.
pub(crate) fn on_core(core: usize, program: impl AsRef<Path>) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("own path")?);
    command.args(["exec", &core.to_string(), "--"]);
    command.arg(program.as_ref()).stdin(Stdio::null());
    Ok(command)
}

/// This program with another task, on the core of the load.
pub(crate) fn own(task: &str) -> Result<Command> {
    let program = std::env::current_exe().context("own path")?;
    let mut command = on_core(LOAD_CORE, program)?;
    command.arg(task);
    Ok(command)
}

/// A process that ends with this value.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    name: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    /// Starts a process whose messages go to a file, which is shown when it fails.
    pub(crate) fn start(name: &str, mut command: Command, directory: &Path) -> Result<Self> {
        let log = std::fs::File::create(directory.join(format!("{name}.log")))?;
        // Where the run was started may not be readable for whoever it runs as.
        command.current_dir(directory);
        command.stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        Ok(Running {
            child,
            name: name.to_owned(),
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until somebody listens at all of these.
    pub(crate) fn wait_for(&mut self, ports: &[u16], directory: &Path) -> Result<()> {
        let since = Instant::now();
        for port in ports {
            let address = SocketAddr::from(([127, 0, 0, 1], *port));
            while TcpStream::connect(address).is_err() {
                let ended = self.child.try_wait()?;
                if ended.is_some() || since.elapsed() > START {
                    let log = directory.join(format!("{}.log", self.name));
                    let text = std::fs::read_to_string(log).unwrap_or_default();
                    let lines: Vec<_> = text.lines().rev().take(15).collect();
                    let lines: Vec<_> = lines.into_iter().rev().collect();
                    bail!(
                        "{} does not listen at {port} ({ended:?}):\n{}",
                        self.name,
                        lines.join("\n")
                    );
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }
}

/// Runs a load generator to its end and reads its result.
pub(crate) fn result<T: serde::de::DeserializeOwned>(mut command: Command) -> Result<T> {
    let output = command
        .stderr(Stdio::piped())
        .output()
        .context("start the load")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    serde_json::from_slice(&output.stdout).context("the load's result")
}

/// A load generator that reports that it is ready and then waits to be released.
#[derive(Debug)]
pub(crate) struct Holding(Child);

impl Drop for Holding {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Holding {
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let output = child.stdout.take().context("piped")?;
        BufReader::new(output).read_line(&mut line)?;
        if line.trim() != "ready" {
            let mut text = String::new();
            child
                .stderr
                .take()
                .context("piped")?
                .read_to_string(&mut text)?;
            let _ = child.wait();
            bail!("{}", text.trim());
        }
        Ok(Holding(child))
    }
}

/// The body of a GET.
pub(crate) fn get(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(START))?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").context("no HTTP response")?;
    ensure!(head.contains(" 200 "), "{path}: {head}");
    if head
        .to_ascii_lowercase()
        .contains("\r\ntransfer-encoding: chunked")
    {
        return unchunked(body).context("chunks");
    }
    Ok(body.to_owned())
}

/// The text in chunks (RFC 9112, 7.1).
fn unchunked(mut body: &str) -> Option<String> {
    let mut text = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n")?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(text);
        }
        text.push_str(rest.get(..size)?);
        body = rest.get(size..)?.strip_prefix("\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined() {
        let check = |body: &str, expect: Option<&str>| {
            assert_eq!(unchunked(body).as_deref(), expect, "{body:?}");
        };
        check(
            "3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
            Some("abc0123456789"),
        );
        check("3\r\nab", None);
        check("", None);
    }
}
