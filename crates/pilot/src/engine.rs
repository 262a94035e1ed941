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
//! Scopes and what is served are rebuilt from the members at each change, so nothing outlives the
//! last proxy that needs it. The cache of keys holds what some scope holds.

mod connectivity;
mod scope;
mod state;
mod touched;
mod vantage;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lateen_registry::Workload;
use lateen_xds::TypeUrl;
use lateen_xds::server::{Group, Name, NameSet, Names, Resource};
use tokio::sync::watch;

use crate::envoy_filter::{Book, PatchReport, Selected};
use crate::key::Cache;
use crate::proxy::Proxy;
use crate::snapshot::Snapshot;
use scope::{Inbound, Making, Scope};
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
    /// Where configurations of extensions come from.
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
            (names, of) if *of == TypeUrl::EXTENSION => self.find(cache, of, named(names).iter()),
            _ => Vec::new(),
        }
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
        let groups = [
            (TypeUrl::CLUSTER, self.clusters.group),
            (TypeUrl::LISTENER, self.listeners.group),
            (TypeUrl::ENDPOINT, scope.endpoints.state.group),
            (TypeUrl::ROUTE, scope.tables.whole.group),
            (TypeUrl::VIRTUAL_HOST, scope.tables.hosts.group),
        ];
        let mut groups = groups.into_iter();
        groups
            .find(|(of, _)| of == type_url)
            .map(|(_, group)| group)
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
    state: Mutex<State>,
}

struct State {
    snapshot: Arc<Snapshot>,
    book: Book,
    members: Vec<Member>,
    /// How many members there may be before those that have left are dropped.
    enough: usize,
    by_vantage: HashMap<Arc<Vantage>, Arc<Served>>,
    scopes: HashMap<Arc<Vantage>, Arc<Scope>>,
}

/// Fewer members than this are not worth a look.
const FEW: usize = 64;

/// One connected proxy.
struct Member {
    ip: IpAddr,
    /// What its node says, which counts until the registry knows the workload.
    node: Arc<Vantage>,
    facts: Facts,
    workload: Option<Arc<Workload>>,
    vantage: Arc<Vantage>,
    served: watch::Sender<Arc<Served>>,
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
        let mut book = Book::default();
        book.renew(&snapshot.config);
        Engine {
            cache: Cache::default(),
            state: Mutex::new(State {
                snapshot,
                book,
                members: Vec::new(),
                enough: FEW,
                by_vantage: HashMap::new(),
                scopes: HashMap::new(),
            }),
        }
    }

    /// Nothing under the lock leaves it half changed: a panic of a generator loses that change.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a proxy is served from now on, for as long as somebody looks.
    pub(crate) fn join(&self, proxy: &Proxy) -> watch::Receiver<Arc<Served>> {
        let mut state = self.lock();
        if state.members.len() >= state.enough {
            state.members.retain(|member| !member.served.is_closed());
            state.enough = (state.members.len() * 2).max(FEW);
        }
        let node = Arc::new(Vantage::of_node(proxy));
        let workload = state.snapshot.world.workload(proxy.ip).cloned();
        let facts = Facts::of(proxy);
        let counts = state.snapshot.node_counts();
        let vantage = node.with(workload.as_deref(), counts);
        let vantage = Arc::new(vantage.patched(&mut state.book, &facts));
        let served = state.served(&self.cache, &vantage);
        let (served_tx, served_rx) = watch::channel(served);
        state.members.push(Member {
            ip: proxy.ip,
            node,
            facts,
            workload,
            vantage,
            served: served_tx,
        });
        served_rx
    }

    /// What a proxy is served now.
    pub(crate) fn served(&self, proxy: &Proxy) -> Arc<Served> {
        let mut state = self.lock();
        let node = Vantage::of_node(proxy);
        let workload = state.snapshot.world.workload(proxy.ip).map(|w| &**w);
        let vantage = node.with(workload, state.snapshot.node_counts());
        let vantage = vantage.patched(&mut state.book, &Facts::of(proxy));
        state.served(&self.cache, &Arc::new(vantage))
    }

    /// Brings everybody to a snapshot. `credentials` says that those of gateways may have changed.
    pub(crate) fn publish(&self, snapshot: Arc<Snapshot>, credentials: bool) {
        let state = &mut *self.lock();
        let touched = Touched::between(&state.snapshot, &snapshot);
        let counts = snapshot.node_counts();
        let are_others = state.snapshot.node_counts() != counts;
        state.snapshot = snapshot.clone();
        let repatched = state.book.renew(&snapshot.config);
        let mut next = Next {
            cache: &self.cache,
            snapshot: &snapshot,
            touched: &touched,
            credentials,
            scopes_before: std::mem::take(&mut state.scopes),
            served_before: std::mem::take(&mut state.by_vantage),
            scopes: HashMap::new(),
            served: HashMap::new(),
        };
        state.members.retain(|member| !member.served.is_closed());
        for member in &mut state.members {
            let workload = snapshot.world.workload(member.ip);
            if repatched || are_others || !is_same(workload, member.workload.as_ref()) {
                member.workload = workload.cloned();
                let vantage = member.node.with(workload.map(|w| &**w), counts);
                member.vantage = Arc::new(vantage.patched(&mut state.book, &member.facts));
            }
            let served = next.served(&member.vantage);
            let is_new = !Arc::ptr_eq(&member.served.borrow(), &served);
            if is_new {
                member.served.send_replace(served);
            }
        }
        state.scopes = next.scopes;
        state.by_vantage = next.served;
        self.cache.sweep();
        state.book.sweep();
    }

    /// What became of each patch of an EnvoyFilter.
    pub(crate) fn patches(&self) -> Vec<PatchReport> {
        self.lock().book.report()
    }

    pub(crate) fn counts(&self) -> Counts {
        let state = self.lock();
        let named = state.scopes.values().map(|scope| scope.n_named());
        Counts {
            members: state.members.len(),
            vantages: state.by_vantage.len(),
            scopes: state.scopes.len(),
            named: named.sum(),
        }
    }
}

