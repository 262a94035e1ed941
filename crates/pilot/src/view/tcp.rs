//! Where the bytes of a port go: the `tls` and `tcp` parts of VirtualServices.

use std::collections::BTreeMap;

use lateen_api::networking::{
    Destination, L4MatchAttributes, RouteDestination, TlsMatchAttributes, gateway_key,
};
use lateen_core::{Hostname, Protocol};
use lateen_registry::{Service, ServicePort};
use lateen_xds::names::ClusterName;

use super::View;
use crate::listener::{TcpLimits, TcpRule, Tunnel};
use crate::policy::Policy;
use crate::snapshot::{HostedVirtualService, MESH_GATEWAY, full_host, is_by_name};
use crate::wire;

/// What `tls` and `tcp` matches ask of the client and the listener alike.
struct Conditions<'a> {
    gateways: &'a [String],
    port: Option<u32>,
    source_labels: &'a BTreeMap<String, String>,
    source_namespace: &'a str,
}

macro_rules! conditions_from {
    ($($of:ty),*) => {
        $(impl<'a> From<&'a $of> for Conditions<'a> {
            fn from(of: &'a $of) -> Self {
                Conditions {
                    gateways: &of.gateways,
                    port: of.port,
                    source_labels: &of.source_labels,
                    source_namespace: &of.source_namespace,
                }
            }
        })*
    };
}

conditions_from!(TlsMatchAttributes, L4MatchAttributes);

impl<'a> View<'a> {
    /// Rules for a service's port at a sidecar, ending with the service itself.
    pub(super) fn tcp_rules(self, service: &Service, port: &ServicePort) -> Vec<TcpRule> {
        let mut rules = Vec::new();
        if let Some(hosted) = self.rule_for(&service.hostname, MESH_GATEWAY) {
            rules.extend(self.tls_rules(hosted, MESH_GATEWAY, port.port, None));
            rules.extend(self.opaque_rules(hosted, MESH_GATEWAY, port.port));
        }
        if !rules.iter().any(TcpRule::is_for_all) {
            let cluster = ClusterName::outbound(port.port, "", service.hostname.as_str());
            let limits = self.tcp_limits(&service.hostname, port.port, "");
            let mut rule = TcpRule::all_to(cluster.to_string(), limits);
            rule.tunnel = self.tunnel(&service.hostname, port.port, "");
            rule.name_port = is_by_name(service).then_some(port.port);
            let tls = matches!(port.protocol, Protocol::Tls | Protocol::Https);
            if tls && self.virtual_ones(service).next().is_none() {
                // Only the server name tells it from others on this port.
                rule.sni = vec![service.hostname.to_string()];
            }
            rules.push(rule);
        }
        rules
    }

