//! The route table behind a name.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use lateen_core::Hostname;
use lateen_registry::{Resolution, Service};
use lateen_xds::names::RouteName;

use super::View;
use crate::key::Key;
use crate::route::{HostKey, OutboundRoutesKey};
use crate::shared::Shared;
use crate::snapshot::{HostedVirtualService, MESH_GATEWAY};

/// Where a VirtualService for a host that no registry has is reachable.
const UNKNOWN_HOST_PORT: u16 = 80;

impl<'a> View<'a> {
    /// The key of a route table; `None` where the proxy has none of that name.
    pub(crate) fn routes(self, name: &str) -> Option<Key> {
        let key = self.unpatched_routes(name)?;
        Some(self.from.patches.patch_one(key))
    }

    fn unpatched_routes(self, name: &str) -> Option<Key> {
        let parsed = RouteName::parse(name)?;
        if self.from.is_router() {
            let table = match parsed {
                RouteName::GatewayHttp(_) | RouteName::GatewayHttps { .. } => {
                    self.gateway_routes(name)
                }
                _ => None,
            };
            return table.map(Key::GatewayRoutes);
        }
        let table = match parsed {
            RouteName::Outbound(port) => Some(self.outbound_routes(name, port)),
            RouteName::Sniffed { host, port } => self.service_routes(name, &host, port),
            _ => None,
        };
        table.map(Key::Routes)
    }

    /// The table that all HTTP services of a port share.
    fn outbound_routes(self, name: &str, port: u16) -> OutboundRoutesKey {
        let this = self.at(port);
        let mut used = Vec::new();
        let mut taken = HashSet::new();
        let mut hosts = Vec::new();
        for service in this.services() {
            let speaks = service
                .port(port)
                .is_some_and(|p| p.protocol.is_http() || p.protocol.is_unsupported());
            if !speaks {
                continue;
            }
            let rule = this.rule_for(&service.hostname, MESH_GATEWAY);
            used.extend(rule);
            let mut domains = self.domains(service);
            // Envoy refuses a table in which a name occurs twice; the older service has it.
            domains.retain(|domain| taken.insert(domain.clone()));
            if !domains.is_empty() {
                hosts.push(self.host(&service.hostname, domains, rule, Some(service)));
            }
        }
        if port == UNKNOWN_HOST_PORT || this.is_own_listener() {
            used.extend(this.unknown_hosts(&mut taken, &mut hosts));
        }
        hosts.sort_by(|a, b| a.host.cmp(&b.host));
        OutboundRoutesKey {
            name: name.to_owned(),
            port,
            hosts,
            others: Some(self.others()),
            client: self.client(used),
        }
    }

    /// Hosts that only VirtualServices name.
    fn unknown_hosts(
        self,
        taken: &mut HashSet<String>,
        hosts: &mut Vec<HostKey>,
    ) -> Vec<&'a HostedVirtualService> {
        let mut used = Vec::new();
        for hosted in self.mesh_rules() {
            if hosted.object.spec.http.is_empty() {
                continue;
            }
            for host in &hosted.hosts {
                let known = self.service(host).is_some();
                // The whole world is what `allow_any` is about.
                if !known && host.as_str() != "*" && taken.insert(host.to_string()) {
                    let domains = vec![host.to_string()];
                    hosts.push(self.host(host, domains, Some(hosted), None));
                    used.push(hosted);
                }
            }
        }
        used
    }

    /// The table of one service's port that may turn out to speak HTTP.
    fn service_routes(self, name: &str, host: &str, port: u16) -> Option<OutboundRoutesKey> {
        let service = self.service(host)?;
        service.port(port)?;
        let rule = self.elsewhere().rule_for(&service.hostname, MESH_GATEWAY);
        Some(OutboundRoutesKey {
            name: name.to_owned(),
            port,
            hosts: vec![self.host(&service.hostname, vec!["*".into()], rule, Some(service))],
            others: None,
            client: self.client(rule),
        })
    }

    fn host(
        self,
        host: &Hostname,
        domains: Vec<String>,
        rule: Option<&HostedVirtualService>,
        service: Option<&Arc<Service>>,
    ) -> HostKey {
        HostKey {
            host: host.to_string(),
            domains,
            known: service.is_some(),
            rule: rule.map(|hosted| Shared::of(&hosted.object)),
            targets: self.targets(rule, service.map(|s| &**s)),
        }
    }

    /// All names and addresses by which the proxy's workload may call a service.
    fn domains(self, service: &Service) -> Vec<String> {
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
        domains.extend(service.addresses.iter().map(address));
        domains
    }
}
