//! Errors of starting and running the proxy; what goes wrong with one request is a `Reason`.

/// Why the proxy could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bootstrap is not usable.
    #[error("bootstrap: {0}")]
    Bootstrap(String),
    /// A file, socket or thread.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
}
