//! Volumes on their way into a container, from the host's root to the container's.
//!
//! Who writes in a volume may leave links there. So nothing is put into its place before the host's root is
//! gone: until then it waits in a directory of its own, and a link leads no further than the container. And
//! a part of a volume (`subPath`) is reached without following any.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use nix::unistd::{Gid, Uid, fchownat};

use super::{NONE, OLD, bind, make_read_only};
use crate::Error;
use crate::container::spec::{ContainerSpec, Mount};

/// Where volumes wait.
const STAGE: &str = "/.volumes";

/// A volume that waits for its place.
pub(super) struct Staged {
    at: PathBuf,
    target: PathBuf,
    read_only: bool,
    is_dir: bool,
}

/// Takes the volumes out of the host's root.
pub(super) fn stage(spec: &ContainerSpec, mounts: &[&Mount]) -> Result<Vec<Staged>, Error> {
    fs::create_dir(STAGE).map_err(Error::io("create a place for volumes"))?;
    let each = mounts.iter().enumerate();
    each.map(|(index, volume)| take(spec, volume, &Path::new(STAGE).join(index.to_string())))
        .collect()
}

fn take(spec: &ContainerSpec, volume: &Mount, at: &Path) -> Result<Staged, Error> {
    let relative = volume.source.strip_prefix("/").unwrap_or(&volume.source);
    let mut source = Path::new(OLD).join(relative);
    // Open for as long as its path is used.
    let part = volume
        .sub_path
        .as_ref()
        .map(|sub| part_of(&source, sub, spec.users.as_ref().map(|users| users.first)))
        .transpose()?;
    if let Some(part) = &part {
        source = format!("/proc/self/fd/{}", part.as_raw_fd()).into();
    }
    let failed = || Error::io(format!("take the volume for {}", volume.target.display()));
    let is_dir = fs::metadata(&source).map_err(failed())?.is_dir();
    match is_dir {
        true => fs::create_dir(at).map_err(failed())?,
        false => drop(File::create(at).map_err(failed())?),
    }
    bind(&source, at)?;
    Ok(Staged {
        at: at.to_owned(),
        target: volume.target.clone(),
        read_only: volume.read_only,
        is_dir,
    })
}

/// Puts the volumes into their places, an outer one before those within it.
pub(super) fn place(staged: Vec<Staged>) -> Result<(), Error> {
    for volume in staged {
        let target = &volume.target;
        let failed = || Error::io(format!("mount point {}", target.display()));
        prepare_target(volume.is_dir, target).map_err(failed())?;
        let moved = mount(Some(&volume.at), target, NONE, MsFlags::MS_MOVE, NONE);
        moved.map_err(Error::sys(format!("mount {}", target.display())))?;
        if volume.read_only {
            make_read_only(target)?;
        }
    }
    fs::remove_dir_all(STAGE).map_err(Error::io("remove the place for volumes"))
}

fn prepare_target(is_dir: bool, target: &Path) -> io::Result<()> {
    if is_dir {
        return fs::create_dir_all(target);
    }
    if target.exists() {
        return Ok(());
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    File::create(target)?.set_permissions(fs::Permissions::from_mode(0o644))
}

/// A file or directory of a volume; directories that are not there are made, for the `owner`.
fn part_of(volume: &Path, sub: &Path, owner: Option<u32>) -> Result<OwnedFd, Error> {
    let shown = sub.display();
    let failed = |errno: Errno| Error::sys(format!("subPath {shown}"))(errno);
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut at = open(volume, flags, Mode::empty()).map_err(failed)?;
    for part in sub.components() {
        let part = part.as_os_str();
        match mkdirat(&at, part, Mode::from_bits_truncate(0o755)) {
            Ok(()) => {
                if let Some(owner) = owner {
                    let (uid, gid) = (Uid::from_raw(owner), Gid::from_raw(owner));
                    let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
                    fchownat(&at, part, Some(uid), Some(gid), flags).map_err(failed)?;
                }
            }
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(failed(errno)),
        }
        at = openat(&at, part, flags, Mode::empty()).map_err(failed)?;
        if is_link(&at).map_err(failed)? {
            return Err(Error::Container(format!(
                "subPath {shown}: {part:?} is a symbolic link, and a subPath must stay within its volume"
            )));
        }
    }
    Ok(at)
}

fn is_link(file: impl AsFd) -> nix::Result<bool> {
    let kind = SFlag::from_bits_truncate(fstat(file)?.st_mode) & SFlag::S_IFMT;
    Ok(kind == SFlag::S_IFLNK)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_part_of_a_volume_is_reached_by_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        fs::create_dir_all(volume.join("a")).unwrap();
        fs::write(volume.join("a/file"), "").unwrap();
        fs::create_dir(dir.path().join("secret")).unwrap();
        symlink("../secret", volume.join("out")).unwrap();
        symlink("a", volume.join("in")).unwrap();
        for good in ["a", "a/file", "new/deep"] {
            part_of(&volume, Path::new(good), None).unwrap();
        }
        assert!(volume.join("new/deep").is_dir());
        for bad in ["out", "out/more", "in/file"] {
            let error = part_of(&volume, Path::new(bad), None).unwrap_err();
            assert!(error.to_string().contains("symbolic link"), "{error}");
        }
        assert!(part_of(&volume, Path::new("a/file/x"), None).is_err());
        assert!(!dir.path().join("secret/more").exists());
    }
}
