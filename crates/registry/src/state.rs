//! The one writer: folds what the watches say into the next [`World`] and publishes it.
//!
//! Each update marks what it touches; a burst is folded once. A part that comes out equal keeps its
//! allocation, so readers can compare pointers.

mod allocation;
mod endpoints;
mod external;
mod index;
mod publish;
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
use lateen_core::{Hostname, Labels, ObjectRef, ServiceId};
use serde_json::Value;

pub(crate) use publish::{publisher, run};

use self::allocation::Allocation;
use self::index::{Index, Selection};
use crate::{
    Freshness, Namespace, Node, RawConfig, Service, SharedMap, SourceStatus, WATCHED_KINDS,
    Workload, World,
    external::External,
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
    Mesh(Event<Arc<MeshTexts>>),
    Object(&'static Kind, Event<Arc<Value>>),
    /// A service of a catalogue outside of the platform.
    Catalog(Event<Arc<External>>),
    Absent(&'static Kind),
    /// A source is not heard, and why.
    Failed(&'static str, String),
    /// A source answers, and nothing has changed.
    Heard(&'static str),
    /// Several that readers see at once.
    Together(Vec<Update>),
}

pub(crate) const SERVICE: &str = "Service";
pub(crate) const SLICE: &str = "EndpointSlice";
pub(crate) const POD: &str = "Pod";
pub(crate) const NODE: &str = "Node";
pub(crate) const NAMESPACE: &str = "Namespace";
pub(crate) const MESH: &str = "ConfigMap";
pub(crate) const CATALOG: &str = "Consul";

/// Sources without which nothing is published, however late they are. Without services, their slices
/// and pods there is no world, and proxies would lose what they have; without the mesh's settings and
/// the policies of mutual TLS, doors would open that are meant to be shut.
const NEEDED: [&str; 5] = [SERVICE, SLICE, POD, MESH, kinds::PEER_AUTHENTICATION.kind];

impl Update {
    /// The source that it comes from; those that go together come from several.
    fn source(&self) -> Option<&'static str> {
        Some(match self {
            // What is said of one of a catalogue's services says nothing of the list of them.
            Update::Together(_) | Update::Catalog(_) => return None,
            Update::Service(_) => SERVICE,
            Update::Slice(_) => SLICE,
            Update::Pod(_) => POD,
            Update::Node(_) => NODE,
            Update::Namespace(_) => NAMESPACE,
            Update::Mesh(_) => MESH,
            Update::Object(kind, _) | Update::Absent(kind) => kind.id(),
            Update::Failed(source, _) | Update::Heard(source) => source,
        })
    }

    /// Whether it only says that a list is asked for, which is no answer yet.
    fn is_question(&self) -> bool {
        match self {
            Update::Service(event) => event.is_init(),
            Update::Slice(event) => event.is_init(),
            Update::Pod(event) => event.is_init(),
            Update::Node(event) => event.is_init(),
            Update::Namespace(event) => event.is_init(),
            Update::Mesh(event) => event.is_init(),
            Update::Object(_, event) => event.is_init(),
            Update::Catalog(_)
            | Update::Absent(_)
            | Update::Failed(..)
            | Update::Heard(_)
            | Update::Together(_) => false,
        }
    }
}

/// What ConfigMap `istio` says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct MeshTexts {
    /// Key `mesh`.
    pub(crate) mesh: Option<Arc<str>>,
    /// Key `meshNetworks`.
    pub(crate) networks: Option<Arc<str>>,
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

    /// Takes an update in and marks what it touches.
    pub(crate) fn apply(&mut self, update: Update) {
        let Some(name) = update.source() else {
            return self.fold_in(update);
        };
        let is_question = update.is_question();
        let reason = match update {
            // Nothing that is known is forgotten for it.
            Update::Failed(_, reason) => Some(reason),
            said => {
                self.fold_in(said);
                None
            }
        };
        let has_list = self.has_list(name);
        let source = self.sources.get_mut(name);
        let source = source.expect("updates name the sources that there are");
        match reason {
            Some(reason) => source.failed(reason),
            None if is_question => {}
            None => source.heard(has_list),
        }
    }

    fn fold_in(&mut self, update: Update) {
        match update {
            Update::Failed(..) | Update::Heard(_) => {}
            Update::Together(updates) => updates.into_iter().for_each(|u| self.apply(u)),
            Update::Service(event) => self.apply_service(event),
            Update::Slice(event) => self.apply_slice(event),
            Update::Pod(event) => self.apply_pod(event),
            Update::Node(event) => {
                for (key, _) in self.nodes.apply(event) {
                    self.touch_node(&key.1);
                    self.dirty.nodes.insert(key.1);
                }
            }
            Update::Namespace(event) => {
                let changes = self.namespaces.apply(event).into_iter();
                self.dirty.namespaces.extend(changes.map(|(key, _)| key.1));
            }
            Update::Mesh(event) => {
                for (key, _) in self.mesh.apply(event) {
                    let texts = self.mesh.get(&key.0, &key.1);
                    self.config.mesh = texts.and_then(|texts| texts.mesh.clone());
                    self.config.networks = texts.and_then(|texts| texts.networks.clone());
                    self.dirty.config = true;
                }
            }
            Update::Catalog(event) => {
                for (key, old) in self.catalog.apply(event) {
                    let new = self.catalog.get(&key.0, &key.1);
                    let ids = old.iter().chain(new).map(|item| item.service.id());
                    self.dirty.services.extend(ids);
                }
            }
            Update::Object(kind, event) => self.apply_object(kind, event),
            Update::Absent(kind) => {
                self.objects.entry(kind.id()).or_default().mark_absent();
            }
        }
    }

    fn apply_service(&mut self, event: Event<Arc<Service>>) {
        for (key, _) in self.services.apply(event) {
            let new = self.services.get(&key.0, &key.1);
            // A service without a selector selects nothing.
            let selector = new.map(|s| &s.selector).filter(|s| !s.is_empty());
            let labels_of = |entry: &Key| labels_of(&self.workload_entries, &self.visited, entry);
            self.refs.of_services.set_owner(&key, selector, labels_of);
            self.dirty.services.insert(platform_id(&key, &self.domain));
        }
    }

    fn apply_slice(&mut self, event: Event<Slice>) {
        for (key, old) in self.slices.apply(event) {
            let new = self.slices.get(&key.0, &key.1);
            let of = |slice: &Slice| (key.0.clone(), slice.service.clone());
            let mention = |a: &SliceAddress| (key.0.clone(), a.target().to_owned());
            let refs = &mut self.refs;
            if let Some(old) = &old {
                refs.slices_of.remove(&of(old), &key);
                for address in &old.addresses {
                    refs.mentions.remove(&mention(address), &key);
                    refs.slices_on.remove(&address.node, &key);
                }
            }
            if let Some(new) = new {
                refs.slices_of.insert(of(new), &key);
                for address in &new.addresses {
                    refs.mentions.insert(mention(address), &key);
                    refs.slices_on.insert(address.node.clone(), &key);
                }
            }
            let services = old.iter().chain(new).map(of);
            let services = services.map(|service| platform_id(&service, &self.domain));
            self.dirty.services.extend(services);
        }
    }

    fn apply_pod(&mut self, event: Event<Arc<Workload>>) {
        for (key, old) in self.pods.apply(event) {
            let new = self.pods.get(&key.0, &key.1).cloned();
            let refs = &mut self.refs;
            if let Some(old) = &old {
                refs.pods_on.remove(&old.node, &key);
                old.ips
                    .iter()
                    .for_each(|ip| refs.pods_by_ip.remove(ip, &key));
            }
            if let Some(new) = &new {
                refs.pods_on.insert(new.node.clone(), &key);
                new.ips
                    .iter()
                    .for_each(|ip| refs.pods_by_ip.insert(*ip, &key));
            }
            self.touch_pod(&key, old.as_deref(), new.as_deref());
        }
    }

    /// Marks what depends on a pod.
    fn touch_pod(&mut self, key: &Key, old: Option<&Workload>, new: Option<&Workload>) {
        let ips = old.into_iter().chain(new).flat_map(|pod| &pod.ips);
        self.dirty.ips.extend(ips.clone());
        let targets: BTreeSet<String> = ips.map(IpAddr::to_string).chain([key.1.clone()]).collect();
        for target in targets {
            self.touch_mentioning(&key.0, target);
        }
        let labels = |pod: Option<&'_ Workload>| pod.map(|pod| pod.labels.clone());
        let (old, new) = (labels(old), labels(new));
        let entries = &mut self.refs.pods_of_entries;
        let concerned = entries.member_changed(key, old.as_ref(), new.as_ref());
        concerned.iter().for_each(|entry| self.touch_entry(entry));
    }

    /// Marks the services whose slices name this pod or address.
    fn touch_mentioning(&mut self, namespace: &str, target: String) {
        let slices = self.refs.mentions.of(&(namespace.to_owned(), target));
        let services = slices.filter_map(|key| self.slices.get(&key.0, &key.1));
        let services = services.map(|slice| (namespace.to_owned(), slice.service.clone()));
        let ids = services.map(|service| platform_id(&service, &self.domain));
        self.dirty.services.extend(ids);
    }

    /// Marks the services that a ServiceEntry declares.
    fn touch_entry(&mut self, key: &Key) {
        let hosts = self.service_entries.get(key).map(|entry| &entry.spec.hosts);
        let hosts = hosts.into_iter().flatten();
        let ids = hosts.map(|host| ServiceId::new(&key.0, Hostname::new(host)));
        self.dirty.services.extend(ids);
    }

    /// Marks what takes its locality from a node.
    fn touch_node(&mut self, node: &str) {
        let node = node.to_owned();
        let slices = self.refs.slices_on.of(&node);
        let services = slices.filter_map(|key| {
            let slice = self.slices.get(&key.0, &key.1)?;
            Some(platform_id(
                &(key.0.clone(), slice.service.clone()),
                &self.domain,
            ))
        });
        self.dirty.services.extend(services);
        let pods: Vec<Key> = self.refs.pods_on.of(&node).cloned().collect();
        for key in pods {
            let pod = self.pods.get(&key.0, &key.1).cloned();
            self.touch_pod(&key, pod.as_deref(), pod.as_deref());
        }
    }

    fn apply_object(&mut self, kind: &'static Kind, event: Event<Arc<Value>>) {
        let store = self.objects.entry(kind.id()).or_default();
        for (key, _) in store.apply(event) {
            let store = &self.objects[kind.id()];
            let value = store.get(&key.0, &key.1).cloned();
            if kind.id() == kinds::SERVICE_ENTRY.kind {
                if let Some(entry) = readable(&key, value.as_deref()) {
                    self.set_service_entry(&key, entry);
                }
            } else if kind.id() == kinds::WORKLOAD_ENTRY.kind
                && let Some(entry) = readable(&key, value.as_deref())
            {
                self.set_workload_entry(&key, entry);
            }
            let object = ObjectRef {
                kind: kind.id(),
                namespace: key.0.into(),
                name: key.1.into(),
            };
            set(&mut self.config.objects, object, value);
            self.dirty.config = true;
        }
    }

    fn set_service_entry(&mut self, key: &Key, entry: Option<Object<ServiceEntry>>) {
        self.touch_entry(key);
        let old = match entry {
            Some(entry) => self.service_entries.insert(key.clone(), entry),
            None => self.service_entries.remove(key),
        };
        self.touch_entry(key);
        let new = self.service_entries.get(key);
        let id = |host: &String| ServiceId::new(&key.0, Hostname::new(host));
        for host in old.iter().flat_map(|old| &old.spec.hosts) {
            self.refs.declared.remove(&id(host), key);
        }
        for host in new.iter().flat_map(|new| &new.spec.hosts) {
            self.refs.declared.insert(id(host), key);
        }
        let selector = new.and_then(|new| new.spec.workload_selector.as_ref());
        let selector = selector.map(|selector| Labels(selector.labels.clone()));
        let (selector, refs) = (selector.as_ref(), &mut self.refs);
        refs.of_entries.set_owner(key, selector, |entry| {
            labels_of(&self.workload_entries, &self.visited, entry)
        });
        refs.pods_of_entries.set_owner(key, selector, |pod| {
            self.visited.set(self.visited.get() + 1);
            self.pods.get(&pod.0, &pod.1).map(|pod| &pod.labels)
        });
    }

    fn set_workload_entry(&mut self, key: &Key, entry: Option<Object<WorkloadEntry>>) {
        let with_labels = |object: Object<WorkloadEntry>| Entry {
            labels: Labels(object.spec.labels.clone()),
            object,
        };
        let old = match entry {
            Some(object) => self
                .workload_entries
                .insert(key.clone(), with_labels(object)),
            None => self.workload_entries.remove(key),
        };
        let new = self.workload_entries.get(key);
        let ip = |entry: &Entry| entry.object.spec.address.parse::<IpAddr>().ok();
        let refs = &mut self.refs;
        if let Some(ip) = old.as_ref().and_then(ip) {
            refs.entries_by_ip.remove(&ip, key);
            self.dirty.ips.insert(ip);
        }
        if let Some(ip) = new.and_then(ip) {
            refs.entries_by_ip.insert(ip, key);
            self.dirty.ips.insert(ip);
        }
        let (old, new) = (old.as_ref().map(|e| &e.labels), new.map(|e| &e.labels));
        let services = refs.of_services.member_changed(key, old, new);
        let services = services
            .iter()
            .map(|service| platform_id(service, &self.domain));
        self.dirty.services.extend(services);
        let entries = refs.of_entries.member_changed(key, old, new);
        entries.iter().for_each(|entry| self.touch_entry(entry));
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

/// What names a service of the platform.
fn platform_id(key: &Key, domain: &str) -> ServiceId {
    ServiceId::new(&key.0, Hostname::service(&key.1, &key.0, domain))
}

fn labels_of<'a>(
    entries: &'a BTreeMap<Key, Entry>,
    visited: &Cell<usize>,
    key: &Key,
) -> Option<&'a Labels> {
    visited.set(visited.get() + 1);
    entries.get(key).map(|entry| &entry.labels)
}

/// The new form of an object. `None` where it cannot be read: that does not displace the last form
/// of it that could.
fn readable<T: serde::de::DeserializeOwned>(
    key: &Key,
    value: Option<&Value>,
) -> Option<Option<Object<T>>> {
    match value.map(Object::from_value).transpose() {
        Ok(object) => Some(object),
        Err(error) => {
            tracing::warn!(namespace = key.0, name = key.1, %error, "unreadable, last form kept");
            None
        }
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
