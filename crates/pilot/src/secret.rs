//! Secrets (SDS) that the control plane serves: the certificates of gateways.

use std::sync::Arc;

use lateen_xds::names;
use lateen_xds::server::Resource;
use lateen_xds::types::core::{DataSource, data_source};
use lateen_xds::types::tls::{CertificateValidationContext, Secret, TlsCertificate, secret};
use tokio::sync::watch;

use crate::proxy::Kind;
use crate::source::Client;

/// A certificate for a gateway, as PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credential {
    /// Certificate chain, leaf first; empty where there is only a root.
    pub certificate: Vec<u8>,
    /// Private key.
    pub key: Vec<u8>,
    /// Roots that client certificates are checked against; empty for none.
    pub roots: Vec<u8>,
}

/// Where credentials are kept (Secrets of a cluster, say).
pub trait CredentialSource: Send + Sync + 'static {
    /// The credential of a name in a namespace.
    fn credential(&self, namespace: &str, name: &str) -> Option<Credential>;

    /// Changes whenever any credential does.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// No credentials at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCredentials;

impl CredentialSource for NoCredentials {
    fn credential(&self, _namespace: &str, _name: &str) -> Option<Credential> {
        None
    }

    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}

/// The secret of a name for a client. Only gateways that have proved who they are, and that the
/// platform lets read Secrets, get any, and only those of their own namespace.
pub(crate) fn resource(
    source: &dyn CredentialSource,
    client: &Client,
    name: &str,
) -> Option<Arc<Resource>> {
    let proxy = &client.proxy;
    if proxy.kind != Kind::Router || client.identity.is_none() || !client.reads_secrets {
        return None;
    }
    let wanted = name.strip_prefix(names::SECRET_KUBERNETES)?;
    let (namespace, wanted) = wanted.split_once('/').unwrap_or((&proxy.namespace, wanted));
    if namespace != proxy.namespace {
        return None;
    }
    let kind = match wanted.strip_suffix(names::SECRET_CA_SUFFIX) {
        Some(of) => roots(source, namespace, of, wanted)?,
        None => certificate(source.credential(namespace, wanted)?)?,
    };
    let secret = Secret {
        name: name.to_owned(),
        r#type: Some(kind),
    };
    Some(Arc::new(Resource::new(name, &secret)))
}

/// Roots are in a credential of their own (`NAME-cacert`), or beside the certificate.
fn roots(
    source: &dyn CredentialSource,
    namespace: &str,
    name: &str,
    own: &str,
) -> Option<secret::Type> {
    let roots = [own, name]
        .into_iter()
        .filter_map(|name| source.credential(namespace, name))
        .map(|credential| credential.roots)
        .find(|roots| !roots.is_empty())?;
    Some(secret::Type::ValidationContext(
        CertificateValidationContext {
            trusted_ca: Some(inline(roots)),
            ..CertificateValidationContext::default()
        },
    ))
}

fn certificate(credential: Credential) -> Option<secret::Type> {
    if credential.certificate.is_empty() || credential.key.is_empty() {
        return None;
    }
    Some(secret::Type::TlsCertificate(TlsCertificate {
        certificate_chain: Some(inline(credential.certificate)),
        private_key: Some(inline(credential.key)),
        ..TlsCertificate::default()
    }))
}

fn inline(bytes: Vec<u8>) -> DataSource {
    DataSource {
        specifier: Some(data_source::Specifier::InlineBytes(bytes)),
        ..DataSource::default()
    }
}

#[cfg(test)]
mod tests {
    use lateen_core::SpiffeId;

    use super::*;
    use crate::fixture;

    /// Every namespace has every credential.
    struct Everything;

    impl CredentialSource for Everything {
        fn credential(&self, _namespace: &str, _name: &str) -> Option<Credential> {
            Some(Credential {
                certificate: b"c".to_vec(),
                key: b"k".to_vec(),
                roots: b"r".to_vec(),
            })
        }

        fn changes(&self) -> watch::Receiver<u64> {
            watch::channel(0).1
        }
    }

    #[test]
    fn only_gateways_that_may_read_secrets_get_those_of_their_namespace() {
        let gateway = || Client {
            proxy: fixture::ingress(),
            identity: SpiffeId::new("cluster.local", "istio-system", "gateway").ok(),
            reads_secrets: true,
        };
        let check = |client: Client, name: &str, given: bool| {
            let found = resource(&Everything, &client, name);
            assert_eq!(found.is_some(), given, "{name} for {client:?}");
        };
        check(gateway(), "kubernetes://a", true);
        check(gateway(), "kubernetes://a-cacert", true);
        check(gateway(), "kubernetes://istio-system/a", true);
        check(gateway(), "kubernetes://other/a", false);
        check(gateway(), "default", false);
        let unproved = Client {
            identity: None,
            ..gateway()
        };
        check(unproved, "kubernetes://a", false);
        let without_the_right = Client {
            reads_secrets: false,
            ..gateway()
        };
        check(without_the_right, "kubernetes://a", false);
        let sidecar = Client {
            proxy: fixture::sidecar("a"),
            ..gateway()
        };
        check(sidecar, "kubernetes://a", false);
    }
}
