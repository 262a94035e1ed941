//! Secrets (SDS) that the control plane serves: the certificates of gateways.

use std::sync::Arc;

use lateen_core::SpiffeId;
use lateen_galley::RootsKind;
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
    /// Lists of certificates that those who signed with these roots have revoked; empty for none.
    pub revoked: Vec<u8>,
}

/// Where credentials are kept (Secrets of a cluster, say).
pub trait CredentialSource: Send + Sync + 'static {
    /// The credential of a name in a namespace.
    fn credential(&self, namespace: &str, name: &str) -> Option<Credential>;

    /// How a gateway of this identity may have a credential by the name that starts with
    /// [`lateen_galley::CREDENTIAL`].
    fn leave(&self, _identity: &SpiffeId, _namespace: &str, _name: &str) -> Leave {
        Leave::None
    }

    /// The roots in an object, as PEM, if a gateway of this identity may have them.
    fn roots(
        &self,
        _identity: &SpiffeId,
        _of: RootsKind,
        _namespace: &str,
        _name: &str,
    ) -> Option<Vec<u8>> {
        None
    }

    /// Changes whenever any credential does.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// Whether a Gateway that a proxy serves lets it have a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// No Gateway names it.
    None,
    /// A Gateway names it, and whoever may read Secrets may have it.
    ToReaders,
    /// A Gateway names it, and the mesh made the proxies for it.
    Given,
}

/// What a credential of a Gateway or a DestinationRule is called on the wire.
pub(crate) fn certificate_name(credential: &str) -> String {
    match credential.starts_with(lateen_galley::CREDENTIAL) {
        true => credential.to_owned(),
        false => format!("{}{credential}", names::SECRET_KUBERNETES),
    }
}

