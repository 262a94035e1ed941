//! What differs between two snapshots, as far as resources depend on it.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use lateen_api::Object;
use lateen_api::networking::{DestinationRule, VirtualService};
use lateen_core::Hostname;
use lateen_registry::Changes;

use crate::policy;
use crate::snapshot::{Snapshot, full_host};
use crate::view::View;

/// What changed. Parts of the inputs that have not changed are the same allocations, so this is
/// found by comparing addresses; what is equal but not the same counts as changed.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    /// Anything may have changed: settings of the mesh, or who takes which security.
    pub(crate) all: bool,
    /// A service came, went or changed.
    pub(crate) services: bool,
    /// A Gateway did.
    pub(crate) gateways: bool,
    /// A Sidecar did.
    pub(crate) sidecars: bool,
    /// Some endpoints did.
    pub(crate) endpoints: bool,
    /// Addresses that stand for another workload.
    pub(crate) workloads: BTreeSet<IpAddr>,
    /// The hosts whose service, endpoints or DestinationRules did.
    pub(crate) hosts: HashSet<Hostname>,
    /// The hosts whose routes may lead elsewhere because of VirtualServices or DestinationRules.
    pub(crate) routed: HashSet<Hostname>,
    /// Any route may lead elsewhere.
    every_route: bool,
    /// A Gateway, a VirtualService or a DestinationRule changed.
    pub(crate) rules: bool,
    /// A DestinationRule did.
    pub(crate) policies: bool,
    /// Rules changed that may concern connections whose bytes are not looked at.
    opaque: bool,
}

impl Touched {
    pub(crate) fn between(old: &Snapshot, new: &Snapshot) -> Touched {
        let mut touched = Touched::default();
        if !Arc::ptr_eq(&old.world, &new.world) {
            let changes = new.world.since(&old.world);
            touched.services = !changes.services.is_empty();
            touched.endpoints = !changes.endpoints.is_empty();
            touched.workloads = changes.workloads;
            let hosts = changes.endpoints.into_iter().map(|key| key.service);
            let hosts = hosts.chain(changes.services).map(|id| id.hostname);
            touched.hosts.extend(hosts);
            // Whether a name has clusters of its own depends on whether what it stands for is there.
            if touched.services {
                let aliases = old.aliases().iter().chain(new.aliases());
                let aliases = aliases.map(|alias| alias.hostname.clone());
                touched.hosts.extend(aliases);
            }
        }
        touched.all = old.domain != new.domain || old.networks() != new.networks();
        let (was, is) = (&old.config, &new.config);
        if !Arc::ptr_eq(was, is) {
            touched.all |= !Arc::ptr_eq(&was.mesh, &is.mesh)
                || !same(&was.peer_authentications, &is.peer_authentications);
            touched.sidecars = !same(&was.sidecars, &is.sidecars);
            touched.gateways = !same(&was.gateways, &is.gateways);
            touched.rules |= touched.gateways;
            touched.by_rules(old, new);
            touched.by_policies(old, new);
        }
        touched
    }

    /// Whether any listener may be another one.
    pub(crate) fn listeners(&self, view: View<'_>) -> bool {
        if self.all || self.services || self.opaque {
            return true;
        }
        if view.from.is_router() {
            return self.rules;
        }
        if self.rules && view.is_limited() {
            return true;
        }
        // A listener leads to the endpoints of services without an address of their own.
        self.endpoints
            && self
                .hosts
                .iter()
                .any(|host| view.listens_at_endpoints(host))
    }

    /// Whether a name may have another address, or another name one.
    pub(crate) fn names(&self, view: View<'_>) -> bool {
        let by_pods = |host: &Hostname| view.listens_at_endpoints(host);
        self.all
            || self.services
            || (self.rules && view.is_limited())
            || (self.endpoints && self.hosts.iter().any(by_pods))
    }

    /// Whether any route of any table may be another one. What a Sidecar lets through depends on
    /// where rules lead.
    pub(crate) fn all_routes(&self, view: View<'_>) -> bool {
        let by_rules = || view.from.is_router() || view.is_limited();
        self.all || self.services || self.every_route || (self.rules && by_rules())
    }

    /// The hosts of VirtualServices that are in one of the two only.
    fn by_rules(&mut self, old: &Snapshot, new: &Snapshot) {
        let [was, is] = [old, new].map(|snapshot| &snapshot.config.virtual_services);
        let Some(changed) = differing(was, is) else {
            return self.every_rule();
        };
        if changed.is_empty() {
            return;
        }
        self.rules = true;
        // Who delegates to it is not looked for.
        if changed.iter().any(|rule| rule.spec.hosts.is_empty()) {
            return self.every_rule();
        }
        let hosts_of = |rule: &Object<VirtualService>| -> Vec<Hostname> {
            let (hosts, namespace) = (rule.spec.hosts.iter(), &rule.meta.namespace);
            let full = hosts.map(|host| full_host(host, namespace, &new.domain));
            full.collect()
        };
        let hosts: HashSet<_> = changed.iter().flat_map(|rule| hosts_of(rule)).collect();
        // One of several rules for a host counts, so another one may have its turn now.
        let all = was.iter().chain(is);
        let mut opaque = all.filter(|rule| !rule.spec.tls.is_empty() || !rule.spec.tcp.is_empty());
        self.opaque |= opaque.any(|rule| {
            let of = hosts_of(rule);
            of.iter().any(|a| hosts.iter().any(|b| a.overlaps(b)))
        });
        self.route(hosts, new);
    }

