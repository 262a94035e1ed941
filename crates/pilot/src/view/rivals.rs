//! Which VirtualServices decide for a host, of all that could: for whoever explains it.

use lateen_core::Hostname;

use super::View;
use super::gateways::{Bound, Role};
use crate::snapshot::{HostedVirtualService, MESH_GATEWAY};
use crate::trace::Origin;

impl<'a> View<'a> {
    /// Those whose rules decide about the requests (or connections) of a host at a port.
    pub(crate) fn deciding(
        self,
        chosen: &Hostname,
        port: u16,
        http: bool,
    ) -> Vec<&'a HostedVirtualService> {
        if !self.from.is_router() {
            let rule = self.at(port).rule_for(chosen, MESH_GATEWAY);
            return rule.into_iter().collect();
        }
        let bound = self.servers_of(port, http);
        let deciding = bound.iter().flat_map(|bound| {
            let served = self.served_by(bound);
            served.filter(|hosted| {
                let mut hosts = hosted.hosts.iter();
                // Rules for connections add up, whatever their hosts are.
                !http || hosts.any(|host| bound.common(hosted, host).contains(chosen))
            })
        });
        deciding.collect()
    }

    /// `mesh`, or the names of the Gateways that have a port of the proxy.
    pub(crate) fn gateways_at(self, port: u16, http: bool) -> Vec<String> {
        if !self.from.is_router() {
            return vec![MESH_GATEWAY.to_owned()];
        }
        let bound = self.servers_of(port, http);
        let mut names: Vec<String> = bound.iter().map(Bound::name).collect();
        names.sort();
        names.dedup();
        names
    }

    fn servers_of(self, port: u16, http: bool) -> Vec<Bound<'a>> {
        let is_http = |bound: &Bound<'_>| matches!(bound.role(), Role::Http | Role::Https);
        let mut bound = self.bound();
        bound.retain(|bound| bound.listens() == port && is_http(bound) == http);
        bound
    }

    /// The Sidecar that keeps a rule out at a port; `None` where it is let through.
    pub(crate) fn kept_out_by(self, hosted: &HostedVirtualService, port: u16) -> Option<Origin> {
        if self.from.is_router() || self.at(port).lets_rule(hosted) {
            return None;
        }
        let sidecar = self.from.sidecar.as_ref()?;
        Some(Origin::new("Sidecar", &sidecar.meta, "spec.egress"))
    }
}
