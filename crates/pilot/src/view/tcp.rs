//! Where the bytes of a port go: the `tls` and `tcp` parts of VirtualServices.

use std::sync::Arc;

use lateen_api::networking::{Destination, RouteDestination, VirtualService};
use lateen_core::{Hostname, Protocol};
use lateen_registry::{Service, ServicePort};
use lateen_xds::names::ClusterName;

use super::View;
use super::gateways::Role;
use crate::listener::{L4Place, TcpLimits, TcpRule, Tunnel, Written};
use crate::policy::Policy;
use crate::route::{Conditions, There, Unmet};
use crate::snapshot::{HostedVirtualService, MESH_GATEWAY, full_host, is_by_name};

/// What becomes of a match of a `tls` or `tcp` rule.
pub(crate) enum L4Fate<'b> {
    /// A rule for connections.
    Rule(TcpRule),
    /// Nothing here: it is for other clients or listeners.
    Elsewhere(Unmet<'b>),
    /// Nothing: the server has none of its names.
    OtherNames,
    /// Nothing: it does not say where to.
    Nowhere,
}

/// A match of a rule, of which there may be none, and where both are.
struct L4Match<'b> {
    place: L4Place,
    conditions: Option<Conditions<'b>>,
    sni: &'b [String],
    subnets: &'b [String],
    source: &'b str,
}

/// The rules of `tls`, or those of `tcp`, each with its destinations and its matches.
fn l4_rules(spec: &VirtualService, tls: bool) -> Vec<(&[RouteDestination], Vec<L4Match<'_>>)> {
    let of_tls = spec.tls.iter().enumerate().map(|(rule, route)| {
        let matches = route
            .r#match
            .iter()
            .enumerate()
            .map(move |(of, asks)| L4Match {
                place: L4Place {
                    is_tls: true,
                    rule,
                    of: Some(of),
                },
                conditions: Some(Conditions::from(asks)),
                sni: &asks.sni_hosts,
                subnets: &asks.destination_subnets,
                source: "",
            });
        (&*route.route, matches.collect())
    });
    let of_tcp = spec.tcp.iter().enumerate().map(|(rule, route)| {
        let place = move |of| L4Place {
            is_tls: false,
            rule,
            of,
        };
        let matches = route
            .r#match
            .iter()
            .enumerate()
            .map(move |(of, asks)| L4Match {
                place: place(Some(of)),
                conditions: Some(Conditions::from(asks)),
                sni: &[],
                subnets: &asks.destination_subnets,
                source: &asks.source_subnet,
            });
        let all = L4Match {
            place: place(None),
            conditions: None,
            sni: &[],
            subnets: &[],
            source: "",
        };
        let all = route.r#match.is_empty().then_some(all);
        (&*route.route, matches.chain(all).collect())
    });
    match tls {
        true => of_tls.collect(),
        false => of_tcp.collect(),
    }
}

/// A VirtualService whose rules for connections count at a listener.
pub(crate) struct L4Source<'a> {
    pub(crate) hosted: &'a HostedVirtualService,
    /// The service whose connections it is for; `None` at a gateway.
    pub(crate) service: Option<&'a Hostname>,
    /// `mesh`, or the gateway that it is bound to.
    pub(crate) gateway: String,
    /// The port that clients name.
    pub(crate) port: u16,
    /// The server names that are served there, where that limits them.
    pub(crate) only: Option<Vec<Hostname>>,
    /// Whether its `tls` and its `tcp` rules count.
    pub(crate) parts: [bool; 2],
}

