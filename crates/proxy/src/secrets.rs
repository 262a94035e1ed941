//! Certificates and roots by name: the workload's own from the agent in this process, others from
//! discovery, others from the configuration itself.
//!
//! A TLS context holds a store, not a certificate, so that a rotation needs no new configuration
//! and touches no established connection. A store without its secret refuses every handshake.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lateen_decode::{CertSource, DecodeError, RootSource, SecretData, TlsSpec, TlsVersion};
use lateen_route::StringMatch;
use lateen_tls::{
    Acceptor, Algorithms, ClientAuth, ClientOptions, Connector, Identity, IdentityStore, PeerRule,
    Pins, SanKind, SanMatch, ServerCheck, ServerOptions, Version,
};
use lateen_xds::names::{SECRET_DEFAULT, SECRET_ROOT};

use crate::cluster::TlsUpstream;
use crate::redact::certificates_of;

/// ALPN names that mark traffic inside the mesh (the inbound listener's chains match on them).
const MESH_ALPN: [&str; 4] = ["istio-http/1.1", "istio-h2", "istio", "istio-http/1.0"];
/// Asks for an exchange of metadata ahead of TCP payload, which is not supported: it is never
/// negotiated.
const PEER_EXCHANGE: &str = "istio-peer-exchange";

/// Where a context's certificates and roots come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SecretNames {
    certs: Vec<Source>,
    roots: Source,
    /// Lists of revoked certificates of the configuration itself, PEM; may be empty.
    crl: String,
}

/// Where one half of an identity comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Source {
    /// Nowhere.
    None,
    /// From a secret of that name.
    Sds(String),
    /// From the configuration itself: certificate chain and key, or roots and nothing.
    Inline(String, String),
}

impl SecretNames {
    /// Those of a context; files that it names are read now.
    fn of(spec: &TlsSpec) -> Result<Self, DecodeError> {
        let certs = spec.certs.iter().map(|cert| match cert {
            CertSource::Sds(name) => Ok(Source::Sds(name.clone())),
            CertSource::Given { chain, key } => Ok(Source::Inline(
                chain.text("certificate_chain")?,
                key.text("private_key")?,
            )),
        });
        Ok(SecretNames {
            certs: certs.collect::<Result<_, DecodeError>>()?,
            roots: match &spec.roots {
                RootSource::None => Source::None,
                RootSource::Sds(name) => Source::Sds(name.clone()),
                RootSource::Given(pem) => Source::Inline(pem.text("trusted_ca")?, String::new()),
            },
            crl: match &spec.crl {
                None => String::new(),
                Some(crl) => crl.text("crl")?,
            },
        })
    }
}

/// The secrets of a proxy.
pub(crate) struct Secrets {
    identity: Arc<IdentityStore>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    texts: HashMap<String, Text>,
    stores: HashMap<SecretNames, Arc<IdentityStore>>,
}

/// A secret's content, PEM.
enum Text {
    Certificate {
        chain: String,
        key: String,
    },
    /// With lists of revoked certificates, where there are any.
    Roots {
        roots: String,
        crl: Option<String>,
    },
}

/// What of a secret may be seen: certificates, and no key that may stand among them.
pub(crate) enum Shown {
    /// A certificate with those that lead to its root.
    Certificate(String),
    /// Roots.
    Roots(String),
}

