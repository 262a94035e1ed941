//! A certificate authority in memory: makes a root, and issues leaves with names *we* choose.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::UnixTime;
use rustls::server::ParsedCertificate;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use crate::{CertInfo, Error, pem};

/// Certificates start this much in the past, for peers whose clock is behind.
pub(crate) const CLOCK_SKEW: Duration = Duration::from_secs(120);

/// Whose key a leaf certifies.
#[derive(Debug, Clone, Copy)]
pub enum CsrKey<'a> {
    /// A fresh ECDSA P-256 key, returned with the certificate.
    Generate,
    /// The public key of a certificate signing request (PEM), whose signature is verified.
    /// Nothing else in the request is looked at: names come from [`LeafRequest`] only.
    FromCsr(&'a str),
}

/// What a leaf shall say.
#[derive(Debug, Clone, Default)]
pub struct LeafRequest {
    /// URI names, `spiffe://…` in the mesh.
    pub uris: Vec<String>,
    /// DNS names.
    pub dns: Vec<String>,
    /// IP addresses.
    pub ips: Vec<IpAddr>,
    /// Common name: the user of a Kubernetes client certificate.
    pub common_name: Option<String>,
    /// Organizations: the groups of a Kubernetes client certificate.
    pub organizations: Vec<String>,
    /// How long it is valid from now.
    pub validity: Duration,
}

impl LeafRequest {
    /// A workload certificate.
    pub fn spiffe(id: &lateen_core::SpiffeId, validity: Duration) -> Self {
        Self {
            uris: vec![id.to_string()],
            validity,
            ..Self::default()
        }
    }

    /// A server certificate for host names.
    pub fn server<S: Into<String>>(dns: impl IntoIterator<Item = S>, validity: Duration) -> Self {
        Self {
            dns: dns.into_iter().map(Into::into).collect(),
            validity,
            ..Self::default()
        }
    }

    /// A Kubernetes client certificate.
    pub fn client(user: &str, groups: &[&str], validity: Duration) -> Self {
        Self {
            common_name: Some(user.to_owned()),
            organizations: groups.iter().map(|g| (*g).to_owned()).collect(),
            validity,
            ..Self::default()
        }
    }
}

/// An issued certificate.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The leaf alone, PEM.
    pub cert_pem: String,
    /// The leaf and the intermediates up to, not including, the root.
    pub chain_pem: String,
    /// The private key, PKCS #8 PEM, when it was generated here.
    pub key_pem: Option<String>,
    /// What the leaf says.
    pub info: CertInfo,
}

