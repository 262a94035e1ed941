//! Peers that were met before.
//!
//! Workloads of a mesh meet again and again, with the same certificates. Where nothing is revoked,
//! whether a chain leads to our roots depends on nothing but its bytes, the roots and the time: the
//! answer is kept with the span for which it holds. Lists of revoked certificates expire as well, and
//! where there are any no answer is kept. The certificate is parsed once for all connections of a
//! peer in any case, and that the peer has the key is proven in each handshake all the same.
//!
//! One of these belongs to one configuration, so it goes when the identity or the roots change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::digest::{Context, SHA256};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::{CertInfo, Error};

/// Peers that are kept; more certificates of our roots than this meet only in a large gateway.
const KEPT: usize = 1024;

type Digest = [u8; 32];

#[derive(Debug)]
struct Known {
    info: Arc<CertInfo>,
    chain: Option<Chain>,
}

/// A chain that leads to the roots.
#[derive(Debug)]
struct Chain {
    /// Of the certificates between the leaf and the root, as they were presented.
    intermediates: Digest,
    /// Seconds since 1970 within which all of its certificates are valid.
    not_before: u64,
    not_after: u64,
}

/// Certificates by their digests.
#[derive(Debug, Default)]
pub(crate) struct Peers(Mutex<HashMap<Digest, Known>>);

impl Peers {
    /// What a certificate says, parsed once.
    ///
    /// # Errors
    /// When it is malformed.
    pub(crate) fn info(&self, leaf: &[u8]) -> Result<Arc<CertInfo>, Error> {
        let key = digest([leaf]);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(&key) {
            return Ok(known.info.clone());
        }
        let info = Arc::new(CertInfo::from_der(leaf)?);
        insert(&mut known, key, info.clone(), None);
        Ok(info)
    }

    /// What the leaf says, where the same chain was found to lead to the roots and still does.
    pub(crate) fn verified(
        &self,
        leaf: &[u8],
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Option<Arc<CertInfo>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(&digest([leaf]))?;
        let chain = known.chain.as_ref()?;
        let now = now.as_secs();
        let holds = (chain.not_before..=chain.not_after).contains(&now)
            && chain.intermediates == digest(intermediates);
        holds.then(|| known.info.clone())
    }

    /// Takes note that a chain leads to the roots.
    pub(crate) fn remember(&self, info: &Arc<CertInfo>, intermediates: &[CertificateDer<'_>]) {
        let Some(chain) = Chain::of(info, intermediates) else {
            return;
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        insert(&mut known, digest([&info.der]), info.clone(), Some(chain));
    }
}

fn insert(
    known: &mut HashMap<Digest, Known>,
    key: Digest,
    info: Arc<CertInfo>,
    chain: Option<Chain>,
) {
    if known.len() >= KEPT {
        // Those of present connections first; if they are that many, all are met anew.
        known.retain(|_, known| Arc::strong_count(&known.info) > 1);
        if known.len() >= KEPT {
            known.clear();
        }
    }
    known.insert(key, Known { info, chain });
}

impl Chain {
    /// `None` where one of them cannot be read: which of them the verification used is not known.
    fn of(leaf: &CertInfo, intermediates: &[CertificateDer<'_>]) -> Option<Self> {
        let mut chain = Chain {
            intermediates: digest(intermediates),
            not_before: seconds(leaf.not_before),
            not_after: seconds(leaf.not_after),
        };
        for der in intermediates {
            let info = CertInfo::from_der(der).ok()?;
            chain.not_before = chain.not_before.max(seconds(info.not_before));
            chain.not_after = chain.not_after.min(seconds(info.not_after));
        }
        Some(chain)
    }
}

fn seconds(time: std::time::SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_secs()
}

/// Of a list, so that no two lists have the same bytes.
fn digest<B: AsRef<[u8]>>(parts: impl IntoIterator<Item = B>) -> Digest {
    let mut context = Context::new(&SHA256);
    for part in parts {
        let part = part.as_ref();
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut digest = Digest::default();
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Authority, CsrKey, LeafRequest};

    const HOUR: Duration = Duration::from_secs(3600);

    fn issue(root: &Authority, account: usize, validity: Duration) -> Arc<CertInfo> {
        let id = format!("spiffe://cluster.local/ns/a/sa/a{account}");
        let request = LeafRequest::spiffe(&id.parse().expect("an identity"), validity);
        let issued = root.issue(&request, CsrKey::Generate).expect("a leaf");
        Arc::new(issued.info)
    }

    fn at(time: std::time::SystemTime) -> UnixTime {
        UnixTime::since_unix_epoch(time.duration_since(UNIX_EPOCH).expect("later"))
    }

    #[test]
    fn a_chain_is_known_while_all_of_it_is_valid() {
        let root = Authority::self_signed("x", 10 * HOUR).expect("a root");
        let (leaf, between) = (issue(&root, 0, 5 * HOUR), issue(&root, 1, HOUR));
        let between_der = [CertificateDer::from(between.der.clone())];
        let peers = Peers::default();
        let start = leaf.not_before;
        assert!(peers.verified(&leaf.der, &[], at(start)).is_none());
        peers.info(&leaf.der).expect("well-formed");
        // To be parsed is not to be verified.
        assert!(peers.verified(&leaf.der, &[], at(start)).is_none());
        peers.remember(&leaf, &between_der);
        let check = |intermediates: &[CertificateDer<'_>], time, expect: bool| {
            let found = peers.verified(&leaf.der, intermediates, at(time));
            assert_eq!(found.is_some(), expect);
        };
        let both_from = leaf.not_before.max(between.not_before);
        check(&between_der, both_from, true);
        check(&between_der, between.not_after, true);
        check(&between_der, between.not_after + HOUR, false);
        check(&between_der, both_from - HOUR, false);
        check(&[], both_from, false);
        check(
            &[between_der[0].clone(), between_der[0].clone()],
            both_from,
            false,
        );
    }

    #[test]
    fn there_is_an_end_to_what_is_kept() {
        let root = Authority::self_signed("x", HOUR).expect("a root");
        let peers = Peers::default();
        let held = peers.info(&issue(&root, 0, HOUR).der).expect("well-formed");
        for account in 1..=KEPT {
            let info = peers.info(&issue(&root, account, HOUR).der);
            info.expect("well-formed");
        }
        let known = peers.0.lock().expect("no panic");
        assert!(known.len() < KEPT);
        assert!(known.contains_key(&digest([&held.der])));
    }
}
