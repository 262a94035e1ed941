//! Lists of revoked certificates (RFC 5280, section 5).
//!
//! Where there is one, every certificate of a chain must be on good terms with a list of its issuer:
//! one without a list, or with a list that has expired, is not trusted, as with OpenSSL.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    CertificateParams, CertificateRevocationListParams, KeyIdMethod, RevokedCertParams,
    SerialNumber,
};
use rustls::{CertificateError, Error as TlsError, OtherError, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, SignatureVerificationAlgorithm, UnixTime,
};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationOptionsBuilder,
};

use crate::authority::{Authority, CLOCK_SKEW, issue, set_validity};
use crate::{CertInfo, Error};

const WHAT: &str = "revocation list";

/// The lists that peers are compared with; none where revocation is not looked at.
#[derive(Debug, Default)]
pub(crate) struct RevocationLists {
    encoded: Vec<CertificateRevocationListDer<'static>>,
    lists: Vec<CertRevocationList<'static>>,
}

impl RevocationLists {
    /// Those of a PEM text, which has at least one.
    pub(crate) fn from_pem(text: &str) -> Result<Self, Error> {
        let bad = |reason: String| Error::Pem { what: WHAT, reason };
        let encoded = CertificateRevocationListDer::pem_slice_iter(text.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| bad(error.to_string()))?;
        if encoded.is_empty() {
            return Err(bad("no list in it".to_owned()));
        }
        let read = |der: &CertificateRevocationListDer<'_>| {
            let list = OwnedCertRevocationList::from_der(der);
            list.map(CertRevocationList::Owned)
                .map_err(|error| bad(error.to_string()))
        };
        Ok(RevocationLists {
            lists: encoded.iter().map(read).collect::<Result<_, _>>()?,
            encoded,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    pub(crate) fn encoded(&self) -> &[CertificateRevocationListDer<'static>] {
        &self.encoded
    }

    /// Verifies that a server's chain leads to the roots, and that nothing in it was revoked.
    pub(crate) fn verify_server(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        roots: &RootCertStore,
        now: UnixTime,
        algorithms: &[&dyn SignatureVerificationAlgorithm],
    ) -> Result<(), TlsError> {
        let lists: Vec<_> = self.lists.iter().collect();
        let options = RevocationOptionsBuilder::new(&lists);
        let options = options.map_err(|error| TlsError::General(format!("{error:?}")))?;
        let revocation = options
            .with_expiration_policy(ExpirationPolicy::Enforce)
            .build();
        let leaf = EndEntityCert::try_from(leaf).map_err(refused)?;
        let usage = KeyUsage::server_auth();
        leaf.verify_for_usage(
            algorithms,
            &roots.roots,
            intermediates,
            now,
            usage,
            Some(revocation),
            None,
        )
        .map(|_| ())
        .map_err(refused)
    }
}

fn refused(error: webpki::Error) -> TlsError {
    TlsError::InvalidCertificate(match error {
        webpki::Error::CertRevoked => CertificateError::Revoked,
        webpki::Error::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        error => CertificateError::Other(OtherError(std::sync::Arc::new(error))),
    })
}

impl Authority {
    /// A list of certificates of ours that are no longer to be trusted, PEM. It holds from now on.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn revoke(&self, certificates: &[&CertInfo], validity: Duration) -> Result<String, Error> {
        let now = SystemTime::now();
        // The library's dates are made for certificates.
        let mut dates = CertificateParams::default();
        set_validity(&mut dates, now - CLOCK_SKEW, now + validity);
        let number = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let revoked = certificates.iter().map(|of| RevokedCertParams {
            serial_number: serial_number(&of.serial),
            revocation_time: dates.not_before,
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: dates.not_before,
            next_update: dates.not_after,
            crl_number: number.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(self.issuer()).map_err(issue)?;
        list.pem().map_err(issue)
    }
}

/// The number behind its hexadecimal form.
fn serial_number(hex: &str) -> SerialNumber {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let value = |digit: &u8| char::from(*digit).to_digit(16).unwrap_or(0) as u8;
    let bytes = digits.rchunks(2).rev().map(|pair| {
        let pair = pair.iter().map(value);
        pair.fold(0, |byte, digit| byte << 4 | digit)
    });
    SerialNumber::from_slice(&bytes.collect::<Vec<u8>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_list_is_refused_by_its_purpose() {
        for text in [
            "",
            "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
        ] {
            let error = RevocationLists::from_pem(text)
                .expect_err("no list")
                .to_string();
            assert!(
                error.starts_with("bad PEM for revocation list: "),
                "{error}"
            );
        }
    }

    #[test]
    fn serial_numbers_are_those_of_their_text() {
        assert_eq!(serial_number("0a:ff").to_bytes(), [10, 255]);
        assert_eq!(serial_number("aff").to_bytes(), [10, 255]);
    }
}
