//! What differs between two snapshots, as far as resources depend on it.

use std::collections::HashSet;
use std::sync::Arc;

use lateen_api::Object;
use lateen_api::networking::DestinationRule;
use lateen_core::Hostname;
use lateen_registry::Changes;

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
    /// A Gateway did.
    pub(crate) gateways: bool,
    /// A Sidecar did.
    pub(crate) sidecars: bool,
    /// Some endpoints did.
    pub(crate) endpoints: bool,
    /// The hosts whose service, endpoints or DestinationRules did.
    pub(crate) hosts: HashSet<Hostname>,
}

impl Touched {
    pub(crate) fn between(old: &Snapshot, new: &Snapshot) -> Touched {
        let (was, is) = (&old.config, &new.config);
        let gateways = !same(&was.gateways, &is.gateways);
        let mut touched = Touched {
            all: !Arc::ptr_eq(&was.mesh, &is.mesh)
                || old.domain != new.domain
                || !same(&was.peer_authentications, &is.peer_authentications),
            rules: !same(&was.virtual_services, &is.virtual_services) || gateways,
            gateways,
            sidecars: !same(&was.sidecars, &is.sidecars),
            ..Touched::default()
        };
        if !Arc::ptr_eq(&old.world, &new.world) {
            let changes = new.world.since(&old.world);
            touched.services = !changes.services.is_empty();
            touched.endpoints = !changes.endpoints.is_empty();
            let hosts = changes.endpoints.into_iter().map(|key| key.service);
            let hosts = hosts.chain(changes.services).map(|id| id.hostname);
            touched.hosts.extend(hosts);
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
            let hosts = new.world.services.keys().map(|id| &id.hostname);
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
