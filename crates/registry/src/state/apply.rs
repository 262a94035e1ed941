//! Taking an update in, and marking what it touches.

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

use super::update::{Slice, SliceAddress, Update};
use super::{Entry, State, set};
use crate::{
    Service, Workload, service_entry,
    store::{Event, Key},
};

impl State {
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
                let healthy = value.as_deref().is_some_and(service_entry::is_healthy);
                self.set_workload_entry(&key, entry, healthy);
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

    fn set_workload_entry(
        &mut self,
        key: &Key,
        entry: Option<Object<WorkloadEntry>>,
        healthy: bool,
    ) {
        let with_labels = |object: Object<WorkloadEntry>| Entry {
            labels: Labels(object.spec.labels.clone()),
            object,
            healthy,
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
