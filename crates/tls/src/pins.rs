//! Certificates that are known beforehand: a chain to the roots is not enough, the peer must show one
//! of these.

use crate::CertInfo;

/// Digests (SHA-256) of which a peer's certificate must have one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Pins {
    /// Of whole certificates, in DER.
    pub certificates: Vec<[u8; 32]>,
    /// Of public keys, as certificates hold them (SubjectPublicKeyInfo in DER).
    pub keys: Vec<[u8; 32]>,
}

impl Pins {
    /// Whether a certificate is one of them; if not, why.
    pub(crate) fn check(&self, info: &CertInfo) -> Result<(), String> {
        let known = self.certificates.contains(&info.digest())
            || (!self.keys.is_empty()
                && info
                    .key_digest()
                    .is_some_and(|key| self.keys.contains(&key)));
        match known {
            true => Ok(()),
            false => Err(format!(
                "the peer's certificate ({}) is none of those that are pinned",
                info.sha256()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Authority, LeafRequest, PeerRule};

    #[test]
    fn a_certificate_or_its_key_is_known() {
        let day = Duration::from_secs(86_400);
        let root = Authority::self_signed("x", day).expect("a root");
        let leaf = || {
            let identity = root.identity(&LeafRequest::server(["a.b"], day));
            identity.expect("a leaf").info().expect("its own").clone()
        };
        let (info, other) = (leaf(), leaf());
        let by_certificate = Pins {
            certificates: vec![info.digest()],
            keys: Vec::new(),
        };
        let by_key = Pins {
            certificates: vec![[7; 32]],
            keys: vec![info.key_digest().expect("a key")],
        };
        for pins in [by_certificate, by_key] {
            let rule = PeerRule::Pinned(pins, Box::new(PeerRule::AnyTrusted));
            assert_eq!(rule.check(&info), Ok(()));
            assert!(rule.check(&other).is_err());
        }
        let nobody = PeerRule::Pinned(Pins::default(), Box::new(PeerRule::AnyTrusted));
        assert!(nobody.check(&info).is_err());
        // What else is asked of the peer is asked all the same.
        let pins = Pins {
            certificates: vec![info.digest()],
            keys: Vec::new(),
        };
        let rule = PeerRule::Pinned(pins, Box::new(PeerRule::exact(["c.d"])));
        assert!(rule.check(&info).is_err());
    }
}
