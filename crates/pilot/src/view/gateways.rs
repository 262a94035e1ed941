//! The servers of a gateway: what each is, and which VirtualServices are bound to it.

mod by_name;
mod certificates;
mod listeners;
mod routes;

use lateen_api::Object;
use lateen_api::networking::{Gateway, Server, ServerTlsMode};
use lateen_core::Hostname;
use lateen_galley::GATEWAY_SERVICE;
use lateen_registry::{Resolution, Service};
use lateen_xds::names;

use super::View;
use crate::listener::ServerTls;
use crate::snapshot::HostedVirtualService;
use crate::trace::ServersOf;
use crate::wire;
pub(super) use certificates::server_tls;

/// A server of a Gateway that selects the proxy.
pub(super) struct Bound<'a> {
    gateway: &'a Object<Gateway>,
    server: &'a Server,
    /// The place of the server in the Gateway.
    place: usize,
    /// The port that clients name.
    port: u16,
    /// The port that the proxy listens on.
    listens: u16,
}

/// What a server's protocol and TLS mode come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Http,
    Https,
    /// TLS is passed on unopened.
    Passthrough,
    /// TLS ends here, bytes go on.
    TerminatedTcp,
    Tcp,
    /// Datagrams.
    Udp,
    /// TLS of the mesh is passed on unopened to whatever its server name says.
    Auto,
    /// Protocols that are not known.
    None,
}

impl Role {
    /// What a server is.
    pub(crate) fn of(server: &Server) -> Role {
        let protocol = server.port.as_ref().map_or("", |port| &port.protocol);
        let mode = server.tls.as_ref().and_then(|tls| tls.mode);
        // Without a mode, TLS is passed through.
        let terminates = mode.is_some_and(|mode| mode != ServerTlsMode::Passthrough);
        match protocol.to_ascii_uppercase().as_str() {
            "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB" | "HTTP_PROXY" => Role::Http,
            _ if mode == Some(ServerTlsMode::AutoPassthrough) => Role::Auto,
            "HTTPS" if terminates => Role::Https,
            "HTTPS" => Role::Passthrough,
            "TLS" if terminates => Role::TerminatedTcp,
            "TLS" => Role::Passthrough,
            "TCP" | "MONGO" | "MYSQL" | "REDIS" if terminates => Role::TerminatedTcp,
            "TCP" | "MONGO" | "MYSQL" | "REDIS" => Role::Tcp,
            "UDP" => Role::Udp,
            _ => Role::None,
        }
    }

    /// Whether both can be at one port: those with TLS are told apart by server name, others only
    /// where they are the same.
    pub(crate) fn fits(self, other: Role) -> bool {
        // Connections and datagrams do not meet at a port.
        if self == Role::Udp || other == Role::Udp {
            return true;
        }
        let plain = |role: Role| matches!(role, Role::Http | Role::Tcp);
        if plain(self) || plain(other) {
            return self == other;
        }
        true
    }
}

impl Bound<'_> {
    pub(super) fn role(&self) -> Role {
        Role::of(self.server)
    }

    /// The Gateway's name, where it was made of the Gateway API.
    pub(super) fn internal_name(&self) -> Option<String> {
        let made = self.gateway.meta.annotations.contains_key(GATEWAY_SERVICE);
        made.then(|| self.name())
    }

    pub(super) fn name(&self) -> String {
        self.gateway.key()
    }

    /// The port that clients name.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The port that the proxy listens on.
    pub(super) fn listens(&self) -> u16 {
        self.listens
    }

    /// The server's hosts without their namespaces.
    pub(super) fn hosts(&self) -> Vec<Hostname> {
        let hosts = self.server.hosts.iter();
        hosts
            .map(|host| Hostname::new(split_host(host).1))
            .collect()
    }

    /// The name of the server's route table.
    pub(super) fn routes(&self) -> String {
        let server_port = self.server.port.as_ref();
        let bind = self.server.bind.as_str();
        match self.role() {
            Role::Https => {
                let meta = &self.gateway.meta;
                let port_name = server_port.map_or("", |port| &port.name);
                let (name, namespace) = (&meta.name, &meta.namespace);
                names::gateway_https_route(self.port, port_name, name, namespace, bind)
            }
            _ => names::gateway_http_route(self.listens, bind),
        }
    }

    fn ends_tls(&self, http: bool) -> Option<ServerTls> {
        server_tls(self.server.tls.as_ref()?, http)
    }

    fn https_only(&self) -> bool {
        self.server
            .tls
            .as_ref()
            .is_some_and(|tls| tls.https_redirect)
    }

    /// Whether a server that needs no rules leads to a service. Endpoints that it cannot list, and
    /// servers that are not of the mesh, are for nobody else to reach.
    fn leads_to(&self, service: &Service) -> bool {
        let listed = matches!(
            service.resolution,
            Resolution::ClientSide | Resolution::Passthrough
        );
        let served = |host: &String| {
            let (wanted, pattern) = split_host(host);
            self.lets(wanted, &service.namespace)
                && Hostname::pattern_covers(pattern, &service.hostname)
        };
        listed && !service.external && self.server.hosts.iter().any(served)
    }

    /// Whether the namespace before a server's host lets another one in.
    fn lets(&self, wanted: Option<&str>, namespace: &str) -> bool {
        match wanted {
            None | Some("*") => true,
            Some(".") => self.gateway.meta.namespace == *namespace,
            Some(wanted) => wanted == namespace,
        }
    }

    /// The host that a server and a VirtualService's host have in common.
    pub(super) fn common(&self, hosted: &HostedVirtualService, host: &Hostname) -> Vec<Hostname> {
        let namespace = &hosted.object.meta.namespace;
        let mut common = Vec::new();
        for served in &self.server.hosts {
            let (wanted, served) = split_host(served);
            let allowed = self.lets(wanted, namespace);
            let served = Hostname::new(served);
            if allowed && served.covers(host) {
                common.push(host.clone());
            } else if allowed && host.covers(&served) {
                common.push(served);
            }
        }
        common
    }
}