    /// The `tls` rules of a VirtualService; `only` limits server names to those of a server.
    pub(super) fn tls_rules(
        self,
        hosted: &HostedVirtualService,
        gateway: &str,
        port: u16,
        only: Option<&[Hostname]>,
    ) -> Vec<TcpRule> {
        let mut rules = Vec::new();
        for route in &hosted.object.spec.tls {
            let clusters = self.clusters_of(hosted, &route.route, port);
            if clusters.is_empty() {
                continue;
            }
            let (limits, tunnel) = self.settings_of(hosted, &route.route, port);
            for of in &route.r#match {
                if !self.applies(hosted, Conditions::from(of), gateway, port) {
                    continue;
                }
                let served = |name: &&String| {
                    let name = Hostname::new(name.as_str());
                    only.is_none_or(|only| only.iter().any(|host| host.covers(&name)))
                };
                let sni: Vec<String> = of.sni_hosts.iter().filter(served).cloned().collect();
                if !sni.is_empty() {
                    rules.push(TcpRule {
                        sni,
                        subnets: of.destination_subnets.clone(),
                        source: None,
                        mesh_only: false,
                        clusters: clusters.clone(),
                        limits,
                        tunnel: tunnel.clone(),
                        name_port: self.name_port(hosted, &route.route, port),
                    });
                }
            }
        }
        rules
    }

    /// The `tcp` rules of a VirtualService.
    pub(super) fn opaque_rules(
        self,
        hosted: &HostedVirtualService,
        gateway: &str,
        port: u16,
    ) -> Vec<TcpRule> {
        let mut rules = Vec::new();
        for route in &hosted.object.spec.tcp {
            let clusters = self.clusters_of(hosted, &route.route, port);
            if clusters.is_empty() {
                continue;
            }
            let (limits, tunnel) = self.settings_of(hosted, &route.route, port);
            let all = [L4MatchAttributes::default()];
            let matches = if route.r#match.is_empty() {
                &all[..]
            } else {
                &route.r#match[..]
            };
            for of in matches {
                if self.applies(hosted, Conditions::from(of), gateway, port) {
                    rules.push(TcpRule {
                        sni: Vec::new(),
                        subnets: of.destination_subnets.clone(),
                        source: Some(of.source_subnet.clone()).filter(|range| !range.is_empty()),
                        mesh_only: false,
                        clusters: clusters.clone(),
                        limits,
                        tunnel: tunnel.clone(),
                        name_port: self.name_port(hosted, &route.route, port),
                    });
                }
            }
        }
        rules
    }

    /// The conditions that are about the client or the listener are decided here.
    fn applies(
        self,
        hosted: &HostedVirtualService,
        of: Conditions<'_>,
        gateway: &str,
        port: u16,
    ) -> bool {
        let home = &hosted.object.meta.namespace;
        let mut gateways = of.gateways.iter();
        (of.gateways.is_empty() || gateways.any(|g| gateway_key(g, home) == gateway))
            && of.port.is_none_or(|wanted| wanted == u32::from(port))
            && wire::selects(of.source_labels, self.labels())
            && (of.source_namespace.is_empty() || of.source_namespace == self.from.namespace)
    }

    fn clusters_of(
        self,
        hosted: &HostedVirtualService,
        routes: &[RouteDestination],
        port: u16,
    ) -> Vec<(String, u32)> {
        let cluster = |destination: &Destination| {
            let namespace = &hosted.object.meta.namespace;
            let host = full_host(&destination.host, namespace, &self.snapshot.domain);
            let target = self.target(&host);
            target.cluster(destination, &host, port).to_string()
        };
        // The only one whatever its weight, else those with a weight, else all alike.
        let is_weighted = |route: &&RouteDestination| route.weight > 0;
        let alike = routes.len() == 1 || !routes.iter().any(|r| is_weighted(&r));
        let taken = routes.iter().filter(|route| alike || is_weighted(route));
        let weight = |route: &RouteDestination| match alike {
            true => 1,
            false => u32::try_from(route.weight).unwrap_or(0),
        };
        taken
            .filter_map(|route| Some((cluster(route.destination.as_ref()?), weight(route))))
            .collect()
    }

    /// The limits of the first destination, which hold for all: which one it will be is not known
    /// when they are set. A tunnel is for a destination that is the only one.
    fn settings_of(
        self,
        hosted: &HostedVirtualService,
        routes: &[RouteDestination],
        port: u16,
    ) -> (TcpLimits, Option<Tunnel>) {
        let mut destinations = routes.iter().filter_map(|route| route.destination.as_ref());
        let Some(first) = destinations.next() else {
            return Default::default();
        };
        let namespace = &hosted.object.meta.namespace;
        let host = full_host(&first.host, namespace, &self.snapshot.domain);
        let port = self.target(&host).port(first, port);
        let limits = self.tcp_limits(&host, port, &first.subset);
        let tunnel = match destinations.next() {
            None => self.tunnel(&host, port, &first.subset),
            Some(_) => None,
        };
        (limits, tunnel)
    }

    pub(super) fn tcp_limits(self, host: &Hostname, port: u16, subset: &str) -> TcpLimits {
        self.policy(host, port, subset, |policy| {
            let pool = policy.connection_pool.and_then(|pool| pool.tcp.as_ref());
            pool.map_or_else(TcpLimits::default, |tcp| TcpLimits {
                idle: tcp.idle_timeout,
                most: tcp.max_connection_duration.filter(|most| !most.is_zero()),
            })
        })
    }

    fn tunnel(self, host: &Hostname, port: u16, subset: &str) -> Option<Tunnel> {
        self.policy(host, port, subset, |policy| policy.tunnel.map(Tunnel::from))
    }

    /// The port of a destination whose hosts are those that clients name, where it is the only one.
    fn name_port(
        self,
        hosted: &HostedVirtualService,
        routes: &[RouteDestination],
        port: u16,
    ) -> Option<u16> {
        let [only] = routes else { return None };
        let destination = only.destination.as_ref()?;
        let namespace = &hosted.object.meta.namespace;
        let host = full_host(&destination.host, namespace, &self.snapshot.domain);
        self.service(&host).filter(|service| is_by_name(service))?;
        Some(self.target(&host).port(destination, port))
    }

    /// Reads what holds for a subset of a host at a port.
    pub(super) fn policy<T>(
        self,
        host: &Hostname,
        port: u16,
        subset: &str,
        read: impl FnOnce(&Policy<'_>) -> T,
    ) -> T {
        let service = self.service(host);
        let rules = service.map_or_else(Vec::new, |service| self.rules(service));
        read(&Policy::of(&rules, port, subset).or_of(&self.snapshot.config.mesh))
    }
}
