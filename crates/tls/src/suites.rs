//! The one cryptographic provider of the mesh: which suites, groups and versions are offered, and
//! the choice of others by the names that Envoy has for them.
//!
//! TLS 1.2 is limited to ECDHE with AES-GCM, which is what Istio's sidecars accept; TLS 1.3 keeps
//! all of its suites, with AES-128 first as Envoy has it: it is the cheapest where the processor
//! has AES, and SHA-256 of the handshake costs half of SHA-384. The hybrid X25519MLKEM768 comes
//! first among the groups.

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{CipherSuite, NamedGroup, SupportedCipherSuite};

use crate::Error;

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

/// Cipher suites of TLS 1.2 by OpenSSL's names. Those of TLS 1.3 are no matter of configuration.
const SUITES: [(&str, CipherSuite); 6] = [
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "ECDHE-RSA-CHACHA20-POLY1305",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

/// Suites that Envoy has and we have not, since they encrypt without authentication or give away old
/// sessions with the key of the certificate.
const WEAK: [&str; 9] = [
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES128-SHA",
    "AES256-GCM-SHA384",
    "AES256-SHA",
    "DES-CBC3-SHA",
];

/// Groups of the key exchange by their names in Envoy's configuration.
const GROUPS: [(&str, NamedGroup); 4] = [
    ("X25519", NamedGroup::X25519),
    ("P-256", NamedGroup::secp256r1),
    ("P-384", NamedGroup::secp384r1),
    ("X25519MLKEM768", NamedGroup::X25519MLKEM768),
];

/// The suites and groups that a configuration offers: the mesh's own, unless others are named.
#[derive(Debug, Clone)]
pub struct Algorithms(Arc<CryptoProvider>);

impl Default for Algorithms {
    fn default() -> Self {
        Algorithms(provider())
    }
}

impl Algorithms {
    /// These cipher suites of TLS 1.2 alone, preferred first. Suites between brackets and divided by
    /// bars are equally good in Envoy; here the first of them is the best. An empty list changes
    /// nothing. Suites without forward secrecy or with CBC, which Envoy has and we have not, are
    /// passed over where others are named.
    ///
    /// # Errors
    /// [`Error::Config`] with the name that is not known, and those that are; also where nothing is
    /// left.
    pub fn with_suites(self, names: &[String]) -> Result<Self, Error> {
        if names.is_empty() {
            return Ok(self);
        }
        let mut provider = CryptoProvider::clone(&self.0);
        provider
            .cipher_suites
            .retain(|suite| suite.tls13().is_some());
        let named = names.iter().flat_map(|names| equals(names));
        let (weak, named): (Vec<&str>, Vec<&str>) = named.partition(|name| WEAK.contains(name));
        if named.is_empty() {
            return Err(Error::Config(format!(
                "the cipher suites {} are weak and not supported; supported are {}",
                names.join(", "),
                texts(&SUITES)
            )));
        }
        if !weak.is_empty() {
            tracing::warn!(
                suites = weak.join(", "),
                "weak cipher suites are not offered"
            );
        }
        for name in named {
            let suite = find("cipher suite", name, &SUITES)?;
            let all = aws_lc_rs::ALL_CIPHER_SUITES.iter();
            provider
                .cipher_suites
                .extend(all.filter(|known| known.suite() == suite));
        }
        Ok(Algorithms(Arc::new(provider)))
    }

    /// These groups of the key exchange alone, preferred first. An empty list changes nothing.
    ///
    /// # Errors
    /// [`Error::Config`] with the name that is not known, and those that are.
    pub fn with_groups(self, names: &[String]) -> Result<Self, Error> {
        if names.is_empty() {
            return Ok(self);
        }
        let mut provider = CryptoProvider::clone(&self.0);
        provider.kx_groups.clear();
        for name in names {
            let group = find("group", name, &GROUPS)?;
            let all = aws_lc_rs::ALL_KX_GROUPS.iter();
            provider
                .kx_groups
                .extend(all.filter(|known| known.name() == group));
        }
        Ok(Algorithms(Arc::new(provider)))
    }

    pub(crate) fn provider(&self) -> Arc<CryptoProvider> {
        self.0.clone()
    }
}

/// The names of a group of equals, or the one name.
fn equals(names: &str) -> impl Iterator<Item = &str> {
    let inner = names
        .strip_prefix('[')
        .and_then(|names| names.strip_suffix(']'));
    inner.unwrap_or(names).split('|')
}

fn find<T: Copy>(what: &str, name: &str, known: &[(&str, T)]) -> Result<T, Error> {
    let found = known.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| *value).ok_or_else(|| {
        Error::Config(format!(
            "the {what} {name:?} is not known; known are {}",
            texts(known)
        ))
    })
}

