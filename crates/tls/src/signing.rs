//! Signatures over bytes with ECDSA P-256 and SHA-256, in the fixed form of JWTs (RFC 7518, ES256).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    UnparsedPublicKey,
};

use crate::{Error, pem};

/// A private key that signs, and whose public half verifies.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    key_pem: String,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Makes a fresh key.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn generate() -> Result<Self, Error> {
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                .map_err(|_| Error::Issue("no key could be generated".to_owned()))?;
        Self::from_pem(&pem::encode("PRIVATE KEY", document.as_ref()))
    }

    /// Loads a PKCS #8 key.
    ///
    /// # Errors
    /// When the text is malformed or holds another kind of key.
    pub fn from_pem(key_pem: &str) -> Result<Self, Error> {
        let der = pem::key(key_pem)?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_der())
            .map_err(|error| Error::Pem {
                what: "signing key",
                reason: error.to_string(),
            })?;
        Ok(Self {
            pair,
            key_pem: key_pem.to_owned(),
        })
    }

    /// The key, PKCS #8 PEM. For the store that keeps it; nobody else.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Signs; the result is R and S, 32 bytes each.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature = self.pair.sign(&SystemRandom::new(), message);
        let signature = signature.map_err(|_| Error::Issue("signing failed".to_owned()))?;
        Ok(signature.as_ref().to_vec())
    }

    /// Whether the signature was made with this key over this message.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.public_point())
            .verify(message, signature)
            .is_ok()
    }

    /// The public key as an uncompressed point: 4, X, Y.
    pub fn public_point(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_key_signs_only_it_verifies() {
        let key = SigningKey::generate().expect("a key");
        let again = SigningKey::from_pem(key.key_pem()).expect("loads");
        let signature = key.sign(b"message").expect("signs");
        assert_eq!((signature.len(), key.public_point().len()), (64, 65));
        assert!(again.verifies(b"message", &signature));
        assert!(!again.verifies(b"massage", &signature));
        let other = SigningKey::generate().expect("a key");
        assert!(!other.verifies(b"message", &signature));
    }
}
