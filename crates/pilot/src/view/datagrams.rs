//! Where gateways lead datagrams: the `tcp` parts of VirtualServices that stand for UDPRoutes.
//!
//! What users write of their own leads no datagrams, as with Istio: only what was made of the Gateway
//! API does.

use lateen_core::Protocol;
use lateen_registry::{Service, ServicePort};
use lateen_xds::names::{self, ClusterName};

use super::View;
use super::gateways::{Bound, Role};
use crate::listener::{DatagramRule, GatewayServer, L4Place, Written};
use crate::snapshot::{HostedVirtualService, full_host};

impl<'a> View<'a> {
    /// A server of datagrams; one without a route drops what comes.
    pub(super) fn datagram_server(self, bound: &Bound<'a>) -> Option<GatewayServer> {
        let name = bound.internal_name()?;
        let rules = self.bound_rules(&name);
        let rule = rules.into_iter().find_map(|hosted| self.datagrams(hosted));
        Some(GatewayServer::Datagrams(rule.unwrap_or_default()))
    }

    fn datagrams(self, hosted: &HostedVirtualService) -> Option<DatagramRule> {
        let namespace = &hosted.object.meta.namespace;
        let place = L4Place {
            is_tls: false,
            rule: 0,
            of: None,
        };
        let mut rule = DatagramRule {
            written: Written(Some((hosted.object.clone(), place))),
            ..DatagramRule::default()
        };
        for to in &hosted.object.spec.tcp.first()?.route {
            let Some(destination) = &to.destination else {
                continue;
            };
            let host = full_host(&destination.host, namespace, &self.snapshot.domain);
            let port = self.target(&host).port(destination, 0);
            let weight = u32::try_from(to.weight).unwrap_or(0);
            rule.clusters
                .push((self.datagram_cluster(&host, port), weight));
            rule.by_source |= self.policy(&host, port, "", |policy| {
                let hash = policy
                    .load_balancer
                    .and_then(|lb| lb.consistent_hash.as_ref());
                hash.is_some_and(|hash| hash.use_source_ip == Some(true))
            });
            // Which destination it will be is not known when this is set: the first one's holds.
            rule.idle = rule.idle.or(self.tcp_limits(&host, port, "").idle);
        }
        Some(rule)
    }

    /// The cluster of a service's port; what is not there drops its share.
    fn datagram_cluster(self, host: &str, port: u16) -> String {
        let known = self.service(host);
        match known.and_then(|service| service.datagram_port(port)) {
            Some(_) => ClusterName::outbound(port, names::DATAGRAMS, host).to_string(),
            None => names::BLACK_HOLE_CLUSTER.to_owned(),
        }
    }

    /// The ports of a service that the gateway leads datagrams to.
    pub(super) fn datagram_ports(self, service: &'a Service) -> Vec<&'a ServicePort> {
        let mut ports = service.ports.iter();
        // Most have none: what follows is worked out for few.
        if !self.from.is_router() || !ports.any(|port| port.protocol == Protocol::Udp) {
            return Vec::new();
        }
        let bound = self.bound();
        let servers = bound.iter().filter(|bound| bound.role() == Role::Udp);
        let names = servers.filter_map(Bound::internal_name);
        let rules: Vec<_> = names.flat_map(|name| self.bound_rules(&name)).collect();
        let is_led_to = |port: &&ServicePort| {
            rules.iter().any(|hosted| {
                let routes = hosted.object.spec.tcp.iter().flat_map(|tcp| &tcp.route);
                let mut destinations = routes.filter_map(|route| route.destination.as_ref());
                destinations.any(|to| {
                    let number = to.port.as_ref().map(|port| port.number);
                    *to.host == *service.hostname && number == Some(u32::from(port.port))
                })
            })
        };
        let all = service.ports.iter();
        let all = all.filter(|port| port.protocol == Protocol::Udp);
        all.filter(is_led_to).collect()
    }

    /// Whether the gateway has any server of datagrams.
    pub(crate) fn has_datagrams(self) -> bool {
        self.from.is_router() && self.bound().iter().any(|bound| bound.role() == Role::Udp)
    }
}
