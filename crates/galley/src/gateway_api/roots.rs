//! Certificates of authorities that policies and listeners refer to.

use super::{Around, conditions::Verdict};
use crate::{CredentialFault, RootsKind};

/// What holds the certificates; `reason` is said of a kind that cannot.
pub(super) fn kind(
    group: &str,
    kind: &str,
    name: &str,
    reason: &'static str,
) -> Result<RootsKind, Verdict> {
    let found = RootsKind::parse(kind).filter(|_| group.is_empty());
    found.ok_or_else(|| {
        let message = format!(
            "caCertificateRef {group}/{kind} {name} is not supported, only ConfigMap and Secret"
        );
        Verdict::new(reason, message)
    })
}

/// Whether there are certificates that can be read.
pub(super) fn check(
    around: Around<'_>,
    kind: RootsKind,
    namespace: &str,
    name: &str,
) -> Result<(), Verdict> {
    let wrong = match around.credentials.check_roots(kind, namespace, name) {
        Ok(()) => return Ok(()),
        Err(CredentialFault::Missing) => "not found, or without ca.crt".to_owned(),
        Err(CredentialFault::Malformed(why)) => why,
    };
    let message = format!("{} {namespace}/{name}: {wrong}", kind.as_str());
    Err(Verdict::new("InvalidCACertificateRef", message))
}
