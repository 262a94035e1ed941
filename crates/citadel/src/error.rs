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
    /// The operator's Secret is not there any more.
    #[error(
        "secret {secret} is gone: its authority goes on signing until the control plane is restarted, \
         and another one would then; put the Secret back, or bring a new one that trusts both roots"
    )]
    Unplugged {
        /// `namespace/name`.
        secret: String,
    },
    /// The operator's Secret signs by a root that workloads do not trust yet.
    #[error(
        "secret {secret}: ca-cert.pem leads to a root that is not in force yet, so that nobody would trust \
         what it signs; the authority before it goes on signing. Put the old ca-cert.pem, ca-key.pem and \
         cert-chain.pem back beside the new root-cert.pem, and change them when every workload trusts both \
         roots"
    )]
    EarlySigner {
        /// `namespace/name`.
        secret: String,
    },
    /// The operator's Secret has roots that no workload trusts.
    #[error(
        "secret {secret}: key root-cert.pem has none of the roots in force, so that workloads would \
         not trust each other; the authority before it goes on signing. Put both roots into \
         root-cert.pem, the old one first, and keep the old ca-cert.pem and ca-key.pem until every \
         workload trusts both; take the old root out when every workload has a certificate of the \
         new one"
    )]
    ForeignRoot {
        /// `namespace/name`.
        secret: String,
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
