//! Working in the network of a pod.

use std::{
    fs::File,
    io,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use nix::sched::{CloneFlags, setns};

/// The network of this process: a runtime's plugin is in that of the node.
const OWN: &str = "/proc/self/ns/net";

/// Why nothing was done in the network of a pod.
#[derive(Debug, thiserror::Error)]
pub(super) enum NetworkError {
    /// There is none at that place.
    #[error("cannot open the network {path}")]
    Open {
        /// The place.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is the node's, which many share.
    #[error("{0} is the node's own network, and not that of a pod")]
    OfNode(PathBuf),
    /// It cannot be entered.
    #[error("cannot enter the network {path}; this needs CAP_SYS_ADMIN")]
    Enter {
        /// The place.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Does something in a network, on a thread that is in it.
pub(super) fn within<T: Send>(
    path: &Path,
    work: impl FnOnce() -> T + Send,
) -> Result<T, NetworkError> {
    let file = File::open(path).map_err(|source| NetworkError::Open {
        path: path.to_owned(),
        source,
    })?;
    within_open(path, &file, work)
}

/// The same with a network that is open already, which stays that one whatever becomes of the place.
pub(super) fn within_open<T: Send>(
    path: &Path,
    file: &File,
    work: impl FnOnce() -> T + Send,
) -> Result<T, NetworkError> {
    let is_own = is_same(file, Path::new(OWN)).map_err(|source| NetworkError::Open {
        path: OWN.into(),
        source,
    })?;
    if is_own {
        return Err(NetworkError::OfNode(path.to_owned()));
    }
    let enter = || -> io::Result<T> {
        setns(file.as_fd(), CloneFlags::CLONE_NEWNET)?;
        Ok(work())
    };
    let done = std::thread::scope(|scope| match scope.spawn(enter).join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    });
    done.map_err(|source| NetworkError::Enter {
        path: path.to_owned(),
        source,
    })
}

/// Whether a network is the one at a place.
pub(super) fn is_same(file: &File, other: &Path) -> io::Result<bool> {
    let (one, other) = (file.metadata()?, std::fs::metadata(other)?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_own_network_is_left_alone() {
        let done = within(Path::new("/proc/self/ns/net"), || ());
        assert!(matches!(done, Err(NetworkError::OfNode(_))), "{done:?}");
        let done = within(Path::new("/nonesuch"), || ());
        assert!(matches!(done, Err(NetworkError::Open { .. })), "{done:?}");
    }
}
