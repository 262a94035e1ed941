//! What one vantage is served, part by part, each derived from the one before.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lateen_core::Hostname;
use lateen_xds::names::ClusterName;
use lateen_xds::server::{Group, Name, Resource};

use super::{Touched, Vantage};
use crate::key::{Cache, Key};
use crate::snapshot::Snapshot;
use crate::view::View;

/// Changes that endpoints or a table go unused for before they are dropped.
const KEPT_CHANGES: u8 = 4;

/// Names whose resources are kept at once: more than a large mesh has, and a bound to what clients
/// can make us keep by asking for what there is not.
const NAMES_MAX: usize = 250_000;

/// What all proxies with one reduced vantage share.
pub(super) struct Scope {
    pub(super) clusters: Clusters,
    pub(super) listeners: List,
    pub(super) endpoints: Arc<Named>,
    pub(super) routes: Arc<Named>,
}

/// Clusters by the service that they lead to.
#[derive(Clone)]
pub(super) struct Clusters {
    pub(super) group: Group,
    special: Arc<[Arc<Resource>]>,
    by_host: Arc<BTreeMap<Hostname, Arc<[Arc<Resource>]>>>,
}

/// All listeners.
#[derive(Clone)]
pub(super) struct List {
    pub(super) group: Group,
    pub(super) resources: Arc<[Arc<Resource>]>,
}

impl Scope {
    /// The scope of a vantage in a snapshot, from the one before if there is one. The same one when
    /// nothing came out differently.
    pub(super) fn next(
        before: Option<&Arc<Scope>>,
        vantage: &Arc<Vantage>,
        snapshot: &Arc<Snapshot>,
        touched: &Touched,
        cache: &Cache,
    ) -> Arc<Scope> {
        let view = View::new(snapshot, vantage);
        let Some(before) = before else {
            return Arc::new(Scope {
                clusters: Clusters::new(view, cache),
                listeners: List::new(resources(cache, view.outbound_listeners())),
                endpoints: Arc::new(Named::new(Kind::Endpoints, vantage, snapshot)),
                routes: Arc::new(Named::new(Kind::Routes, vantage, snapshot)),
            });
        };
        let clusters = before.clusters.next(view, touched, cache);
        // A listener leads to the endpoints of services without an address of their own.
        let heads = touched.endpoints
            && touched
                .hosts
                .iter()
                .any(|host| view.listens_at_endpoints(host));
        // Rules of destinations limit connections too.
        let rules = touched.rules || touched.policies;
        let listeners = if touched.all || touched.services || rules || heads {
            before
                .listeners
                .next(resources(cache, view.outbound_listeners()))
        } else {
            before.listeners.clone()
        };
        let endpoints = before.endpoints.next(vantage, snapshot, touched);
        let routes = before.routes.next(vantage, snapshot, touched);
        let unchanged = clusters.group == before.clusters.group
            && listeners.group == before.listeners.group
            && endpoints.group == before.endpoints.group
            && routes.group == before.routes.group;
        if unchanged {
            return before.clone();
        }
        Arc::new(Scope {
            clusters,
            listeners,
            endpoints,
            routes,
        })
    }

    /// How many resources are kept because somebody asked for them.
    pub(super) fn n_named(&self) -> usize {
        self.endpoints.lock().len() + self.routes.lock().len()
    }
}

fn resources(cache: &Cache, keys: Vec<Key>) -> Arc<[Arc<Resource>]> {
    keys.into_iter().map(|key| cache.resource(key)).collect()
}

fn is_same(a: &[Arc<Resource>], b: &[Arc<Resource>]) -> bool {
    let is_same = |(a, b): (&Arc<Resource>, &Arc<Resource>)| Arc::ptr_eq(a, b) || a == b;
    a.len() == b.len() && a.iter().zip(b).all(is_same)
}