impl State {
    fn served(&mut self, cache: &Cache, vantage: &Arc<Vantage>) -> Arc<Served> {
        let snapshot = self.snapshot.clone();
        let touched = Touched::default();
        let mut next = Next {
            cache,
            snapshot: &snapshot,
            touched: &touched,
            credentials: false,
            scopes_before: HashMap::new(),
            served_before: HashMap::new(),
            scopes: std::mem::take(&mut self.scopes),
            served: std::mem::take(&mut self.by_vantage),
        };
        let served = next.served(vantage);
        self.scopes = next.scopes;
        self.by_vantage = next.served;
        served
    }
}

/// What is served from a snapshot, in the making.
struct Next<'a> {
    cache: &'a Cache,
    snapshot: &'a Arc<Snapshot>,
    touched: &'a Touched,
    credentials: bool,
    scopes_before: HashMap<Arc<Vantage>, Arc<Scope>>,
    served_before: HashMap<Arc<Vantage>, Arc<Served>>,
    scopes: HashMap<Arc<Vantage>, Arc<Scope>>,
    served: HashMap<Arc<Vantage>, Arc<Served>>,
}

impl Next<'_> {
    fn served(&mut self, vantage: &Arc<Vantage>) -> Arc<Served> {
        if let Some(made) = self.served.get(vantage) {
            return made.clone();
        }
        let scope = self.scope(vantage);
        let before = self.served_before.get(vantage);
        let inbound = (!vantage.is_router()).then(|| {
            let before = before.and_then(|before| before.inbound.as_ref());
            Inbound::next(before, self.making(vantage))
        });
        let served = self.renewed(before, vantage, scope, inbound);
        self.served.insert(vantage.clone(), served.clone());
        served
    }

    fn scope(&mut self, vantage: &Arc<Vantage>) -> Arc<Scope> {
        let reduced = vantage.outbound(self.snapshot);
        if let Some(made) = self.scopes.get(&reduced) {
            return made.clone();
        }
        let reduced = Arc::new(reduced);
        let before = self.scopes_before.get(&reduced);
        let like = match before {
            Some(_) => None,
            None => self.like(&reduced),
        };
        let scope = Scope::next(before, like, self.making(&reduced));
        self.scopes.insert(reduced, scope.clone());
        scope
    }

    /// A scope that one of its kind has much in common with.
    fn like(&self, vantage: &Vantage) -> Option<&Arc<Scope>> {
        let is_like = |other: &Vantage| {
            (other.kind, other.dialect) == (vantage.kind, vantage.dialect)
                && other.patches == vantage.patches
        };
        let mut all = self.scopes.iter();
        all.find(|(other, _)| is_like(other))
            .map(|(_, scope)| scope)
    }

    fn making<'b>(&'b self, vantage: &'b Arc<Vantage>) -> Making<'b> {
        Making {
            vantage,
            snapshot: self.snapshot,
            touched: self.touched,
            cache: self.cache,
        }
    }

    fn renewed(
        &self,
        before: Option<&Arc<Served>>,
        vantage: &Vantage,
        scope: Arc<Scope>,
        inbound: Option<Arc<Inbound>>,
    ) -> Arc<Served> {
        let generation = self.snapshot.generation;
        let woken = self.credentials && vantage.is_router();
        if let Some(before) = before
            && !woken
            && before.is_made_of(&scope, inbound.as_ref())
        {
            before.standing.store(generation, Ordering::Relaxed);
            return before.clone();
        }
        let kept = before.filter(|before| is_same(before.inbound.as_ref(), inbound.as_ref()));
        let (clusters, listeners) = (&scope.clusters.state, &scope.listeners.state);
        Arc::new(Served {
            generation,
            standing: Arc::new(AtomicU64::new(generation)),
            clusters: kept.map_or_else(|| Followed::new(clusters), |b| b.clusters.next(clusters)),
            listeners: kept
                .map_or_else(|| Followed::new(listeners), |b| b.listeners.next(listeners)),
            scope,
            inbound,
            patches: vantage.patches.clone(),
        })
    }
}

fn is_same<T>(a: Option<&Arc<T>>, b: Option<&Arc<T>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (a, b) => a.is_none() && b.is_none(),
    }
}
