//! What can go wrong on the platform, with the words that a user needs to mend it.

use std::io;
use std::path::PathBuf;

/// An error of the platform, the node or a controller.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused the namespaces that the platform lives in.
    #[error("cannot create namespaces ({cause}): {hint}")]
    Namespaces {
        /// The refused call and its error.
        cause: String,
        /// What the user can change.
        hint: String,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file of the state directory cannot be understood.
    #[error("{path}: {reason}")]
    BadFile {
        /// The file.
        path: PathBuf,
        /// Why it is refused.
        reason: String,
    },
    /// A netlink request failed.
    #[error("network setup, {what}: {source}")]
    Netlink {
        /// What was being done.
        what: &'static str,
        /// The error of the kernel.
        source: rtnetlink::Error,
    },
    /// Every address of the pod range is taken.
    #[error("no free pod address in {0}")]
    NoPodAddress(String),
    /// The API server refused or failed a request.
    #[error("API server: {0}")]
    Api(#[from] Box<kube::Error>),
    /// Somebody else starts a mesh in this directory.
    #[error("it is being started by another command")]
    Taken,
    /// An option of the platform makes no sense.
    #[error("bad option: {0}")]
    Option(String),
    /// A container could not be prepared or started.
    #[error("{0}")]
    Container(String),
}

impl Error {
    /// Wraps an I/O error with what was being done.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// Wraps an errno with what was being done.
    pub(crate) fn sys(what: impl Into<String>) -> impl FnOnce(nix::errno::Errno) -> Self {
        let what = what.into();
        move |errno| Self::Io {
            what,
            source: errno.into(),
        }
    }

    /// Wraps a netlink error with what was being done.
    pub(crate) fn netlink(what: &'static str) -> impl FnOnce(rtnetlink::Error) -> Self {
        move |source| Self::Netlink { what, source }
    }
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        Self::Api(Box::new(error))
    }
}
