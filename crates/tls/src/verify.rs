//! Verification of peers: the chain by webpki, the name by the mesh's rules.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error as TlsError, OtherError,
    RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::peers::Peers;
use crate::revocation::RevocationLists;
use crate::suites::provider;
use crate::{CertInfo, Error, Pins};

/// How one name of a certificate is compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SanMatch {
    /// The whole name.
    Exact(String),
    /// How the name begins.
    Prefix(String),
    /// How the name ends.
    Suffix(String),
    /// A part of the name.
    Contains(String),
}

impl SanMatch {
    /// Whether `name` fits.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            SanMatch::Exact(s) => name == s,
            SanMatch::Prefix(s) => name.starts_with(s.as_str()),
            SanMatch::Suffix(s) => name.ends_with(s.as_str()),
            SanMatch::Contains(s) => name.contains(s.as_str()),
        }
    }
}

/// What a peer's certificate must say, beyond chaining to our roots.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum PeerRule {
    /// Nothing more.
    #[default]
    AnyTrusted,
    /// A SPIFFE identity of one of these trust domains.
    TrustDomains(Vec<String>),
    /// A name that one of these matches.
    Names(Vec<(SanKind, SanMatch)>),
    /// It is known beforehand, and the rule holds as well.
    Pinned(Pins, Box<PeerRule>),
}

/// Which names of a certificate are looked at. A name of one kind never stands for one of another
/// (CVE-2022-21656).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SanKind {
    /// URI and DNS names.
    Any,
    /// URI names.
    Uri,
    /// DNS names; an exact name also fits a wildcard for its first label.
    Dns,
    /// IP addresses, in their textual form.
    Ip,
}

impl SanKind {
    fn fits(self, matcher: &SanMatch, info: &CertInfo) -> bool {
        match self {
            SanKind::Any => info.names().any(|name| matcher.matches(name)),
            SanKind::Uri => info.uris.iter().any(|name| matcher.matches(name)),
            SanKind::Dns => info.dns.iter().any(|name| match matcher {
                SanMatch::Exact(host) => is_host(name, host),
                _ => matcher.matches(name),
            }),
            SanKind::Ip => info.ips.iter().any(|ip| matcher.matches(&ip.to_string())),
        }
    }
}

/// Whether a certificate's DNS name is that of a host. A wildcard stands for one label and never
/// for more (CVE-2020-15104).
fn is_host(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(domain) => host
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(domain)),
        None => name.eq_ignore_ascii_case(host),
    }
}

impl PeerRule {
    /// Exactly one of these SPIFFE identities (or other full names).
    pub fn exact<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        PeerRule::Names(
            names
                .into_iter()
                .map(|n| (SanKind::Any, SanMatch::Exact(n.into())))
                .collect(),
        )
    }

    /// Whether the certificate satisfies the rule; if not, why.
    ///
    /// # Errors
    /// A sentence for the log.
    pub fn check(&self, info: &CertInfo) -> Result<(), String> {
        // X.509-SVID, section 2: whoever could be two is nobody.
        if info.uris.len() > 1 && info.uris.iter().any(|uri| is_spiffe(uri)) {
            return Err(format!("peer has several URI names, {}", list(info)));
        }
        match self {
            PeerRule::AnyTrusted => Ok(()),
            PeerRule::Pinned(pins, rule) => {
                pins.check(info)?;
                rule.check(info)
            }
            PeerRule::TrustDomains(domains) => match &info.spiffe {
                Some(id) if domains.iter().any(|d| id.trust_domain.as_str() == d) => Ok(()),
                Some(id) => Err(format!(
                    "peer {id} is not of trust domain {}",
                    domains.join(" or ")
                )),
                None => Err(format!(
                    "peer has no SPIFFE identity, its names are {}",
                    list(info)
                )),
            },
            PeerRule::Names(matchers) => {
                if matchers.iter().any(|(kind, m)| kind.fits(m, info)) {
                    return Ok(());
                }
                Err(format!(
                    "peer is {}, expected {}",
                    list(info),
                    expected(matchers)
                ))
            }
        }
    }
}

fn list(info: &CertInfo) -> String {
    let names: Vec<_> = info.names().collect();
    if names.is_empty() {
        "nameless".to_owned()
    } else {
        names.join(", ")
    }
}

