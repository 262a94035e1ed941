//! The route table behind a name, and the virtual hosts in it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use lateen_core::Hostname;
use lateen_registry::{Resolution, Service, ServicePort};
use lateen_xds::names::{self, RouteName};

use super::View;
use super::outbound::proxy_table;
use crate::grpc;
use crate::proxy::Dialect;
use crate::route::{HostKey, HostKind, Table, VirtualHostKey};
use crate::shared::Shared;
use crate::snapshot::{HostedVirtualService, MESH_GATEWAY};

/// Where a VirtualService for hosts that no registry has is reachable, without services beside them.
const UNKNOWN_HOST_PORT: u16 = 80;

/// What is found at a port.
#[derive(Default)]
struct Found<'a> {
    /// The oldest first.
    services: Vec<&'a Arc<Service>>,
    /// Rules for hosts that no registry has.
    unknown: Vec<&'a HostedVirtualService>,
}

/// Whether a port is HTTP's, or may turn out to be.
fn speaks_http(port: &ServicePort) -> bool {
    port.protocol.is_http() || port.protocol.is_unsupported()
}

impl<'a> View<'a> {
    /// What a route table is made of; `None` where the proxy has none of that name.
    pub(crate) fn routes(self, name: &str) -> Option<Table> {
        if self.from.dialect == Dialect::Grpc {
            return self.grpc_routes(name);
        }
        let parsed = RouteName::parse(name)?;
        if self.from.is_router() {
            return match parsed {
                RouteName::GatewayHttp(_) | RouteName::GatewayHttps { .. } => {
                    self.gateway_routes(name)
                }
                _ => None,
            };
        }
        let all_ports = self.seen_by_proxy(name);
        let by_port = all_ports.is_some();
        let (port, kinds) = match (parsed, all_ports) {
            (_, Some(seen)) => (0, self.hosts_of_all_ports(seen)),
            (RouteName::Outbound(port), None) => (port, self.outbound_hosts(port)),
            (RouteName::Sniffed { host, port }, None) => (port, vec![self.only_host(&host, port)?]),
            _ => return None,
        };
        let host = |kind| VirtualHostKey {
            table: name.to_owned(),
            kind,
        };
        Some(Table {
            name: name.to_owned(),
            port,
            by_port,
            hosts: kinds.into_iter().map(host).collect(),
        })
    }

