//! What a gateway listens on and where it leads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lateen_api::Object;
use lateen_api::networking::{Gateway, Server, ServerTlsMode, ServerTlsSettings};
use lateen_core::{Hostname, Protocol};
use lateen_galley::{BACKEND_TLS, CLIENT_CERTIFICATE, GATEWAY_SERVICE};
use lateen_registry::{Resolution, Service};
use lateen_xds::names::{self, ClusterName};

use super::View;
use crate::listener::{
    EVERYWHERE, GatewayKey, GatewayServer, Logging, ServerTls, TcpLimits, TcpRule, Topology,
};
use crate::policy::{Rule, subsets};
use crate::route::{GatewayHost, HostKind, Table, VirtualHostKey};
use crate::shared::Shared;
use crate::snapshot::HostedVirtualService;
use crate::trace::ServersOf;
use crate::wire;

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

    /// Whether what a gateway shows to services depends on which Services lead to it.
    pub(crate) fn shows_certificates(self) -> bool {
        let mut gateways = self.snapshot.config.gateways.iter();
        self.from.is_router()
            && gateways.any(|gateway| gateway.meta.annotations.contains_key(CLIENT_CERTIFICATE))
    }

    /// The credential that the proxy shows to a subset that a BackendTLSPolicy became; empty where its
    /// Gateway names none, and for all else.
    pub(super) fn client_certificate(self, rules: &[Rule], subset: &str) -> &'a str {
        let is_of_policy = |rule: &Rule| {
            let mut subsets = rule.spec.subsets.iter();
            rule.meta.annotations.contains_key(BACKEND_TLS) && subsets.any(|of| of.name == subset)
        };
        if !self.from.is_router() || subset.is_empty() || !rules.iter().any(is_of_policy) {
            return "";
        }
        let mut gateways = self.snapshot.config.gateways.iter();
        let shown = gateways.find_map(|gateway| {
            let annotations = &gateway.meta.annotations;
            let credential = annotations.get(CLIENT_CERTIFICATE)?;
            let hosts = annotations.get(GATEWAY_SERVICE)?;
            self.serves_one_of(hosts).then_some(credential.as_str())
        });
        shown.unwrap_or_default()
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

    pub(super) fn gateway_listeners(self) -> Vec<GatewayKey> {
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

    /// Each cluster of each service that a server of this gateway leads to by itself.
    fn rules_by_name(self, bound: &Bound<'a>) -> Vec<TcpRule> {
        let mut rules = Vec::new();
        for service in self.services() {
            if !bound.leads_to(service) {
                continue;
            }
            for name in self.names_of(service) {
                let name = name.sni();
                rules.push(TcpRule {
                    sni: vec![name.clone()],
                    mesh_only: true,
                    ..TcpRule::all_to(name, TcpLimits::default())
                });
            }
        }
        rules
    }

    /// Whether clients reach a service through the gateway by its server name alone.
    pub(super) fn is_passed_on(self, service: &Service) -> bool {
        let is_auto = |gateway: &&Arc<Object<Gateway>>| {
            let mut modes = gateway
                .spec
                .servers
                .iter()
                .map(|server| server.tls.as_ref());
            modes.any(|tls| tls.and_then(|tls| tls.mode) == Some(ServerTlsMode::AutoPassthrough))
        };
        // Most have none: what follows is worked out for few.
        self.from.is_router()
            && self
                .snapshot
                .config
                .gateways
                .iter()
                .any(|gateway| is_auto(&gateway))
            && self
                .bound()
                .iter()
                .any(|bound| bound.role() == Role::Auto && bound.leads_to(service))
    }

    /// The clusters of a service that are named by what clients ask for: one of each port and subset.
    pub(super) fn names_of(self, service: &Arc<Service>) -> Vec<ClusterName> {
        let rules = self.rules(service);
        let mut names = Vec::new();
        for port in service.ports.iter().filter(|p| p.protocol != Protocol::Udp) {
            let subsets = subsets(&rules).map(|subset| subset.name.as_str());
            for subset in [""].into_iter().chain(subsets) {
                let host = service.hostname.as_str();
                names.push(ClusterName::outbound(port.port, subset, host));
            }
        }
        names
    }

    /// VirtualServices bound to a gateway. A gateway serves all namespaces that export to its own.
    pub(super) fn bound_rules(self, gateway: &str) -> Vec<&'a HostedVirtualService> {
        let namespace = &self.from.namespace;
        self.snapshot.virtual_services(namespace, gateway).collect()
    }

    pub(super) fn gateway_routes(self, table: &str) -> Option<Table> {
        let bound: Vec<_> = self
            .bound()
            .into_iter()
            .filter(|b| matches!(b.role(), Role::Http | Role::Https) && b.routes() == table)
            .collect();
        let port = bound.first()?.port;
        let mut hosts: BTreeMap<String, HostRules<'a>> = BTreeMap::new();
        for bound in &bound {
            self.add_hosts(bound, &mut hosts);
        }
        let served: Vec<String> = hosts.keys().cloned().collect();
        let answers = self.misdirected(&bound, &served);
        // Hosts that another listener has are not this one's, whatever its routes say.
        hosts.retain(|host, _| {
            let host = Hostname::new(host);
            !answers
                .iter()
                .any(|answer| answer.is_elsewhere(&host, &bound[0].hosts()))
        });
        let hosts = hosts.into_iter().map(|(host, found)| {
            let rules = || found.rules.iter().map(|(_, hosted)| *hosted);
            HostKind::Gateway(GatewayHost {
                port,
                host,
                targets: self.targets(rules(), None),
                client: self.client(rules()),
                rules: found
                    .rules
                    .iter()
                    .map(|(gateway, hosted)| (gateway.clone(), Shared::of(&hosted.object)))
                    .collect(),
                https_only: found.https_only,
            })
        });
        let mut kinds: Vec<_> = hosts.collect();
        kinds.extend(answers.into_iter().map(HostKind::Answer));
        if kinds.is_empty() {
            kinds.push(HostKind::Nothing { port });
        }
        let host = |kind| VirtualHostKey {
            table: table.to_owned(),
            kind,
        };
        Some(Table {
            name: table.to_owned(),
            port,
            by_port: false,
            hosts: kinds.into_iter().map(host).collect(),
        })
    }

    fn add_hosts(self, bound: &Bound<'a>, hosts: &mut BTreeMap<String, HostRules<'a>>) {
        let name = bound.name();
        for hosted in self.bound_rules(&name) {
            if hosted.object.spec.http.is_empty() {
                continue;
            }
            for host in hosted
                .hosts
                .iter()
                .flat_map(|host| bound.common(hosted, host))
            {
                let rules = hosts.entry(host.to_string()).or_default();
                rules.https_only |= bound.https_only();
                let known = rules.rules.iter().any(|(_, r)| std::ptr::eq(*r, hosted));
                if !known {
                    rules.rules.push((name.clone(), hosted));
                }
            }
        }
        if bound.https_only() {
            for host in bound.hosts() {
                hosts.entry(host.to_string()).or_default().https_only = true;
            }
        }
    }
}

