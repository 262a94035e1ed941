//! Namespaces of the run's own: network, processes, mounts. Whatever happens to the run, the kernel
//! removes them and all that is in them as soon as its first process has ended, and that ends with
//! the process that a user can interrupt.

use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{getegid, geteuid, setsid};

/// Where the run keeps its files: a file system in memory that only its own processes see.
pub(crate) const SCRATCH: &str = "/run";

/// Idle connections at both ends of a proxy, with room to spare.
const DESCRIPTORS: u64 = 4096;

/// Runs this program again, with `args`, as the first process of fresh namespaces.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let (uid, gid) = (geteuid(), getegid());
    let mut flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID;
    if !uid.is_root() {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(flags).context("cannot make namespaces (unshare)")?;
    if !uid.is_root() {
        // Without "deny" an unprivileged gid map is refused (user_namespaces(7)).
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
        fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    }
    let program = std::env::current_exe().context("own path")?;
    let status = Command::new(program).args(args).status()?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What the first process does before anything else.
pub(crate) fn prepare() -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).context("tie the run to its launcher")?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("make mounts private")?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none).context("mount /proc")?;
    mount(
        Some("tmpfs"),
        SCRATCH,
        Some("tmpfs"),
        MsFlags::empty(),
        none,
    )
    .context("mount the scratch file system")?;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    ensure!(
        hard >= DESCRIPTORS,
        "the limit of open files is {hard}; {DESCRIPTORS} are needed (ulimit -Hn)"
    );
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raise the limit of descriptors")?;
    // Many short connections: more ports than the default range, none that something listens on.
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", "20000 65000")
        .context("set the range of local ports")
}

/// Puts the run, as one group of the scheduler, before whatever else runs on the machine.
pub(crate) fn go_first() -> Result<()> {
    // Sessions are the groups among which time is divided (sched(7), autogroup); a nice value
    // counts only within one.
    setsid().context("a session of the run's own")?;
    fs::write("/proc/self/autogroup", "-15")
        .context("--first needs root and the scheduler's autogroups")
}

/// Brings the loopback interface up.
pub(crate) async fn loopback() -> Result<()> {
    const LOOPBACK: u32 = 1;
    let (connection, handle, _) = rtnetlink::new_connection().context("netlink")?;
    tokio::spawn(connection);
    let up = rtnetlink::LinkUnspec::new_with_index(LOOPBACK).up().build();
    handle.link().set(up).execute().await.context("loopback up")
}
