//! What lookups need of a world beside itself, brought from one world to the next by what changed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use arcstr::ArcStr;
use lateen_api::labels;
use lateen_core::{ServiceId, SpiffeId};
use lateen_registry::{
    Changes, EndpointKey, Resolution, Service, SharedMap, TrafficDistribution, World, WorldChanges,
};

/// The index of one world.
#[derive(Clone, Debug, Default)]
pub(super) struct WorldIndex {
    /// Trust domains of the mesh, its own first.
    pub(super) trust_domains: Arc<[String]>,
    /// The SPIFFE names of those who serve a service, sorted.
    accounts: SharedMap<ServiceId, Arc<[String]>>,
    /// Services in the order of the world.
    by_namespace: SharedMap<ArcStr, Arc<[Arc<Service>]>>,
    /// Services that stand for others by name, in the order of the world.
    pub(super) aliases: Arc<[Arc<Service>]>,
    /// Those that say which network they lead to.
    pub(super) labelled: Arc<[Arc<Service>]>,
    /// Those whose hosts are looked up by the names that clients give.
    pub(super) by_name: Arc<[Arc<Service>]>,
    /// Those for all hosts of a domain.
    pub(super) wildcards: Arc<[Arc<Service>]>,
    /// Services that want what is near, and that want what is on the same node.
    pub(super) n_near: usize,
    pub(super) n_same_node: usize,
    /// Services that were looked at on the way from the world before.
    #[cfg(test)]
    pub(super) n_visited: usize,
}

impl WorldIndex {
    pub(super) fn new(world: &World, trust_domains: &[&str]) -> WorldIndex {
        let domains = trust_domains.iter().map(|domain| (*domain).to_owned());
        let nothing = WorldIndex {
            trust_domains: domains.collect(),
            ..WorldIndex::default()
        };
        nothing.next(&World::default(), world)
    }

    /// The index of what `was` has become.
    pub(super) fn next(&self, was: &World, is: &World) -> WorldIndex {
        let mut next = self.clone();
        let changes = is.since(was);
        next.count(was, is, &changes);
        next.list(is, &changes);
        let is_alias = |service: &Service| service.external_name.is_some();
        next.aliases = listed(&self.aliases, was, is, &changes, is_alias);
        let is_labelled = |service: &Service| service.labels.value(labels::NETWORK).is_some();
        next.labelled = listed(&self.labelled, was, is, &changes, is_labelled);
        next.by_name = listed(&self.by_name, was, is, &changes, is_by_name);
        let is_wildcard = |service: &Service| service.hostname.is_wildcard();
        next.wildcards = listed(&self.wildcards, was, is, &changes, is_wildcard);
        let of_endpoints = changes.endpoints.into_iter().map(|key| key.service);
        let touched: BTreeSet<ServiceId> = of_endpoints.chain(changes.services).collect();
        #[cfg(test)]
        {
            next.n_visited = touched.len();
        }
        for service in touched {
            match next.accounts_of(is, &service) {
                None => {
                    next.accounts.remove(&service);
                }
                Some(names) if next.accounts.get(&service).is_some_and(|was| *was == names) => {}
                Some(names) => {
                    next.accounts.insert(service, names);
                }
            }
        }
        next
    }

