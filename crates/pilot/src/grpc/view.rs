//! What a gRPC client or server sees.

use std::sync::Arc;

use lateen_core::Direction;
use lateen_registry::{Resolution, Service, ServicePort};
use lateen_xds::names::ClusterName;

use super::{ApiListenerKey, ClusterKey, Key, ServerKey};
use crate::cluster::OutboundKey;
use crate::key;
use crate::listener::Mode;
use crate::route::{HostKind, Table, VirtualHostKey};
use crate::view::View;

/// Addresses at which servers listen to everybody.
const EVERYWHERE: [&str; 2] = ["[::]", "0.0.0.0"];

/// Whether gRPC can reach a service: it takes endpoints by EDS, and speaks HTTP/2.
fn is_within_reach(service: &Service, port: &ServicePort) -> bool {
    service.resolution == Resolution::ClientSide
        && (port.protocol.is_http() || port.protocol.is_unsupported())
}

/// The cluster of a service's port, if it is one for gRPC.
pub(crate) fn cluster(service: &Service, key: OutboundKey) -> Option<key::Key> {
    let port = service.port(key.port)?;
    let key = || key::Key::Grpc(Box::new(Key::Cluster(ClusterKey(key))));
    is_within_reach(service, port).then(key)
}

impl View<'_> {
    /// Keys of listeners for all that may be dialled.
    pub(crate) fn grpc_clients(self) -> Vec<key::Key> {
        let mut keys = Vec::new();
        for service in self.services() {
            let ports = service.ports.iter();
            for port in ports.filter(|port| is_within_reach(service, port)) {
                for name in self.dialled(service) {
                    keys.push(key::Key::Grpc(Box::new(Key::Client(ApiListenerKey {
                        name: format!("{name}:{}", port.port),
                        host: service.hostname.to_string(),
                        port: port.port,
                    }))));
                }
            }
        }
        keys
    }

    /// Keys of listeners for the ports that the workload serves.
    pub(crate) fn grpc_servers(self) -> Vec<key::Key> {
        let ports = self.inbound_ports();
        let servers = ports.iter().flat_map(|port| {
            EVERYWHERE.map(|address| ServerKey {
                address,
                port: port.port,
                strict: port.mode == Mode::Strict,
            })
        });
        servers
            .map(|key| key::Key::Grpc(Box::new(Key::Server(key))))
            .collect()
    }

    /// A table, which has the name of the cluster of the whole service.
    pub(crate) fn grpc_routes(self, name: &str) -> Option<Table> {
        let parsed: ClusterName = name.parse().ok()?;
        if parsed.direction != Direction::Outbound || !parsed.subset.is_empty() {
            return None;
        }
        let service = self.service(&parsed.host)?;
        let port = service.port(parsed.port)?;
        if !is_within_reach(service, port) {
            return None;
        }
        let host = self.own_host(port.port, service, self.dialled(service));
        Some(Table {
            name: name.to_owned(),
            port: port.port,
            by_port: false,
            hosts: vec![VirtualHostKey {
                table: name.to_owned(),
                kind: HostKind::Grpc(host),
            }],
        })
    }

    /// Names of a service that a client may dial: those that resolve in its namespace.
    fn dialled(self, service: &Arc<Service>) -> Vec<String> {
        let mut names = self.domains(service);
        let is_name = |name: &String| {
            let address = name.trim_matches(['[', ']']);
            !name.ends_with('.')
                && !name.starts_with('*')
                && address.parse::<std::net::IpAddr>().is_err()
        };
        names.retain(is_name);
        names
    }
}
