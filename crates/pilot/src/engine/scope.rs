//! What one vantage is served, part by part, each derived from the one before.

mod clusters;
mod endpoints;
mod names;
mod tables;

use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use lateen_xds::server::{Name, Resource};
use tracing::error;

use super::state::State;
use super::{Touched, Vantage};
use crate::key::{Cache, Key, NotMade};
use crate::snapshot::Snapshot;
use crate::view::View;
use clusters::Clusters;
use endpoints::Endpoints;
use names::NameList;
use tables::Tables;

/// What all proxies with one reduced vantage share.
pub(super) struct Scope {
    pub(super) clusters: Clusters,
    pub(super) listeners: List,
    pub(super) endpoints: Arc<Endpoints>,
    pub(super) tables: Arc<Tables>,
    /// Where the mesh resolves names.
    pub(super) names: Option<NameList>,
}

/// All listeners.
#[derive(Clone)]
pub(super) struct List {
    pub(super) state: State,
    pub(super) resources: Arc<[Arc<Resource>]>,
    /// The route tables that they lead to.
    tables: Arc<BTreeSet<String>>,
}

/// What a scope is made for.
#[derive(Clone, Copy)]
pub(super) struct Making<'a> {
    pub(super) vantage: &'a Arc<Vantage>,
    pub(super) snapshot: &'a Arc<Snapshot>,
    pub(super) touched: &'a Touched,
    pub(super) cache: &'a Cache,
}

impl<'a> Making<'a> {
    fn view(&self) -> View<'a> {
        View::new(self.snapshot, self.vantage)
    }

    /// What a view finds. `None` where it panics, which leaves what there was; `what` says of what.
    fn look<T>(&self, what: &str, look: impl FnOnce(View<'a>) -> T) -> Option<T> {
        let found = catch_unwind(AssertUnwindSafe(|| look(self.view())));
        if found.is_err() {
            self.cache.failed();
            let namespace = &self.vantage.namespace;
            error!(what, namespace, "cannot be made, what there was is kept");
        }
        found.ok()
    }

    /// The resources of some keys. One that cannot be made is as it was `before`, if it was there.
    fn resources(&self, keys: Vec<Key>, before: &[Arc<Resource>]) -> Arc<[Arc<Resource>]> {
        let resource = |key: Key| match self.cache.resource(key) {
            Ok((_, resource)) => Some(resource),
            Err(NotMade(name)) => before.iter().find(|r| *r.name == *name).cloned(),
        };
        keys.into_iter().filter_map(resource).collect()
    }
}

impl Scope {
    /// The scope of a vantage in a snapshot, from the one before if there is one. The same one when
    /// nothing came out differently. A new one shares what is alike with another scope.
    pub(super) fn next(
        before: Option<&Arc<Scope>>,
        like: Option<&Arc<Scope>>,
        making: Making<'_>,
    ) -> Arc<Scope> {
        let Some(before) = before else {
            let listeners = List::new(making);
            let tables = Tables::new(making, like.map(|like| &*like.tables), &listeners.tables);
            return Arc::new(Scope {
                clusters: Clusters::new(making, like.map(|like| &like.clusters)),
                endpoints: Arc::new(Endpoints::new(making)),
                tables: Arc::new(tables),
                names: NameList::new(making),
                listeners,
            });
        };
        let clusters = before.clusters.next(making);
        let listeners = before.listeners.next(making);
        let known = [&before.clusters, &clusters];
        let endpoints = before.endpoints.next(making, known);
        let tables = before.tables.next(making, &listeners.tables);
        let names = match &before.names {
            Some(names) => Some(names.next(making)),
            None => NameList::new(making),
        };
        let group = |names: &Option<NameList>| names.as_ref().map(|names| names.state.group);
        let unchanged = clusters.state.group == before.clusters.state.group
            && listeners.state.group == before.listeners.state.group
            && Arc::ptr_eq(&endpoints, &before.endpoints)
            && Arc::ptr_eq(&tables, &before.tables)
            && group(&names) == group(&before.names);
        if unchanged {
            return before.clone();
        }
        Arc::new(Scope {
            clusters,
            listeners,
            endpoints,
            tables,
            names,
        })
    }

    /// How many resources are kept because somebody asked for them.
    pub(super) fn n_named(&self) -> usize {
        self.endpoints.n_made() + self.tables.n_made()
    }
}

fn is_same(a: &[Arc<Resource>], b: &[Arc<Resource>]) -> bool {
    let is_same = |(a, b): (&Arc<Resource>, &Arc<Resource>)| Arc::ptr_eq(a, b) || a == b;
    a.len() == b.len() && a.iter().zip(b).all(is_same)
}

/// The names of which only one has the resource, or another one.
fn differences(a: &[Arc<Resource>], b: &[Arc<Resource>]) -> Vec<Name> {
    let by_name = |of: &[Arc<Resource>]| -> HashMap<Name, Arc<Resource>> {
        of.iter().map(|r| (r.name.clone(), r.clone())).collect()
    };
    let (was, is) = (by_name(a), by_name(b));
    let changed = is.iter().filter(|(name, r)| was.get(name) != Some(r));
    let gone = was.keys().filter(|name| !is.contains_key(name));
    changed.map(|(name, _)| name).chain(gone).cloned().collect()
}

impl List {
    fn new(making: Making<'_>) -> List {
        let keys = making.look("listeners", View::outbound_listeners);
        let keys = keys.unwrap_or_default();
        List {
            state: State::new(),
            tables: Arc::new(keys.iter().flat_map(Key::tables).collect()),
            resources: making.resources(keys, &[]),
        }
    }

    fn next(&self, making: Making<'_>) -> List {
        if !making.touched.listeners(making.view()) {
            return self.clone();
        }
        let Some(keys) = making.look("listeners", View::outbound_listeners) else {
            return self.clone();
        };
        let tables: BTreeSet<String> = keys.iter().flat_map(Key::tables).collect();
        let resources = making.resources(keys, &self.resources);
        if is_same(&self.resources, &resources) {
            return self.clone();
        }
        List {
            state: self.state.then(differences(&self.resources, &resources)),
            resources,
            tables: Arc::new(tables),
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
    pub(super) fn next(before: Option<&Arc<Inbound>>, making: Making<'_>) -> Arc<Inbound> {
        let touched = making.touched;
        if let Some(before) = before
            && !touched.all
            && !touched.services
            && !touched.sidecars
            && !touched.policies
        {
            return before.clone();
        }
        let made = making.look("inbound", |view| {
            (view.inbound_clusters(), view.inbound_listeners())
        });
        let (was_clusters, was_listeners): (&[_], &[_]) = match before {
            Some(before) => (&before.clusters, &before.listeners),
            None => (&[], &[]),
        };
        let made = match (made, before) {
            (None, Some(before)) => return before.clone(),
            (None, None) => (Vec::new(), Vec::new()),
            (Some(made), _) => made,
        };
        let made = Inbound {
            clusters: making.resources(made.0, was_clusters),
            listeners: making.resources(made.1, was_listeners),
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
