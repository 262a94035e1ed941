//! A container's root: the host's directories, copy on write, with its own `/proc`, `/run` and volumes.
//!
//! Each top-level directory gets an overlay of its own. One overlay of `/` would be simpler, but the
//! kernel refuses it to a user namespace whenever a mount inherited from the host lies beneath. A directory
//! with such a mount is bound as it is instead.

mod devices;
mod staging;

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};

use super::spec::{ContainerSpec, Mount};
use crate::Error;
use crate::images::PROGRAMS_IN_POD;

/// Where the host's root is while volumes are bound.
const OLD: &str = "/.host";

const NONE: Option<&str> = None;

/// Builds the root and changes to it. The mount namespace must be the caller's own.
pub(super) fn build(spec: &ContainerSpec) -> Result<(), Error> {
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
        .map_err(Error::sys("make mounts private"))?;
    tmpfs(&spec.scratch, "mode=0755")?;
    let root = spec.scratch.join("root");
    fs::create_dir(&root).map_err(Error::io("create the root"))?;
    give(spec, &root)?;
    bind(&root, &root)?;
    for entry in fs::read_dir("/").map_err(Error::io("read /"))?.flatten() {
        top_level(spec, &root, &entry)?;
    }
    let old = root.join(&OLD[1..]);
    fs::create_dir(&old).map_err(Error::io("create the old root"))?;
    pivot_root(&root, &old).map_err(Error::sys("change the root"))?;
    chdir("/").map_err(Error::sys("enter the root"))?;
    own_proc()?;
    for dir in &spec.hidden {
        hide(dir)?;
    }
    let programs = PROGRAMS_IN_POD.map(|program| Mount {
        source: spec.lateen.clone(),
        target: program.into(),
        read_only: true,
        ..Mount::default()
    });
    let mounts: Vec<&Mount> = programs.iter().chain(&spec.mounts).collect();
    let staged = staging::stage(spec, &mounts)?;
    umount2(OLD, MntFlags::MNT_DETACH).map_err(Error::sys("leave the old root"))?;
    fs::remove_dir(OLD).map_err(Error::io("remove the old root"))?;
    staging::place(staged)
}

fn top_level(spec: &ContainerSpec, root: &Path, entry: &fs::DirEntry) -> Result<(), Error> {
    let kind = entry.file_type().map_err(Error::io("read /"))?;
    let (from, to) = (entry.path(), root.join(entry.file_name()));
    if kind.is_symlink() {
        let target = fs::read_link(&from).map_err(Error::io("read a link"))?;
        return symlink(target, &to).map_err(Error::io("copy a link"));
    }
    if !kind.is_dir() {
        return Ok(());
    }
    let permissions = fs::metadata(&from).map(|meta| meta.permissions());
    fs::create_dir(&to).map_err(Error::io(format!("create {}", to.display())))?;
    // What others may not look into is not looked into by way of an overlay that is the pod's.
    let is_closed = permissions
        .as_ref()
        .map_or(true, |permissions| permissions.mode() & 0o005 != 0o005);
    if let Ok(permissions) = permissions {
        let _ = fs::set_permissions(&to, permissions);
    }
    match entry.file_name().to_str() {
        // Mounted once the root has changed.
        Some("proc") => Ok(()),
        Some("dev") if spec.users.is_some() => devices::own(&to),
        Some("dev" | "sys") => bind(&from, &to),
        Some("run") => tmpfs(&to, "mode=0755").and_then(|()| give(spec, &to)),
        _ if is_closed && spec.users.is_some() => give(spec, &to),
        Some(name) if overlay(spec, name, &from, &to).is_ok() => {
            // Not for pods with users of their own: what they mount there would be made on the machine.
            if spec.users.is_none() {
                submounts(spec, &from, root);
            }
            Ok(())
        }
        // Also for directories that the kernel does not take as a lower layer.
        _ => {
            bind(&from, &to)?;
            match spec.users {
                Some(_) => make_read_only(&to),
                None => Ok(()),
            }
        }
    }
}

fn overlay(spec: &ContainerSpec, name: &str, lower: &Path, to: &Path) -> Result<(), Error> {
    let scratch = &spec.scratch;
    let (upper, work) = (
        scratch.join("upper").join(name),
        scratch.join("work").join(name),
    );
    for dir in [&upper, &work] {
        fs::create_dir_all(dir).map_err(Error::io("create an overlay"))?;
    }
    for program in PROGRAMS_IN_POD {
        mount_point(lower, &upper, Path::new(program), false)?;
    }
    for volume in &spec.mounts {
        mount_point(lower, &upper, &volume.target, volume.is_dir())?;
    }
    if let Ok(meta) = fs::metadata(lower) {
        let _ = fs::set_permissions(&upper, meta.permissions());
    }
    give(spec, &upper)?;
    let options = |extra: &str| {
        format!(
            "lowerdir={},upperdir={},workdir={}{extra}",
            lower.display(),
            upper.display(),
            work.display()
        )
    };
    let attempt = |options: String| {
        mount(
            Some("overlay"),
            to,
            Some("overlay"),
            MsFlags::empty(),
            Some(&*options),
        )
    };
    // In a user namespace only "user." attributes can be written.
    attempt(options(""))
        .or_else(|_| attempt(options(",userxattr")))
        .map_err(Error::sys("overlay"))
}