/// A signing certificate with its key, and the roots that its leaves chain to.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    key_pem: String,
    cert_pem: String,
    /// The signing certificate and what stands between it and the root; empty for a root.
    intermediates_pem: String,
    root_pem: String,
    info: CertInfo,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("subject", &self.info.subject)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a self-signed root with a fresh ECDSA P-256 key.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn self_signed(organization: &str, validity: Duration) -> Result<Self, Error> {
        let key = KeyPair::generate().map_err(issue)?;
        let mut params = base_params(validity);
        params
            .distinguished_name
            .push(DnType::OrganizationName, organization);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert = params.self_signed(&key).map_err(issue)?;
        Self::from_pem(&cert.pem(), &key.serialize_pem(), "", "")
    }

    /// Loads a signing certificate and key. `chain_pem` holds the intermediates (with or without
    /// the signing certificate and the root), `root_pem` the roots; both may be empty when the
    /// signing certificate is itself the root.
    ///
    /// # Errors
    /// When a text is malformed, the key does not fit, or the certificate may not sign.
    pub fn from_pem(
        cert_pem: &str,
        key_pem: &str,
        chain_pem: &str,
        root_pem: &str,
    ) -> Result<Self, Error> {
        let info = CertInfo::from_pem(cert_pem)?;
        if !info.is_ca {
            let reason = format!("{:?} is not a certificate authority", info.subject);
            return Err(Error::Inconsistent(reason));
        }
        let key = KeyPair::from_pem(key_pem).map_err(|e| Error::Pem {
            what: "private key",
            reason: e.to_string(),
        })?;
        check_key(&info.der, key.subject_public_key_info())?;
        let cert_pem = info.pem();
        let issuer = Issuer::from_ca_cert_pem(&cert_pem, key).map_err(issue)?;
        let root_pem = match root_pem.trim() {
            "" => cert_pem.clone(),
            _ => pem::split_certs(root_pem)?.concat(),
        };
        let intermediates_pem = intermediates(&cert_pem, chain_pem, &root_pem)?;
        Ok(Self {
            issuer,
            key_pem: key_pem.to_owned(),
            cert_pem,
            intermediates_pem,
            root_pem,
            info,
        })
    }

    /// Issues a leaf. The validity never reaches beyond that of the signing certificate.
    ///
    /// # Errors
    /// [`Error::Csr`] for a bad request, [`Error::Issue`] when names are not encodable.
    pub fn issue(&self, request: &LeafRequest, key: CsrKey<'_>) -> Result<Issued, Error> {
        let params = self.leaf_params(request)?;
        let (cert, key_pem) = match key {
            CsrKey::Generate => {
                let pair = KeyPair::generate().map_err(issue)?;
                let cert = params.signed_by(&pair, &self.issuer).map_err(issue)?;
                (cert, Some(pair.serialize_pem()))
            }
            CsrKey::FromCsr(text) => {
                let public = csr_public_key(text)?;
                (
                    params.signed_by(&public, &self.issuer).map_err(issue)?,
                    None,
                )
            }
        };
        let info = CertInfo::from_der(cert.der())?;
        let cert_pem = info.pem();
        let chain_pem = format!("{cert_pem}{}", self.intermediates_pem);
        Ok(Issued {
            cert_pem,
            chain_pem,
            key_pem,
            info,
        })
    }

    /// Issues a leaf with a fresh key and returns it as an identity that trusts our roots.
    ///
    /// # Errors
    /// As [`Authority::issue`].
    pub fn identity(&self, request: &LeafRequest) -> Result<crate::Identity, Error> {
        let issued = self.issue(request, CsrKey::Generate)?;
        let key = issued.key_pem.expect("a generated key is returned");
        crate::Identity::from_pem(&issued.chain_pem, &key, &self.root_pem)
    }

    /// Whether what this authority issues is accepted by those who trust these roots, PEM.
    ///
    /// # Errors
    /// [`Error::Pem`] for roots that cannot be read; as [`Authority::issue`].
    pub fn is_trusted_by(&self, roots_pem: &str) -> Result<bool, Error> {
        let roots = crate::identity::roots(roots_pem)?;
        let request = LeafRequest::server(["probe"], Duration::from_secs(60));
        let issued = self.issue(&request, CsrKey::Generate)?;
        let chain = pem::certs("certificate", &issued.chain_pem)?;
        let Some((leaf, intermediates)) = chain.split_first() else {
            return Ok(false);
        };
        let Ok(leaf) = ParsedCertificate::try_from(leaf) else {
            return Ok(false);
        };
        let provider = crate::suites::provider();
        let algorithms = provider.signature_verification_algorithms.all;
        let now = UnixTime::now();
        let verified = verify_server_cert_signed_by_trust_anchor(
            &leaf,
            &roots,
            intermediates,
            now,
            algorithms,
        );
        Ok(verified.is_ok())
    }

    fn leaf_params(&self, request: &LeafRequest) -> Result<CertificateParams, Error> {
        let left = self.info.not_after.duration_since(SystemTime::now());
        let left = left.map_err(|_| Error::Issue("the authority has expired".to_owned()))?;
        let mut params = base_params(request.validity.min(left));
        if let Some(name) = &request.common_name {
            params
                .distinguished_name
                .push(DnType::CommonName, name.as_str());
        }
        for organization in &request.organizations {
            push_organization(&mut params.distinguished_name, organization)?;
        }
        params.subject_alt_names = alt_names(request)?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        Ok(params)
    }

    pub(crate) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// The signing certificate, PEM.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The signing key, PEM. For the store that keeps it; nobody else.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// The roots that peers must trust, PEM.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// What a response carries between leaf and root, PEM; empty when we sign with the root.
    pub fn intermediates_pem(&self) -> &str {
        &self.intermediates_pem
    }

    /// What the signing certificate says.
    pub fn info(&self) -> &CertInfo {
        &self.info
    }
}

