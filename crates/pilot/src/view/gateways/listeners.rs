//! The listeners of a gateway: servers by the addresses and ports that they share.

use std::collections::{BTreeMap, BTreeSet};

use lateen_core::Hostname;

use super::{Bound, Role};
use crate::listener::{EVERYWHERE, GatewayKey, GatewayServer, Logging, ServerTls, Topology};
use crate::view::View;

impl<'a> View<'a> {
    pub(in crate::view) fn gateway_listeners(self) -> Vec<GatewayKey> {
        let mut ports: BTreeMap<(String, u16, bool), Vec<Bound<'a>>> = BTreeMap::new();
        for bound in self.bound() {
            let bind = bound.server.bind.as_str();
            let address = if bind.is_empty() { EVERYWHERE } else { bind };
            let is_udp = bound.role() == Role::Udp;
            let key = (address.to_owned(), bound.listens, is_udp);
            ports.entry(key).or_default().push(bound);
        }
        let by_name = self.by_name().next().is_some();
        let listener = |((address, port, _), bound): ((String, u16, bool), Vec<Bound<'a>>)| {
            let servers = self.servers(&bound);
            (!servers.is_empty()).then(|| GatewayKey {
                addresses: self.from.connectivity.families.expand(&address),
                port,
                servers,
                logging: Logging::of(&self.snapshot.config.mesh),
                topology: self.topology(),
                by_name,
            })
        };
        ports.into_iter().filter_map(listener).collect()
    }

    /// What is before the gateway, by its own configuration, else by the mesh's.
    fn topology(self) -> Topology {
        let of_mesh = self.snapshot.config.mesh.default_config.as_ref();
        let of_mesh = of_mesh.and_then(|config| config.gateway_topology.as_ref());
        let own = self.from.topology;
        own.or(of_mesh.map(Topology::from)).unwrap_or_default()
    }

    /// The servers of one port: the first decides whether it is plain HTTP, plain bytes or TLS.
    fn servers(self, bound: &[Bound<'a>]) -> Vec<GatewayServer> {
        let roles: Vec<_> = bound.iter().map(Bound::role).collect();
        let Some(first) = roles.iter().copied().find(|role| *role != Role::None) else {
            return Vec::new();
        };
        let mut servers = Vec::new();
        for (bound, role) in bound.iter().zip(roles) {
            if !role.fits(first) {
                continue;
            }
            let server = match role {
                Role::None => None,
                Role::Udp => self.datagram_server(bound),
                Role::Http => Some(GatewayServer::Http {
                    routes: bound.routes(),
                }),
                Role::Https => bound.ends_tls(true).map(|tls| GatewayServer::Https {
                    routes: bound.routes(),
                    sni: sni(&bound.hosts()),
                    tls,
                }),
                Role::Passthrough | Role::Tcp => Some(self.tcp_server(bound, None)),
                Role::Auto => Some(GatewayServer::Tcp {
                    rules: self.rules_by_name(bound),
                    tls: None,
                }),
                Role::TerminatedTcp => bound
                    .ends_tls(false)
                    .map(|tls| self.tcp_server(bound, Some((sni(&bound.hosts()), tls)))),
            };
            // All plain HTTP servers of a port share one chain and one table.
            servers.extend(server.filter(|s| role != Role::Http || !servers.contains(s)));
        }
        let nothing = |server: &GatewayServer| matches!(server, GatewayServer::Tcp { rules, .. } if rules.is_empty());
        servers.retain(|server| !nothing(server));
        servers
    }

    fn tcp_server(self, bound: &Bound<'a>, tls: Option<(Vec<String>, ServerTls)>) -> GatewayServer {
        let name = bound.name();
        let hosts = bound.hosts();
        let mut rules = Vec::new();
        for hosted in self.served_by(bound) {
            if bound.role() == Role::Passthrough {
                rules.extend(self.tls_rules(hosted, &name, bound.port, Some(&hosts)));
            } else {
                rules.extend(self.opaque_rules(hosted, &name, bound.port));
            }
        }
        GatewayServer::Tcp { rules, tls }
    }
}

/// Server names of a chain; none where every name is served.
fn sni(hosts: &[Hostname]) -> Vec<String> {
    if hosts.iter().any(|host| host.as_str() == "*") {
        return Vec::new();
    }
    let names: BTreeSet<String> = hosts.iter().map(ToString::to_string).collect();
    names.into_iter().collect()
}
