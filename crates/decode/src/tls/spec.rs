//! TLS contexts as data.

use lateen_route::StringMatch;

use crate::common::Data;

/// Where a certificate and its key come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CertSource {
    /// From a secret of that name.
    Sds(String),
    /// From the configuration itself.
    Given {
        /// The certificate chain, as PEM.
        chain: Data,
        /// The private key, as PEM.
        key: Data,
    },
}

/// Where the roots come from that peers are verified against.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum RootSource {
    /// Nowhere: peers are not verified.
    #[default]
    None,
    /// From a secret of that name.
    Sds(String),
    /// From the configuration itself, as PEM.
    Given(Data),
}

/// The content of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretData {
    /// A certificate and its key.
    Certificate(CertSource),
    /// What peers are verified by.
    Roots {
        /// The roots, as PEM.
        pem: Data,
        /// Lists of revoked certificates, as PEM.
        crl: Option<Data>,
    },
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// Which names of a certificate are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SanKind {
    /// URI and DNS names.
    Any,
    /// URI names.
    Uri,
    /// DNS names.
    Dns,
    /// IP addresses, in their textual form.
    Ip,
}

/// Digests (SHA-256) of certificates and of their public keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pins {
    /// Of whole certificates.
    pub certificates: Vec<[u8; 32]>,
    /// Of public keys.
    pub keys: Vec<[u8; 32]>,
}

impl Pins {
    /// True where every certificate will do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty() && self.keys.is_empty()
    }
}

/// A TLS context, of either side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSpec {
    /// The certificates that are presented; a server may have several.
    pub certs: Vec<CertSource>,
    /// What peers are verified against.
    pub roots: RootSource,
    /// Lists of revoked certificates, as PEM; beside those of a secret with roots.
    pub crl: Option<Data>,
    /// Names of which a peer's certificate must have one; empty for any.
    pub names: Vec<(SanKind, StringMatch)>,
    /// Certificates of which a peer must show one; empty for any.
    pub pins: Pins,
    /// The protocols offered, best first.
    pub alpn: Vec<String>,
    /// The least version.
    pub min: TlsVersion,
    /// The greatest version.
    pub max: TlsVersion,
    /// Cipher suites by OpenSSL's names; empty for the usual ones.
    pub suites: Vec<String>,
    /// Groups of the key exchange by OpenSSL's names; empty for the usual ones.
    pub groups: Vec<String>,
    /// The name that a client asks for.
    pub sni: Option<String>,
    /// A client asks for the host of its request instead.
    pub auto_sni: bool,
    /// It asks for the name of the server that was chosen instead, where that is known.
    pub host_sni: bool,
    /// A client verifies that the certificate is for the name that it asks for.
    pub verify_sni: bool,
    /// A client verifies that the certificate is for the host of its request, where it has roots and
    /// there are no other restrictions.
    pub verify_host: bool,
    /// A server takes no client without a certificate.
    pub require_client: bool,
}