impl<'a> View<'a> {
    /// The VirtualServices whose rules for connections count at a listener.
    pub(crate) fn l4_sources(self, address: &str, port: u16) -> Vec<L4Source<'a>> {
        let mut found: Vec<L4Source<'a>> = Vec::new();
        if self.from.is_router() {
            for bound in self.bound().iter().filter(|bound| bound.listens() == port) {
                let passed_on = bound.role() == Role::Passthrough;
                if !passed_on && !matches!(bound.role(), Role::Tcp | Role::TerminatedTcp) {
                    continue;
                }
                found.extend(self.served_by(bound).map(|hosted| L4Source {
                    hosted,
                    service: None,
                    gateway: bound.name(),
                    port: bound.port(),
                    only: passed_on.then(|| bound.hosts()),
                    parts: [passed_on, !passed_on],
                }));
            }
            return found;
        }
        let this = self.at(port);
        for service in this.services() {
            let own = this.is_own_listener();
            let is_there = match service.port(port) {
                Some(of) => {
                    own || this
                        .addresses(service, of)
                        .iter()
                        .any(|(a, _)| a == address)
                }
                None => own && service.ports.len() == 1,
            };
            let rule = this.rule_for(&service.hostname, MESH_GATEWAY);
            let Some(hosted) = rule.filter(|_| is_there) else {
                continue;
            };
            if !found
                .iter()
                .any(|of| Arc::ptr_eq(&of.hosted.object, &hosted.object))
            {
                found.push(L4Source {
                    hosted,
                    service: Some(&service.hostname),
                    gateway: MESH_GATEWAY.to_owned(),
                    port,
                    only: None,
                    parts: [true, true],
                });
            }
        }
        found
    }

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
        self.rules_of(hosted, gateway, port, true, only)
    }

    /// The `tcp` rules of a VirtualService.
    pub(super) fn opaque_rules(
        self,
        hosted: &HostedVirtualService,
        gateway: &str,
        port: u16,
    ) -> Vec<TcpRule> {
        self.rules_of(hosted, gateway, port, false, None)
    }

    fn rules_of(
        self,
        hosted: &HostedVirtualService,
        gateway: &str,
        port: u16,
        tls: bool,
        only: Option<&[Hostname]>,
    ) -> Vec<TcpRule> {
        let mut rules = Vec::new();
        self.walk_l4(hosted, gateway, port, tls, only, |_, fate| {
            if let L4Fate::Rule(rule) = fate {
                rules.push(rule);
            }
        });
        rules
    }

    /// What becomes of each match of the `tls` or the `tcp` rules, in their order.
    pub(crate) fn walk_l4<'b>(
        self,
        hosted: &'b HostedVirtualService,
        gateway: &'b str,
        port: u16,
        tls: bool,
        only: Option<&[Hostname]>,
        mut tell: impl FnMut(L4Place, L4Fate<'b>),
    ) where
        'a: 'b,
    {
        let there = There {
            home: &hosted.object.meta.namespace,
            gateway,
            port,
            labels: &self.labels().0,
            namespace: &self.from.namespace,
        };
        for (route, matches) in l4_rules(&hosted.object.spec, tls) {
            let clusters = self.clusters_of(hosted, route, port);
            let (limits, tunnel) = self.settings_of(hosted, route, port);
            let name_port = self.name_port(hosted, route, port);
            for of in matches {
                let served = |name: &&String| {
                    let name = Hostname::new(name.as_str());
                    only.is_none_or(|only| only.iter().any(|host| host.covers(&name)))
                };
                let sni: Vec<String> = of.sni.iter().filter(served).cloned().collect();
                let fate = if clusters.is_empty() {
                    L4Fate::Nowhere
                } else if let Some(unmet) = of.conditions.and_then(|of| of.unmet(there)) {
                    L4Fate::Elsewhere(unmet)
                } else if tls && sni.is_empty() {
                    L4Fate::OtherNames
                } else {
                    L4Fate::Rule(TcpRule {
                        sni,
                        subnets: of.subnets.to_vec(),
                        source: Some(of.source.to_owned()).filter(|range| !range.is_empty()),
                        mesh_only: false,
                        clusters: clusters.clone(),
                        limits,
                        tunnel: tunnel.clone(),
                        name_port,
                        written: Written(Some((hosted.object.clone(), of.place))),
                    })
                };
                tell(of.place, fate);
            }
        }
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
        let taken = l4_takers(routes).into_iter();
        taken
            .filter_map(|(at, weight)| {
                let destination = routes[at].destination.as_ref()?;
                Some((cluster(destination), weight))
            })
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

/// The places of the destinations that get connections, with their shares: the only one whatever its
/// weight, else those with a weight, else all alike.
pub(crate) fn l4_takers(routes: &[RouteDestination]) -> Vec<(usize, u32)> {
    let is_weighted = |route: &RouteDestination| route.weight > 0;
    let alike = routes.len() == 1 || !routes.iter().any(is_weighted);
    let taken = routes.iter().enumerate();
    let taken =
        taken.filter(|(_, route)| route.destination.is_some() && (alike || is_weighted(route)));
    let weight = |route: &RouteDestination| match alike {
        true => 1,
        false => u32::try_from(route.weight).unwrap_or(0),
    };
    taken.map(|(at, route)| (at, weight(route))).collect()
}
