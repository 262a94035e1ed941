//! Users of a pod's own: a user namespace, for pods with `hostUsers: false`.
//!
//! Its root is nobody on the machine, so that of the machine's files such a pod sees what everybody may see,
//! and no other pod is one of its users. The pod's network belongs to it, so that powers over a network count
//! there and nowhere else.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, chown};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

use super::process::this_program;
use crate::Error;
use crate::state::host_pid;

/// The users that a pod gets.
const PER_POD: u32 = 1 << 16;
/// The first of all pods' users: behind the range that systemd gives to containers.
const FIRST: u32 = 0x7000_0000;
/// Pods whose users are told apart. The range ends below 2³¹, where many programs end.
const PODS: u32 = 4096;

/// How long the helper may take; it does next to nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a container needs to become one of its pod's users.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Users {
    /// The namespace, as long as the platform has the pod; of the host's `/proc`.
    namespace: PathBuf,
    /// The machine's user and group that are 0 in it.
    pub(super) first: u32,
}

impl Users {
    /// Opens the namespace, while the host's `/proc` can be seen.
    pub(super) fn open(&self) -> Result<OwnedFd, Error> {
        let file = File::open(&self.namespace);
        file.map(OwnedFd::from)
            .map_err(Error::io("open the pod's user namespace"))
    }

    /// Gives a file to the pod's root.
    pub(super) fn give(&self, path: &std::path::Path) -> Result<(), Error> {
        give(self.first, path)
    }
}

/// Gives a file to a user, and to the group of the same number.
pub(crate) fn give(user: u32, path: &std::path::Path) -> Result<(), Error> {
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    chown(path, Some(uid), Some(gid)).map_err(Error::sys(format!("give {} away", path.display())))
}

/// The user namespace of a pod, held open, and what belongs to it.
#[derive(Debug)]
pub(crate) struct OwnUsers {
    user: OwnedFd,
    pub(crate) first: u32,
    /// Kept, as long as there are processes of these users.
    _range: Range,
}

impl OwnUsers {
    /// How containers find it.
    pub(crate) fn to_containers(&self) -> Result<Users, Error> {
        let pid = host_pid()
            .ok_or_else(|| Error::Container("/proc does not say who this process is".into()))?;
        Ok(Users {
            namespace: format!("/proc/{pid}/fd/{}", self.user.as_raw_fd()).into(),
            first: self.first,
        })
    }
}

/// Which of the ranges of users are somebody's.
static TAKEN: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// A range of users that one pod has for itself.
#[derive(Debug)]
struct Range(u32);

impl Range {
    /// The one that goes with an address, or the next one that is nobody's: there are more addresses than
    /// ranges.
    fn take(pod: Ipv4Addr) -> Result<Self, Error> {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = u32::from(pod) % PODS;
        let mut all = (0..PODS).map(|index| (wanted + index) % PODS);
        let free = all.find(|range| taken.insert(*range));
        let none = || {
            Error::Container(format!(
                "{PODS} pods have users of their own, and no more can"
            ))
        };
        free.map(Self).ok_or_else(none)
    }

    /// The machine's user that is 0 in it.
    fn first(&self) -> u32 {
        FIRST + self.0 * PER_POD
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        taken.remove(&self.0);
    }
}

/// Makes the user namespace of a pod, with a network and a UTS namespace that belong to it.
///
/// # Errors
/// When the kernel refuses, as it does where the platform is not started by root.
pub(crate) async fn create(pod: Ipv4Addr) -> Result<(OwnUsers, OwnedFd, OwnedFd), Error> {
    let range = Range::take(pod)?;
    let first = range.first();
    let mut helper = Command::new(this_program()?)
        .arg("pod-users")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(Error::io("start a helper"))?;
    let (stdout, stderr) = helper
        .stdout
        .take()
        .zip(helper.stderr.take())
        .expect("both are piped above");
    let mut line = String::new();
    let mut stdout = BufReader::new(stdout);
    let said = tokio::time::timeout(PATIENCE, stdout.read_line(&mut line)).await;
    let Ok(pid) = line.trim().parse::<i32>() else {
        let mut why = String::new();
        if let Ok(Ok(_)) = said {
            let _ = BufReader::new(stderr).read_to_string(&mut why).await;
        }
        return Err(Error::Container(format!(
            "no users of its own for the pod (hostUsers: false): {}",
            why.trim()
        )));
    };
    for file in ["uid_map", "gid_map"] {
        let path = format!("/proc/{pid}/{file}");
        fs::write(&path, format!("0 {first} {PER_POD}")).map_err(Error::io(
            "no users of its own for the pod (hostUsers: false), which takes a platform that root started",
        ))?;
    }
    let open = |kind: &str| {
        let path = format!("/proc/{pid}/ns/{kind}");
        Ok::<_, Error>(OwnedFd::from(File::open(&path).map_err(Error::io(path))?))
    };
    let made = (open("user")?, open("net")?, open("uts")?);
    // Its input ends, and with it the helper.
    drop(helper.stdin.take());
    helper
        .wait()
        .await
        .map_err(Error::io("wait for a helper"))?;
    let (user, net, uts) = made;
    let users = OwnUsers {
        user,
        first,
        _range: range,
    };
    Ok((users, net, uts))
}

/// `lateen pod-users`: makes the namespaces, says where they are, and stays until they are held elsewhere.
pub(crate) fn main() -> ExitCode {
    use std::io::{Read, Write};
    let pid = host_pid().unwrap_or_default();
    let flags = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS;
    if let Err(errno) = unshare(flags) {
        let _ = writeln!(std::io::stderr(), "unshare: {}", errno.desc());
        return ExitCode::FAILURE;
    }
    let mut stdout = std::io::stdout();
    let told = writeln!(stdout, "{pid}").and_then(|()| stdout.flush());
    let mut rest = Vec::new();
    match told.and_then(|()| std::io::stdin().read_to_end(&mut rest)) {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_have_users_apart_below_what_is_signed() {
        let take = |third, last| Range::take(Ipv4Addr::new(10, 244, third, last)).expect("free");
        // The third address is a whole round behind the first one.
        let all = [take(0, 2), take(0, 3), take(16, 2)];
        let mut firsts = all.each_ref().map(Range::first);
        firsts.sort_unstable();
        assert!(
            firsts.is_sorted_by(|one, next| one + PER_POD <= *next),
            "{firsts:?}"
        );
        let last = take(15, 255).first();
        assert!(last.checked_add(PER_POD).is_some_and(|end| end <= 1 << 31));
        let [first, ..] = all;
        let had = first.first();
        drop(first);
        assert_eq!(take(0, 2).first(), had);
    }
}
