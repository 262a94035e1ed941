//! What a certificate says, as plain data for logs, policies and headers.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lateen_core::SpiffeId;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{Error, pem};

/// The parts of a certificate that the mesh looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertInfo {
    /// The SPIFFE identity, when exactly one URI name is one (X.509-SVID, section 2).
    pub spiffe: Option<SpiffeId>,
    /// All URI names.
    pub uris: Vec<String>,
    /// All DNS names.
    pub dns: Vec<String>,
    /// All IP addresses.
    pub ips: Vec<IpAddr>,
    /// Common name of the subject.
    pub common_name: Option<String>,
    /// Organizations of the subject; Kubernetes reads them as groups.
    pub organizations: Vec<String>,
    /// The subject in the form of RFC 2253.
    pub subject: String,
    /// Serial number, lower-case hexadecimal.
    pub serial: String,
    /// Start of validity.
    pub not_before: SystemTime,
    /// End of validity.
    pub not_after: SystemTime,
    /// Whether it may sign certificates.
    pub is_ca: bool,
    /// The certificate itself.
    pub der: Vec<u8>,
}

impl CertInfo {
    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// When there is none or it is malformed.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        Self::from_der(&pem::certs("certificate", text)?[0])
    }

    /// Reads all certificates of a PEM text.
    ///
    /// # Errors
    /// When there is none or one is malformed.
    pub fn all_from_pem(text: &str) -> Result<Vec<Self>, Error> {
        let all = pem::certs("certificates", text)?;
        all.iter().map(|der| Self::from_der(der)).collect()
    }

    /// Reads a DER certificate.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let (_, cert) =
            X509Certificate::from_der(der).map_err(|e| Error::Certificate(e.to_string()))?;
        let subject = cert.subject();
        let mut info = CertInfo {
            spiffe: None,
            uris: Vec::new(),
            dns: Vec::new(),
            ips: Vec::new(),
            common_name: attribute(subject.iter_common_name()).into_iter().next(),
            organizations: attribute(subject.iter_organization()),
            subject: subject.to_string(),
            serial: format!("{:x}", cert.serial),
            not_before: time(cert.validity().not_before.timestamp()),
            not_after: time(cert.validity().not_after.timestamp()),
            is_ca: cert.is_ca(),
            der: der.to_vec(),
        };
        if let Ok(Some(names)) = cert.subject_alternative_name() {
            for name in &names.value.general_names {
                info.add_name(name);
            }
        }
        info.spiffe = match info.uris.as_slice() {
            [one] => one.parse().ok(),
            _ => None,
        };
        Ok(info)
    }

    fn add_name(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::URI(uri) => self.uris.push((*uri).to_owned()),
            GeneralName::DNSName(dns) => self.dns.push((*dns).to_owned()),
            GeneralName::IPAddress(bytes) => self.ips.extend(address(bytes)),
            _ => {}
        }
    }

    /// The names that Envoy's subject-alternative-name matchers look at.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.uris.iter().chain(&self.dns).map(String::as_str)
    }

    /// The certificate as PEM.
    pub fn pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.der)
    }

    /// SHA-256 of the DER form, lower-case hexadecimal, as in `x-forwarded-client-cert`.
    pub fn sha256(&self) -> String {
        self.digest().iter().map(|b| format!("{b:02x}")).collect()
    }

    /// SHA-256 of the DER form.
    pub fn digest(&self) -> [u8; 32] {
        sha256(&self.der)
    }

    /// SHA-256 of the public key, as the certificate holds it.
    pub fn key_digest(&self) -> Option<[u8; 32]> {
        let (_, cert) = X509Certificate::from_der(&self.der).ok()?;
        Some(sha256(cert.public_key().raw))
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn attribute<'a>(
    values: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>,
) -> Vec<String> {
    values
        .filter_map(|v| v.as_str().ok())
        .map(str::to_owned)
        .collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

fn time(timestamp: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(timestamp.max(0).unsigned_abs())
}
