//! Errors of the certificate authority.

use std::time::Duration;

use crate::store::StoreError;

/// What can go wrong between a request and a certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The Secret store could not be asked.
    #[error("secret store: {0}")]
    Store(#[from] StoreError),
    /// A Secret exists and lacks a key.
    #[error("secret {secret} has no key {key}")]
    MissingKey {
        /// `namespace/name`.
        secret: String,
        /// The key that is missing.
        key: &'static str,
    },
    /// A Secret exists and its contents do not make an authority.
    #[error("secret {secret}: {source}")]
    BadSecret {
        /// `namespace/name`.
        secret: String,
        /// What is wrong.
        source: lateen_tls::Error,
    },
    /// The caller asked for a longer validity than is allowed.
    #[error("requested validity of {requested:?} is longer than the longest allowed, {longest:?}")]
    TooLong {
        /// What the caller asked for.
        requested: Duration,
        /// What is allowed.
        longest: Duration,
    },
    /// Making or reading a certificate failed.
    #[error(transparent)]
    Tls(#[from] lateen_tls::Error),
}
