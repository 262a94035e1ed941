//! Services of the platform and the endpoints of each of their ports.

use std::{net::IpAddr, sync::Arc};

use lateen_api::networking::WorkloadEntry;
use lateen_core::{Hostname, Labels};

use super::{Slice, SliceAddress, State};
use crate::{
    Endpoint, EndpointKey, Service, ServicePort, TargetPort, Workload, service_entry, store::Key,
};

impl State {
    pub(super) fn fold_service(&mut self, key: &Key) -> bool {
        let hostname = Hostname::service(&key.1, &key.0, &self.domain);
        let Some(source) = self.services.get(&key.0, &key.1) else {
            return self.remove_service(&hostname);
        };
        let service = Service {
            hostname: hostname.clone(),
            ..Service::clone(source)
        };
        let fresh = service.ports.iter().map(|port| {
            let name = EndpointKey {
                hostname: hostname.clone(),
                port_name: port.name.clone(),
            };
            (name, self.port_endpoints(key, &service, port))
        });
        let fresh: Vec<_> = fresh.collect();
        let mut changed = self.retain_ports(&hostname, &service);
        for (name, endpoints) in fresh {
            changed |= self.put_endpoints(name, endpoints);
        }
        changed | self.put_service(service)
    }

    pub(super) fn put_service(&mut self, service: Service) -> bool {
        let old = self.world.services.get(&service.hostname);
        if old.is_some_and(|old| **old == service) {
            return false;
        }
        self.world
            .services
            .insert(service.hostname.clone(), Arc::new(service));
        true
    }

    pub(super) fn put_endpoints(&mut self, key: EndpointKey, mut endpoints: Vec<Endpoint>) -> bool {
        endpoints.retain(|endpoint| is_on_network(&endpoint.address));
        if endpoints.is_empty() {
            return self.world.endpoints.remove(&key).is_some();
        }
        if self
            .world
            .endpoints
            .get(&key)
            .is_some_and(|old| **old == *endpoints)
        {
            return false;
        }
        self.world.endpoints.insert(key, endpoints.into());
        true
    }

    pub(super) fn remove_service(&mut self, hostname: &Hostname) -> bool {
        self.world
            .endpoints
            .retain(|key, _| key.hostname != *hostname);
        self.world.services.remove(hostname).is_some()
    }

    /// Forgets endpoints of ports that the service no longer has.
    pub(super) fn retain_ports(&mut self, hostname: &Hostname, service: &Service) -> bool {
        let before = self.world.endpoints.len();
        self.world.endpoints.retain(|key, _| {
            key.hostname != *hostname || service.port_named(&key.port_name).is_some()
        });
        before != self.world.endpoints.len()
    }

    fn port_endpoints(&self, key: &Key, service: &Service, port: &ServicePort) -> Vec<Endpoint> {
        if let Some(name) = &service.external_name {
            return vec![plain(name, port.port, &key.0)];
        }
        let mut endpoints = Vec::new();
        for (_, slice) in self
            .slices
            .in_namespace(&key.0)
            .filter(|(_, s)| s.service == key.1)
        {
            let Some(number) = slice_port(slice, &port.name) else {
                continue;
            };
            let found = slice
                .addresses
                .iter()
                .filter_map(|a| self.endpoint(key, a, number));
            endpoints.extend(found);
        }
        endpoints.extend(self.entry_endpoints(key, service, port));
        endpoints.sort_by(|a, b| (&a.address, a.port).cmp(&(&b.address, b.port)));
        // During a change of slices the same address may stand in two of them.
        endpoints.dedup_by(|a, b| a.address == b.address && a.port == b.port);
        endpoints
    }

    /// An endpoint whose pod has not been seen yet waits for it: without its labels it would be sent
    /// plaintext that it may refuse.
    fn endpoint(&self, key: &Key, source: &SliceAddress, port: u16) -> Option<Endpoint> {
        let pod = match &source.pod {
            Some(pod) => Some(self.pods.get(&key.0, pod)?),
            None => self.pod_in(&key.0, source.address.parse().ok()),
        };
        let own = pod.map(|pod| pod.locality.clone()).unwrap_or_default();
        Some(Endpoint {
            address: source.address.clone(),
            port,
            labels: pod.map(|pod| pod.labels.clone()).unwrap_or_default(),
            service_account: pod
                .map(|pod| pod.service_account.clone())
                .unwrap_or_default(),
            namespace: key.0.clone(),
            workload_name: pod
                .map(|pod| pod.workload_name().to_owned())
                .unwrap_or_default(),
            locality: self.locality(&own, &source.node),
            mtls: pod.is_some_and(|pod| pod.mtls),
            weight: 1,
            ready: source.ready,
            network: network(pod.map(|pod| &pod.labels)),
        })
    }

    /// The pod of the namespace that has the address.
    fn pod_in(&self, namespace: &str, ip: Option<IpAddr>) -> Option<&Arc<Workload>> {
        let pods = self.pods_by_ip.get(&ip?)?;
        let key = pods.iter().rev().find(|key| key.0 == namespace)?;
        self.pods.get(&key.0, &key.1)
    }

    /// WorkloadEntries serve the services whose selector picks them, as pods do.
    fn entry_endpoints(&self, key: &Key, service: &Service, port: &ServicePort) -> Vec<Endpoint> {
        if service.selector.is_empty() {
            return Vec::new();
        }
        let entries = self.workload_entries.iter().filter(|(k, _)| k.0 == key.0);
        let picked = entries
            .map(|(_, entry)| &entry.spec)
            .filter(|entry| service.selector.selects(&Labels(entry.labels.clone())));
        picked
            .filter_map(|entry| {
                let number = entry_port(entry, port)?;
                Some(service_entry::endpoint(entry, number, &key.0))
            })
            .collect()
    }
}

/// Sockets of a file system, and entries that only name a network, cannot be connected to from
/// here; a proxy would refuse all endpoints of the service for one of them.
fn is_on_network(address: &str) -> bool {
    !address.is_empty() && !address.starts_with("unix://")
}

fn entry_port(entry: &WorkloadEntry, port: &ServicePort) -> Option<u16> {
    let named = entry
        .ports
        .get(port.name.as_str())
        .and_then(|n| u16::try_from(*n).ok());
    named.or_else(|| match &port.target_port {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => entry.ports.get(name).and_then(|n| u16::try_from(*n).ok()),
    })
}

fn slice_port(slice: &Slice, name: &str) -> Option<u16> {
    slice
        .ports
        .iter()
        .find(|(port, _)| port == name)
        .map(|(_, number)| *number)
}

fn network(labels: Option<&Labels>) -> String {
    labels
        .and_then(|l| l.value(lateen_api::labels::NETWORK))
        .unwrap_or_default()
        .to_owned()
}

fn plain(address: &str, port: u16, namespace: &str) -> Endpoint {
    service_entry::endpoint(
        &WorkloadEntry {
            address: address.to_owned(),
            ..Default::default()
        },
        port,
        namespace,
    )
}