#[derive(Default)]
struct HostRules<'a> {
    rules: Vec<(String, &'a HostedVirtualService)>,
    https_only: bool,
}

/// Server names of a chain; none where every name is served.
fn sni(hosts: &[Hostname]) -> Vec<String> {
    if hosts.iter().any(|host| host.as_str() == "*") {
        return Vec::new();
    }
    let names: BTreeSet<String> = hosts.iter().map(ToString::to_string).collect();
    names.into_iter().collect()
}

/// How TLS ends at a server; `None` where nothing says with which certificate.
pub(super) fn server_tls(settings: &ServerTlsSettings, http: bool) -> Option<ServerTls> {
    let mode = settings.mode.unwrap_or(ServerTlsMode::Simple);
    let one = Some(&settings.credential_name).filter(|name| !name.is_empty());
    let credentials: Vec<_> = match one {
        Some(name) => vec![name.clone()],
        None => settings.credential_names.clone(),
    };
    let mesh = mode == ServerTlsMode::IstioMutual;
    let files = if credentials.is_empty() {
        files(settings)
    } else {
        Vec::new()
    };
    if credentials.is_empty() && files.is_empty() && !mesh {
        return None;
    }
    let roots = match settings.ca_cert_credential_name.as_str() {
        "" => credentials.first().cloned().unwrap_or_default(),
        own => own.to_owned(),
    };
    let roots_file = Some(&settings.ca_certificates).filter(|file| !file.is_empty());
    let of_pairs = || {
        settings
            .tls_certificates
            .iter()
            .map(|pair| &pair.ca_certificates)
    };
    let roots_file = roots_file.or_else(|| of_pairs().find(|file| !file.is_empty()));
    Some(ServerTls {
        credentials,
        files,
        roots,
        roots_file: roots_file.cloned().unwrap_or_default(),
        revoked_file: settings.ca_crl.clone(),
        client: match mode {
            ServerTlsMode::Mutual => Some(true),
            ServerTlsMode::OptionalMutual => Some(false),
            _ => None,
        },
        mesh,
        names: settings.subject_alt_names.clone(),
        pins: [
            settings.verify_certificate_hash.clone(),
            settings.verify_certificate_spki.clone(),
        ],
        versions: (
            settings.min_protocol_version.into(),
            settings.max_protocol_version.into(),
        ),
        ciphers: settings.cipher_suites.clone(),
        curves: settings.ecdh_curves.clone(),
        http,
    })
}

/// Certificates and keys as files: several for several kinds of keys.
fn files(settings: &ServerTlsSettings) -> Vec<[String; 2]> {
    let pair = |certificate: &String, key: &String| [certificate.clone(), key.clone()];
    if settings.server_certificate.is_empty() {
        let pairs = settings.tls_certificates.iter();
        let pairs = pairs.map(|of| pair(&of.server_certificate, &of.private_key));
        return pairs.collect();
    }
    vec![pair(&settings.server_certificate, &settings.private_key)]
}
