//! The platform's side of a container: starts it, hears its reports, signals it.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use super::spec::{ContainerSpec, Report};
use crate::Error;
use crate::net::PodNet;
use crate::net::namespace::on_thread;

/// A container that was started.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    reports: Lines<BufReader<UnixStream>>,
    /// Pid of the container's first process on the host.
    pub(crate) init: i32,
    /// Pid of its program on the host.
    pub(crate) pid: i32,
    /// What was reported about its end. It is said once, and who hears it may be told to stop listening
    /// before the first process is gone, too.
    end: Option<Report>,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) code: i32,
    pub(crate) signal: Option<i32>,
}

/// Path of this very program on the host.
pub(crate) fn this_program() -> Result<PathBuf, Error> {
    std::env::current_exe().map_err(Error::io("find this program"))
}

/// Starts a container in its pod's namespaces.
pub(crate) async fn start(
    net: Arc<PodNet>,
    spec: &ContainerSpec,
) -> Result<(Running, ChildStdout, ChildStderr), Error> {
    let (ours, theirs) = StdUnixStream::pair().map_err(Error::io("make a socket pair"))?;
    ours.set_nonblocking(true)
        .map_err(Error::io("make a socket pair"))?;
    let runtime = tokio::runtime::Handle::current();
    let exe = this_program()?;
    let mut child = on_thread(move || {
        net.namespaces.enter()?;
        // Children of this thread alone; the first becomes the namespace's init.
        unshare(CloneFlags::CLONE_NEWPID).map_err(Error::sys("unshare pids"))?;
        let _guard = runtime.enter();
        Command::new(exe)
            .arg("container")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(Error::io("start a container"))
    })
    .await?;
    let (stdout, stderr) = child
        .stdout
        .take()
        .zip(child.stderr.take())
        .expect("both are piped above");
    let mut socket = UnixStream::from_std(ours).map_err(Error::io("register a socket"))?;
    let mut line = serde_json::to_vec(spec).map_err(|error| Error::Container(error.to_string()))?;
    line.push(b'\n');
    socket
        .write_all(&line)
        .await
        .map_err(Error::io("send the specification"))?;
    let reports = BufReader::new(socket).lines();
    let mut running = Running {
        child,
        reports,
        init: 0,
        pid: 0,
        end: None,
    };
    running.wait_started().await?;
    Ok((running, stdout, stderr))
}

impl Running {
    async fn wait_started(&mut self) -> Result<(), Error> {
        loop {
            match self.next_report().await? {
                Some(Report::Init(pid)) => self.init = pid,
                Some(Report::Started(pid)) => {
                    self.pid = pid;
                    return Ok(());
                }
                Some(Report::Failed(reason)) => return Err(Error::Container(reason)),
                Some(Report::Exited { .. }) | None => {
                    return Err(Error::Container(
                        "the container ended before it started".into(),
                    ));
                }
            }
        }
    }

    async fn next_report(&mut self) -> Result<Option<Report>, Error> {
        let line = self
            .reports
            .next_line()
            .await
            .map_err(Error::io("hear a container"))?;
        line.map(|line| {
            serde_json::from_str(&line).map_err(|error| Error::Container(error.to_string()))
        })
        .transpose()
    }

    /// Waits for the end. May be cancelled and called again.
    pub(crate) async fn wait(&mut self) -> Result<Exit, Error> {
        while self.end.is_none() {
            match self.next_report().await {
                // The last step before the program, exec, is the only one that fails after "started".
                Ok(Some(report @ (Report::Exited { .. } | Report::Failed(_)))) => {
                    self.end = Some(report);
                }
                Ok(Some(Report::Init(_) | Report::Started(_))) => {}
                Ok(None) | Err(_) => break,
            }
        }
        let _ = self.child.wait().await;
        match &self.end {
            Some(Report::Exited { code, signal }) => Ok(Exit {
                code: *code,
                signal: *signal,
            }),
            Some(Report::Failed(reason)) => Err(Error::Container(reason.clone())),
            // The first process itself was killed, and with it all others.
            _ => Ok(Exit {
                code: 137,
                signal: Some(9),
            }),
        }
    }

    /// Asks the program to end, or kills the whole container.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.child.id() {
            let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A container whose first process is `cat`, with the input whose end is its end, and the socket that
    /// it reports by.
    fn running() -> (Running, tokio::process::ChildStdin, UnixStream) {
        let mut cat = Command::new("cat");
        let cat = cat.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = cat.kill_on_drop(true).spawn().unwrap();
        // Waiting for a child closes what is left of its input.
        let input = child.stdin.take().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let running = Running {
            child,
            reports: BufReader::new(ours).lines(),
            init: 0,
            pid: 0,
            end: None,
        };
        (running, input, theirs)
    }

    #[tokio::test]
    async fn an_end_that_was_reported_survives_a_wait_that_was_given_up() {
        for (report, expect) in [
            ("{\"Exited\":{\"code\":3,\"signal\":null}}\n", Ok(3)),
            ("{\"Failed\":\"no such program\"}\n", Err(())),
        ] {
            let (mut running, input, mut theirs) = running();
            theirs.write_all(report.as_bytes()).await.unwrap();
            drop(theirs);
            // The report is there, and the first process is not gone.
            let early = tokio::time::timeout(Duration::from_millis(100), running.wait());
            assert!(early.await.is_err());
            drop(input);
            let end = running.wait().await;
            assert_eq!(end.map(|exit| exit.code).map_err(|_| ()), expect);
        }
    }
}
