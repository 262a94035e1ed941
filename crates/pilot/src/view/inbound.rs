//! Ports of a proxy's own workload.

use std::collections::BTreeMap;

use lateen_core::Protocol;

use super::View;
use crate::listener::{InboundKey, InboundPort, Logging};
use crate::mtls;

impl View<'_> {
    /// The application's ports that services lead to. Where two services disagree about a port's
    /// protocol, the older one counts.
    pub(super) fn inbound_ports(self) -> Vec<InboundPort> {
        let mut ports: BTreeMap<u16, InboundPort> = BTreeMap::new();
        for service in self.own_services() {
            for port in service.ports.iter().filter(|p| p.protocol != Protocol::Udp) {
                let Some(number) = self.target_port(port) else {
                    continue;
                };
                ports.entry(number).or_insert_with(|| InboundPort {
                    port: number,
                    protocol: port.protocol,
                    mode: self.mode(Some(number)),
                    service: (service.hostname.to_string(), port.port),
                });
            }
        }
        ports.into_values().collect()
    }

    pub(crate) fn virtual_inbound(self) -> InboundKey {
        let ports = self.inbound_ports();
        let (namespace, labels) = (&self.from.namespace, self.labels());
        let other = mtls::ports(self.snapshot, namespace, labels);
        let other = other
            .into_iter()
            .filter(|n| ports.iter().all(|p| p.port != *n));
        InboundKey {
            mode: self.mode(None),
            other_modes: other.map(|n| (n, self.mode(Some(n)))).collect(),
            ports,
            logging: Logging::of(&self.snapshot.config.mesh),
        }
    }
}