fn texts<T>(known: &[(&str, T)]) -> String {
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn weak_suites_are_passed_over() {
        let strong = names(&["AES128-SHA", "ECDHE-RSA-AES256-GCM-SHA384"]);
        let algorithms = Algorithms::default().with_suites(&strong);
        let provider = algorithms.expect("one is left").provider();
        let old = provider.cipher_suites.iter();
        let old: Vec<_> = old
            .filter(|suite| suite.tls13().is_none())
            .map(|suite| suite.suite())
            .collect();
        assert_eq!(old, [CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]);
        let weak = Algorithms::default().with_suites(&names(&["AES128-SHA"]));
        let error = weak.expect_err("nothing is left").to_string();
        assert!(error.contains("AES128-SHA"), "{error}");
    }

    #[test]
    fn what_is_named_is_offered_in_its_order() {
        let algorithms = Algorithms::default()
            .with_suites(&names(&[
                "ECDHE-RSA-AES256-GCM-SHA384",
                "[ECDHE-ECDSA-CHACHA20-POLY1305|ECDHE-ECDSA-AES128-GCM-SHA256]",
            ]))
            .and_then(|algorithms| algorithms.with_groups(&names(&["P-384", "X25519"])));
        let provider = algorithms.expect("known").provider();
        let suites = provider.cipher_suites.iter();
        let suites: Vec<_> = suites
            .filter(|suite| suite.tls13().is_none())
            .map(|suite| suite.suite())
            .collect();
        let expect = [
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        ];
        assert_eq!(suites, expect);
        let groups: Vec<_> = provider.kx_groups.iter().map(|g| g.name()).collect();
        assert_eq!(groups, [NamedGroup::secp384r1, NamedGroup::X25519]);
        // TLS 1.3 is no matter of these names.
        assert_eq!(provider.cipher_suites.len(), 3 + 3);
    }

    #[test]
    fn every_known_name_stands_for_something() {
        for (name, suite) in SUITES {
            let algorithms = Algorithms::default().with_suites(&names(&[name]));
            let provider = algorithms.expect("known").provider();
            assert!(provider.cipher_suites.iter().any(|s| s.suite() == suite));
        }
        for (name, group) in GROUPS {
            let algorithms = Algorithms::default().with_groups(&names(&[name]));
            let provider = algorithms.expect("known").provider();
            assert!(matches!(provider.kx_groups[..], [g] if g.name() == group));
        }
    }

    #[test]
    fn unknown_names_are_refused_with_the_known_ones() {
        for suite in ["AES128-SHA", "TLS_AES_128_GCM_SHA256", "", "[|]", "ecdhe"] {
            let error = Algorithms::default().with_suites(&names(&[suite]));
            let error = error.expect_err("unknown").to_string();
            assert!(error.contains("ECDHE-RSA-CHACHA20-POLY1305"), "{error}");
        }
        let error = Algorithms::default().with_groups(&names(&["X25519", "P-521"]));
        let error = error.expect_err("unknown").to_string();
        assert!(
            error.contains("\"P-521\"") && error.contains("P-384"),
            "{error}"
        );
    }

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
