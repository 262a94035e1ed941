//! What each connected proxy is served, kept up to date with as little work as a change asks for.
//!
//! # Who shares what
//!
//! A [`Vantage`] is all that a view may know of a proxy. It is made twice for a sidecar: in full for
//! what differs per workload (its inbound clusters and listener), and reduced to what anything
//! outbound can depend on in this snapshot: its namespace, those of its labels that some object
//! selects by, and its locality where that counts. Views see a vantage, never a proxy. So an input
//! that a vantage lacks cannot leak from one proxy into what another is served; it is missing for
//! all alike, which the first test of it shows.
//!
//! Proxies with the same reduced vantage share one [`Scope`]: lists of clusters and listeners, and
//! the endpoints and route tables that somebody asked for. A gateway selects by all of its labels
//! and has a scope by its full vantage.
//!
//! # What a change costs
//!
//! Inputs keep what has not changed in the same allocation, so what changed is found by comparing
//! pointers ([`Touched`]). A scope is derived from the one before: clusters of untouched services,
//! endpoints behind untouched names and virtual hosts of untouched destinations are carried over,
//! and what is made anew goes through the cache of keys, where scopes find what another one has
//! made. Where all came out as before, the part keeps its [`Group`], by which the server knows
//! without a look that there is nothing to send; where not, the part knows the names that differ.
//!
//! What does not depend on the namespace is one key for all namespaces and so in memory once; a new
//! scope begins as a copy of another one and shares the parts of lists in which they are alike.
//!
//! # What fails
//!
//! A generator or a view that panics leaves what it was to make as it was, and is counted.
//! A proxy for which no part changed is not woken; the generation that it holds is counted up.
//!
//! Nothing waits for more changes to come: the first goes out at once, and what comes while it is
//! worked on is one change after that. A stream that is behind gets the newest only.
//!
//! # What stays
//!
//! Scopes and what is served are brought along at each change for those vantages that a proxy has, so
//! nothing outlives the last proxy that needs it. The cache of keys holds what some scope holds.

mod connectivity;
mod members;
mod next;
mod scope;
mod state;
mod touched;
mod vantage;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lateen_xds::TypeUrl;
use lateen_xds::server::{Group, Name, NameSet, Names, Resource};
use tokio::sync::watch;

use crate::envoy_filter::{PatchReport, Selected};
use crate::key::Cache;
use crate::proxy::Proxy;
use crate::snapshot::Snapshot;
use members::Members;
use scope::{Inbound, Scope};
use state::Followed;
use touched::Touched;
pub(crate) use vantage::{Facts, Vantage};

/// What proxies with one vantage are served, until something of it changes.
pub struct Served {
    /// Generation of the snapshot that it was made for.
    pub(crate) generation: u64,
    /// Generation of the newest snapshot that it is still right for.
    pub(crate) standing: Arc<AtomicU64>,
    scope: Arc<Scope>,
    inbound: Option<Arc<Inbound>>,
    /// Where configurations of extensions and what is laid over bootstraps come from.
    patches: Selected,
    clusters: Followed,
    listeners: Followed,
}

impl Served {
    fn own_clusters(&self) -> &[Arc<Resource>] {
        self.inbound
            .as_ref()
            .map_or(&[], |inbound| &inbound.clusters)
    }

    fn own_listeners(&self) -> &[Arc<Resource>] {
        self.inbound
            .as_ref()
            .map_or(&[], |inbound| &inbound.listeners)
    }

    /// Resources of a type, other than secrets: all there are, or those named.
    pub(crate) fn resources(
        &self,
        cache: &Cache,
        type_url: &TypeUrl,
        names: Names<'_>,
    ) -> Vec<Arc<Resource>> {
        let Scope {
            clusters,
            listeners,
            endpoints,
            tables,
            names: table,
        } = &*self.scope;
        match (names, type_url) {
            (Names::All(_), of) if *of == TypeUrl::CLUSTER => self.list(of),
            (Names::Only(names), of) if *of == TypeUrl::CLUSTER => {
                let own = |name: &Name| self.own_clusters().iter().find(|own| own.name == *name);
                let found = |name| clusters.find(name).or_else(|| own(name));
                names.iter().filter_map(found).cloned().collect()
            }
            (names, of) if *of == TypeUrl::LISTENER => {
                let all = listeners.resources.iter().chain(self.own_listeners());
                let wanted = all.filter(|listener| names.contains(&listener.name));
                wanted.cloned().collect()
            }
            (Names::All(_), of) if *of == TypeUrl::VIRTUAL_HOST => tables.all_hosts(cache),
            (Names::Only(names), of) if *of == TypeUrl::VIRTUAL_HOST => {
                tables.find_hosts(cache, names.iter())
            }
            (names, of) if *of == TypeUrl::ENDPOINT => endpoints.find(cache, named(names).iter()),
            (names, of) if *of == TypeUrl::ROUTE => tables.find(cache, named(names).iter()),
            (_, of) if *of == TypeUrl::NAME_TABLE => {
                let table = table.iter().map(|names| &names.resource);
                table.cloned().collect()
            }
            (_, of) if *of == TypeUrl::BOOTSTRAP => vec![Arc::new(self.patches.bootstrap())],
            (names, of) if *of == TypeUrl::EXTENSION => self.find(cache, of, named(names).iter()),
            _ => Vec::new(),
        }
    }