    /// What is seen by clients of a table in which they name the port; `None` for other tables.
    fn seen_by_proxy(self, table: &str) -> Option<View<'a>> {
        let mut listeners = self.egress().iter();
        let own = listeners.find(|of| proxy_table(of).as_deref() == Some(table));
        match own {
            Some(listener) => Some(self.through(listener)),
            None => (table == names::HTTP_PROXY_ROUTE).then(|| self.elsewhere()),
        }
    }

    /// All tables in which clients name the port.
    fn proxy_tables(self) -> impl Iterator<Item = String> {
        let own = self.egress().iter().filter_map(proxy_table);
        let of_mesh = self.snapshot.config.mesh.proxy_http_port.is_some();
        own.chain(of_mesh.then(|| names::HTTP_PROXY_ROUTE.to_owned()))
    }

    /// Every port of every service, by host and port; without a port, 80 is meant.
    fn hosts_of_all_ports(self, seen: View<'a>) -> Vec<HostKind> {
        // By port at once: to look at all services for each of many ports would take long.
        let mut ports: BTreeMap<u16, Found<'a>> = BTreeMap::new();
        for service in seen.services() {
            for port in service.ports.iter().filter(|port| speaks_http(port)) {
                let there = &mut ports.entry(port.port).or_default().services;
                // Two ports of one number are one.
                if !there.last().is_some_and(|last| Arc::ptr_eq(last, service)) {
                    there.push(service);
                }
            }
        }
        for rule in seen.rules_of_unknown() {
            for port in seen.ports_beside(rule) {
                ports.entry(port).or_default().unknown.push(rule);
            }
        }
        let aliases = seen.aliases();
        let (mut taken, mut hosts) = (HashSet::new(), Vec::new());
        for (port, found) in ports {
            for mut host in seen.hosts_at(port, &found, &aliases) {
                let named = host.domains.iter().map(|domain| format!("{domain}:{port}"));
                let mut domains: Vec<_> = named.collect();
                if port == UNKNOWN_HOST_PORT {
                    domains.append(&mut host.domains);
                }
                domains.retain(|domain| taken.insert(domain.clone()));
                host.domains = domains;
                hosts.push(host);
            }
        }
        self.closed(hosts)
    }

    /// The virtual hosts of a service, each as it is now under the names that it had before: those
    /// in the table that all HTTP services of a port share, and in the tables of its own.
    pub(crate) fn renewed(self, before: &VirtualHostKey) -> VirtualHostKey {
        let renewed = |key: &HostKey| {
            let host = Hostname::new(&key.host);
            let rule = self.rule_for(&host, MESH_GATEWAY);
            let service = self.service(&key.host).filter(|_| key.known);
            let service = service.map(|service| self.meant(service));
            self.host(key.port, &host, key.domains.clone(), rule, service)
        };
        let kind = match &before.kind {
            HostKind::Outbound(key) => HostKind::Outbound(renewed(key)),
            HostKind::Grpc(key) => HostKind::Grpc(renewed(key)),
            kind => kind.clone(),
        };
        VirtualHostKey {
            table: before.table.clone(),
            kind,
        }
    }

    /// Where the virtual hosts of a service may be: names of tables, and of hosts in them.
    pub(crate) fn places(self, service: &Service) -> Vec<(String, String)> {
        let ports = service.ports.iter().map(|port| port.port);
        let both = ports.flat_map(|port| {
            let host = service.hostname.as_str();
            let name = format!("{host}:{port}");
            [
                names::outbound_route(port),
                names::sniffed_route(host, port),
                grpc::table(port, host),
            ]
            .into_iter()
            .chain(self.proxy_tables())
            .map(move |table| (table, name.clone()))
        });
        both.collect()
    }

    /// The table that all HTTP services of a port share.
    fn outbound_hosts(self, port: u16) -> Vec<HostKind> {
        let seen = self.at(port);
        let mut services = seen.services();
        services.retain(|service| service.port(port).is_some_and(speaks_http));
        let is_there = |rule: &&HostedVirtualService| {
            seen.is_own_listener() || seen.ports_beside(rule).contains(&port)
        };
        let unknown = seen.rules_of_unknown().filter(is_there).collect();
        let found = Found { services, unknown };
        self.closed(seen.hosts_at(port, &found, &seen.aliases()))
    }

    /// Hosts in their order, and behind them what becomes of all others.
    fn closed(self, mut hosts: Vec<HostKey>) -> Vec<HostKind> {
        hosts.sort_by(|a, b| a.host.cmp(&b.host));
        let others = HostKind::Others(self.others());
        let hosts = hosts.into_iter().map(HostKind::Outbound);
        hosts.chain([others]).collect()
    }

    /// The hosts that are seen from here at a port. No name occurs twice.
    fn hosts_at(
        self,
        port: u16,
        found: &Found<'a>,
        aliases: &HashMap<&Hostname, Vec<&'a Arc<Service>>>,
    ) -> Vec<HostKey> {
        let (mut taken, mut hosts) = (HashSet::new(), Vec::new());
        for &service in &found.services {
            let rule = self.rule_for(&service.hostname, MESH_GATEWAY);
            let mut domains = self.domains(service);
            for alias in aliases.get(&service.hostname).into_iter().flatten() {
                let own = self.rule_for(&alias.hostname, MESH_GATEWAY);
                let mut names = self.domains(alias);
                match own.filter(|rule| !rule.object.spec.http.is_empty()) {
                    None => domains.extend(names),
                    Some(rule) => {
                        names.retain(|name| taken.insert(name.clone()));
                        let host = &alias.hostname;
                        hosts.push(self.host(port, host, names, Some(rule), Some(service)));
                    }
                }
            }
            // Envoy refuses a table in which a name occurs twice; the older service has it.
            domains.retain(|domain| taken.insert(domain.clone()));
            if !domains.is_empty() {
                hosts.push(self.host(port, &service.hostname, domains, rule, Some(service)));
            }
        }
        for &rule in &found.unknown {
            for host in self.unknown_hosts(rule) {
                if taken.insert(host.to_string()) {
                    let domains = vec![host.to_string()];
                    hosts.push(self.host(port, host, domains, Some(rule), None));
                }
            }
        }
        hosts
    }

    /// Hosts that only VirtualServices name.
    fn unknown_hosts(self, rule: &HostedVirtualService) -> impl Iterator<Item = &Hostname> {
        // The whole world is what `allow_any` is about.
        let hosts = rule.hosts.iter().filter(|host| host.as_str() != "*");
        hosts.filter(move |host| self.service(host).is_none())
    }

    /// The rules for such hosts.
    fn rules_of_unknown(self) -> impl Iterator<Item = &'a HostedVirtualService> {
        self.mesh_rules().filter(move |rule| {
            !rule.object.spec.http.is_empty() && self.unknown_hosts(rule).next().is_some()
        })
    }

    /// The ports at which the hosts of a rule that no registry has are reachable: those of the services
    /// beside them.
    fn ports_beside(self, hosted: &HostedVirtualService) -> BTreeSet<u16> {
        let beside = hosted.hosts.iter().filter_map(|host| self.service(host));
        let ports = beside.flat_map(|service| &self.meant(service).ports);
        let http = ports.filter(|port| speaks_http(port));
        let ports: BTreeSet<u16> = http.map(|port| port.port).collect();
        match ports.is_empty() {
            true => [UNKNOWN_HOST_PORT].into(),
            false => ports,
        }
    }

    /// The same for the rule of a host; where it is reachable without one, that is nowhere.
    pub(crate) fn ports_of_unknown(self, host: &Hostname) -> BTreeSet<u16> {
        let rule = self.rule_for(host, MESH_GATEWAY);
        rule.map_or_else(BTreeSet::new, |rule| self.ports_beside(rule))
    }

    /// The host of one service's port that may turn out to speak HTTP.
    fn only_host(self, host: &str, port: u16) -> Option<HostKind> {
        let service = self.service(host)?;
        service.port(port)?;
        Some(HostKind::Outbound(self.own_host(
            port,
            service,
            vec!["*".into()],
        )))
    }

    /// A service's port, for these names of it, in a table that is its own.
    pub(crate) fn own_host(
        self,
        port: u16,
        service: &Arc<Service>,
        domains: Vec<String>,
    ) -> HostKey {
        let rule = self.elsewhere().rule_for(&service.hostname, MESH_GATEWAY);
        self.host(port, &service.hostname, domains, rule, Some(service))
    }

    fn host(
        self,
        port: u16,
        host: &Hostname,
        domains: Vec<String>,
        rule: Option<&HostedVirtualService>,
        service: Option<&Arc<Service>>,
    ) -> HostKey {
        HostKey {
            port,
            host: host.to_string(),
            domains,
            known: service.is_some(),
            rule: rule.map(|hosted| Shared::of(&hosted.object)),
            targets: self.targets(rule, service.map(|s| &**s)),
            client: self.client(rule),
        }
    }

    /// All names and addresses by which the proxy's workload may call a service.
    pub(crate) fn domains(self, service: &Service) -> Vec<String> {
        let host = service.hostname.as_str();
        let mut domains = vec![host.to_owned()];
        if !service.hostname.is_wildcard() {
            domains.push(format!("{host}."));
        }
        let in_cluster = format!(".{}.svc.{}", service.namespace, self.snapshot.domain);
        if let Some(name) = host.strip_suffix(&in_cluster) {
            let namespace = &service.namespace;
            if *namespace == self.from.namespace {
                domains.push(name.to_owned());
            }
            domains.push(format!("{name}.{namespace}"));
            domains.push(format!("{name}.{namespace}.svc"));
            if service.resolution == Resolution::Passthrough {
                // Single pods of a headless service have names below it.
                domains.push(format!("*.{host}"));
                domains.push(format!("*.{name}.{namespace}"));
                domains.push(format!("*.{name}.{namespace}.svc"));
            }
        }
        let address = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        domains.extend(self.virtual_ones(service).map(address));
        domains
    }
}
