//! Lists of revoked certificates (RFC 5280, section 5).
//!
//! Where there is one, every certificate of a chain must be on good terms with a list of its issuer:
//! one without a list, or with a list that has expired, is not trusted, as with OpenSSL.

use std::cmp::Reverse;
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
    /// Those of a PEM text, which has at least one. Of several of an issuer the newest counts.
    pub(crate) fn from_pem(text: &str) -> Result<Self, Error> {
        let bad = |reason: String| Error::Pem { what: WHAT, reason };
        let mut read = Vec::new();
        for encoded in CertificateRevocationListDer::pem_slice_iter(text.as_bytes()) {
            let encoded = encoded.map_err(|error| bad(error.to_string()))?;
            let list = OwnedCertRevocationList::from_der(&encoded);
            let list = list.map_err(|error| bad(error.to_string()))?;
            let dated = x509_parser::parse_x509_crl(&encoded);
            let (_, dated) = dated.map_err(|error| bad(error.to_string()))?;
            let made = dated.last_update().timestamp();
            read.push((made, encoded, CertRevocationList::Owned(list)));
        }
        if read.is_empty() {
            return Err(bad("no list in it".to_owned()));
        }
        // Verification looks at the first one that speaks for a certificate and at no other.
        read.sort_by_key(|(made, ..)| Reverse(*made));
        let read = read.into_iter().map(|(_, encoded, list)| (encoded, list));
        let (encoded, lists) = read.unzip();
        Ok(RevocationLists { encoded, lists })
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
        self.revoke_at(SystemTime::now(), certificates, validity)
    }

    fn revoke_at(
        &self,
        now: SystemTime,
        certificates: &[&CertInfo],
        validity: Duration,
    ) -> Result<String, Error> {
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
    use std::sync::Arc;

    use rustls::client::danger::ServerCertVerifier;
    use rustls::server::danger::ClientCertVerifier;
    use rustls_pki_types::ServerName;

    use super::*;
    use crate::suites::provider;
    use crate::verify::{ClientVerifier, ServerVerifier};
    use crate::{CsrKey, LeafRequest, PeerRule, ServerCheck};

    const HOUR: Duration = Duration::from_secs(3600);

    fn issued(authority: &Authority) -> CertInfo {
        let id = "spiffe://cluster.local/ns/a/sa/a".parse();
        let request = LeafRequest::spiffe(&id.expect("an identity"), 24 * HOUR);
        let issued = authority.issue(&request, CsrKey::Generate);
        issued.expect("a leaf").info
    }

    /// What verifies servers and clients of an authority by these lists.
    fn verifiers(authority: &Authority, lists: &str) -> (ServerVerifier, ClientVerifier) {
        let roots = crate::identity::roots(authority.root_pem()).expect("roots");
        let lists = Arc::new(RevocationLists::from_pem(lists).expect("lists"));
        let rule = PeerRule::AnyTrusted;
        let of_clients = ClientVerifier::new(
            roots.clone(),
            lists.clone(),
            rule.clone(),
            true,
            Arc::default(),
        );
        let of_servers = ServerVerifier {
            check: ServerCheck::Peer(rule),
            roots,
            revoked: lists,
            provider: provider(),
            peers: Arc::default(),
        };
        (of_servers, of_clients.expect("a verifier"))
    }

    /// What both say of a certificate at a time.
    fn verify(
        (of_servers, of_clients): &(ServerVerifier, ClientVerifier),
        leaf: &CertInfo,
        at: SystemTime,
    ) -> [Result<(), TlsError>; 2] {
        let since = at.duration_since(UNIX_EPOCH).expect("later");
        let at = UnixTime::since_unix_epoch(since);
        let leaf = CertificateDer::from(leaf.der.clone());
        let name = ServerName::try_from("a.test").expect("a name");
        let server = of_servers.verify_server_cert(&leaf, &[], &name, &[], at);
        let client = of_clients.verify_client_cert(&leaf, &[], at);
        [server.map(|_| ()), client.map(|_| ())]
    }

    #[test]
    fn of_lists_of_one_issuer_the_newest_counts() {
        let authority = Authority::self_signed("cluster.local", 24 * HOUR).expect("a root");
        let (good, bad) = (issued(&authority), issued(&authority));
        let now = SystemTime::now();
        let list = |at, revoked: &[&CertInfo]| {
            let list = authority.revoke_at(at, revoked, 2 * HOUR);
            list.expect("a list")
        };
        let (old, new) = (list(now - HOUR, &[]), list(now, &[&bad]));
        for bundle in [[old.as_str(), &new], [&new, &old]] {
            let verifiers = verifiers(&authority, &bundle.concat());
            assert_eq!(verify(&verifiers, &good, now), [Ok(()), Ok(())]);
            for said in verify(&verifiers, &bad, now) {
                let revoked = TlsError::InvalidCertificate(CertificateError::Revoked);
                assert_eq!(said, Err(revoked));
            }
        }
    }

    #[test]
    fn a_list_that_has_expired_ends_the_trust_in_peers_that_were_met_before() {
        let authority = Authority::self_signed("cluster.local", 24 * HOUR).expect("a root");
        let leaf = issued(&authority);
        let now = SystemTime::now();
        for (validity, expect) in [(3 * HOUR, true), (HOUR, false)] {
            let list = authority.revoke(&[], validity).expect("a list");
            let verifiers = verifiers(&authority, &list);
            for _ in 0..2 {
                assert_eq!(verify(&verifiers, &leaf, now), [Ok(()), Ok(())]);
            }
            for said in verify(&verifiers, &leaf, now + 2 * HOUR) {
                assert_eq!(said.is_ok(), expect, "{said:?}");
            }
        }
    }

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
