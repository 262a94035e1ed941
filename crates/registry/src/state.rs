//! The one writer: folds what the watches say into the next [`World`] and publishes it.
//!
//! Each update marks what it touches; a burst is folded once. A part that comes out equal keeps its
//! allocation, so readers can compare pointers.

mod allocation;
mod apply;
mod endpoints;
mod external;
mod index;
mod publish;
mod update;
mod workloads;

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use lateen_api::{
    Kind, Object, kinds,
    networking::{ServiceEntry, WorkloadEntry},
};
use lateen_core::{Labels, ServiceId};
use serde_json::Value;

pub(crate) use publish::{publisher, run};
pub(crate) use update::{
    CATALOG, MESH, MeshTexts, NAMESPACE, NODE, POD, SERVICE, SLICE, Slice, SliceAddress, Update,
};

use self::allocation::Allocation;
use self::index::{Index, Selection};
use crate::{
    Freshness, Namespace, Node, RawConfig, Service, SharedMap, SourceStatus, WATCHED_KINDS,
    Workload, World,
    external::External,
    store::{Key, Store},
};

/// Sources without which nothing is published, however late they are. Without services, their slices
/// and pods there is no world, and proxies would lose what they have; without the mesh's settings and
/// the policies of mutual TLS, doors would open that are meant to be shut.
const NEEDED: [&str; 5] = [SERVICE, SLICE, POD, MESH, kinds::PEER_AUTHENTICATION.kind];

/// Everything the writer knows.
#[derive(Debug)]
pub(crate) struct State {
    domain: String,
    /// All that must be heard of, by name.
    sources: BTreeMap<&'static str, SourceStatus>,
    services: Store<Arc<Service>>,
    slices: Store<Slice>,
    pods: Store<Arc<Workload>>,
    nodes: Store<Arc<Node>>,
    namespaces: Store<Arc<Namespace>>,
    mesh: Store<Arc<MeshTexts>>,
    catalog: Store<Arc<External>>,
    objects: BTreeMap<&'static str, Store<Arc<Value>>>,
    /// The last form of each that could be read.
    service_entries: BTreeMap<Key, Object<ServiceEntry>>,
    workload_entries: BTreeMap<Key, Entry>,
    refs: References,
    /// Addresses of hosts that were given none.
    allocation: Allocation,
    dirty: Dirty,
    world: World,
    config: RawConfig,
    /// How many objects have been looked at, which tests hold against what changed.
    visited: Cell<usize>,
}

/// A WorkloadEntry, with its labels ready to be selected by.
#[derive(Debug)]
struct Entry {
    object: Object<WorkloadEntry>,
    labels: Labels,
    /// Its health is good, or nobody looks at it.
    healthy: bool,
}

/// Who refers to what.
#[derive(Debug, Default, PartialEq)]
struct References {
    /// Slices by their service.
    slices_of: Index<Key>,
    /// Slices by namespace and the pod (or, where they name none, the address) that they name.
    mentions: Index<(String, String)>,
    /// Slices by the nodes that they name.
    slices_on: Index<String>,
    /// Pods by node.
    pods_on: Index<String>,
    /// Pods by address. Two may share one for a moment, while one comes and one goes.
    pods_by_ip: Index<IpAddr>,
    /// Workload entries by address.
    entries_by_ip: Index<IpAddr>,
    /// ServiceEntries by the services that they declare.
    declared: Index<ServiceId>,
    /// Workload entries that services select.
    of_services: Selection,
    /// Workload entries that ServiceEntries select.
    of_entries: Selection,
    /// Pods that ServiceEntries select.
    pods_of_entries: Selection,
}

#[derive(Debug, Default)]
struct Dirty {
    services: BTreeSet<ServiceId>,
    /// Addresses whose workload may be another.
    ips: BTreeSet<IpAddr>,
    nodes: BTreeSet<String>,
    namespaces: BTreeSet<String>,
    config: bool,
}

impl State {
    pub(crate) fn new(domain: String) -> Self {
        let stores = WATCHED_KINDS.iter();
        let kinds = WATCHED_KINDS.iter().map(Kind::id);
        let sources = [SERVICE, SLICE, POD, NODE, NAMESPACE, MESH].into_iter();
        let sources = sources.chain(kinds);
        Self {
            sources: sources
                .map(|name| (name, SourceStatus::new(name)))
                .collect(),
            // Host names are in lower case.
            domain: domain.to_ascii_lowercase(),
            services: Store::default(),
            slices: Store::default(),
            pods: Store::default(),
            nodes: Store::default(),
            namespaces: Store::default(),
            mesh: Store::default(),
            catalog: Store::default(),
            objects: stores.map(|kind| (kind.id(), Store::default())).collect(),
            service_entries: BTreeMap::new(),
            workload_entries: BTreeMap::new(),
            refs: References::default(),
            allocation: Allocation::default(),
            dirty: Dirty::default(),
            world: World::default(),
            config: RawConfig::default(),
            visited: Cell::new(0),
        }
    }

    /// Makes a catalogue one of the sources.
    pub(crate) fn expect_catalog(&mut self) {
        self.sources.insert(CATALOG, SourceStatus::new(CATALOG));
    }

    #[cfg(test)]
    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    #[cfg(test)]
    pub(crate) fn freshness(&self, source: &str) -> Freshness {
        self.sources[source].freshness
    }

    fn visit(&self) {
        self.visited.set(self.visited.get() + 1);
    }

    /// Whether there is a world to publish: each source has delivered its first list, or is late and
    /// can be done without.
    fn is_synced(&self) -> bool {
        let late =
            |name: &str| self.sources[name].freshness == Freshness::Late && !NEEDED.contains(&name);
        self.sources
            .keys()
            .all(|name| self.has_list(name) || late(name))
    }

    fn has_list(&self, source: &str) -> bool {
        match source {
            SERVICE => self.services.is_synced(),
            SLICE => self.slices.is_synced(),
            POD => self.pods.is_synced(),
            NODE => self.nodes.is_synced(),
            NAMESPACE => self.namespaces.is_synced(),
            MESH => self.mesh.is_synced(),
            CATALOG => self.catalog.is_synced(),
            kind => self.objects.get(kind).is_some_and(Store::is_synced),
        }
    }

    fn lose_patience(&mut self) {
        for source in self.sources.values_mut() {
            source.late(NEEDED.contains(&source.name));
        }
    }

    /// What has come of it all.
    pub(crate) fn into_parts(self) -> (World, RawConfig) {
        (self.world, self.config)
    }

    /// Recomputes what is marked; returns whether the world changed.
    pub(crate) fn fold(&mut self) -> bool {
        let dirty = std::mem::take(&mut self.dirty);
        let mut changed = self.fold_workloads(&dirty.ips);
        for name in dirty.nodes {
            let node = self.nodes.get("", &name).cloned();
            changed |= put(&mut self.world.nodes, name, node);
        }
        for name in dirty.namespaces {
            let namespace = self.namespaces.get("", &name).cloned();
            changed |= put(&mut self.world.namespaces, name, namespace);
        }
        for id in &self.allocate(dirty.services) {
            changed |= self.fold_service(id);
        }
        changed
    }
}

/// Sets what the world holds of a key; whether that is another than before. What is equal keeps its
/// allocation.
fn put<K: Ord + Clone, T: PartialEq>(
    map: &mut SharedMap<K, Arc<T>>,
    key: K,
    value: Option<Arc<T>>,
) -> bool {
    let changed = map.get(&key) != value.as_ref();
    if changed {
        set(map, key, value);
    }
    changed
}

fn set<K: Ord + Clone, V: Clone>(map: &mut SharedMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod work;
