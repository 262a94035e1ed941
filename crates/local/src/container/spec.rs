//! What the platform and a container's first process tell each other: one JSON document per line.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::users::Users;

/// Everything that a container needs to be started.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct ContainerSpec {
    /// An empty directory over which the root is built, in the container's own mount namespace.
    pub(crate) scratch: PathBuf,
    /// This program on the host.
    pub(crate) lateen: PathBuf,
    /// Directories that containers must not see: they hold the keys of this platform, and of others here.
    pub(crate) hidden: Vec<PathBuf>,
    /// Volumes and generated files.
    pub(crate) mounts: Vec<Mount>,
    /// Program and arguments.
    pub(crate) argv: Vec<String>,
    /// The whole environment.
    pub(crate) env: Vec<(String, String)>,
    /// Working directory.
    pub(crate) cwd: Option<String>,
    /// User and groups; ignored where the user namespace maps root alone.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    /// The pod's own users, of which these numbers are; without them they are the machine's.
    pub(crate) users: Option<Users>,
    /// What of root's powers remains.
    pub(crate) capabilities: Capabilities,
}

/// Capabilities as a pod asks for them, names without `CAP_`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Capabilities {
    pub(crate) privileged: bool,
    pub(crate) add: Vec<String>,
    pub(crate) drop: Vec<String>,
}

/// One bind mount.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Mount {
    /// File or directory in the platform's mount namespace.
    pub(crate) source: PathBuf,
    /// The part of it that is meant: plain names, made as directories if they are not there.
    pub(crate) sub_path: Option<PathBuf>,
    /// Absolute path in the container.
    pub(crate) target: PathBuf,
    pub(crate) read_only: bool,
}

impl Mount {
    /// Whether it is a directory, or will be.
    pub(super) fn is_dir(&self) -> bool {
        let part = self.sub_path.as_ref().map(|sub| self.source.join(sub));
        part.map_or_else(
            || self.source.is_dir(),
            |part| part.is_dir() || !part.exists(),
        )
    }
}

/// What a container's first process reports.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) enum Report {
    /// The first process runs; its pid on the host.
    Init(i32),
    /// The program is about to run; its pid on the host.
    Started(i32),
    /// The container could not be started.
    Failed(String),
    /// The program ended.
    Exited {
        /// Exit code, 128 + signal when killed.
        code: i32,
        /// The signal that killed it.
        signal: Option<i32>,
    },
}
