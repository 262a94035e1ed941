//! The last steps before a program runs: user, groups, capabilities, directory, exec.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::str::FromStr;

use caps::{CapSet, Capability, CapsHashSet};
use nix::sched::{CloneFlags, setns};
use nix::unistd::{Gid, Uid, chdir, execve, fchown, setgid, setgroups, setuid};

use super::spec::{Capabilities, ContainerSpec};
use crate::Error;

/// Search path of a program whose environment names none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What root keeps in a container that asks for nothing, the set of the common container runtimes.
const DEFAULT_CAPABILITIES: [Capability; 14] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FSETID,
    Capability::CAP_FOWNER,
    Capability::CAP_MKNOD,
    Capability::CAP_NET_RAW,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    Capability::CAP_SETFCAP,
    Capability::CAP_SETPCAP,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_SYS_CHROOT,
    Capability::CAP_KILL,
    Capability::CAP_AUDIT_WRITE,
];

/// Becomes the program; returns only on failure. `users` is the user namespace of the pod, if it has one.
pub(super) fn exec(spec: &ContainerSpec, users: Option<&OwnedFd>) -> Error {
    match prepare(spec, users) {
        Ok((program, argv, env)) => match execve(&program, &argv, &env) {
            Ok(never) => match never {},
            Err(errno) => Error::Container(format!("exec {}: {}", spec.argv[0], errno.desc())),
        },
        Err(error) => error,
    }
}

type Exec = (CString, Vec<CString>, Vec<CString>);

fn prepare(spec: &ContainerSpec, users: Option<&OwnedFd>) -> Result<Exec, Error> {
    if let Some(users) = users {
        // From within, nothing that is the machine's can be given away.
        own_outputs(spec)?;
        setns(users, CloneFlags::CLONE_NEWUSER)
            .map_err(Error::sys("enter the pod's user namespace"))?;
    }
    // Behind the users, from where what others have open in /proc is out of reach.
    let cwd = spec.cwd.as_deref().unwrap_or("/");
    chdir(cwd).map_err(Error::sys(format!("enter the working directory {cwd}")))?;
    let program = find(spec)?;
    // A namespace that maps root alone has no other user to become; such a process keeps its powers,
    // since it needs them for what its user would have been recognised by. What a pod with users of its own
    // has at /proc may be a volume, and is not asked.
    if users.is_some() || maps_many_users() {
        let keep = kept(&spec.capabilities)?;
        if users.is_none() {
            own_outputs(spec)?;
        }
        setgroups(
            &spec
                .groups
                .iter()
                .map(|gid| Gid::from_raw(*gid))
                .collect::<Vec<_>>(),
        )
        .map_err(Error::sys("set groups"))?;
        setgid(Gid::from_raw(spec.gid)).map_err(Error::sys("set the group"))?;
        bound(&keep)?;
        setuid(Uid::from_raw(spec.uid)).map_err(Error::sys("set the user"))?;
        if spec.uid == 0 {
            restrict(&keep)?;
        }
    }
    let program = text(&program.to_string_lossy())?;
    let argv = spec
        .argv
        .iter()
        .map(|arg| text(arg))
        .collect::<Result<_, _>>()?;
    let env = spec
        .env
        .iter()
        .map(|(key, value)| text(&format!("{key}={value}")));
    Ok((program, argv, env.collect::<Result<_, _>>()?))
}

/// Gives the pipes to the user, as container runtimes do: who opens `/dev/stdout` opens the pipe anew,
/// by its owner's rights.
fn own_outputs(spec: &ContainerSpec) -> Result<(), Error> {
    let first = spec.users.as_ref().map_or(0, |users| users.first);
    let (uid, gid) = (
        Uid::from_raw(first.saturating_add(spec.uid)),
        Gid::from_raw(first.saturating_add(spec.gid)),
    );
    for fd in [std::io::stdout().as_fd(), std::io::stderr().as_fd()] {
        fchown(fd, Some(uid), Some(gid)).map_err(Error::sys("give the outputs to the user"))?;
    }
    Ok(())
}