/// `namespace/host` or `host`.
fn split_host(host: &str) -> (Option<&str>, &str) {
    match host.split_once('/') {
        Some((namespace, host)) => (Some(namespace), host),
        None => (None, host),
    }
}

impl<'a> View<'a> {
    pub(super) fn bound(self) -> Vec<Bound<'a>> {
        let labels = self.labels();
        let mut bound = Vec::new();
        for gateway in &self.snapshot.config.gateways {
            let is_bound = match gateway.meta.annotations.get(GATEWAY_SERVICE) {
                Some(hosts) => self.serves_one_of(hosts),
                None => wire::selects(&gateway.spec.selector, labels),
            };
            if !is_bound {
                continue;
            }
            for (place, server) in gateway.spec.servers.iter().enumerate() {
                let port = server.port.as_ref().map_or(0, |port| port.number);
                let is_path = server.bind.starts_with(names::UNIX);
                if is_path && !names::is_usable_path(&server.bind) {
                    continue;
                }
                let port = u16::try_from(port).ok();
                let Some(port) = port.filter(|port| *port > 0 || is_path) else {
                    continue;
                };
                bound.push(Bound {
                    gateway,
                    server,
                    place,
                    port,
                    listens: self.listening_port(port, Role::of(server)),
                });
            }
        }
        bound
    }

    /// The servers, by their places in their Gateways, that have a part in what the proxy does at a port
    /// of its own; for a host, where one is asked for.
    pub(crate) fn servers_at(
        self,
        port: u16,
        of: ServersOf<'_>,
        host: Option<&str>,
    ) -> Vec<(&'a Object<Gateway>, usize)> {
        let host = host.map(Hostname::new);
        let is_meant = |bound: &Bound<'a>| {
            let is_of = match bound.role() {
                Role::Http | Role::Https => {
                    matches!(of, ServersOf::Table(table) if bound.routes() == table)
                }
                Role::None => false,
                Role::Udp => of == ServersOf::Datagrams,
                _ => of == ServersOf::Connections,
            };
            let serves = |host: &Hostname| bound.hosts().iter().any(|own| own.covers(host));
            bound.listens == port && is_of && host.as_ref().is_none_or(serves)
        };
        let bound = self.bound().into_iter().filter(is_meant);
        bound.map(|bound| (bound.gateway, bound.place)).collect()
    }

    /// Whether the proxy's workload is behind one of these Services, whose names a comma separates.
    fn serves_one_of(self, hosts: &str) -> bool {
        let own = self.own_services();
        let mut hosts = hosts.split(',');
        hosts.any(|host| own.iter().any(|service| *service.hostname == *host))
    }

    /// A gateway listens where its Service leads to.
    fn listening_port(self, port: u16, role: Role) -> u16 {
        let mut services = self.own_services().into_iter();
        let target = |service: &Service| {
            let port = match role {
                Role::Udp => service.datagram_port(port),
                _ => service.port(port),
            };
            self.target_port(port?)
        };
        services.find_map(|service| target(service)).unwrap_or(port)
    }

    /// VirtualServices that are bound to a server and have a host in common with it.
    pub(super) fn served_by(
        self,
        bound: &Bound<'a>,
    ) -> impl Iterator<Item = &'a HostedVirtualService> {
        let rules = self.bound_rules(&bound.name()).into_iter();
        rules.filter(|hosted| {
            let mut hosts = hosted.hosts.iter();
            hosts.any(|host| !bound.common(hosted, host).is_empty())
        })
    }

    /// VirtualServices bound to a gateway. A gateway serves all namespaces that export to its own.
    pub(super) fn bound_rules(self, gateway: &str) -> Vec<&'a HostedVirtualService> {
        let namespace = &self.from.namespace;
        self.snapshot.virtual_services(namespace, gateway).collect()
    }
}
