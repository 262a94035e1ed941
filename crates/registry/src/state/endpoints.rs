//! Services of the platform and the endpoints of each of their ports.

use std::{net::IpAddr, sync::Arc};

use lateen_api::networking::WorkloadEntry;
use lateen_core::{Labels, ServiceId};

use super::{Slice, SliceAddress, State};
use crate::{
    Endpoint, EndpointKey, Resolution, Service, ServicePort, TargetPort, Workload,
    external::External, service_entry, store::Key,
};

impl State {
    /// The platform's own service of a name is stronger than one that entries declare, and that is
    /// stronger than one of a catalogue.
    pub(super) fn fold_service(&mut self, id: &ServiceId) -> bool {
        self.visit();
        let folded = self.platform_service(id);
        let folded = folded.or_else(|| self.declared_service(id));
        let Some(folded) = folded.or_else(|| self.listed_service(id)) else {
            return self.remove_service(id);
        };
        let mut changed = self.retain_ports(id, &folded.service);
        let by_address = folded.service.resolution == Resolution::ClientSide;
        for (name, mut endpoints) in folded.endpoints {
            endpoints.retain(|endpoint| is_reachable(endpoint, by_address));
            changed |= self.put_endpoints(name, endpoints);
        }
        changed | self.put_service(id, folded.service)
    }

    /// What the catalogue lists under the name.
    fn listed_service(&self, id: &ServiceId) -> Option<External> {
        let name = id.hostname.split_once('.')?.0;
        let listed = self.catalog.get(&id.namespace, name)?;
        (listed.service.hostname == id.hostname).then(|| External::clone(listed))
    }

    fn put_service(&mut self, id: &ServiceId, service: Service) -> bool {
        let old = self.world.services.get(id);
        if old.is_some_and(|old| **old == service) {
            return false;
        }
        self.world.services.insert(id.clone(), Arc::new(service));
        true
    }

    fn put_endpoints(&mut self, key: EndpointKey, endpoints: Vec<Endpoint>) -> bool {
        if endpoints.is_empty() {
            return self.world.endpoints.remove(&key).is_some();
        }
        let old = self.world.endpoints.get(&key);
        if old.is_some_and(|old| **old == *endpoints) {
            return false;
        }
        self.world.endpoints.insert(key, endpoints.into());
        true
    }

    fn remove_service(&mut self, id: &ServiceId) -> bool {
        self.remove_endpoints(id, |_| true);
        self.world.services.remove(id).is_some()
    }

    /// Forgets endpoints of ports that the service no longer has.
    fn retain_ports(&mut self, id: &ServiceId, service: &Service) -> bool {
        self.remove_endpoints(id, |port_name| service.port_named(port_name).is_none())
    }

    fn remove_endpoints(&mut self, id: &ServiceId, gone: impl Fn(&str) -> bool) -> bool {
        let keys = self
            .world
            .endpoints
            .range(EndpointKey::new(id.clone(), "")..);
        let own = keys
            .map(|(key, _)| key)
            .take_while(|key| key.service == *id);
        let gone: Vec<_> = own.filter(|key| gone(&key.port_name)).cloned().collect();
        for key in &gone {
            self.world.endpoints.remove(key);
        }
        !gone.is_empty()
    }

    /// The platform's service of a name.
    fn source_of<'a>(&'a self, id: &'a ServiceId) -> Option<(&'a str, &'a Arc<Service>)> {
        let rest = id.hostname.strip_suffix(self.domain.as_str())?;
        let rest = rest
            .strip_suffix(".svc.")?
            .strip_suffix(id.namespace.as_str())?;
        let name = rest.strip_suffix('.')?;
        Some((name, self.services.get(&id.namespace, name)?))
    }

    /// Whether the platform has a service of the name, which is then not one of entries.
    pub(super) fn is_of_platform(&self, id: &ServiceId) -> bool {
        self.source_of(id).is_some()
    }

    fn platform_service(&self, id: &ServiceId) -> Option<External> {
        let (name, source) = self.source_of(id)?;
        let service = Service {
            hostname: id.hostname.clone(),
            ..Service::clone(source)
        };
        let key = (id.namespace.to_string(), name.to_owned());
        let of_port = |port: &ServicePort| {
            let name = EndpointKey::new(id.clone(), &port.name);
            (name, self.port_endpoints(&key, &service, port))
        };
        Some(External {
            endpoints: service.ports.iter().map(of_port).collect(),
            service,
        })
    }

    fn port_endpoints(&self, key: &Key, service: &Service, port: &ServicePort) -> Vec<Endpoint> {
        if let Some(name) = &service.external_name {
            return vec![plain(name, port.port, &key.0)];
        }
        let mut endpoints = Vec::new();
        for slice in self.refs.slices_of.of(key) {
            self.visit();
            let slice = self.slices.get(&slice.0, &slice.1);
            let Some((slice, number)) = slice.and_then(|s| Some((s, slice_port(s, &port.name)?)))
            else {
                continue;
            };
            let addresses = slice.addresses.iter();
            endpoints.extend(addresses.filter_map(|a| self.endpoint(key, a, number)));
        }
        endpoints.extend(self.entry_endpoints(key, port));
        endpoints.sort_by(|a, b| (&a.address, a.port).cmp(&(&b.address, b.port)));
        // During a change of slices the same address may stand in two of them.
        endpoints
            .dedup_by(|a, b| !a.address.is_empty() && a.address == b.address && a.port == b.port);
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
            node: source.node.as_str().into(),
        })
    }

    /// The pod of the namespace that has the address.
    fn pod_in(&self, namespace: &str, ip: Option<IpAddr>) -> Option<&Arc<Workload>> {
        let ip = ip?;
        let mut pods = self.refs.pods_by_ip.of(&ip).rev();
        let key = pods.find(|key| key.0 == namespace)?;
        self.pods.get(&key.0, &key.1)
    }

    /// WorkloadEntries serve the services whose selector picks them, as pods do.
    fn entry_endpoints(&self, key: &Key, port: &ServicePort) -> Vec<Endpoint> {
        let entries = self.refs.of_services.selected_by(key);
        let endpoints = entries.filter_map(|entry| {
            self.visit();
            let entry = &self.workload_entries[entry];
            let spec = &entry.object.spec;
            let number = entry_port(spec, port)?;
            Some(Endpoint {
                ready: entry.healthy,
                ..service_entry::endpoint(spec, number, &key.0)
            })
        });
        endpoints.collect()
    }
}

/// Sockets in the file system are no names to look up: a proxy would refuse all endpoints of the service
/// for one of them. What only names a network is reached by that network's gateways.
fn is_reachable(endpoint: &Endpoint, by_address: bool) -> bool {
    match endpoint.address.as_str() {
        "" => !endpoint.network.is_empty(),
        address => by_address || !address.starts_with("unix://"),
    }
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

/// The network that a workload's labels say.
pub(super) fn network(labels: Option<&Labels>) -> String {
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