impl Secrets {
    /// Secrets beside the workload's own identity.
    pub(crate) fn new(identity: Arc<IdentityStore>) -> Self {
        Secrets {
            identity,
            inner: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The workload's own identity.
    pub(crate) fn identity(&self) -> &Arc<IdentityStore> {
        &self.identity
    }

    /// The names that discovery has to deliver.
    pub(crate) fn wanted(&self) -> Vec<String> {
        let inner = self.lock();
        let mut names: Vec<String> = inner
            .stores
            .keys()
            .flat_map(|names| names.certs.iter().chain([&names.roots]))
            .filter_map(|source| match source {
                Source::Sds(name) if !is_own(name) => Some(name.clone()),
                _ => None,
            })
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Takes a secret's texts and renews what uses it.
    pub(crate) fn set(&self, name: &str, data: SecretData) -> Result<(), DecodeError> {
        let pem = match data {
            SecretData::Roots { pem, crl } => Text::Roots {
                roots: pem.text("trusted_ca")?,
                crl: crl.map(|crl| crl.text("crl")).transpose()?,
            },
            SecretData::Certificate(CertSource::Given { chain, key }) => Text::Certificate {
                chain: chain.text("certificate_chain")?,
                key: key.text("private_key")?,
            },
            SecretData::Certificate(CertSource::Sds(_)) => {
                return Err(DecodeError::new("secret", "names another secret"));
            }
        };
        let mut inner = self.lock();
        let before = inner.texts.insert(name.to_owned(), pem);
        let uses = |source: &Source| matches!(source, Source::Sds(used) if used == name);
        let affected: Vec<_> = inner
            .stores
            .iter()
            .filter(|(names, _)| names.certs.iter().any(uses) || uses(&names.roots))
            .map(|(names, store)| (names.clone(), store.clone()))
            .collect();
        for (names, store) in affected {
            match self.build(&inner, &names) {
                Ok(Some(identity)) => store.set(identity),
                Ok(None) => {}
                Err(error) => {
                    // The last good text stays.
                    match before {
                        Some(before) => inner.texts.insert(name.to_owned(), before),
                        None => inner.texts.remove(name),
                    };
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Renews what combines a part of the workload's identity with another secret.
    pub(crate) fn own_identity_changed(&self) {
        let inner = self.lock();
        for (names, store) in &inner.stores {
            if let Ok(Some(identity)) = self.build(&inner, names) {
                store.set(identity);
            }
        }
    }

    /// Every secret that is in use, with what of it may be seen; nothing where it has not come yet.
    pub(crate) fn shown(&self) -> Vec<(String, Option<Shown>)> {
        let wanted = self.wanted();
        let inner = self.lock();
        let current = self.identity.current().ok();
        let own = current.as_ref();
        let own = [
            (
                SECRET_DEFAULT,
                own.map(|own| Shown::Certificate(certificates_of(own.chain_pem()))),
            ),
            (
                SECRET_ROOT,
                own.map(|own| Shown::Roots(certificates_of(own.roots_pem()))),
            ),
        ];
        let own = own.map(|(name, shown)| (name.to_owned(), shown));
        let others = wanted.into_iter().map(|name| {
            let shown = inner.texts.get(&name).map(|text| match text {
                Text::Certificate { chain, .. } => Shown::Certificate(certificates_of(chain)),
                Text::Roots { roots, .. } => Shown::Roots(certificates_of(roots)),
            });
            (name, shown)
        });
        own.into_iter().chain(others).collect()
    }

    fn store(&self, names: &SecretNames) -> Result<Arc<IdentityStore>, DecodeError> {
        let own = |source: &Source| match source {
            Source::None => true,
            Source::Sds(name) => is_own(name),
            Source::Inline(..) => false,
        };
        let cert = match &names.certs[..] {
            [] => names.roots != Source::None,
            [one] => own(one),
            _ => false,
        };
        if cert && own(&names.roots) && names.crl.is_empty() {
            return Ok(self.identity.clone());
        }
        let mut inner = self.lock();
        if let Some(store) = inner.stores.get(names) {
            return Ok(store.clone());
        }
        let store = Arc::new(IdentityStore::empty());
        if let Some(identity) = self.build(&inner, names)? {
            store.set(identity);
        }
        inner.stores.insert(names.clone(), store.clone());
        Ok(store)
    }

    /// The identity of these names; none while a part is missing.
    fn build(&self, inner: &Inner, names: &SecretNames) -> Result<Option<Identity>, DecodeError> {
        let own = self.identity.current().ok();
        let certificate = |source: &Source| match source {
            Source::None => None,
            Source::Inline(chain, key) => Some((chain.clone(), key.clone())),
            Source::Sds(name) if is_own(name) => {
                let own = own.as_ref()?;
                Some((own.chain_pem().to_owned(), own.key_pem().to_owned()))
            }
            Source::Sds(name) => match inner.texts.get(name)? {
                Text::Certificate { chain, key } => Some((chain.clone(), key.clone())),
                Text::Roots { .. } => None,
            },
        };
        let certs: Option<Vec<_>> = names.certs.iter().map(certificate).collect();
        let Some(certs) = certs else {
            return Ok(None);
        };
        let mut crl = names.crl.clone();
        let roots = match &names.roots {
            Source::None => String::new(),
            Source::Inline(roots, _) => roots.clone(),
            Source::Sds(name) if is_own(name) => match &own {
                Some(own) => own.roots_pem().to_owned(),
                None => return Ok(None),
            },
            Source::Sds(name) => match inner.texts.get(name) {
                Some(Text::Roots { roots, crl: more }) => {
                    if let Some(more) = more.as_deref().filter(|more| !more.is_empty()) {
                        // Where the last line of the one runs into the first of the other, both
                        // are lost.
                        crl.push('\n');
                        crl.push_str(more);
                    }
                    roots.clone()
                }
                _ => return Ok(None),
            },
        };
        let identity = match certs.split_first() {
            Some(((chain, key), others)) => others.iter().fold(
                Identity::from_pem(chain, key, &roots),
                |identity, (chain, key)| identity?.and_certificate(chain, key),
            ),
            None => Identity::roots_only(&roots),
        };
        let identity = match crl.is_empty() {
            true => identity,
            // Fails closed: a list that cannot be read is not left out.
            false => identity.and_then(|identity| identity.without_revoked(&crl)),
        };
        identity
            .map(Some)
            .map_err(|error| DecodeError::new("secret", error.to_string()))
    }

    /// The server side of a context.
    pub(crate) fn acceptor(&self, spec: &TlsSpec) -> Result<Arc<Acceptor>, DecodeError> {
        let names = SecretNames::of(spec)?;
        let store = self.store(&names)?;
        let client_auth = match (spec.require_client, names.roots != Source::None) {
            (true, _) => ClientAuth::Required(rule(spec)?),
            (false, true) => ClientAuth::Optional(rule(spec)?),
            (false, false) => ClientAuth::None,
        };
        let mut alpn = without_exchange(&spec.alpn);
        let own = |source: &Source| matches!(source, Source::Sds(name) if is_own(name));
        if names.certs.iter().any(own) {
            // A client of the mesh that offers its marks alone must find one of them here.
            for mark in MESH_ALPN {
                if !alpn.iter().any(|known| known == mark.as_bytes()) {
                    alpn.push(mark.as_bytes().to_vec());
                }
            }
        }
        let options = ServerOptions {
            client_auth,
            alpn,
            min_version: version(spec.min),
            max_version: version(spec.max),
            algorithms: algorithms(spec)?,
        };
        Ok(Arc::new(Acceptor::new(store, options)))
    }

    /// The client side of a context.
    pub(crate) fn connector(&self, spec: &TlsSpec) -> Result<TlsUpstream, DecodeError> {
        let names = SecretNames::of(spec)?;
        let store = self.store(&names)?;
        let algorithms = algorithms(spec)?;
        let check = if names.roots == Source::None {
            if spec.verify_sni {
                let reason = "needs roots to verify servers against";
                return Err(DecodeError::new("auto_sni_san_validation", reason));
            }
            ServerCheck::Insecure
        } else if spec.verify_sni {
            if !spec.names.is_empty() || !spec.pins.is_empty() {
                let what = "together with other restrictions";
                return Err(DecodeError::unsupported("auto_sni_san_validation", what));
            }
            ServerCheck::ServerName
        } else {
            ServerCheck::Peer(rule(spec)?)
        };
        // Only requests have hosts.
        let http_check = match &check {
            ServerCheck::Peer(PeerRule::AnyTrusted) if spec.verify_host => ServerCheck::ServerName,
            check => check.clone(),
        };
        let verify_name = http_check == ServerCheck::ServerName;
        let mesh = spec
            .alpn
            .iter()
            .any(|name| name == "istio" || name == PEER_EXCHANGE);
        let make = |check: &ServerCheck, alpn: Vec<Vec<u8>>| {
            let options = ClientOptions {
                check: check.clone(),
                present_identity: !names.certs.is_empty(),
                alpn,
                min_version: version(spec.min),
                max_version: version(spec.max),
                algorithms: algorithms.clone(),
            };
            Connector::new(store.clone(), options)
        };
        let words = |list: &[&str]| {
            list.iter()
                .map(|word| word.as_bytes().to_vec())
                .collect::<Vec<_>>()
        };
        let (tcp, http1, http2, auto) = if mesh {
            (
                words(&["istio"]),
                words(&["istio-http/1.1", "istio", "http/1.1"]),
                words(&["istio-h2", "istio", "h2"]),
                words(&["istio-h2", "istio-http/1.1", "istio", "h2", "http/1.1"]),
            )
        } else {
            (
                without_exchange(&spec.alpn),
                words(&["http/1.1"]),
                words(&["h2"]),
                words(&["h2", "http/1.1"]),
            )
        };
        Ok(TlsUpstream {
            tcp: make(&check, tcp),
            http1: make(&http_check, http1),
            http2: make(&http_check, http2),
            auto: make(&http_check, auto),
            sni: spec.sni.as_deref().map(Into::into),
            auto_sni: spec.auto_sni,
            verify_name,
            host_sni: spec.host_sni,
            mesh,
        })
    }
}

fn version(version: TlsVersion) -> Version {
    match version {
        TlsVersion::Tls12 => Version::Tls12,
        TlsVersion::Tls13 => Version::Tls13,
    }
}

/// What a peer's certificate must say.
fn rule(spec: &TlsSpec) -> Result<PeerRule, DecodeError> {
    let rule = names_rule(spec)?;
    if spec.pins.is_empty() {
        return Ok(rule);
    }
    let pins = Pins {
        certificates: spec.pins.certificates.clone(),
        keys: spec.pins.keys.clone(),
    };
    Ok(PeerRule::Pinned(pins, Box::new(rule)))
}

fn names_rule(spec: &TlsSpec) -> Result<PeerRule, DecodeError> {
    if spec.names.is_empty() {
        return Ok(PeerRule::AnyTrusted);
    }
    let names = spec.names.iter().map(|(kind, name)| {
        let kind = match kind {
            lateen_decode::SanKind::Any => SanKind::Any,
            lateen_decode::SanKind::Uri => SanKind::Uri,
            lateen_decode::SanKind::Dns => SanKind::Dns,
            lateen_decode::SanKind::Ip => SanKind::Ip,
        };
        let name = match name {
            StringMatch::Exact(text) => SanMatch::Exact(text.clone()),
            StringMatch::Prefix(text) => SanMatch::Prefix(text.clone()),
            StringMatch::Suffix(text) => SanMatch::Suffix(text.clone()),
            StringMatch::Contains(text) => SanMatch::Contains(text.clone()),
            StringMatch::Regex(_) => {
                let what = "a regular expression";
                return Err(DecodeError::unsupported("match_subject_alt_names", what));
            }
        };
        Ok((kind, name))
    });
    names.collect::<Result<_, _>>().map(PeerRule::Names)
}

/// Fails closed: an algorithm that we do not have is not replaced by others.
fn algorithms(spec: &TlsSpec) -> Result<Algorithms, DecodeError> {
    let refused = |field: &'static str| {
        move |error: lateen_tls::Error| DecodeError::new(field, error.to_string())
    };
    Algorithms::default()
        .with_suites(&spec.suites)
        .map_err(refused("tls_params.cipher_suites"))?
        .with_groups(&spec.groups)
        .map_err(refused("tls_params.ecdh_curves"))
}

fn is_own(name: &str) -> bool {
    // What the agent serves as files or over its socket is in this process under these names.
    name == SECRET_DEFAULT || name == SECRET_ROOT
}

fn without_exchange(alpn: &[String]) -> Vec<Vec<u8>> {
    let kept = alpn.iter().filter(|name| *name != PEER_EXCHANGE);
    kept.map(|name| name.clone().into_bytes()).collect()
}

#[cfg(test)]
mod tests;
