//! Ports of a proxy's own workload.

use std::collections::BTreeMap;

use lateen_api::mesh::MeshConfig;
use lateen_api::networking::{CaptureMode, IstioIngressListener};
use lateen_core::Protocol;

use super::View;
use super::gateways::server_tls;
use crate::key::Key;
use crate::listener::{BoundKey, InboundKey, InboundPort, Logging};
use crate::mtls;
use crate::proxy::Dialect;
use crate::shared::Shared;

impl<'a> View<'a> {
    /// The inbound listeners of the Sidecar; empty where services say what the workload listens on.
    pub(super) fn ingress(self) -> &'a [IstioIngressListener] {
        self.own_sidecar()
            .map_or(&[], |sidecar| &sidecar.spec.ingress)
    }

    /// The application's ports, those of the Sidecar where it has any, else those that services lead
    /// to. Where two services disagree about a port's protocol, the older one counts.
    pub(crate) fn inbound_ports(self) -> Vec<InboundPort> {
        let ingress = self.ingress();
        if !ingress.is_empty() {
            let ports = ingress
                .iter()
                .filter_map(|listener| self.ingress_port(listener));
            return ports.collect();
        }
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
                    tls: None,
                    trust_domains: self.snapshot.trust_domains().clone(),
                    mesh: self.inbound_mesh(),
                });
            }
        }
        ports.into_values().collect()
    }

    fn ingress_port(self, listener: &IstioIngressListener) -> Option<InboundPort> {
        let port = listener.port.as_ref()?;
        let number = u16::try_from(port.number).ok().filter(|n| *n > 0)?;
        let protocol = Protocol::parse(&port.protocol).unwrap_or(Protocol::Unsupported);
        let leads_here = |service: &&std::sync::Arc<lateen_registry::Service>| {
            let mut ports = service.ports.iter();
            ports.any(|port| self.target_port(port) == Some(number))
        };
        let host = self.own_services().into_iter().find(leads_here);
        let tls = listener.tls.as_ref();
        Some(InboundPort {
            port: number,
            protocol,
            mode: self.mode(Some(number)),
            service: match host {
                Some(service) => (service.hostname.to_string(), number),
                None => (self.from.namespace.clone(), number),
            },
            tls: tls.and_then(|tls| server_tls(tls, protocol.is_http())),
            trust_domains: self.snapshot.trust_domains().clone(),
            mesh: self.inbound_mesh(),
        })
    }

    /// The mesh, where it has anything to say of inbound ports.
    fn inbound_mesh(self) -> Option<Shared<MeshConfig>> {
        let mesh = &self.snapshot.config.mesh;
        let retries = mesh.default_inbound_http_retry_policy.is_some();
        (retries || mesh.mesh_mtls.is_some()).then(|| Shared::of(mesh))
    }

    /// Keys of all listeners that traffic to the workload arrives at.
    pub(crate) fn inbound_listeners(self) -> Vec<Key> {
        if self.from.dialect == Dialect::Grpc {
            return self.grpc_servers();
        }
        let mut keys = vec![Key::VirtualInbound(self.virtual_inbound())];
        let own = self.ingress().iter().filter(|l| is_bound(l));
        for listener in own {
            let address = match listener.bind.as_str() {
                "" => crate::listener::EVERYWHERE,
                bind => bind,
            };
            keys.extend(self.ingress_port(listener).map(|port| {
                Key::Bound(BoundKey {
                    addresses: self.from.connectivity.families.expand(address),
                    port,
                    logging: Logging::of(&self.snapshot.config.mesh),
                })
            }));
        }
        self.patched_listeners(keys, true)
    }

    pub(crate) fn virtual_inbound(self) -> InboundKey {
        let mut ports = self.inbound_ports();
        let ingress = self.ingress();
        if !ingress.is_empty() {
            let captured = |port: &InboundPort| {
                let number = u32::from(port.port);
                let mut captured = ingress.iter().filter(|listener| !is_bound(listener));
                captured.any(|l| l.port.as_ref().is_some_and(|p| p.number == number))
            };
            ports.retain(captured);
        }
        let (namespace, labels) = (&self.from.namespace, self.labels());
        let other = mtls::ports(self.snapshot, namespace, labels);
        let other = other
            .into_iter()
            .filter(|n| ports.iter().all(|p| p.port != *n));
        InboundKey {
            mode: self.mode(None),
            trust_domains: self.snapshot.trust_domains().clone(),
            mesh: self.inbound_mesh(),
            other_modes: other.map(|n| (n, self.mode(Some(n)))).collect(),
            ports,
            logging: Logging::of(&self.snapshot.config.mesh),
            families: self.from.connectivity.families,
        }
    }
}

/// Whether the proxy listens there itself.
fn is_bound(listener: &IstioIngressListener) -> bool {
    listener.capture_mode == CaptureMode::None
}
