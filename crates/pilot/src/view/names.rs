//! The names that the mesh answers for a proxy's application.

use std::net::IpAddr;

use lateen_registry::{Provider, Resolution, Service};
use lateen_xds::nds::{EXTERNAL, KUBERNETES, NameInfo, NameTable};

use super::View;
use crate::model::{Reach, Way};

impl View<'_> {
    /// All hosts that the proxy sees and that have an address: a virtual one, their own or given, or
    /// those of the pods of a headless service. Other hosts, and the names of single pods, are left to
    /// whoever answers names otherwise.
    pub(crate) fn name_table(self) -> NameTable {
        let mut found = NameTable::default();
        for service in self.services() {
            let mut ips: Vec<_> = self.virtual_ones(service).copied().collect();
            if ips.is_empty() && service.addresses.is_empty() {
                ips = self.pods_of(service);
            }
            if ips.is_empty() {
                continue;
            }
            let is_kubernetes = service.provider == Provider::Kubernetes;
            let info = NameInfo {
                ips: ips.iter().map(IpAddr::to_string).collect(),
                registry: if is_kubernetes { KUBERNETES } else { EXTERNAL }.to_owned(),
                shortname: match is_kubernetes {
                    true => service.name.clone(),
                    false => String::new(),
                },
                namespace: match is_kubernetes {
                    true => service.namespace.to_string(),
                    false => String::new(),
                },
            };
            found.table.insert(service.hostname.to_string(), info);
        }
        found
    }

    /// The addresses of a headless service that the proxy reaches.
    fn pods_of(self, service: &Service) -> Vec<IpAddr> {
        let is_headless = service.provider == Provider::Kubernetes
            && service.resolution == Resolution::Passthrough;
        let Some(port) = service.ports.first().filter(|_| is_headless) else {
            return Vec::new();
        };
        let networks = self.snapshot.networks();
        let connectivity = &self.from.connectivity;
        let reach = networks.are_several().then(|| Reach {
            networks: networks.clone(),
            own: connectivity.network.clone(),
            view: connectivity.view.clone(),
            secured: false,
        });
        let endpoints = self.snapshot.world.endpoints(&service.id(), &port.name);
        let reached = endpoints.iter().filter(|endpoint| {
            let is_near = |reach: &Reach| matches!(reach.way(endpoint, false), Way::Direct);
            endpoint.ready && reach.as_ref().is_none_or(is_near)
        });
        let ips = reached.filter_map(|endpoint| endpoint.address.parse().ok());
        let mut ips: Vec<IpAddr> = ips.filter(|ip| connectivity.families.reach(ip)).collect();
        ips.sort_unstable();
        ips.dedup();
        ips
    }
}
