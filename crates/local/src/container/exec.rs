//! Runs one more program in a container, for probes, lifecycle hooks and `kubectl exec`.

mod terminal;

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, chdir};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::spec::ContainerSpec;
use super::users::Users;
use super::{shim, user};
use crate::Error;
use crate::platform::isolate::fork_process;
use terminal::Terminal;

/// The longest request: a specification with its environment.
const MAX_REQUEST: usize = 16 << 20;

/// What `lateen container-exec` reads from its standard input.
#[derive(Debug, Deserialize, Serialize)]
struct Request {
    /// Pid of the container's first process, as the platform's `/proc` has it.
    target: i32,
    spec: ContainerSpec,
    /// The program's terminal, if it gets one.
    terminal: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) success: bool,
    /// Both output streams, cut to what an event can hold.
    pub(crate) output: String,
}

/// A program that was started in a container.
pub(crate) struct Program {
    pub(crate) stdin: Box<dyn AsyncWrite + Send + Unpin>,
    /// With a terminal this is the terminal, and there is no standard error.
    pub(crate) stdout: Box<dyn AsyncRead + Send + Unpin>,
    pub(crate) stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Sets the size of the terminal, columns and rows.
    pub(crate) resize: Box<dyn Fn(u16, u16) + Send + Sync>,
    /// Ends when the program does, with its code. Dropping it kills both.
    pub(crate) helper: tokio::process::Child,
}

/// Starts `argv` in the container whose first process has host pid `target`.
pub(crate) async fn start(
    target: i32,
    spec: &ContainerSpec,
    argv: Vec<String>,
    tty: bool,
) -> Result<Program, Error> {
    let terminal = if tty { Some(Terminal::open()?) } else { None };
    let path = terminal.as_ref().map(|terminal| terminal.path.clone());
    let mut helper = spawn(target, spec, argv, path).await?;
    if let Some(terminal) = terminal {
        // Its input was for the request only.
        drop(helper.stdin.take());
        return terminal.attach(helper);
    }
    let missing = || Error::Container("a helper has no streams".into());
    Ok(Program {
        stdin: Box::new(helper.stdin.take().ok_or_else(missing)?),
        stdout: Box::new(helper.stdout.take().ok_or_else(missing)?),
        stderr: Some(Box::new(helper.stderr.take().ok_or_else(missing)?)),
        resize: Box::new(|_, _| {}),
        helper,
    })
}

/// Runs `argv` in the container whose first process has host pid `target`.
pub(crate) async fn run(
    target: i32,
    spec: &ContainerSpec,
    argv: Vec<String>,
    timeout: Duration,
) -> Result<Outcome, Error> {
    let mut helper = spawn(target, spec, argv, None).await?;
    // It has no input.
    drop(helper.stdin.take());
    let output = tokio::time::timeout(timeout, helper.wait_with_output()).await;
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

/// Starts the helper and tells it what to do; what is written to it after that is the program's.
async fn spawn(
    target: i32,
    spec: &ContainerSpec,
    argv: Vec<String>,
    terminal: Option<PathBuf>,
) -> Result<tokio::process::Child, Error> {
    let spec = ContainerSpec {
        argv,
        mounts: Vec::new(),
        ..spec.clone()
    };
    let request = serde_json::to_vec(&Request {
        target,
        spec,
        terminal,
    });
    let request = request.map_err(|error| Error::Container(error.to_string()))?;
    let exe: PathBuf = super::process::this_program()?;
    let mut helper = tokio::process::Command::new(exe)
        .arg("container-exec")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(Error::io("start a helper"))?;
    if let Some(stdin) = &mut helper.stdin {
        let length = (request.len() as u64).to_be_bytes();
        let message = [&length[..], &request].concat();
        let written = stdin.write_all(&message).await;
        written.map_err(Error::io("write to a helper"))?;
    }
    Ok(helper)
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
    let request = read_request()?;
    let terminal = request.terminal.as_ref().map(|path| {
        let options = OFlag::O_RDWR | OFlag::O_NOCTTY;
        nix::fcntl::open(path, options, Mode::empty()).map_err(Error::sys("open the terminal"))
    });
    let terminal = terminal.transpose()?;
    let users = request.spec.users.as_ref().map(Users::open).transpose()?;
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
            let taken = terminal.as_ref().map_or(Ok(()), terminal::take);
            let error = match taken {
                Ok(()) => user::exec(&request.spec, users.as_ref()),
                Err(error) => error,
            };
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "{error}");
            std::process::exit(126)
        }
        ForkResult::Parent { child } => Ok(wait(child)),
    }
}

/// The request is preceded by its length, because what follows it is for the program.
fn read_request() -> Result<Request, Error> {
    // Without a buffer, which would take what is the program's.
    let stdin = std::io::stdin().as_fd().try_clone_to_owned();
    let mut stdin = std::fs::File::from(stdin.map_err(Error::io("open the request"))?);
    let mut length = [0; 8];
    let mut read = |buffer: &mut [u8]| {
        stdin
            .read_exact(buffer)
            .map_err(Error::io("read the request"))
    };
    read(&mut length)?;
    let length = usize::try_from(u64::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_REQUEST {
        return Err(Error::Container(format!("a request of {length} bytes")));
    }
    let mut text = vec![0; length];
    read(&mut text)?;
    serde_json::from_slice(&text).map_err(|error| Error::Container(error.to_string()))
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