impl Clusters {
    fn new(view: View<'_>, cache: &Cache) -> Clusters {
        let services = view.destinations();
        let of = |service: &&Arc<lateen_registry::Service>| {
            let keys = view.clusters_to(service);
            (service.hostname.clone(), resources(cache, keys))
        };
        Clusters {
            group: Group::new(),
            special: resources(cache, view.special_clusters()),
            by_host: Arc::new(services.iter().map(of).collect()),
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Resource>> {
        let services = self.by_host.values().flat_map(|clusters| &**clusters);
        self.special.iter().chain(services)
    }

    fn next(&self, view: View<'_>, touched: &Touched, cache: &Cache) -> Clusters {
        // Which services a Sidecar lets through depends on where rules lead, a gateway may lead to
        // services by itself, and whether the name of a cluster that a patch brings is taken depends
        // on services.
        if touched.all
            || (touched.gateways && view.from.is_router())
            || (touched.rules && view.is_limited())
            || (touched.services && view.from.patches.adds_clusters())
        {
            let made = Clusters::new(view, cache);
            let alike = is_same(&self.special, &made.special)
                && self.by_host.len() == made.by_host.len()
                && self
                    .by_host
                    .iter()
                    .zip(&*made.by_host)
                    .all(|((a, was), (b, is))| a == b && is_same(was, is));
            return if alike { self.clone() } else { made };
        }
        let mut changed = Vec::new();
        for host in &touched.hosts {
            let service = view.destination(host);
            let is: Option<Arc<[_]>> =
                service.map(|service| resources(cache, view.clusters_to(service)));
            let was = self.by_host.get(host);
            let alike = match (was, &is) {
                (Some(was), Some(is)) => is_same(was, is),
                (was, is) => was.is_none() && is.is_none(),
            };
            if !alike {
                changed.push((host.clone(), is));
            }
        }
        if changed.is_empty() {
            return self.clone();
        }
        let mut by_host = (*self.by_host).clone();
        for (host, clusters) in changed {
            match clusters {
                Some(clusters) => by_host.insert(host, clusters),
                None => by_host.remove(&host),
            };
        }
        Clusters {
            group: Group::new(),
            special: self.special.clone(),
            by_host: Arc::new(by_host),
        }
    }
}

impl List {
    fn new(resources: Arc<[Arc<Resource>]>) -> List {
        List {
            group: Group::new(),
            resources,
        }
    }

    fn next(&self, made: Arc<[Arc<Resource>]>) -> List {
        if is_same(&self.resources, &made) {
            self.clone()
        } else {
            List::new(made)
        }
    }
}

/// What is made when somebody asks for its name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Endpoints,
    Routes,
}

/// Resources of one kind by name: those that somebody has asked for, made from the snapshot that
/// this holds.
pub(super) struct Named {
    pub(super) group: Group,
    kind: Kind,
    vantage: Arc<Vantage>,
    snapshot: Arc<Snapshot>,
    made: Mutex<HashMap<Name, Made>>,
}

#[derive(Clone)]
struct Made {
    /// `None` where there is nothing of that name.
    resource: Option<Arc<Resource>>,
    /// The service that endpoints are of.
    host: Option<Hostname>,
    /// Changes since somebody asked.
    unused: u8,
}

impl Named {
    fn new(kind: Kind, vantage: &Arc<Vantage>, snapshot: &Arc<Snapshot>) -> Named {
        Named {
            group: Group::new(),
            kind,
            vantage: vantage.clone(),
            snapshot: snapshot.clone(),
            made: Mutex::default(),
        }
    }

    /// What a panic of a generator leaves behind is whole, without what it was to make.
    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Made>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same one where nothing that it depends on has changed.
    fn next(
        self: &Arc<Self>,
        vantage: &Arc<Vantage>,
        snapshot: &Arc<Snapshot>,
        touched: &Touched,
    ) -> Arc<Named> {
        let is_touched = touched.all
            || match self.kind {
                Kind::Endpoints => !touched.hosts.is_empty(),
                Kind::Routes => touched.services || touched.rules || touched.policies,
            };
        if !is_touched {
            return self.clone();
        }
        let next = Named::new(self.kind, vantage, snapshot);
        // A table may depend on any service; which one is known of endpoints only.
        if self.kind == Kind::Endpoints && !touched.all {
            let is_kept = |made: &Made| {
                let host = made.host.as_ref();
                made.unused < KEPT_CHANGES && host.is_none_or(|h| !touched.hosts.contains(h))
            };
            let old = self.lock();
            let kept = old.iter().filter(|(_, made)| is_kept(made));
            let kept = kept.map(|(name, made)| {
                let unused = made.unused + 1;
                let made = made.clone();
                (name.clone(), Made { unused, ..made })
            });
            next.lock().extend(kept);
        }
        Arc::new(next)
    }

    /// Those of the names that there are.
    pub(super) fn find<'a>(
        &self,
        cache: &Cache,
        names: impl Iterator<Item = &'a Name>,
    ) -> Vec<Arc<Resource>> {
        let mut made = self.lock();
        if made.len() > NAMES_MAX {
            made.clear();
        }
        let mut found = Vec::new();
        for name in names {
            let entry = made
                .entry(name.clone())
                .or_insert_with(|| self.make(cache, name));
            entry.unused = 0;
            found.extend(entry.resource.clone());
        }
        found
    }

    fn make(&self, cache: &Cache, name: &Name) -> Made {
        let view = View::new(&self.snapshot, &self.vantage);
        let (key, host) = match self.kind {
            Kind::Endpoints => {
                let parsed = ClusterName::of_cluster(name);
                let host = parsed.map(|parsed| Hostname::new(parsed.host));
                (view.endpoints(name).map(Key::Endpoints), host)
            }
            Kind::Routes => (view.routes(name), None),
        };
        Made {
            resource: key.map(|key| cache.resource(key)),
            host,
            unused: 0,
        }
    }
}

/// What one workload is served for itself.
pub(super) struct Inbound {
    pub(super) clusters: Arc<[Arc<Resource>]>,
    pub(super) listeners: Arc<[Arc<Resource>]>,
}

impl Inbound {
    /// The same one when nothing came out differently.
    pub(super) fn next(
        before: Option<&Arc<Inbound>>,
        vantage: &Vantage,
        snapshot: &Snapshot,
        touched: &Touched,
        cache: &Cache,
    ) -> Arc<Inbound> {
        if let Some(before) = before
            && !touched.all
            && !touched.services
            && !touched.sidecars
        {
            return before.clone();
        }
        let view = View::new(snapshot, vantage);
        let made = Inbound {
            clusters: resources(cache, view.inbound_clusters()),
            listeners: resources(cache, view.inbound_listeners()),
        };
        match before {
            Some(before)
                if is_same(&before.clusters, &made.clusters)
                    && is_same(&before.listeners, &made.listeners) =>
            {
                before.clone()
            }
            _ => Arc::new(made),
        }
    }
}
