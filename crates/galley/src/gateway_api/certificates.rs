//! Certificates with their keys, to which listeners and Gateways refer.

use lateen_api::{
    Object,
    gateway_api::{Gateway, SecretObjectReference},
};

use super::{Around, backend::End, conditions::Verdict};
use crate::CredentialFault;

/// Namespace and name of the Secret that is referred to; `reason` is said of one that cannot be used.
pub(super) fn certificate(
    around: Around<'_>,
    own: End<'_>,
    to: &SecretObjectReference,
    reason: &'static str,
) -> Result<(String, String), Verdict> {
    let group = to.group.as_deref().unwrap_or_default();
    let kind = to.kind.as_deref().unwrap_or("Secret");
    let invalid = |message: String| Err(Verdict::new(reason, message));
    if (group, kind) != ("", "Secret") {
        return invalid(format!(
            "certificate {group}/{kind} is not supported, only Secret"
        ));
    }
    let namespace = to.namespace.as_deref().unwrap_or(own.namespace);
    let target = End {
        group,
        kind,
        namespace,
    };
    if !around.permits(own, target, &to.name) {
        let message = format!(
            "Secret {namespace}/{} is in another namespace, and no ReferenceGrant there lets {} of {} refer to it",
            to.name, own.kind, own.namespace
        );
        return Err(Verdict::new("RefNotPermitted", message));
    }
    match around.credentials.check(namespace, &to.name) {
        Ok(()) => Ok((namespace.to_owned(), to.name.clone())),
        Err(CredentialFault::Missing) => {
            invalid(format!("Secret {namespace}/{} not found", to.name))
        }
        Err(CredentialFault::Malformed(why)) => {
            invalid(format!("Secret {namespace}/{}: {why}", to.name))
        }
    }
}

/// `spec.tls.backend.clientCertificateRef` of a Gateway: what it shows to backends that have a
/// BackendTLSPolicy.
#[derive(Debug)]
pub(super) struct ClientCertificate {
    /// Namespace and name of the Secret. Where it cannot be used, it is named all the same: without a
    /// certificate nothing is to be sent.
    pub(super) secret: (String, String),
    /// Why it cannot be used.
    pub(super) unresolved: Option<Verdict>,
}

impl ClientCertificate {
    /// Of a Gateway; `None` where it has none.
    pub(super) fn of(around: Around<'_>, gateway: &Object<Gateway>) -> Option<Self> {
        let backend = gateway.spec.tls.as_ref()?.backend.as_ref()?;
        let to = backend.client_certificate_ref.as_ref()?;
        let home = &gateway.meta.namespace;
        let own = End::of("Gateway", home);
        let found = certificate(around, own, to, "InvalidClientCertificateRef");
        let namespace = to.namespace.as_ref().unwrap_or(home);
        Some(ClientCertificate {
            secret: (namespace.clone(), to.name.clone()),
            unresolved: found.err(),
        })
    }
}