    /// The table of names, encoded, where the mesh resolves them.
    pub(crate) fn name_table(&self) -> Option<&[u8]> {
        Some(self.scope.names.as_ref()?.resource.value())
    }

    /// All clusters or listeners there are.
    pub(crate) fn list(&self, type_url: &TypeUrl) -> Vec<Arc<Resource>> {
        let Scope {
            clusters,
            listeners,
            ..
        } = &*self.scope;
        if *type_url == TypeUrl::CLUSTER {
            return clusters.all().chain(self.own_clusters()).cloned().collect();
        }
        let all = listeners.resources.iter().chain(self.own_listeners());
        all.cloned().collect()
    }

    /// Endpoints, route tables or extensions of these names, the tables whole.
    pub(crate) fn find<'a>(
        &self,
        cache: &Cache,
        type_url: &TypeUrl,
        names: impl Iterator<Item = &'a Name>,
    ) -> Vec<Arc<Resource>> {
        if *type_url == TypeUrl::ROUTE {
            return self.scope.tables.find_whole(cache, names);
        }
        if *type_url == TypeUrl::EXTENSION {
            let keys = names.filter_map(|name| self.patches.extension(name));
            let made = keys.filter_map(|key| cache.resource(key).ok());
            return made.map(|(_, resource)| resource).collect();
        }
        self.scope.endpoints.find(cache, names)
    }

    /// Route tables as Envoy would show them, whoever is served.
    pub(crate) fn whole_tables(&self, cache: &Cache, names: Names<'_>) -> Vec<Arc<Resource>> {
        self.find(cache, &TypeUrl::ROUTE, named(names).iter())
    }

    /// By which the server knows who is served the same.
    pub(crate) fn group(&self, type_url: &TypeUrl) -> Option<Group> {
        let scope = &self.scope;
        match type_url {
            of if *of == TypeUrl::CLUSTER => Some(self.clusters.group),
            of if *of == TypeUrl::LISTENER => Some(self.listeners.group),
            of if *of == TypeUrl::ENDPOINT => Some(scope.endpoints.state.group),
            of if *of == TypeUrl::ROUTE => Some(scope.tables.whole.group),
            of if *of == TypeUrl::VIRTUAL_HOST => Some(scope.tables.hosts.group),
            of if *of == TypeUrl::NAME_TABLE => Some(scope.names.as_ref()?.state.group),
            _ => None,
        }
    }

    /// The names of all that may differ from what there was for a group.
    pub(crate) fn since(&self, type_url: &TypeUrl, group: Group) -> Option<Vec<Name>> {
        let scope = &self.scope;
        match type_url {
            of if *of == TypeUrl::CLUSTER => self.clusters.since(&scope.clusters.state, group),
            of if *of == TypeUrl::LISTENER => self.listeners.since(&scope.listeners.state, group),
            of if *of == TypeUrl::ENDPOINT => scope.endpoints.state.since(group),
            of if *of == TypeUrl::ROUTE => scope.tables.whole.since(group),
            of if *of == TypeUrl::VIRTUAL_HOST => scope.tables.hosts.since(group),
            of if *of == TypeUrl::NAME_TABLE => scope.names.as_ref()?.state.since(group),
            _ => None,
        }
    }

    /// Whether it is of these very parts.
    fn is_made_of(&self, scope: &Arc<Scope>, inbound: Option<&Arc<Inbound>>) -> bool {
        is_same(self.inbound.as_ref(), inbound) && Arc::ptr_eq(&self.scope, scope)
    }
}

/// The names in a subscription.
pub(crate) fn named<'a>(names: Names<'a>) -> &'a NameSet {
    let (Names::All(names) | Names::Only(names)) = names;
    names
}

/// Everybody who is connected, and what they are served.
pub(crate) struct Engine {
    pub(crate) cache: Cache,
    members: Mutex<Members>,
}

/// How much is kept of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Streams that are open, and some that are not any more.
    pub members: usize,
    /// Kinds of workloads among them.
    pub vantages: usize,
    /// Scopes that they share.
    pub scopes: usize,
    /// Endpoints and route tables that scopes keep because somebody asked for them.
    pub named: usize,
}

impl Engine {
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Engine {
        Engine {
            cache: Cache::default(),
            members: Mutex::new(Members::new(snapshot)),
        }
    }

    /// Nothing under the lock leaves it half changed: a panic of a generator loses that change.
    fn lock(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a proxy is served from now on, for as long as somebody looks.
    pub(crate) fn join(&self, proxy: &Proxy) -> watch::Receiver<Arc<Served>> {
        self.lock().join(&self.cache, proxy)
    }

    /// What a proxy is served now.
    pub(crate) fn served(&self, proxy: &Proxy) -> Arc<Served> {
        self.lock().served(&self.cache, proxy)
    }

    /// Brings everybody to a snapshot. `credentials` says that Secrets may have changed.
    pub(crate) fn publish(&self, snapshot: Arc<Snapshot>, credentials: bool) {
        self.lock().publish(&self.cache, snapshot, credentials);
        self.cache.sweep();
    }

    /// What became of each patch of an EnvoyFilter.
    pub(crate) fn patches(&self) -> Vec<PatchReport> {
        self.lock().patches()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.lock().counts()
    }
}

fn is_same<T>(a: Option<&Arc<T>>, b: Option<&Arc<T>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

#[cfg(test)]
mod tests;
