//! The devices of a container that is not to have the machine's: those that are nobody's, and terminals.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::mount::{MsFlags, mount};

use super::{bind, tmpfs};
use crate::Error;

/// Devices that hold nothing.
const HARMLESS: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];

/// What programs expect there beside devices.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Fills a directory that is to be `/dev`.
pub(super) fn own(at: &Path) -> Result<(), Error> {
    tmpfs(at, "mode=0755")?;
    for name in HARMLESS {
        let from = Path::new("/dev").join(name);
        if !from.exists() {
            continue;
        }
        let to = at.join(name);
        File::create(&to).map_err(Error::io("create a device's place"))?;
        bind(&from, &to)?;
    }
    for (name, target) in LINKS {
        symlink(target, at.join(name)).map_err(Error::io("link a device"))?;
    }
    for name in ["shm", "pts"] {
        fs::create_dir(at.join(name)).map_err(Error::io("create a directory of devices"))?;
    }
    tmpfs(&at.join("shm"), "mode=1777")?;
    let kind = Some("devpts");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let options = Some("newinstance,ptmxmode=0666,mode=0620");
    mount(kind, &at.join("pts"), kind, flags, options).map_err(Error::sys("mount terminals"))
}
