//! Runs one more program in a container, for probes and lifecycle hooks.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, chdir};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;

use super::spec::ContainerSpec;
use super::{shim, user};
use crate::Error;
use crate::platform::isolate::fork_process;

/// What `lateen container-exec` reads from its standard input.
#[derive(Debug, Deserialize, Serialize)]
struct Request {
    /// Pid of the container's first process, as the platform's `/proc` has it.
    target: i32,
    spec: ContainerSpec,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) success: bool,
    /// Both output streams, cut to what an event can hold.
    pub(crate) output: String,
}

/// Runs `argv` in the container whose first process has host pid `target`.
pub(crate) async fn run(
    target: i32,
    spec: &ContainerSpec,
    argv: Vec<String>,
    timeout: Duration,
) -> Result<Outcome, Error> {
    let spec = ContainerSpec {
        argv,
        mounts: Vec::new(),
        ..spec.clone()
    };
    let request = serde_json::to_vec(&Request { target, spec })
        .map_err(|error| Error::Container(error.to_string()))?;
    let exe: PathBuf = super::process::this_program()?;
    let mut child = tokio::process::Command::new(exe)
        .arg("container-exec")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(Error::io("start a helper"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(&request)
            .await
            .map_err(Error::io("write to a helper"))?;
    }
    let output = tokio::time::timeout(timeout, child.wait_with_output()).await;
    let Ok(output) = output else {
        return Ok(Outcome {
            success: false,
            output: format!("command timed out after {timeout:?}"),
        });
    };
    let output = output.map_err(Error::io("wait for a helper"))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok(Outcome {
        success: output.status.success(),
        output: text.chars().take(512).collect(),
    })
}

/// `lateen container-exec`.
pub(crate) fn main() -> ExitCode {
    match enter_and_run() {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::from(126)
        }
    }
}

fn enter_and_run() -> Result<i32, Error> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(Error::io("read the request"))?;
    let request: Request =
        serde_json::from_str(&text).map_err(|error| Error::Container(error.to_string()))?;
    // All are opened before any is entered: the mount namespace takes the host's /proc away.
    let kinds = [
        ("net", CloneFlags::CLONE_NEWNET),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("mnt", CloneFlags::CLONE_NEWNS),
    ];
    let opened = kinds
        .iter()
        .map(|(kind, flag)| {
            let path = format!("/proc/{}/ns/{kind}", request.target);
            let file = std::fs::File::open(&path).map_err(Error::io(path))?;
            Ok((OwnedFd::from(file), *flag))
        })
        .collect::<Result<Vec<_>, Error>>()?;
    for (fd, flag) in &opened {
        setns(fd.as_fd(), *flag).map_err(Error::sys("enter the container"))?;
    }
    chdir("/").map_err(Error::sys("enter the root"))?;
    match fork_process()? {
        ForkResult::Child => {
            let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
            let error = user::exec(&request.spec);
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "{error}");
            std::process::exit(126)
        }
        ForkResult::Parent { child } => Ok(wait(child)),
    }
}

fn wait(child: Pid) -> i32 {
    match waitpid(child, None) {
        Ok(status) => shim::outcome(status).0,
        Err(_) => {
            let _ = kill(child, Signal::SIGKILL);
            126
        }
    }
}
