//! Services that a gateway passes connections on to by their server names alone.

use std::sync::Arc;

use lateen_api::Object;
use lateen_api::networking::{Gateway, ServerTlsMode};
use lateen_core::Protocol;
use lateen_registry::Service;
use lateen_xds::names::ClusterName;

use super::{Bound, Role};
use crate::listener::{TcpLimits, TcpRule};
use crate::policy::subsets;
use crate::view::View;

impl<'a> View<'a> {
    /// Each cluster of each service that a server of this gateway leads to by itself.
    pub(super) fn rules_by_name(self, bound: &Bound<'a>) -> Vec<TcpRule> {
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
    pub(in crate::view) fn is_passed_on(self, service: &Service) -> bool {
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
    pub(in crate::view) fn names_of(self, service: &Arc<Service>) -> Vec<ClusterName> {
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
}
