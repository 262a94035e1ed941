//! PEM texts to DER and back.

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::Error;

/// Characters per line of a PEM body (RFC 7468, section 2).
const LINE: usize = 64;

pub(crate) fn certs(what: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certs = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| bad(what, e))?;
    if certs.is_empty() {
        return Err(bad(what, "no certificate in it"));
    }
    Ok(certs)
}

pub(crate) fn key(pem: &str) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| bad("private key", e))
}

pub(crate) fn csr(pem: &str) -> Result<CertificateSigningRequestDer<'static>, Error> {
    CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
        .map_err(|e| Error::Csr(e.to_string()))
}

fn bad(what: &'static str, reason: impl std::fmt::Display) -> Error {
    Error::Pem {
        what,
        reason: reason.to_string(),
    }
}

/// Encodes DER under a PEM label, "CERTIFICATE" for example.
pub fn encode(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(LINE) {
        // Base64 is ASCII, so that a chunk of it is text.
        out.extend(line.iter().map(|b| char::from(*b)));
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

/// Splits a text of several PEM certificates into one normalised text each.
///
/// # Errors
/// When the text holds no certificate or a malformed one.
pub fn split_certs(pem: &str) -> Result<Vec<String>, Error> {
    Ok(certs("certificate chain", pem)?
        .iter()
        .map(|der| encode("CERTIFICATE", der))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_decodes() {
        let text = encode("CERTIFICATE", &[7; 100]);
        assert_eq!(
            certs("test", &text).expect("valid PEM")[0].as_ref(),
            &[7; 100]
        );
    }

    #[test]
    fn an_empty_text_is_an_error_that_names_its_purpose() {
        let error = certs("root certificates", "nothing").expect_err("no certificate");
        assert_eq!(
            error.to_string(),
            "bad PEM for root certificates: no certificate in it"
        );
    }
}
