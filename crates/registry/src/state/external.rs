//! Services that ServiceEntries add to the world.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use lateen_api::{Object, networking::ServiceEntry};
use lateen_core::{Hostname, Labels};

use super::State;
use crate::{Endpoint, EndpointKey, Service, Workload, service_entry};

/// Whether the entry's endpoints come from labels, and so change with workloads.
pub(super) fn selects_workloads(entry: &Object<ServiceEntry>) -> bool {
    entry.spec.workload_selector.is_some()
}

impl State {
    /// All of them anew: entries are few, and hosts of several entries compete.
    pub(super) fn fold_external(&mut self) -> bool {
        let mut services: BTreeMap<Hostname, Service> = BTreeMap::new();
        let mut endpoints: BTreeMap<EndpointKey, Vec<Endpoint>> = BTreeMap::new();
        for entry in self.entries_by_age() {
            for service in service_entry::services(entry) {
                for port in &service.ports {
                    let found = self.selected(entry, port.name.as_str());
                    let found =
                        found.unwrap_or_else(|| service_entry::endpoints(entry, &service, port));
                    let key = EndpointKey {
                        hostname: service.hostname.clone(),
                        port_name: port.name.clone(),
                    };
                    endpoints.entry(key).or_default().extend(found);
                }
                // The older entry decides about the service; endpoints of all add up.
                services.entry(service.hostname.clone()).or_insert(service);
            }
        }
        // The platform's own service of that name is stronger.
        let platform: BTreeSet<Hostname> = self
            .services
            .iter()
            .map(|(key, _)| Hostname::service(&key.1, &key.0, &self.domain))
            .collect();
        services.retain(|hostname, _| !platform.contains(hostname));
        self.replace_external(services, endpoints, &platform)
    }

    fn replace_external(
        &mut self,
        services: BTreeMap<Hostname, Service>,
        mut endpoints: BTreeMap<EndpointKey, Vec<Endpoint>>,
        platform: &BTreeSet<Hostname>,
    ) -> bool {
        let hosts: BTreeSet<Hostname> = services.keys().cloned().collect();
        let old = std::mem::replace(&mut self.external_hosts, hosts);
        let gone: Vec<Hostname> = old
            .into_iter()
            .filter(|host| !services.contains_key(host) && !platform.contains(host))
            .collect();
        let mut changed = false;
        for host in gone {
            changed |= self.remove_service(&host);
        }
        for (hostname, service) in services {
            changed |= self.retain_ports(&hostname, &service);
            for port in &service.ports {
                let key = EndpointKey {
                    hostname: hostname.clone(),
                    port_name: port.name.clone(),
                };
                let found = endpoints.remove(&key).unwrap_or_default();
                changed |= self.put_endpoints(key, found);
            }
            changed |= self.put_service(service);
        }
        changed
    }

    fn entries_by_age(&self) -> Vec<&Object<ServiceEntry>> {
        let mut entries: Vec<_> = self.service_entries.values().collect();
        entries.sort_by_key(|entry| {
            (
                entry.meta.creation_timestamp,
                &entry.meta.namespace,
                &entry.meta.name,
            )
        });
        entries
    }

    /// Endpoints by label: workload entries and pods of the entry's namespace.
    fn selected(&self, entry: &Object<ServiceEntry>, port_name: &str) -> Option<Vec<Endpoint>> {
        let selector = Labels(entry.spec.workload_selector.as_ref()?.labels.clone());
        let port = entry
            .spec
            .ports
            .iter()
            .find(|port| port.name == port_name)?;
        let number = u16::try_from(port.target_port.unwrap_or(port.number)).ok()?;
        let namespace = &entry.meta.namespace;
        let mut found = Vec::new();
        for (_, workload) in self
            .workload_entries
            .iter()
            .filter(|(key, _)| key.0 == *namespace)
        {
            if selector.selects(&Labels(workload.spec.labels.clone())) {
                let named = workload.spec.ports.get(port_name);
                let number = named.and_then(|n| u16::try_from(*n).ok()).unwrap_or(number);
                found.push(service_entry::endpoint(&workload.spec, number, namespace));
            }
        }
        let pods = self.pods.in_namespace(namespace).map(|(_, pod)| pod);
        for pod in pods.filter(|pod| selector.selects(&pod.labels)) {
            found.extend(
                pod.ips
                    .first()
                    .map(|ip| self.pod_endpoint(pod, *ip, number)),
            );
        }
        Some(found)
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
            network: String::new(),
        }
    }
}
