//! What is known of the Secrets that gateways' certificates are in.

use tokio::sync::watch;

/// Why a Secret holds no certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialFault {
    /// It is not there.
    Missing,
    /// It is there, and what is wrong with it.
    Malformed(String),
}

/// Where Secrets are kept.
pub trait Credentials: Send + Sync + 'static {
    /// Whether a Secret holds a certificate and its key.
    ///
    /// # Errors
    ///
    /// It is missing, or something else is in it.
    fn check(&self, namespace: &str, name: &str) -> Result<(), CredentialFault>;

    /// Changes whenever any of them does.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// No Secrets at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCredentials;

impl Credentials for NoCredentials {
    fn check(&self, _namespace: &str, _name: &str) -> Result<(), CredentialFault> {
        Err(CredentialFault::Missing)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}
