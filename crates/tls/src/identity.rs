//! Who we are and whom we trust: a certificate chain, its key, and roots.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;

use crate::revocation::RevocationLists;
use crate::suites::provider;
use crate::{CertInfo, Error, pem};

/// A certificate chain with its key, and the roots that peers are verified against. Either half
/// may be missing: a client without a certificate, a server that verifies nobody.
pub struct Identity {
    certified: Option<(Arc<CertifiedKey>, CertInfo)>,
    /// Other certificates that a server may show.
    others: Vec<(Arc<CertifiedKey>, CertInfo)>,
    roots: Arc<RootCertStore>,
    revoked: Arc<RevocationLists>,
    chain_pem: String,
    key_pem: String,
    roots_pem: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("subject", &self.info().map(|i| (&i.uris, &i.dns)))
            .field("roots", &self.roots.len())
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads chain (leaf first), private key (PKCS #8, SEC 1 or PKCS #1) and roots from PEM texts.
    /// An empty `roots_pem` trusts nobody.
    ///
    /// # Errors
    /// When a text is malformed or the key does not belong to the leaf.
    pub fn from_pem(chain_pem: &str, key_pem: &str, roots_pem: &str) -> Result<Self, Error> {
        Ok(Self {
            certified: Some(certified(chain_pem, key_pem)?),
            others: Vec::new(),
            roots: roots(roots_pem)?,
            revoked: Arc::default(),
            chain_pem: chain_pem.to_owned(),
            key_pem: key_pem.to_owned(),
            roots_pem: roots_pem.to_owned(),
        })
    }

    /// Trusts the given roots and presents no certificate.
    ///
    /// # Errors
    /// When the text is malformed.
    pub fn roots_only(roots_pem: &str) -> Result<Self, Error> {
        Ok(Self {
            certified: None,
            others: Vec::new(),
            roots: roots(roots_pem)?,
            revoked: Arc::default(),
            chain_pem: String::new(),
            key_pem: String::new(),
            roots_pem: roots_pem.to_owned(),
        })
    }

    /// The same with one more certificate, which a server shows to clients that the ones before do
    /// not suit: by the name that they ask for, or by the kind of their keys.
    ///
    /// # Errors
    /// As [`Identity::from_pem`].
    pub fn and_certificate(mut self, chain_pem: &str, key_pem: &str) -> Result<Self, Error> {
        self.others.push(certified(chain_pem, key_pem)?);
        Ok(self)
    }

    /// The same, which trusts no certificate that one of these lists (PEM) names, nor one whose
    /// issuer has no list among them.
    ///
    /// # Errors
    /// When the text has no list, or is malformed.
    pub fn without_revoked(mut self, lists_pem: &str) -> Result<Self, Error> {
        self.revoked = Arc::new(RevocationLists::from_pem(lists_pem)?);
        Ok(self)
    }

    /// What our certificate says, when we have one.
    pub fn info(&self) -> Option<&CertInfo> {
        self.certified.as_ref().map(|(_, info)| info)
    }

    /// Our SPIFFE identity.
    pub fn spiffe(&self) -> Option<&lateen_core::SpiffeId> {
        self.info()?.spiffe.as_ref()
    }

    /// When our certificate expires.
    pub fn not_after(&self) -> Option<SystemTime> {
        self.info().map(|i| i.not_after)
    }

    /// The certificate chain, leaf first, PEM; empty when there is none.
    pub fn chain_pem(&self) -> &str {
        &self.chain_pem
    }

    /// The private key, PEM; empty when there is none.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// The roots, PEM; empty when there are none.
    pub fn roots_pem(&self) -> &str {
        &self.roots_pem
    }

    pub(crate) fn certified(&self) -> Option<Arc<CertifiedKey>> {
        self.certified.as_ref().map(|(key, _)| key.clone())
    }

    /// All certificates, the first one first.
    pub(crate) fn certificates(&self) -> impl Iterator<Item = &(Arc<CertifiedKey>, CertInfo)> {
        self.certified.iter().chain(&self.others)
    }

    pub(crate) fn roots(&self) -> &Arc<RootCertStore> {
        &self.roots
    }

    pub(crate) fn revoked(&self) -> &Arc<RevocationLists> {
        &self.revoked
    }
}

fn certified(chain_pem: &str, key_pem: &str) -> Result<(Arc<CertifiedKey>, CertInfo), Error> {
    let chain = pem::certs("certificate chain", chain_pem)?;
    let info = CertInfo::from_der(&chain[0])?;
    let certified = CertifiedKey::from_der(chain, pem::key(key_pem)?, &provider())
        .map_err(|e| Error::Inconsistent(e.to_string()))?;
    Ok((Arc::new(certified), info))
}

pub(crate) fn roots(text: &str) -> Result<Arc<RootCertStore>, Error> {
    let mut store = RootCertStore::empty();
    if text.trim().is_empty() {
        return Ok(Arc::new(store));
    }
    let certs: Vec<CertificateDer<'_>> = pem::certs("root certificates", text)?;
    for cert in certs {
        store
            .add(cert)
            .map_err(|e| Error::Certificate(format!("root: {e}")))?;
    }
    Ok(Arc::new(store))
}
