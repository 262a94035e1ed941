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

/// A kind of object that roots are in, under `ca.crt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RootsKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

impl RootsKind {
    /// The kind's name.
    pub fn as_str(self) -> &'static str {
        match self {
            RootsKind::ConfigMap => "ConfigMap",
            RootsKind::Secret => "Secret",
        }
    }

    /// The kind of a name.
    pub fn parse(name: &str) -> Option<Self> {
        [RootsKind::ConfigMap, RootsKind::Secret]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}

/// Where Secrets, and ConfigMaps with roots, are kept.
pub trait Credentials: Send + Sync + 'static {
    /// Whether a Secret holds a certificate and its key.
    ///
    /// # Errors
    ///
    /// It is missing, or something else is in it.
    fn check(&self, namespace: &str, name: &str) -> Result<(), CredentialFault>;

    /// Whether an object holds roots.
    ///
    /// # Errors
    ///
    /// It is missing, or what is in it are none.
    fn check_roots(
        &self,
        of: RootsKind,
        namespace: &str,
        name: &str,
    ) -> Result<(), CredentialFault>;

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

    fn check_roots(
        &self,
        _of: RootsKind,
        _namespace: &str,
        _name: &str,
    ) -> Result<(), CredentialFault> {
        Err(CredentialFault::Missing)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}

/// Secrets that nobody looks at: whatever names one is taken to be right.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnyCredentials;

impl Credentials for AnyCredentials {
    fn check(&self, _namespace: &str, _name: &str) -> Result<(), CredentialFault> {
        Ok(())
    }

    fn check_roots(
        &self,
        _of: RootsKind,
        _namespace: &str,
        _name: &str,
    ) -> Result<(), CredentialFault> {
        Ok(())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}