fn text(text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::Container(format!("{text:?} holds a zero byte")))
}

/// Finds the program as a shell would.
fn find(spec: &ContainerSpec) -> Result<PathBuf, Error> {
    let name = spec
        .argv
        .first()
        .ok_or_else(|| Error::Container("the container has no command".into()))?;
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    let path = spec
        .env
        .iter()
        .find(|(key, _)| key == "PATH")
        .map(|(_, value)| value.as_str());
    path.unwrap_or(DEFAULT_PATH)
        .split(':')
        .map(|dir| PathBuf::from(dir).join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            Error::Container(format!(
                "exec: {name:?}: executable file not found in $PATH"
            ))
        })
}

fn maps_many_users() -> bool {
    let Ok(map) = fs::read_to_string("/proc/self/uid_map") else {
        return false;
    };
    map.lines().any(|line| {
        line.split_ascii_whitespace()
            .nth(2)
            .and_then(|size| size.parse::<u64>().ok())
            .is_some_and(|size| size > 2000)
    })
}

fn kept(wanted: &Capabilities) -> Result<CapsHashSet, Error> {
    let all = caps::runtime::thread_all_supported();
    if wanted.privileged {
        return Ok(all);
    }
    let parse = |name: &String| {
        let name = name.to_ascii_uppercase();
        let full = if name.starts_with("CAP_") {
            name
        } else {
            format!("CAP_{name}")
        };
        Capability::from_str(&full)
            .map_err(|_| Error::Container(format!("unknown capability {full}")))
    };
    let is_all = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case("all"));
    let mut set: CapsHashSet = match (is_all(&wanted.drop), is_all(&wanted.add)) {
        (_, true) => all,
        (true, false) => CapsHashSet::new(),
        (false, false) => DEFAULT_CAPABILITIES.into_iter().collect(),
    };
    for name in wanted
        .drop
        .iter()
        .filter(|name| !name.eq_ignore_ascii_case("all"))
    {
        set.remove(&parse(name)?);
    }
    for name in wanted
        .add
        .iter()
        .filter(|name| !name.eq_ignore_ascii_case("all"))
    {
        set.insert(parse(name)?);
    }
    Ok(set)
}

/// Takes away for good what no descendant may have.
fn bound(keep: &CapsHashSet) -> Result<(), Error> {
    let failed =
        |error: caps::errors::CapsError| Error::Container(format!("capabilities: {error}"));
    let have = caps::read(None, CapSet::Bounding).map_err(failed)?;
    for cap in have.difference(keep) {
        caps::drop(None, CapSet::Bounding, *cap).map_err(failed)?;
    }
    Ok(())
}

fn restrict(keep: &CapsHashSet) -> Result<(), Error> {
    let failed =
        |error: caps::errors::CapsError| Error::Container(format!("capabilities: {error}"));
    let have = caps::read(None, CapSet::Permitted).map_err(failed)?;
    let keep: CapsHashSet = have.intersection(keep).copied().collect();
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new()).map_err(failed)?;
    caps::set(None, CapSet::Effective, &keep).map_err(failed)?;
    caps::set(None, CapSet::Permitted, &keep).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_added_to_and_dropped_from_the_default() {
        let kept = |add: &[&str], drop: &[&str]| {
            let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            kept(&Capabilities {
                privileged: false,
                add: own(add),
                drop: own(drop),
            })
        };
        assert_eq!(kept(&["NET_ADMIN"], &["ALL"]).unwrap().len(), 1);
        assert!(
            kept(&["cap_net_admin"], &[])
                .unwrap()
                .contains(&Capability::CAP_NET_ADMIN)
        );
        assert!(
            !kept(&[], &["KILL"])
                .unwrap()
                .contains(&Capability::CAP_KILL)
        );
        assert!(kept(&["NO_SUCH"], &[]).is_err());
    }
}
