//! Clusters by the service that they lead to.

use std::collections::HashMap;
use std::sync::Arc;

use lateen_core::Hostname;
use lateen_registry::{Service, SharedMap};
use lateen_xds::names::host_of_cluster;
use lateen_xds::server::{Name, Resource};

use super::{Making, State, differences, is_same};
use crate::view::View;

type List = Arc<[Arc<Resource>]>;

/// The clusters of a scope. Scopes share the parts of the map in which they are alike.
#[derive(Clone)]
pub(in crate::engine) struct Clusters {
    pub(in crate::engine) state: State,
    special: List,
    by_host: SharedMap<Hostname, List>,
}

impl Clusters {
    pub(super) fn new(making: Making<'_>, like: Option<&Clusters>) -> Clusters {
        let nothing = || Clusters {
            state: State::new(),
            special: [].into(),
            by_host: SharedMap::new(),
        };
        let mut clusters = like.map_or_else(nothing, Clusters::clone);
        clusters.renew_all(making);
        clusters.state = State::new();
        clusters
    }

    /// All of them.
    pub(in crate::engine) fn all(&self) -> impl Iterator<Item = &Arc<Resource>> {
        let services = self.by_host.values().flat_map(|clusters| &**clusters);
        self.special.iter().chain(services)
    }

    /// The one of a name.
    pub(in crate::engine) fn find(&self, name: &Name) -> Option<&Arc<Resource>> {
        let of_service = host_of_cluster(name).and_then(|host| self.by_host.get(host));
        let mut all = of_service.into_iter().flat_map(|list| &**list);
        all.find(|cluster| cluster.name == *name)
            .or_else(|| self.special.iter().find(|cluster| cluster.name == *name))
    }

    /// The names of those that lead to a service.
    pub(super) fn names_to(&self, host: &Hostname) -> impl Iterator<Item = Name> {
        let clusters = self.by_host.get(host).into_iter().flat_map(|list| &**list);
        clusters.map(|cluster| cluster.name.clone())
    }

    pub(super) fn next(&self, making: Making<'_>) -> Clusters {
        let mut next = self.clone();
        let touched = making.touched;
        // Which services a Sidecar lets through depends on where rules lead, a gateway may lead to
        // services by itself, and whether the name of a cluster that a patch brings is taken depends
        // on services.
        let by_gateways = touched.gateways && making.vantage.is_router();
        // So does which ports for datagrams have clusters.
        let by_rules = by_gateways
            || (touched.rules && (making.view().is_limited() || making.view().has_datagrams()));
        let by_services = touched.services && making.vantage.patches.adds_clusters();
        let changed = if touched.all || by_rules || by_services {
            next.renew_all(making)
        } else {
            let mut changed = Vec::new();
            // Whose certificate a gateway shows depends on which Services lead to it.
            let shown = |view: View<'_>| match touched.services {
                true => view.shown_anew(&touched.hosts),
                false => Vec::new(),
            };
            let shown = making.look("certificates", shown).unwrap_or_default();
            for host in touched.hosts.iter().chain(&shown) {
                if let Some(service) = making.look(host, |view| view.destination(host)) {
                    next.renew(host, service, making, &mut changed);
                }
            }
            changed
        };
        next.state = self.state.then(changed);
        next
    }

    /// Brings all up to date. The names of those that changed.
    fn renew_all(&mut self, making: Making<'_>) -> Vec<Name> {
        let mut changed = Vec::new();
        if let Some(keys) = making.look("special clusters", View::special_clusters) {
            let special = making.resources(keys, &self.special);
            changed.extend(differences(&self.special, &special));
            self.special = special;
        }
        let Some(there) = making.look("services", View::destinations) else {
            return changed;
        };
        let there: HashMap<_, _> = there.into_iter().map(|s| (&s.hostname, s)).collect();
        let gone = self.by_host.keys().filter(|host| !there.contains_key(host));
        for host in gone.cloned().collect::<Vec<_>>() {
            self.renew(&host, None, making, &mut changed);
        }
        for (host, service) in there {
            self.renew(host, Some(service), making, &mut changed);
        }
        changed
    }

    /// Brings those of one service up to date.
    fn renew(
        &mut self,
        host: &Hostname,
        service: Option<&Arc<Service>>,
        making: Making<'_>,
        changed: &mut Vec<Name>,
    ) {
        let keys = making.look(host, |view| {
            service.map(|service| view.clusters_to(service))
        });
        let Some(keys) = keys else { return };
        let was = self.by_host.get(host);
        let before: &[_] = was.map_or(&[], |was| was);
        let is = keys.map(|keys| making.resources(keys, before));
        match (was, is) {
            (Some(was), Some(is)) if is_same(was, &is) => {}
            (None, None) => {}
            (_, Some(is)) => {
                changed.extend(differences(before, &is));
                self.by_host.insert(host.clone(), is);
            }
            (Some(was), None) => {
                changed.extend(was.iter().map(|cluster| cluster.name.clone()));
                self.by_host.remove(host);
            }
        }
    }
}