/// Gives a directory of the container's own to the pod's root, where that is not the machine's.
fn give(spec: &ContainerSpec, dir: &Path) -> Result<(), Error> {
    spec.users.as_ref().map_or(Ok(()), |users| users.give(dir))
}

/// Makes a mount point in the upper layer. In the mounted overlay a user namespace could not: a directory of
/// the host belongs to a user that it does not know.
fn mount_point(lower: &Path, upper: &Path, target: &Path, is_dir: bool) -> Result<(), Error> {
    let failed = || Error::io(format!("mount point {}", target.display()));
    let target = resolved(target);
    let Ok(inside) = target.strip_prefix(lower) else {
        return Ok(());
    };
    if target.exists() {
        return Ok(());
    }
    let mut at = upper.to_owned();
    let mut below = lower.to_owned();
    let dirs = if is_dir {
        Some(inside)
    } else {
        inside.parent()
    };
    for part in dirs.into_iter().flat_map(Path::components) {
        at.push(part);
        below.push(part);
        if !at.exists() {
            fs::create_dir(&at).map_err(failed())?;
            let mode = fs::metadata(&below).map_or(0o755, |meta| meta.permissions().mode());
            fs::set_permissions(&at, fs::Permissions::from_mode(mode)).map_err(failed())?;
        }
    }
    if !is_dir {
        File::create(upper.join(inside)).map_err(failed())?;
    }
    Ok(())
}

/// The path with the links of the part that exists on the host followed.
fn resolved(path: &Path) -> PathBuf {
    for ancestor in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (fs::canonicalize(ancestor), path.strip_prefix(ancestor)) {
            return if rest.as_os_str().is_empty() {
                real
            } else {
                real.join(rest)
            };
        }
    }
    path.to_owned()
}

/// An overlay shows the mount points within it empty: put the mounts back, all but the platform's own.
fn submounts(spec: &ContainerSpec, from: &Path, root: &Path) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(Path::new);
    let is_hidden = |point: &Path| spec.hidden.iter().any(|dir| point.starts_with(dir));
    let inside =
        points.filter(|point| point.starts_with(from) && *point != from && !is_hidden(point));
    let mut bound: Vec<&Path> = Vec::new();
    for point in inside {
        // Binding is recursive.
        if bound.iter().any(|outer| point.starts_with(outer)) {
            continue;
        }
        bound.push(point);
        let Ok(relative) = point.strip_prefix("/") else {
            continue;
        };
        // A mount that cannot be had (gone, or hidden under another) is simply not there.
        let _ = bind(point, &root.join(relative));
    }
}

fn bind(from: &Path, to: &Path) -> Result<(), Error> {
    mount(
        Some(from),
        to,
        NONE,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        NONE,
    )
    .map_err(Error::sys(format!(
        "bind {} to {}",
        from.display(),
        to.display()
    )))
}

fn tmpfs(at: &Path, options: &str) -> Result<(), Error> {
    mount(
        Some("tmpfs"),
        at,
        Some("tmpfs"),
        MsFlags::MS_NODEV | MsFlags::MS_NOSUID,
        Some(options),
    )
    .map_err(Error::sys(format!("mount tmpfs on {}", at.display())))
}

fn own_proc() -> Result<(), Error> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // Refused where parts of the host's /proc are masked (in a container): then show what there is.
    mount(Some("proc"), "/proc", Some("proc"), flags, NONE)
        .map_err(Error::sys("mount /proc"))
        .or_else(|_| bind(&Path::new(OLD).join("proc"), Path::new("/proc")))
}

fn hide(dir: &Path) -> Result<(), Error> {
    if dir.as_os_str().is_empty() || !dir.is_dir() {
        return Ok(());
    }
    tmpfs(dir, "mode=0000,size=4k")
}

fn make_read_only(target: &Path) -> Result<(), Error> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | kept_flags(target);
    mount(NONE, target, NONE, flags, NONE)
        .map_err(Error::sys(format!("make {} read-only", target.display())))
}

/// Flags that a remount must repeat: a user namespace may not clear those of the mount it was cloned from.
fn kept_flags(target: &Path) -> MsFlags {
    use nix::sys::statvfs::{FsFlags, statvfs};
    let Ok(stat) = statvfs(target) else {
        return MsFlags::empty();
    };
    let pairs = [
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    let flags = stat.flags();
    pairs
        .into_iter()
        .filter(|(have, _)| flags.contains(*have))
        .map(|(_, keep)| keep)
        .collect()
}

/// Where the scratch directory of container `id` is.
#[must_use]
pub(crate) fn scratch_dir(run: &Path, id: &str) -> PathBuf {
    run.join("roots").join(id)
}
