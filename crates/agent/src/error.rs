//! Errors of the agent.

use std::path::PathBuf;

/// What can keep an agent from doing its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The environment lacks something or holds nonsense.
    #[error("{name}: {reason}")]
    Environment {
        /// The variable or argument.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A port or socket cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address or path.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// Certificates or TLS.
    #[error(transparent)]
    Tls(#[from] lateen_tls::Error),
    /// The certificate authority refuses or cannot be reached.
    #[error("certificate authority {address}: {} ({:?})", status.message(), status.code())]
    Authority {
        /// Where it is.
        address: String,
        /// What it said.
        status: Box<tonic::Status>,
    },
    /// The connection to the control plane cannot be made.
    #[error("control plane {address}: {source}")]
    ControlPlane {
        /// Where it is.
        address: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The proxy ended although it should not.
    #[error("proxy: {0}")]
    Proxy(String),
    /// A request of `pilot-agent request` or `wait` failed.
    #[error("{0}")]
    Request(String),
}

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Error::File { path, source }
    }
}
