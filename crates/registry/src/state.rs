//! The one writer: folds what the watches say into the next [`World`] and publishes it.
//!
//! Each update marks what it touches; a burst is folded once. A part that comes out equal keeps its
//! allocation, so readers can compare pointers.

mod endpoints;
mod external;
mod workloads;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use lateen_api::{
    Kind, Object, kinds,
    networking::{ServiceEntry, WorkloadEntry},
};
use lateen_core::Hostname;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use crate::{
    Namespace, Node, ObjectKey, RawConfig, Service, WATCHED_KINDS, Workload, World,
    store::{Event, Key, Store},
};

/// One event of one watch.
#[derive(Debug)]
pub(crate) enum Update {
    Service(Event<Arc<Service>>),
    Slice(Event<Slice>),
    Pod(Event<Arc<Workload>>),
    Node(Event<Arc<Node>>),
    Namespace(Event<Arc<Namespace>>),
    Mesh(Event<Arc<str>>),
    Object(&'static Kind, Event<Arc<Value>>),
    Absent(&'static Kind),
}

/// What an EndpointSlice says, reduced to what is used.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Slice {
    pub(crate) service: String,
    /// Name and number.
    pub(crate) ports: Vec<(String, u16)>,
    pub(crate) addresses: Vec<SliceAddress>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SliceAddress {
    pub(crate) address: String,
    pub(crate) ready: bool,
    pub(crate) pod: Option<String>,
    pub(crate) node: String,
}

impl SliceAddress {
    /// What it stands for: a pod by name, else whatever has the address.
    fn target(&self) -> &str {
        self.pod.as_deref().unwrap_or(&self.address)
    }
}

/// Everything the writer knows.
#[derive(Debug)]
pub(crate) struct State {
    domain: String,
    services: Store<Arc<Service>>,
    slices: Store<Slice>,
    pods: Store<Arc<Workload>>,
    nodes: Store<Arc<Node>>,
    namespaces: Store<Arc<Namespace>>,
    mesh: Store<Arc<str>>,
    objects: BTreeMap<&'static str, Store<Arc<Value>>>,
    /// The last form of each that could be read.
    service_entries: BTreeMap<Key, Object<ServiceEntry>>,
    workload_entries: BTreeMap<Key, Object<WorkloadEntry>>,
    /// Which slices name a pod (or, where they name none, an address): namespace, target, slice.
    mentions: BTreeSet<(String, String, String)>,
    /// Pods by address. Two may share one for a moment, while one comes and one goes.
    pods_by_ip: BTreeMap<IpAddr, BTreeSet<Key>>,
    dirty: Dirty,
    /// Host names that ServiceEntries gave to the world.
    external_hosts: BTreeSet<Hostname>,
    world: World,
    config: RawConfig,
}

#[derive(Debug, Default)]
struct Dirty {
    services: BTreeSet<Key>,
    /// Addresses whose workload may be another.
    ips: BTreeSet<IpAddr>,
    external: bool,
    world: bool,
    config: bool,
}

impl State {
    pub(crate) fn new(domain: String) -> Self {
        Self {
            domain,
            services: Store::default(),
            slices: Store::default(),
            pods: Store::default(),
            nodes: Store::default(),
            namespaces: Store::default(),
            mesh: Store::default(),
            objects: WATCHED_KINDS
                .iter()
                .map(|kind| (kind.kind, Store::default()))
                .collect(),
            service_entries: BTreeMap::new(),
            workload_entries: BTreeMap::new(),
            mentions: BTreeSet::new(),
            pods_by_ip: BTreeMap::new(),
            dirty: Dirty::default(),
            external_hosts: BTreeSet::new(),
            world: World::default(),
            config: RawConfig::default(),
        }
    }

    fn is_synced(&self) -> bool {
        self.services.is_synced()
            && self.slices.is_synced()
            && self.pods.is_synced()
            && self.nodes.is_synced()
            && self.namespaces.is_synced()
            && self.mesh.is_synced()
            && self.objects.values().all(Store::is_synced)
    }

    /// Takes an update in and marks what it touches.
    pub(crate) fn apply(&mut self, update: Update) {
        match update {
            Update::Service(event) => {
                for (key, _) in self.services.apply(event) {
                    self.dirty.services.insert(key);
                }
            }
            Update::Slice(event) => self.apply_slice(event),
            Update::Pod(event) => self.apply_pod(event),
            Update::Node(event) => {
                if !self.nodes.apply(event).is_empty() {
                    self.touch_everything();
                }
            }
            Update::Namespace(event) => {
                for (key, _) in self.namespaces.apply(event) {
                    self.dirty.world = true;
                    let namespace = self.namespaces.get(&key.0, &key.1).cloned();
                    set(&mut self.world.namespaces, key.1, namespace);
                }
            }
            Update::Mesh(event) => {
                for (key, _) in self.mesh.apply(event) {
                    self.config.mesh = self.mesh.get(&key.0, &key.1).cloned();
                    self.dirty.config = true;
                }
            }
            Update::Object(kind, event) => self.apply_object(kind, event),
            Update::Absent(kind) => {
                self.objects.entry(kind.kind).or_default().mark_absent();
            }
        }
    }

    fn apply_slice(&mut self, event: Event<Slice>) {
        for (key, old) in self.slices.apply(event) {
            let mention = |target: &str| (key.0.clone(), target.to_owned(), key.1.clone());
            for address in old.iter().flat_map(|slice| &slice.addresses) {
                self.mentions.remove(&mention(address.target()));
            }
            let new = self.slices.get(&key.0, &key.1);
            self.mentions.extend(
                new.iter()
                    .flat_map(|slice| &slice.addresses)
                    .map(|a| mention(a.target())),
            );
            for slice in old.iter().chain(new) {
                self.dirty
                    .services
                    .insert((key.0.clone(), slice.service.clone()));
            }
        }
    }

    fn apply_pod(&mut self, event: Event<Arc<Workload>>) {
        for (key, old) in self.pods.apply(event) {
            for ip in old.iter().flat_map(|pod| &pod.ips) {
                if let Some(pods) = self.pods_by_ip.get_mut(ip) {
                    pods.remove(&key);
                    if pods.is_empty() {
                        self.pods_by_ip.remove(ip);
                    }
                }
            }
            let new = self.pods.get(&key.0, &key.1).cloned();
            for ip in new.iter().flat_map(|pod| &pod.ips) {
                self.pods_by_ip.entry(*ip).or_default().insert(key.clone());
            }
            let ips = old.iter().chain(&new).flat_map(|pod| &pod.ips);
            self.dirty.ips.extend(ips.clone());
            let targets: Vec<String> = ips.map(IpAddr::to_string).chain([key.1.clone()]).collect();
            for target in targets {
                self.touch_mentioning(&key.0, &target);
            }
            self.dirty.external |= self
                .service_entries
                .values()
                .any(external::selects_workloads);
        }
    }

    /// Marks the services whose slices name this pod or address.
    fn touch_mentioning(&mut self, namespace: &str, target: &str) {
        let first = (namespace.to_owned(), target.to_owned(), String::new());
        let slices = self.mentions.range(first..);
        let slices = slices.take_while(|(ns, to, _)| ns == namespace && to == target);
        for (_, _, slice) in slices {
            if let Some(slice) = self.slices.get(namespace, slice) {
                self.dirty
                    .services
                    .insert((namespace.to_owned(), slice.service.clone()));
            }
        }
    }

    fn apply_object(&mut self, kind: &'static Kind, event: Event<Arc<Value>>) {
        let store = self.objects.entry(kind.kind).or_default();
        for (key, _) in store.apply(event) {
            let value = store.get(&key.0, &key.1).cloned();
            if kind.kind == kinds::SERVICE_ENTRY.kind {
                keep_last_good(&mut self.service_entries, &key, value.as_deref());
                self.dirty.external = true;
            } else if kind.kind == kinds::WORKLOAD_ENTRY.kind {
                let ip = |entries: &BTreeMap<Key, Object<WorkloadEntry>>| {
                    entries
                        .get(&key)
                        .and_then(|entry| entry.spec.address.parse().ok())
                };
                let before: Option<IpAddr> = ip(&self.workload_entries);
                keep_last_good(&mut self.workload_entries, &key, value.as_deref());
                self.dirty
                    .ips
                    .extend(before.into_iter().chain(ip(&self.workload_entries)));
                self.dirty.external = true;
                self.dirty
                    .services
                    .extend(self.services.in_namespace(&key.0).map(|(k, _)| k.clone()));
            }
            let object_key = ObjectKey {
                kind: kind.kind,
                namespace: key.0,
                name: key.1,
            };
            set(&mut self.config.objects, object_key, value);
            self.dirty.config = true;
        }
    }

    /// Localities come from nodes, and nodes change seldom.
    fn touch_everything(&mut self) {
        self.dirty
            .services
            .extend(self.services.iter().map(|(key, _)| key.clone()));
        self.dirty.ips.extend(self.pods_by_ip.keys());
        self.world.nodes = self
            .nodes
            .iter()
            .map(|(key, node)| (key.1.clone(), node.clone()))
            .collect();
        self.dirty.external = true;
        self.dirty.world = true;
    }

    /// Recomputes what is marked; returns whether the world changed.
    pub(crate) fn fold(&mut self) -> bool {
        let dirty = std::mem::take(&mut self.dirty);
        let mut changed = dirty.world;
        changed |= self.fold_workloads(&dirty.ips);
        for key in &dirty.services {
            changed |= self.fold_service(key);
        }
        if dirty.external || !dirty.services.is_empty() && !self.service_entries.is_empty() {
            changed |= self.fold_external();
        }
        changed
    }
}

/// An object that cannot be read does not displace the last form of it that could.
fn keep_last_good<T: serde::de::DeserializeOwned>(
    items: &mut BTreeMap<Key, Object<T>>,
    key: &Key,
    value: Option<&Value>,
) {
    match value.map(Object::from_value) {
        None => {
            items.remove(key);
        }
        Some(Ok(object)) => {
            items.insert(key.clone(), object);
        }
        Some(Err(error)) => {
            tracing::warn!(namespace = key.0, name = key.1, %error, "unreadable, last form kept");
        }
    }
}

fn set<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

/// Where the writer publishes.
#[derive(Debug)]
pub(crate) struct Publisher {
    world: watch::Sender<Arc<World>>,
    config: watch::Sender<Arc<RawConfig>>,
    synced: watch::Sender<bool>,
}

/// Where readers read.
#[derive(Debug)]
pub(crate) struct Outputs {
    pub(crate) world: watch::Receiver<Arc<World>>,
    pub(crate) config: watch::Receiver<Arc<RawConfig>>,
    pub(crate) synced: watch::Receiver<bool>,
}

pub(crate) fn publisher() -> (Publisher, Outputs) {
    let (world_tx, world) = watch::channel(Arc::default());
    let (config_tx, config) = watch::channel(Arc::default());
    let (synced_tx, synced) = watch::channel(false);
    let publisher = Publisher {
        world: world_tx,
        config: config_tx,
        synced: synced_tx,
    };
    (
        publisher,
        Outputs {
            world,
            config,
            synced,
        },
    )
}

/// Most updates that one fold takes in; keeps a busy start from starving readers.
const BURST: usize = 4096;

/// Runs until every watch has ended.
pub(crate) async fn run(
    mut state: State,
    mut updates_rx: mpsc::Receiver<Update>,
    publisher: Publisher,
) {
    let mut batch = Vec::new();
    while updates_rx.recv_many(&mut batch, BURST).await > 0 {
        batch.drain(..).for_each(|update| state.apply(update));
        if !state.is_synced() {
            continue;
        }
        let first = !*publisher.synced.borrow();
        let config_changed = state.dirty.config;
        // Configuration first: a reader woken by the new world then sees the routes that go with it.
        if config_changed || first {
            publisher
                .config
                .send_replace(Arc::new(state.config.clone()));
        }
        if state.fold() || first {
            publisher.world.send_replace(Arc::new(state.world.clone()));
        }
        if first {
            tracing::info!(services = state.world.services.len(), "registry synced");
            publisher.synced.send_replace(true);
        }
    }
}

#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;
