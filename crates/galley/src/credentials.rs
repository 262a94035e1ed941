//! What is known of the Secrets that gateways' certificates are in.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

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

/// Kind (`None` for a certificate and its key), namespace and name of what was looked at.
type Looked = (Option<RootsKind>, String, String);

/// What was found of each object, which is read once however many refer to it. It is good for as long as
/// nothing changes.
pub(crate) struct Once<'a> {
    of: &'a dyn Credentials,
    found: Mutex<BTreeMap<Looked, Result<(), CredentialFault>>>,
}

impl<'a> Once<'a> {
    pub(crate) fn new(of: &'a dyn Credentials) -> Self {
        let found = Mutex::default();
        Once { of, found }
    }

    pub(crate) fn check(&self, namespace: &str, name: &str) -> Result<(), CredentialFault> {
        self.find(None, namespace, name, || self.of.check(namespace, name))
    }

    pub(crate) fn check_roots(
        &self,
        of: RootsKind,
        namespace: &str,
        name: &str,
    ) -> Result<(), CredentialFault> {
        let look = || self.of.check_roots(of, namespace, name);
        self.find(Some(of), namespace, name, look)
    }

    fn find(
        &self,
        of: Option<RootsKind>,
        namespace: &str,
        name: &str,
        look: impl FnOnce() -> Result<(), CredentialFault>,
    ) -> Result<(), CredentialFault> {
        let key = (of, namespace.to_owned(), name.to_owned());
        // Nothing under the lock leaves it half changed.
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.entry(key).or_insert_with(look).clone()
    }
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
