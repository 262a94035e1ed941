//! Services that ServiceEntries add to the world.

use std::{collections::BTreeSet, net::IpAddr};

use jiff::Timestamp;
use lateen_api::{Object, kinds, networking::ServiceEntry};
use lateen_core::{Hostname, ServiceId};

use super::{
    State,
    allocation::{Slot, slot_of},
};
use crate::{
    Endpoint, EndpointKey, Service, ServicePort, Workload, external::External, service_entry,
    store::Key,
};

impl State {
    /// A service of a namespace as its entries declare it. The oldest decides; the others add their
    /// endpoints, and the ports that it does not have.
    pub(super) fn declared_service(&self, id: &ServiceId) -> Option<External> {
        let mut entries = self.entries_of(id).into_iter();
        let (key, oldest) = entries.next()?;
        let mut folded = External {
            service: service_entry::service(oldest, &id.hostname),
            endpoints: Vec::new(),
        };
        folded.service.allocated = self.allocation.addresses(id);
        self.add_endpoints(&mut folded, id, key, oldest);
        for (key, entry) in entries {
            if entry.spec.resolution != oldest.spec.resolution {
                // Endpoints of both cannot stand in one cluster.
                tracing::warn!(
                    service = %id, entry = key.1, oldest = oldest.meta.name,
                    "an older ServiceEntry resolves this host in another way, the younger is left out"
                );
                continue;
            }
            for port in service_entry::service(entry, &id.hostname).ports {
                let held = &mut folded.service.ports;
                if held
                    .iter()
                    .all(|p| p.name != port.name && p.port != port.port)
                {
                    held.push(port);
                }
            }
            self.add_endpoints(&mut folded, id, key, entry);
        }
        Some(folded)
    }

    /// Gives addresses to those of some services that want one; with those that move for them.
    pub(super) fn allocate(&mut self, services: BTreeSet<ServiceId>) -> BTreeSet<ServiceId> {
        let mut concerned = BTreeSet::new();
        for id in services {
            let wish = self.address_wish(&id);
            concerned.extend(self.allocation.set(&id, wish));
            concerned.insert(id);
        }
        concerned
    }

    /// When the service was made and the address that its entry's status says, if it wants one.
    fn address_wish(&self, id: &ServiceId) -> Option<(Option<Timestamp>, Option<Slot>)> {
        let (key, oldest) = self.entries_of(id).into_iter().next()?;
        if !service_entry::wants_address(oldest, &id.hostname) || self.is_of_platform(id) {
            return None;
        }
        let document = self.objects[kinds::SERVICE_ENTRY.kind].get(&key.0, &key.1);
        let known = document.and_then(|document| document["status"]["addresses"].as_array());
        let mut own = known.into_iter().flatten().filter(|address| {
            let host = address["host"].as_str();
            host.is_some_and(|host| Hostname::new(host) == id.hostname)
        });
        let kept = own.find_map(|address| slot_of(address["value"].as_str()?));
        Some((oldest.meta.creation_timestamp, kept))
    }

    /// The entries that declare a service, the oldest first.
    fn entries_of(&self, id: &ServiceId) -> Vec<(&Key, &Object<ServiceEntry>)> {
        let keys = self.refs.declared.of(id);
        let mut entries: Vec<_> = keys.map(|key| (key, &self.service_entries[key])).collect();
        entries.iter().for_each(|_| self.visit());
        entries.sort_by_key(|(key, entry)| (entry.meta.creation_timestamp, *key));
        entries
    }

    /// Adds what an entry knows of its own ports.
    fn add_endpoints(
        &self,
        folded: &mut External,
        id: &ServiceId,
        key: &Key,
        entry: &Object<ServiceEntry>,
    ) {
        let service = service_entry::service(entry, &id.hostname);
        for port in &service.ports {
            let name = EndpointKey::new(id.clone(), &port.name);
            let found = self.endpoints_of(key, entry, &service, port);
            match folded.endpoints.iter_mut().find(|(held, _)| *held == name) {
                Some((_, held)) => held.extend(found),
                None => folded.endpoints.push((name, found)),
            }
        }
        // A port that lost its number to an older one's has no place.
        let service = &folded.service;
        folded
            .endpoints
            .retain(|(name, _)| service.port_named(&name.port_name).is_some());
    }

    /// Where the entry has a selector, the workload entries and pods that it picks; else its own.
    fn endpoints_of(
        &self,
        key: &Key,
        entry: &Object<ServiceEntry>,
        service: &Service,
        port: &ServicePort,
    ) -> Vec<Endpoint> {
        if entry.spec.workload_selector.is_none() {
            return service_entry::endpoints(entry, service, port);
        }
        let target = service_entry::target(port);
        let entries = self.refs.of_entries.selected_by(key).map(|member| {
            self.visit();
            let entry = &self.workload_entries[member];
            let spec = &entry.object.spec;
            let named = spec.ports.get(port.name.as_str());
            let number = named.and_then(|n| u16::try_from(*n).ok()).unwrap_or(target);
            Endpoint {
                ready: entry.healthy,
                ..service_entry::endpoint(spec, number, &key.0)
            }
        });
        let pods = self
            .refs
            .pods_of_entries
            .selected_by(key)
            .filter_map(|member| {
                self.visit();
                let pod = self.pods.get(&member.0, &member.1)?;
                Some(self.pod_endpoint(pod, *pod.ips.first()?, target))
            });
        entries.chain(pods).collect()
    }

    fn pod_endpoint(&self, pod: &Workload, ip: IpAddr, port: u16) -> Endpoint {
        Endpoint {
            address: ip.to_string(),
            port,
            labels: pod.labels.clone(),
            service_account: pod.service_account.clone(),
            namespace: pod.namespace.clone(),
            workload_name: pod.workload_name().to_owned(),
            locality: self.locality(&pod.locality, &pod.node),
            mtls: pod.mtls,
            weight: 1,
            ready: pod.ready,
            network: super::endpoints::network(Some(&pod.labels)),
            node: pod.node.as_str().into(),
        }
    }
}
