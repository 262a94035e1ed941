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
        let mut failed = None;
        loop {
            match self.next_report().await {
                Ok(Some(Report::Exited { code, signal })) => {
                    let _ = self.child.wait().await;
                    return Ok(Exit { code, signal });
                }
                // The last step before the program, exec, is the only one that fails after "started".
                Ok(Some(Report::Failed(reason))) => failed = Some(reason),
                Ok(Some(Report::Init(_) | Report::Started(_))) => {}
                Ok(None) | Err(_) => break,
            }
            if let Some(reason) = failed.take() {
                let _ = self.child.wait().await;
                return Err(Error::Container(reason));
            }
        }
        // The first process itself was killed, and with it all others.
        let _ = self.child.wait().await;
        Ok(Exit {
            code: 137,
            signal: Some(9),
        })
    }

    /// Asks the program to end, or kills the whole container.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.child.id() {
            let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
        }
    }
}