/// Makes a fresh ECDSA P-256 key and a signing request that names `spiffe`.
///
/// Returns the key (PKCS #8) and the request, both PEM.
///
/// # Errors
/// When `spiffe` is not ASCII or the cryptographic library fails.
pub fn csr(spiffe: &str) -> Result<(String, String), Error> {
    make_csr(vec![SanType::URI(ia5(spiffe)?)])
}

/// Like [`csr`], for a server that is known by host names.
///
/// # Errors
/// When a name is not ASCII or the cryptographic library fails.
pub fn csr_with_dns(names: &[&str]) -> Result<(String, String), Error> {
    let names = names.iter().map(|n| Ok(SanType::DnsName(ia5(n)?)));
    make_csr(names.collect::<Result<_, Error>>()?)
}

fn make_csr(names: Vec<SanType>) -> Result<(String, String), Error> {
    let key = KeyPair::generate().map_err(issue)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = names;
    let request = params.serialize_request(&key).map_err(issue)?;
    Ok((key.serialize_pem(), request.pem().map_err(issue)?))
}

fn csr_public_key(text: &str) -> Result<SubjectPublicKeyInfo, Error> {
    let der = pem::csr(text)?;
    let (_, request) =
        X509CertificationRequest::from_der(&der).map_err(|e| Error::Csr(e.to_string()))?;
    request
        .verify_signature()
        .map_err(|_| Error::Csr("its signature was not made with its key".to_owned()))?;
    SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw)
        .map_err(|e| Error::Csr(format!("its key is not supported: {e}")))
}

fn base_params(validity: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    let now = SystemTime::now();
    params.distinguished_name = DistinguishedName::new();
    set_validity(&mut params, now - CLOCK_SKEW, now + validity);
    params.serial_number = Some(serial());
    params
}

