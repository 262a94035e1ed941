//! Pid 1 of a container: prepares the root, starts the program, passes signals on, reaps, and reports.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open, readlinkat};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::stat::Mode;
use nix::sys::wait::WaitStatus;
use nix::unistd::{
    ForkResult, Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, pipe2, read, write,
};

use super::spec::{ContainerSpec, Report};
use super::users::Users;
use super::{root, user};
use crate::Error;
use crate::platform::isolate::{block_signals, fork_process, reap};

/// Exit code of a container that could not be started, as shells and container runtimes have it.
const CANNOT_START: u8 = 128;

/// `lateen container`: standard input is the socket to the platform.
pub(crate) fn main() -> ExitCode {
    let Ok(fd) = std::io::stdin().as_fd().try_clone_to_owned() else {
        return ExitCode::from(CANNOT_START);
    };
    let mut socket = UnixStream::from(fd);
    match run(&mut socket) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            report(&mut socket, &Report::Failed(error.to_string()));
            ExitCode::from(CANNOT_START)
        }
    }
}

fn run(socket: &mut UnixStream) -> Result<u8, Error> {
    // Only the host's /proc knows the pids that a user sees, and it goes away with the old root.
    let proc: OwnedFd = open("/proc", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(Error::sys("open /proc"))?;
    let spec = read_spec(socket)?;
    let users = spec.users.as_ref().map(Users::open).transpose()?;
    fcntl(&*socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(Error::sys("close-on-exec"))?;
    report(socket, &Report::Init(self_pid(&proc)));
    unshare(CloneFlags::CLONE_NEWNS).map_err(Error::sys("unshare mounts"))?;
    let mask = block_signals()?;
    let (built, tell) = pipe2(OFlag::O_CLOEXEC).map_err(Error::sys("make a pipe"))?;
    // Where a volume goes, and the working directory, are the pod's to say, and could be named by way of
    // `proc`, which is the host's. So the child's pid is read, and `proc` closed, before the root is built.
    match fork_process()? {
        ForkResult::Child => {
            drop(tell);
            let pid = self_pid(&proc);
            drop(proc);
            let error = match wait_for_root(built) {
                Ok(()) => start(&spec, users.as_ref(), &mask, pid, socket),
                Err(error) => error,
            };
            report(socket, &Report::Failed(error.to_string()));
            std::process::exit(i32::from(CANNOT_START))
        }
        ForkResult::Parent { child } => {
            drop((built, proc));
            root::build(&spec)?;
            write(&tell, &[1]).map_err(Error::sys("tell that the root is there"))?;
            stdin_from_null()?;
            // The pipes must end with the program's processes, not with this one.
            stdout_to_null()?;
            Ok(supervise(child, socket))
        }
    }
}

/// Waits until the root is built, and goes there.
fn wait_for_root(built: OwnedFd) -> Result<(), Error> {
    match read(&built, &mut [0]) {
        Ok(1) => {}
        // The one that builds it has told why, and takes this process with it.
        _ => std::process::exit(i32::from(CANNOT_START)),
    }
    chdir("/").map_err(Error::sys("enter the root"))?;
    stdin_from_null()
}

/// Replaces this (child) process by the program; returns only on failure.
fn start(
    spec: &ContainerSpec,
    users: Option<&OwnedFd>,
    mask: &SigSet,
    pid: i32,
    socket: &mut UnixStream,
) -> Error {
    if let Err(errno) = sigprocmask(SigmaskHow::SIG_SETMASK, Some(mask), None) {
        return Error::sys("unblock signals")(errno);
    }
    let _ = nix::unistd::setsid();
    report(socket, &Report::Started(pid));
    user::exec(spec, users)
}

fn supervise(child: Pid, socket: &mut UnixStream) -> u8 {
    let signals: SigSet = [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGCHLD,
    ]
    .into_iter()
    .collect();
    loop {
        if let Some(status) = reap(child) {
            let (code, signal) = outcome(status);
            report(socket, &Report::Exited { code, signal });
            return u8::try_from(code).unwrap_or(u8::MAX);
        }
        match signals.wait() {
            Ok(Signal::SIGCHLD) | Err(_) => {}
            Ok(signal) => {
                let _ = kill(child, signal);
            }
        }
    }
}

/// Exit code and signal out of a wait status.
pub(super) fn outcome(status: WaitStatus) -> (i32, Option<i32>) {
    match status {
        WaitStatus::Exited(_, code) => (code, None),
        WaitStatus::Signaled(_, signal, _) => (128 + signal as i32, Some(signal as i32)),
        _ => (i32::from(CANNOT_START), None),
    }
}

fn read_spec(socket: &UnixStream) -> Result<ContainerSpec, Error> {
    let mut line = String::new();
    BufReader::new(socket)
        .read_line(&mut line)
        .map_err(Error::io("read the container's specification"))?;
    serde_json::from_str(&line).map_err(|error| Error::Container(error.to_string()))
}

fn report(socket: &mut UnixStream, report: &Report) {
    if let Ok(mut line) = serde_json::to_vec(report) {
        line.push(b'\n');
        // Nobody listens any more when the platform is going away; so are we.
        let _ = socket.write_all(&line);
    }
}

fn self_pid(proc: &OwnedFd) -> i32 {
    let link = readlinkat(proc, "self").ok();
    link.and_then(|link| link.to_str().and_then(|pid| pid.parse().ok()))
        .unwrap_or(0)
}

fn stdin_from_null() -> Result<(), Error> {
    dup2_stdin(null()?).map_err(Error::sys("redirect standard input"))
}

fn stdout_to_null() -> Result<(), Error> {
    let null = null()?;
    dup2_stdout(&null).map_err(Error::sys("redirect standard output"))?;
    dup2_stderr(&null).map_err(Error::sys("redirect standard error"))
}

fn null() -> Result<OwnedFd, Error> {
    open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(Error::sys("open /dev/null"))
}