    /// Services that live in a namespace.
    pub(super) fn services_in(&self, namespace: &str) -> std::slice::Iter<'_, Arc<Service>> {
        let services = self.by_namespace.get(namespace);
        services.map_or(&[][..], |services| services).iter()
    }

    pub(super) fn accounts(&self, service: &ServiceId) -> Arc<[String]> {
        self.accounts.get(service).cloned().unwrap_or_default()
    }

    fn count(&mut self, was: &World, is: &World, changes: &WorldChanges) {
        for id in &changes.services {
            for (world, there) in [(was, false), (is, true)] {
                let Some(service) = world.services.get(id) else {
                    continue;
                };
                let counted = [
                    (&mut self.n_near, service.distribution.is_some()),
                    (
                        &mut self.n_same_node,
                        service.distribution == Some(TrafficDistribution::SameNode),
                    ),
                ];
                for (n, counts) in counted.into_iter().filter(|(_, counts)| *counts) {
                    match there {
                        true => *n += usize::from(counts),
                        false => *n -= usize::from(counts),
                    }
                }
            }
        }
    }

    fn list(&mut self, is: &World, changes: &WorldChanges) {
        let mut touched: BTreeMap<&ArcStr, HashSet<&ServiceId>> = BTreeMap::new();
        for id in &changes.services {
            touched.entry(&id.namespace).or_default().insert(id);
        }
        for (namespace, ids) in touched {
            let kept = self.services_in(namespace);
            let kept = kept.filter(|service| !ids.contains(&service.id())).cloned();
            let come = ids.iter().filter_map(|id| is.services.get(*id)).cloned();
            let mut services: Vec<_> = kept.chain(come).collect();
            services.sort_by(|a, b| a.hostname.cmp(&b.hostname));
            match services.is_empty() {
                true => self.by_namespace.remove(namespace),
                false => self.by_namespace.insert(namespace.clone(), services.into()),
            };
        }
    }

    /// `None` where nothing is known of those who serve it.
    fn accounts_of(&self, world: &World, service: &ServiceId) -> Option<Arc<[String]>> {
        let mut names = BTreeSet::new();
        let first = EndpointKey::new(service.clone(), "");
        let of_ports = world.endpoints.range(first..);
        let of_ports = of_ports.take_while(|(key, _)| key.service == *service);
        for endpoint in of_ports.flat_map(|(_, endpoints)| &**endpoints) {
            if endpoint.service_account.is_empty() {
                continue;
            }
            names.extend(self.in_each(&endpoint.namespace, &endpoint.service_account));
        }
        if let Some(service) = world.services.get(service) {
            for name in &service.subject_alt_names {
                names.extend(self.other_names(name));
                names.insert(name.clone());
            }
        }
        (!names.is_empty()).then(|| names.into_iter().collect())
    }

    /// A workload's identity in each of the mesh's trust domains. Names that are none cannot be verified
    /// either.
    fn in_each(&self, namespace: &str, account: &str) -> impl Iterator<Item = String> {
        let ids = self.trust_domains.iter();
        let ids = ids.filter_map(move |own| SpiffeId::new(own, namespace, account).ok());
        ids.map(|id| id.to_string())
    }

    /// What else a workload of the mesh is called, by whichever of its names.
    fn other_names(&self, name: &str) -> Vec<String> {
        let id: Option<SpiffeId> = name.parse().ok();
        let is_own = |id: &SpiffeId| {
            self.trust_domains
                .iter()
                .any(|own| *id.trust_domain == **own)
        };
        let id = id.filter(is_own);
        id.map_or_else(Vec::new, |id| {
            self.in_each(&id.namespace, &id.service_account).collect()
        })
    }
}

/// Whether the hosts of a service are those that clients name.
pub(crate) fn is_by_name(service: &Service) -> bool {
    service.resolution == Resolution::DynamicDns
}

/// What a list of some services has become, in the order of the world.
fn listed(
    before: &Arc<[Arc<Service>]>,
    was: &World,
    is: &World,
    changes: &WorldChanges,
    is_one: impl Fn(&Service) -> bool,
) -> Arc<[Arc<Service>]> {
    let changed = &changes.services;
    let find = |world: &World, id| {
        let found = world.services.get(id);
        found.filter(|service| is_one(service)).cloned()
    };
    let gone = changed.iter().any(|id| find(was, id).is_some());
    let come: Vec<_> = changed.iter().filter_map(|id| find(is, id)).collect();
    if !gone && come.is_empty() {
        return before.clone();
    }
    let kept = before.iter();
    let kept = kept.filter(|service| !changed.contains(&service.id()));
    let mut all: Vec<_> = kept.cloned().chain(come).collect();
    all.sort_by_cached_key(|service| service.id());
    all.into()
}

