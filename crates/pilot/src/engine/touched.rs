//! What differs between two snapshots, as far as resources depend on it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use lateen_api::Object;
use lateen_api::networking::DestinationRule;
use lateen_core::Hostname;

use crate::snapshot::{Snapshot, full_host};

/// What changed. Parts of the inputs that have not changed are the same allocations, so this is
/// found by comparing addresses; what is equal but not the same counts as changed.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    /// Anything may have changed: settings of the mesh, or who takes which security.
    pub(crate) all: bool,
    /// A service came, went or changed.
    pub(crate) services: bool,
    /// A VirtualService or a Gateway did.
    pub(crate) rules: bool,
    /// A DestinationRule did.
    pub(crate) policies: bool,
    /// Some endpoints did.
    pub(crate) endpoints: bool,
    /// The hosts whose service, endpoints or DestinationRules did.
    pub(crate) hosts: HashSet<Hostname>,
}

impl Touched {
    pub(crate) fn between(old: &Snapshot, new: &Snapshot) -> Touched {
        let (was, is) = (&old.config, &new.config);
        let mut touched = Touched {
            all: !Arc::ptr_eq(&was.mesh, &is.mesh)
                || old.domain != new.domain
                || !same(&was.peer_authentications, &is.peer_authentications),
            rules: !same(&was.virtual_services, &is.virtual_services)
                || !same(&was.gateways, &is.gateways),
            ..Touched::default()
        };
        if !Arc::ptr_eq(&old.world, &new.world) {
            let (was, is) = (&old.world, &new.world);
            each_changed(&was.services, &is.services, Arc::ptr_eq, |host| {
                touched.services = true;
                touched.hosts.insert(host.clone());
            });
            each_changed(&was.endpoints, &is.endpoints, Arc::ptr_eq, |key| {
                touched.endpoints = true;
                touched.hosts.insert(key.hostname.clone());
            });
        }
        if !same(&was.destination_rules, &is.destination_rules) {
            touched.policies = true;
            touched.by_policies(old, new);
        }
        touched
    }

    /// The hosts that a DestinationRule is for which is in one of the two only, or at another place
    /// among the others.
    fn by_policies(&mut self, old: &Snapshot, new: &Snapshot) {
        let [was, is] = [old, new].map(|snapshot| &snapshot.config.destination_rules);
        let place = |rules: &[Arc<Object<DestinationRule>>]| -> HashSet<*const _> {
            rules.iter().map(Arc::as_ptr).collect()
        };
        let (there, here) = (place(was), place(is));
        let gone = was.iter().filter(|rule| !here.contains(&Arc::as_ptr(rule)));
        let come = is.iter().filter(|rule| !there.contains(&Arc::as_ptr(rule)));
        let mut patterns: HashSet<Hostname> = HashSet::new();
        for rule in gone.chain(come) {
            let host = full_host(&rule.spec.host, &rule.meta.namespace, &new.domain);
            patterns.insert(host);
        }
        for pattern in patterns {
            let hosts = new.world.services.keys();
            let hosts = hosts.filter(|host| **host == pattern || pattern.covers(host));
            self.hosts.extend(hosts.cloned());
        }
        // The order among rules decides too, and a list that only changed its order names no rule.
        let kept = |rules: &[Arc<Object<DestinationRule>>], of: &HashSet<*const _>| {
            let kept = rules
                .iter()
                .map(Arc::as_ptr)
                .filter(|rule| of.contains(rule));
            kept.collect::<Vec<_>>()
        };
        self.all |= kept(was, &here) != kept(is, &there);
    }
}

fn same<T>(a: &[Arc<T>], b: &[Arc<T>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}

/// Walks two sorted maps at once.
fn each_changed<K: Ord, V>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    is_same: impl Fn(&V, &V) -> bool,
    mut changed: impl FnMut(&K),
) {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        match (old.peek(), new.peek()) {
            (None, None) => return,
            (Some((a, was)), Some((b, is))) if a == b => {
                if !is_same(was, is) {
                    changed(a);
                }
                old.next();
                new.next();
            }
            (Some((a, _)), Some((b, _))) if a < b => {
                changed(a);
                old.next();
            }
            (Some((a, _)), None) => {
                changed(a);
                old.next();
            }
            (_, Some((b, _))) => {
                changed(b);
                new.next();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_compared_by_key_and_address() {
        let check = |old: &[(u8, u8)], new: &[(u8, u8)], want: &[u8]| {
            let (old, new) = (old.iter().copied().collect(), new.iter().copied().collect());
            let mut found = Vec::new();
            each_changed(&old, &new, |a, b| a == b, |key| found.push(*key));
            assert_eq!(found, want, "{old:?} {new:?}");
        };
        check(&[], &[], &[]);
        check(&[(1, 1), (2, 2)], &[(1, 1), (2, 2)], &[]);
        check(&[(1, 1), (3, 3)], &[(1, 2), (2, 2), (3, 3)], &[1, 2]);
        check(&[(1, 1), (2, 2), (4, 4)], &[(2, 2)], &[1, 4]);
        check(&[], &[(7, 7)], &[7]);
    }
}