/// What the roots beside a credential are called on the wire.
pub(crate) fn roots_name(credential: &str) -> String {
    match credential.starts_with(lateen_galley::ROOTS) {
        true => credential.to_owned(),
        false => certificate_name(credential) + names::SECRET_CA_SUFFIX,
    }
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

/// The secret of a name for a client. Only who has proved who it is gets any: those of its own
/// namespace where the platform lets it read Secrets, and gateways those that a Gateway of the Gateway
/// API which they serve names.
pub(crate) fn resource(
    source: &dyn CredentialSource,
    client: &Client,
    name: &str,
) -> Option<Arc<Resource>> {
    let proxy = &client.proxy;
    let identity = client.identity.as_ref();
    let is_own = name.starts_with(names::SECRET_KUBERNETES);
    let identity = identity.filter(|_| proxy.kind == Kind::Router || is_own)?;
    if let Some(objects) = name.strip_prefix(lateen_galley::ROOTS) {
        let roots = objects.split(',').map(|of| roots_in(source, identity, of));
        // None is left out: whoever is refused one of them is refused.
        let roots = roots.collect::<Option<Vec<_>>>()?.join(&b'\n');
        let secret = Secret {
            name: name.to_owned(),
            r#type: Some(trusted(roots, Vec::new())),
        };
        return Some(Arc::new(Resource::new(name, &secret)));
    }
    let (namespace, wanted) = match name.strip_prefix(lateen_galley::CREDENTIAL) {
        Some(wanted) => {
            let (namespace, wanted) = wanted.split_once('/')?;
            let own = wanted.strip_suffix(names::SECRET_CA_SUFFIX);
            match source.leave(identity, namespace, own.unwrap_or(wanted)) {
                Leave::Given => {}
                Leave::ToReaders if client.reads_secrets => {}
                Leave::ToReaders | Leave::None => return None,
            }
            (namespace, wanted)
        }
        None => {
            let wanted = name.strip_prefix(names::SECRET_KUBERNETES)?;
            let own = &*proxy.namespace;
            let (namespace, wanted) = wanted.split_once('/').unwrap_or((own, wanted));
            if namespace != own || !client.reads_secrets {
                return None;
            }
            (namespace, wanted)
        }
    };
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
        .find(|credential| !credential.roots.is_empty())?;
    Some(trusted(roots.roots, roots.revoked))
}

/// The roots in an object of the form `Kind/namespace/name`.
fn roots_in(source: &dyn CredentialSource, identity: &SpiffeId, of: &str) -> Option<Vec<u8>> {
    let mut parts = of.splitn(3, '/');
    let kind = RootsKind::parse(parts.next()?)?;
    source.roots(identity, kind, parts.next()?, parts.next()?)
}

fn trusted(roots: Vec<u8>, revoked: Vec<u8>) -> secret::Type {
    secret::Type::ValidationContext(CertificateValidationContext {
        trusted_ca: Some(inline(roots)),
        crl: (!revoked.is_empty()).then(|| inline(revoked)),
        ..CertificateValidationContext::default()
    })
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
                revoked: b"l".to_vec(),
            })
        }

        fn leave(&self, identity: &SpiffeId, namespace: &str, name: &str) -> Leave {
            match (&*identity.service_account, namespace, name) {
                ("edge-istio", "other", "cert") => Leave::Given,
                (_, "other", "cert") => Leave::ToReaders,
                _ => Leave::None,
            }
        }

        fn roots(
            &self,
            identity: &SpiffeId,
            of: RootsKind,
            _namespace: &str,
            name: &str,
        ) -> Option<Vec<u8>> {
            let text = format!("{} {name}", of.as_str());
            (&*identity.service_account == "edge-istio" && name != "secret").then(|| text.into())
        }

        fn changes(&self) -> watch::Receiver<u64> {
            watch::channel(0).1
        }
    }

    #[test]
    fn roots_of_several_objects_are_one_secret() {
        let check = |account: &str, name: &str, expect: Option<&str>| {
            let client = Client {
                proxy: fixture::ingress(),
                is_local: false,
                identity: SpiffeId::new("cluster.local", "istio-system", account).ok(),
                reads_secrets: true,
                is_asked: true,
                registration: None,
            };
            let name = format!("{}{name}", lateen_galley::ROOTS);
            let found = resource(&Everything, &client, &name);
            let expect = expect.map(|pem| Secret {
                name: name.clone(),
                r#type: Some(trusted(pem.into(), Vec::new())),
            });
            let expect = expect.map(|secret| Arc::new(Resource::new(&*name, &secret)));
            assert_eq!(found, expect, "{name}");
        };
        check("edge-istio", "ConfigMap/ns/a", Some("ConfigMap a"));
        check(
            "edge-istio",
            "ConfigMap/ns/a,Secret/ns/b",
            Some("ConfigMap a\nSecret b"),
        );
        check("edge-istio", "ConfigMap/ns/a,Secret/ns/secret", None);
        check("edge-istio", "Pod/ns/a", None);
        check("edge-istio", "ConfigMap/ns", None);
        check("another", "ConfigMap/ns/a", None);
    }

    #[test]
    fn only_gateways_that_may_read_secrets_get_those_of_their_namespace() {
        let gateway = || Client {
            proxy: fixture::ingress(),
            is_local: false,
            identity: SpiffeId::new("cluster.local", "istio-system", "gateway").ok(),
            reads_secrets: true,
            is_asked: true,
            registration: None,
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
            is_local: false,
            identity: None,
            ..gateway()
        };
        check(unproved, "kubernetes://a", false);
        let readers = "kubernetes-gateway://other/cert";
        check(gateway(), readers, true);
        check(gateway(), "kubernetes-gateway://other/cert-cacert", true);
        check(gateway(), "kubernetes-gateway://other/another", false);
        check(gateway(), "kubernetes-gateway://istio-system/cert", false);
        let made = || Client {
            identity: SpiffeId::new("cluster.local", "istio-system", "edge-istio").ok(),
            reads_secrets: false,
            ..gateway()
        };
        check(made(), readers, true);
        check(made(), "kubernetes://a", false);
        let without_the_right = || Client {
            reads_secrets: false,
            ..gateway()
        };
        check(without_the_right(), "kubernetes://a", false);
        check(without_the_right(), readers, false);
        // A sidecar has those of its namespace alone, by the same right.
        let sidecar = |reads_secrets: bool| Client {
            proxy: fixture::sidecar("a"),
            reads_secrets,
            ..gateway()
        };
        check(sidecar(true), "kubernetes://a", true);
        check(sidecar(true), "kubernetes://a-cacert", true);
        check(sidecar(true), "kubernetes://istio-system/a", false);
        check(sidecar(true), readers, false);
        check(sidecar(false), "kubernetes://a", false);
    }
}
