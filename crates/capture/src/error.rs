//! Why traffic could not be captured.

use std::io;
use std::net::SocketAddr;

/// A failure to set up or to check traffic capture.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused the rules.
    #[error(transparent)]
    Nft(#[from] crate::nft::Error),
    /// Something asked for is not done by this implementation.
    #[error("{what} is not supported")]
    NotSupported {
        /// The option or value.
        what: String,
    },
    /// A flag or variable has a value that cannot be read.
    #[error("{option}: {value:?} is not {expected}")]
    BadValue {
        /// The flag.
        option: &'static str,
        /// What it was set to.
        value: String,
        /// What it should have been.
        expected: &'static str,
    },
    /// Arguments that the command does not have.
    #[error("istio-iptables does not take these arguments: {0}")]
    Arguments(String),
    /// The check of the rules could not be made.
    #[error("cannot check the rules: {action}: {source}")]
    Check {
        /// What was tried.
        action: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The rules are there but lead connections elsewhere.
    #[error("the rules do not capture traffic: a connection to {dialled} {outcome}")]
    NotCaptured {
        /// Where the test connection went.
        dialled: SocketAddr,
        /// What became of it.
        outcome: String,
    },
}
