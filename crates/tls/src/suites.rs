//! The one cryptographic provider of the mesh: which suites, groups and versions are offered.
//!
//! TLS 1.2 is limited to ECDHE with AES-GCM, which is what Istio's sidecars accept; TLS 1.3 keeps
//! all of its suites, with AES-128 first as Envoy has it: it is the cheapest where the processor
//! has AES, and SHA-256 of the handshake costs half of SHA-384. The hybrid X25519MLKEM768 comes
//! first among the groups.

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{CipherSuite, SupportedCipherSuite};

/// TLS 1.2 suites of the mesh, strongest first.
const TLS12: [CipherSuite; 4] = [
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
];

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.retain(offered);
    // A stable sort: what is not named keeps its place.
    let first = CipherSuite::TLS13_AES_128_GCM_SHA256;
    provider.cipher_suites.sort_by_key(|s| s.suite() != first);
    Arc::new(provider)
});

fn offered(suite: &SupportedCipherSuite) -> bool {
    suite.tls13().is_some() || TLS12.contains(&suite.suite())
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    PROVIDER.clone()
}

#[cfg(test)]
mod tests {
    use rustls::NamedGroup;

    use super::*;

    #[test]
    fn hybrid_key_exchange_is_preferred() {
        let groups = &provider().kx_groups;
        assert_eq!(groups[0].name(), NamedGroup::X25519MLKEM768);
    }

    #[test]
    fn the_cheapest_suite_is_first() {
        let first = provider().cipher_suites[0].suite();
        assert_eq!(first, CipherSuite::TLS13_AES_128_GCM_SHA256);
    }

    #[test]
    fn only_the_suites_of_the_mesh_are_offered() {
        let tls12: Vec<_> = provider()
            .cipher_suites
            .iter()
            .filter(|s| s.tls13().is_none())
            .map(|s| s.suite())
            .collect();
        assert_eq!(tls12.len(), TLS12.len());
        assert!(TLS12.iter().all(|s| tls12.contains(s)));
    }
}