fn is_spiffe(uri: &str) -> bool {
    let scheme = uri.get(..9);
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe://"))
}

fn expected(matchers: &[(SanKind, SanMatch)]) -> String {
    let texts: Vec<_> = matchers
        .iter()
        .map(|(_, m)| match m {
            SanMatch::Exact(s) => s.clone(),
            SanMatch::Prefix(s) => format!("{s}*"),
            SanMatch::Suffix(s) => format!("*{s}"),
            SanMatch::Contains(s) => format!("*{s}*"),
        })
        .collect();
    texts.join(" or ")
}

/// How a client verifies the server it connects to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServerCheck {
    /// Chain to the roots, and the certificate's own names, whatever name we connect to: the
    /// mesh's way.
    Peer(PeerRule),
    /// Chain to the roots, and the name that we connect to: the web's way.
    ServerName,
    /// No verification at all, for configurations that ask for TLS without naming roots.
    Insecure,
}

fn refused(reason: String) -> TlsError {
    TlsError::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Refused(
        reason,
    )))))
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

/// What a leaf says, after `verify` has found that its chain leads to our roots, or an earlier one
/// has where there is nothing but the chain to look at.
fn trusted(
    peers: &Peers,
    revoked: &RevocationLists,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
    verify: impl FnOnce() -> Result<(), TlsError>,
) -> Result<Arc<CertInfo>, TlsError> {
    let by_chain_alone = revoked.is_empty();
    if by_chain_alone && let Some(info) = peers.verified(leaf, intermediates, now) {
        return Ok(info);
    }
    verify()?;
    let info = peers
        .info(leaf)
        .map_err(|_| TlsError::InvalidCertificate(CertificateError::BadEncoding))?;
    if by_chain_alone {
        peers.remember(&info, intermediates);
    }
    Ok(info)
}

/// Verifies servers for a client.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    pub(crate) check: ServerCheck,
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) revoked: Arc<RevocationLists>,
    pub(crate) provider: Arc<CryptoProvider>,
    pub(crate) peers: Arc<Peers>,
}

impl ServerVerifier {
    fn verify_chain(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Arc<CertInfo>, TlsError> {
        let (roots, revoked) = (&self.roots, &self.revoked);
        trusted(&self.peers, revoked, leaf, intermediates, now, || {
            let cert = ParsedCertificate::try_from(leaf)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            if !revoked.is_empty() {
                return revoked.verify_server(leaf, intermediates, roots, now, algorithms);
            }
            verify_server_cert_signed_by_trust_anchor(&cert, roots, intermediates, now, algorithms)
        })
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        match &self.check {
            ServerCheck::Insecure => {
                ParsedCertificate::try_from(end_entity)?;
            }
            ServerCheck::ServerName => {
                self.verify_chain(end_entity, intermediates, now)?;
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            }
            ServerCheck::Peer(rule) => {
                let info = self.verify_chain(end_entity, intermediates, now)?;
                rule.check(&info).map_err(refused)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Verifies clients for a server: webpki for the chain, then the rule.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    revoked: Arc<RevocationLists>,
    rule: PeerRule,
    mandatory: bool,
    peers: Arc<Peers>,
}

impl ClientVerifier {
    pub(crate) fn new(
        roots: Arc<RootCertStore>,
        revoked: Arc<RevocationLists>,
        rule: PeerRule,
        mandatory: bool,
        peers: Arc<Peers>,
    ) -> Result<Self, Error> {
        // The hints would list every root to strangers; peers in the mesh have one certificate.
        let chain = WebPkiClientVerifier::builder_with_provider(roots, provider())
            .clear_root_hint_subjects()
            .with_crls(revoked.encoded().iter().cloned())
            .enforce_revocation_expiration()
            .build()
            .map_err(|e| Error::Config(format!("client verification: {e}")))?;
        Ok(Self {
            chain,
            revoked,
            rule,
            mandatory,
            peers,
        })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        let (peers, revoked) = (&self.peers, &self.revoked);
        let info = trusted(peers, revoked, end_entity, intermediates, now, || {
            let chain = &self.chain;
            chain.verify_client_cert(end_entity, intermediates, now)?;
            Ok(())
        })?;
        self.rule.check(&info).map_err(refused)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
