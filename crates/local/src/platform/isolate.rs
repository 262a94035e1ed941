//! Leaves the host's namespaces.
//!
//! ```text
//! launcher   host's pid namespace; its pid is in the pid file; passes SIGTERM on
//!  └ init    pid 1 of the mesh; dies with the launcher, and everything in the namespace dies with it
//!     └ platform   the API server, the controllers and the node; containers are its children
//! ```
//!
//! Invariant: nothing of this runs after a thread exists. Cleaning up is the kernel's: namespaces,
//! interfaces, rules and mounts go when the last process is gone.

use std::fs;
use std::process::ExitCode;

use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getegid, geteuid, getppid};

use crate::Error;

/// Which process this is after [`enter`].
#[derive(Debug)]
pub(crate) enum Role {
    /// The launcher, after everything has ended.
    Launcher(ExitCode),
    /// The platform proper, inside all namespaces.
    Platform,
}

/// Creates the namespaces and forks. Returns in the platform, and at the end in the launcher.
pub(crate) fn enter() -> Result<Role, Error> {
    unshare_all()?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(Error::sys("make mounts private"))?;
    let mask = block_signals()?;
    match fork_process()? {
        ForkResult::Parent { child } => Ok(Role::Launcher(supervise(child))),
        ForkResult::Child => init(&mask),
    }
}

/// Keeps what whoever started the platform left open from its containers.
#[allow(unsafe_code, reason = "only the numbers of descriptors are known")]
pub(crate) fn close_on_exec() -> Result<(), Error> {
    let first = 3;
    let flags = libc::CLOSE_RANGE_CLOEXEC.cast_signed();
    // SAFETY: marks descriptors; none is closed or used.
    let result = unsafe { libc::close_range(first, libc::c_uint::MAX, flags) };
    // Before Linux 5.11 there is no such flag; the descriptors then stay open, which harms nobody.
    match nix::errno::Errno::result(result) {
        Ok(_) | Err(Errno::ENOSYS | Errno::EINVAL) => Ok(()),
        Err(errno) => Err(Error::sys("mark descriptors")(errno)),
    }
}

/// Pid 1 of the mesh; returns only in its child, the platform.
fn init(mask: &SigSet) -> Result<Role, Error> {
    // Only the launcher's death reaches init: it has no other parent to lose.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(Error::sys("tie init to the launcher"))?;
    if getppid() != Pid::from_raw(0) {
        std::process::exit(1);
    }
    match fork_process()? {
        ForkResult::Parent { child } => {
            let code = supervise(child);
            std::process::exit(i32::from(code != ExitCode::SUCCESS))
        }
        ForkResult::Child => {
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(mask), None)
                .map_err(Error::sys("unblock signals"))?;
            Ok(Role::Platform)
        }
    }
}

#[allow(
    unsafe_code,
    reason = "there is no other thread yet, so the child may go on as usual"
)]
pub(crate) fn fork_process() -> Result<ForkResult, Error> {
    // SAFETY: called before any thread is started.
    unsafe { fork() }.map_err(Error::sys("fork"))
}

/// Blocks what [`supervise`] waits for; returns the mask from before.
pub(crate) fn block_signals() -> Result<SigSet, Error> {
    let mut old = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&supervised()), Some(&mut old))
        .map_err(Error::sys("block signals"))?;
    Ok(old)
}

fn supervised() -> SigSet {
    let signals = [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGCHLD,
    ];
    signals.into_iter().collect()
}

/// Passes signals on to `child`, reaps every orphan, and returns when `child` has ended.
fn supervise(child: Pid) -> ExitCode {
    let signals = supervised();
    loop {
        if let Some(status) = reap(child) {
            return match status {
                WaitStatus::Exited(_, 0) => ExitCode::SUCCESS,
                _ => ExitCode::FAILURE,
            };
        }
        match signals.wait() {
            Ok(Signal::SIGCHLD) | Err(_) => {}
            Ok(signal) => {
                let _ = kill(child, signal);
            }
        }
    }
}

/// Reaps all children that have ended; the status of `child` when it is among them.
pub(crate) fn reap(child: Pid) -> Option<WaitStatus> {
    let mut found = None;
    loop {
        match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return found,
            Ok(status) if status.pid() == Some(child) => found = Some(status),
            Ok(_) | Err(_) => {}
        }
    }
}

fn unshare_all() -> Result<(), Error> {
    let (uid, gid) = (geteuid(), getegid());
    let mut flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWPID;
    let rootless = !has_capabilities();
    if rootless {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(flags).map_err(|errno| Error::Namespaces {
        cause: format!("unshare: {}", errno.desc()),
        hint: hint(errno),
    })?;
    if rootless {
        let write = |file: &str, text: String| {
            fs::write(file, text).map_err(|error| Error::Namespaces {
                cause: format!("write {file}: {error}"),
                hint: "the kernel does not let this user map itself to root in a user namespace"
                    .into(),
            })
        };
        // Without "deny" an unprivileged gid map is refused (user_namespaces(7)).
        write("/proc/self/setgroups", "deny".into())?;
        write("/proc/self/uid_map", format!("0 {uid} 1"))?;
        write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    }
    Ok(())
}

/// Whether namespaces can be made without a user namespace. Root in a container often cannot.
fn has_capabilities() -> bool {
    let needed = [
        Capability::CAP_SYS_ADMIN,
        Capability::CAP_NET_ADMIN,
        Capability::CAP_SETUID,
    ];
    geteuid().is_root()
        && needed
            .iter()
            .all(|cap| caps::has_cap(None, CapSet::Effective, *cap).unwrap_or(false))
}

/// Says exactly which switch of the kernel is in the way.
fn hint(errno: Errno) -> String {
    let sysctl = |name: &str| {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        fs::read_to_string(path)
            .ok()
            .map(|text| text.trim().to_owned())
    };
    let refused = [
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
        ("user.max_user_namespaces", "0", "15000"),
        ("user.max_net_namespaces", "0", "15000"),
        ("user.max_pid_namespaces", "0", "15000"),
        ("user.max_mnt_namespaces", "0", "15000"),
    ];
    for (name, bad, good) in refused {
        if sysctl(name).as_deref() == Some(bad) {
            return format!("{name} is {bad}; run as root, or: sudo sysctl {name}={good}");
        }
    }
    match errno {
        Errno::EPERM => {
            "run as root, or where user namespaces are permitted (a container's seccomp profile \
                         often forbids them: CAP_SYS_ADMIN and CAP_NET_ADMIN are missing)"
                .into()
        }
        Errno::ENOSPC | Errno::EUSERS => {
            "a limit on the number of namespaces is reached (sysctl user.max_*)".into()
        }
        Errno::EINVAL => {
            "the kernel is built without one of: user, pid, net, uts, ipc namespaces".into()
        }
        _ => "namespaces are not available here".into(),
    }
}