#[cfg(test)]
mod tests {
    use lateen_core::{Labels, Protocol};
    use lateen_registry::Endpoint;

    use super::*;
    use crate::fixture;

    /// Some services, each with a state that decides what it asks for, and whether it is served.
    fn world(of: impl IntoIterator<Item = (usize, usize)>) -> World {
        let mut world = World::default();
        for (number, state) in of {
            let name = format!("s{number}.n{}", number % 3);
            let ports = [(80, 8080, Protocol::Http)];
            let mut service = Service::clone(&fixture::service(&name, &ports));
            service.distribution = match state % 3 {
                0 => None,
                1 => Some(TrafficDistribution::SameZone),
                _ => Some(TrafficDistribution::SameNode),
            };
            service.external_name = (state == 5).then(|| "elsewhere".to_owned());
            if state == 4 {
                service.labels.insert(labels::NETWORK.into(), "n".into());
                service.resolution = Resolution::DynamicDns;
            }
            let key = EndpointKey::new(service.id(), &service.ports[0].name);
            world.services.insert(service.id(), Arc::new(service));
            if state % 2 == 0 {
                let endpoint = Endpoint {
                    service_account: format!("a{state}"),
                    ..fixture::endpoint(Labels::new())
                };
                world.endpoints.insert(key, [endpoint].into());
            }
        }
        world
    }

    fn plain(index: &WorldIndex) -> impl PartialEq + std::fmt::Debug + use<> {
        (
            index.accounts.clone(),
            index.by_namespace.clone(),
            [
                index.aliases.clone(),
                index.labelled.clone(),
                index.wildcards.clone(),
                index.by_name.clone(),
            ],
            [index.n_near, index.n_same_node],
        )
    }

    #[test]
    fn step_by_step_is_as_anew() {
        let mut was = World::default();
        let mut index = WorldIndex::new(&was, &["cluster.local"]);
        let mut seen = false;
        for step in 0..60 {
            // Some come, some go, some change.
            let there = (0..9).filter(|number| (step * 7 + number * 5) % 4 > 0);
            let is = world(there.map(|number| (number, (step + number * 3) % 6)));
            index = index.next(&was, &is);
            let anew = WorldIndex::new(&is, &["cluster.local"]);
            assert_eq!(plain(&index), plain(&anew), "step {step}");
            was = is;
            seen |= !index.accounts.is_empty() && index.n_near > index.n_same_node;
        }
        assert!(seen);
    }

    #[test]
    fn a_change_costs_what_changed() {
        for n in [10, 200] {
            let was = world((0..n).map(|number| (number, 2)));
            let index = WorldIndex::new(&was, &["cluster.local"]);
            let mut is = was.clone();
            let (key, _) = was.endpoints.first_key_value().expect("some");
            is.endpoints.remove(key);
            assert_eq!(index.next(&was, &is).n_visited, 1, "of {n}");
        }
    }
    #[test]
    fn a_server_has_a_name_in_each_trust_domain() {
        let mut world = world([(0, 2)]);
        let (id, service) = world.services.first_key_value().expect("one");
        let (id, mut service) = (id.clone(), Service::clone(service));
        service.subject_alt_names = vec![
            "spiffe://old/ns/n/sa/entry".into(),
            "spiffe://partner/ns/n/sa/entry".into(),
            "dns.example.com".into(),
        ];
        world.services.insert(id.clone(), Arc::new(service));
        let index = WorldIndex::new(&world, &["new", "old"]);
        let all = [
            "dns.example.com",
            "spiffe://new/ns/default/sa/a2",
            "spiffe://new/ns/n/sa/entry",
            "spiffe://old/ns/default/sa/a2",
            "spiffe://old/ns/n/sa/entry",
            "spiffe://partner/ns/n/sa/entry",
        ];
        assert_eq!(*index.accounts(&id), all);
    }
}