/// 127 random bits: positive in DER, and unique for all practical purposes.
fn serial() -> SerialNumber {
    let mut bytes = [0u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random source works");
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn alt_names(request: &LeafRequest) -> Result<Vec<SanType>, Error> {
    let mut names = Vec::new();
    for uri in &request.uris {
        names.push(SanType::URI(ia5(uri)?));
    }
    for dns in &request.dns {
        names.push(SanType::DnsName(ia5(dns)?));
    }
    names.extend(request.ips.iter().copied().map(SanType::IpAddress));
    Ok(names)
}

fn ia5(name: &str) -> Result<rcgen::string::Ia5String, Error> {
    name.try_into()
        .map_err(|e: rcgen::Error| Error::Issue(format!("name {name:?}: {e}")))
}

/// The library keeps one value per attribute type, so that a second organization goes under the
/// same object identifier in its custom form. Kubernetes groups beyond that have no use here.
fn push_organization(name: &mut DistinguishedName, organization: &str) -> Result<(), Error> {
    let second = DnType::CustomDnType(vec![2, 5, 4, 10]);
    let slot = match (name.get(&DnType::OrganizationName), name.get(&second)) {
        (None, _) => DnType::OrganizationName,
        (Some(_), None) => second,
        _ => {
            let reason = "more than two organizations are not supported".to_owned();
            return Err(Error::Issue(reason));
        }
    };
    name.push(slot, organization);
    Ok(())
}

fn check_key(cert_der: &[u8], public: Vec<u8>) -> Result<(), Error> {
    let (_, cert) = x509_parser::prelude::X509Certificate::from_der(cert_der)
        .map_err(|e| Error::Certificate(e.to_string()))?;
    if cert.public_key().raw == public {
        return Ok(());
    }
    Err(Error::Inconsistent(
        "the private key does not belong to the certificate".to_owned(),
    ))
}

/// What stands between a leaf and the roots: the signing certificate first, no root, no doubles.
fn intermediates(cert: &str, chain: &str, roots: &str) -> Result<String, Error> {
    let mut all = vec![cert.to_owned()];
    if !chain.trim().is_empty() {
        all.extend(pem::split_certs(chain)?);
    }
    let mut seen = Vec::new();
    for one in all {
        if !roots.contains(&one) && !seen.contains(&one) {
            seen.push(one);
        }
    }
    Ok(seen.concat())
}

/// Sets the validity in whole seconds: X.509 times have no fraction.
pub(crate) fn set_validity(params: &mut CertificateParams, from: SystemTime, to: SystemTime) {
    let seconds = |t: SystemTime| t.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(seconds(from));
    params.not_after = epoch + Duration::from_secs(seconds(to));
}

pub(crate) fn issue(error: rcgen::Error) -> Error {
    Error::Issue(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn roots_trust_what_they_signed() {
        let (one, other) = (root(), root());
        let both = format!("{}{}", one.root_pem(), other.root_pem());
        let trusts = |roots: &str| one.is_trusted_by(roots).unwrap();
        assert!(trusts(one.root_pem()) && trusts(&both) && !trusts(other.root_pem()));
    }

    fn root() -> Authority {
        Authority::self_signed("cluster.local", DAY).expect("a root can be made")
    }

    fn caller() -> LeafRequest {
        let id = "spiffe://cluster.local/ns/a/sa/caller"
            .parse()
            .expect("a SPIFFE identity");
        LeafRequest::spiffe(&id, Duration::from_secs(60))
    }

    #[test]
    fn names_in_the_request_are_ignored() {
        let (_, request) = csr("spiffe://cluster.local/ns/istio-system/sa/evil").expect("a CSR");
        let issued = root()
            .issue(&caller(), CsrKey::FromCsr(&request))
            .expect("a leaf");
        assert_eq!(issued.info.uris, ["spiffe://cluster.local/ns/a/sa/caller"]);
        assert!(issued.info.dns.is_empty() && issued.info.common_name.is_none());
        assert!(issued.key_pem.is_none() && !issued.info.is_ca);
    }

    #[test]
    fn the_certificate_fits_the_key_of_the_request() {
        let root = root();
        let (key, request) = csr("spiffe://cluster.local/ns/x/sa/y").expect("a CSR");
        let issued = root
            .issue(&caller(), CsrKey::FromCsr(&request))
            .expect("a leaf");
        crate::Identity::from_pem(&issued.chain_pem, &key, root.root_pem()).expect("they fit");
        let (other, _) = csr("spiffe://cluster.local/ns/x/sa/y").expect("a CSR");
        crate::Identity::from_pem(&issued.chain_pem, &other, root.root_pem())
            .expect_err("another key does not");
    }

    #[test]
    fn a_request_with_a_wrong_signature_is_refused() {
        let (_, request) = csr("spiffe://cluster.local/ns/x/sa/y").expect("a CSR");
        let mut der = pem::csr(&request).expect("valid PEM").as_ref().to_vec();
        let last = der.len() - 1;
        der[last] ^= 1;
        let forged = pem::encode("CERTIFICATE REQUEST", &der);
        let error = root()
            .issue(&caller(), CsrKey::FromCsr(&forged))
            .expect_err("forged");
        assert!(matches!(error, Error::Csr(_)), "{error}");
        let error = root()
            .issue(&caller(), CsrKey::FromCsr("nonsense"))
            .expect_err("not PEM");
        assert!(matches!(error, Error::Csr(_)), "{error}");
    }

    #[test]
    fn a_leaf_never_outlives_its_authority() {
        let root = root();
        let long = LeafRequest {
            validity: 10 * DAY,
            ..caller()
        };
        let issued = root.issue(&long, CsrKey::Generate).expect("a leaf");
        assert!(issued.info.not_after <= root.info().not_after);
    }

    #[test]
    fn an_authority_survives_being_stored() {
        let root = root();
        let again = Authority::from_pem(root.cert_pem(), root.key_pem(), "", "").expect("loads");
        assert_eq!(again.root_pem(), root.cert_pem());
        assert_eq!(again.intermediates_pem(), "");
        let other = Authority::self_signed("x", DAY).expect("a root can be made");
        Authority::from_pem(root.cert_pem(), other.key_pem(), "", "").expect_err("another key");
    }
}