    fn every_rule(&mut self) {
        self.rules = true;
        self.every_route = true;
        self.opaque = true;
    }

    /// Takes hosts, and those for which a wildcard among them stands.
    fn route(&mut self, hosts: HashSet<Hostname>, new: &Snapshot) {
        // Such a name may be one of a service's, or come to stand by itself.
        let mut aliases = new.aliases().iter();
        self.every_route |= aliases.any(|of| hosts.iter().any(|host| host.overlaps(&of.hostname)));
        let wildcards: Vec<_> = hosts.iter().filter(|host| host.is_wildcard()).collect();
        if !wildcards.is_empty() {
            let known = new.world.services.keys().map(|id| &id.hostname);
            let covered = known.filter(|host| wildcards.iter().any(|w| w.covers(host)));
            self.routed.extend(covered.cloned());
        }
        self.routed.extend(hosts);
    }

    /// The hosts that a DestinationRule is for which is in one of the two only.
    fn by_policies(&mut self, old: &Snapshot, new: &Snapshot) {
        let [was, is] = [old, new].map(|snapshot| &snapshot.config.destination_rules);
        let Some(changed) = differing(was, is) else {
            self.all = true;
            return;
        };
        if changed.is_empty() {
            return;
        }
        self.rules = true;
        self.policies = true;
        let host_of = |rule: &Object<DestinationRule>| {
            full_host(&rule.spec.host, &rule.meta.namespace, &new.domain)
        };
        let patterns: HashSet<_> = changed.iter().map(|rule| host_of(rule)).collect();
        let known = new.world.services.keys().map(|id| &id.hostname);
        let hosts: HashSet<Hostname> = if patterns.iter().any(Hostname::is_wildcard) {
            let meant = |host: &&Hostname| patterns.iter().any(|p| p == *host || p.covers(host));
            known.filter(meant).cloned().collect()
        } else {
            patterns
        };
        // Connections that carry bytes live as long as their destination's rule says.
        let config = &new.config;
        let mut rules = config.virtual_services.iter();
        self.opaque |= rules.any(|r| !r.spec.tls.is_empty() || !r.spec.tcp.is_empty())
            || hosts
                .iter()
                .flat_map(|host| new.world.named(host))
                .any(|service| {
                    let mut ports = service.ports.iter();
                    ports.any(|port| !port.protocol.is_http())
                });
        // A rule that does not ask for hashing may take the place of one that does.
        if was
            .iter()
            .chain(is)
            .any(|rule| policy::uses_hash(&rule.spec))
        {
            let leading = new.leading_to(&hosts).cloned().collect();
            self.route(leading, new);
            self.routed.extend(hosts.iter().cloned());
        }
        self.hosts.extend(hosts);
    }
}

/// What is in one of the two lists only; `None` where what is in both changed its order, which
/// decides too.
fn differing<'a, T>(was: &'a [Arc<T>], is: &'a [Arc<T>]) -> Option<Vec<&'a Arc<T>>> {
    // Most often all is the same but for one place.
    let is_same = |(a, b): &(&Arc<T>, &Arc<T>)| Arc::ptr_eq(a, b);
    let n_before = was.iter().zip(is).take_while(is_same).count();
    let (was, is) = (&was[n_before..], &is[n_before..]);
    let ends = was.iter().rev().zip(is.iter().rev());
    let n_behind = ends.take_while(is_same).count();
    let (was, is) = (&was[..was.len() - n_behind], &is[..is.len() - n_behind]);
    let place = |list: &[Arc<T>]| -> HashSet<*const T> { list.iter().map(Arc::as_ptr).collect() };
    let (there, here) = (place(was), place(is));
    let (kept, gone): (Vec<_>, Vec<_>) = was.iter().partition(|a| here.contains(&Arc::as_ptr(a)));
    let (stayed, come): (Vec<_>, Vec<_>) = is.iter().partition(|a| there.contains(&Arc::as_ptr(a)));
    let in_order = kept.iter().zip(&stayed).all(|(a, b)| Arc::ptr_eq(a, b));
    in_order.then(|| gone.into_iter().chain(come).collect())
}

fn same<T>(a: &[Arc<T>], b: &[Arc<T>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_in_two_lists() {
        let [a, b, c, d] = [1, 2, 3, 4].map(Arc::new);
        let check = |was: &[&Arc<i32>], is: &[&Arc<i32>], want: Option<&[i32]>| {
            let [was, is] = [was, is].map(|list| list.iter().copied().cloned().collect::<Vec<_>>());
            let found = differing(&was, &is);
            let found = found.map(|list| list.into_iter().map(|a| **a).collect::<Vec<_>>());
            assert_eq!(found.as_deref(), want);
        };
        check(&[&a, &b], &[&a, &b], Some(&[]));
        check(&[&a, &b, &c], &[&a, &d, &c], Some(&[2, 4]));
        check(&[&a, &b, &c], &[&c, &a, &b], None);
        check(&[], &[&a], Some(&[1]));
    }
}
