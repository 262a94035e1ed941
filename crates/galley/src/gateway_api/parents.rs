//! Which listeners a route attaches itself to, and for which hosts.

use lateen_api::gateway_api::{GROUP, ParentReference};
use lateen_core::Hostname;

use super::{
    Around,
    conditions::Verdict,
    gateways::Gateways,
    listeners::{Bound, Role},
    routes::Common,
};

impl Gateways<'_> {
    /// The listeners that a route's parent means, with the hosts that both have. `None` where the
    /// parent is nothing of ours.
    #[allow(
        clippy::type_complexity,
        reason = "listeners with their hosts, or why not"
    )]
    pub(super) fn attach(
        &self,
        around: Around<'_>,
        route: Common<'_>,
        parent: &ParentReference,
    ) -> Option<Result<Vec<(usize, Vec<Hostname>)>, Verdict>> {
        let own = self.of_parent(route, parent);
        if own.is_empty() {
            return None;
        }
        let is_named = |bound: &Bound<'_>| {
            let section = parent.section_name.as_deref();
            section.is_none_or(|section| section == bound.listener.name)
                && parent.port.is_none_or(|port| port == bound.listener.port)
        };
        let named = own.into_iter().filter(|n| is_named(&self.listeners[*n]));
        let named: Vec<usize> = named.collect();
        if named.is_empty() {
            let message = "no listener of the parent has this name and port";
            return Some(Err(Verdict::new("NoMatchingParent", message)));
        }
        let allowed = named.into_iter();
        let allowed = allowed.filter(|n| self.listeners[*n].allows(around, route));
        let allowed: Vec<usize> = allowed.collect();
        if allowed.is_empty() {
            let message = format!(
                "no listener of the parent takes {} of namespace {}",
                route.kind.kind, route.meta.namespace
            );
            return Some(Err(Verdict::new("NotAllowedByListeners", message)));
        }
        let with_hosts = allowed.into_iter().filter_map(|n| {
            let hosts = common(&self.listeners[n], route.hostnames);
            (!hosts.is_empty()).then(|| (n, self.isolated(n, hosts)))
        });
        let found: Vec<_> = with_hosts.collect();
        if found.is_empty() {
            let message = "no hostname of the route is one of the listeners'";
            return Some(Err(Verdict::new("NoMatchingListenerHostname", message)));
        }
        Some(Ok(found))
    }

    /// The listeners of the object that a parent names.
    fn of_parent(&self, route: Common<'_>, parent: &ParentReference) -> Vec<usize> {
        if parent.group.as_deref().unwrap_or(GROUP) != GROUP {
            return Vec::new();
        }
        let kind = parent.kind.as_deref().unwrap_or("Gateway");
        let namespace = parent.namespace.as_deref();
        let namespace = namespace.unwrap_or(&route.meta.namespace);
        let is_meant = |bound: &Bound<'_>| {
            let meta = match (kind, bound.set) {
                ("Gateway", None) => &bound.gateway.meta,
                ("ListenerSet", Some(set)) => &set.meta,
                _ => return false,
            };
            meta.name == parent.name && meta.namespace == namespace
        };
        let all = self.listeners.iter().enumerate();
        all.filter(|(_, bound)| is_meant(bound))
            .map(|(n, _)| n)
            .collect()
    }

    /// A listener of plain HTTP serves no host that a more specific one of its port does.
    fn isolated(&self, n: usize, mut hosts: Vec<Hostname>) -> Vec<Hostname> {
        let own = self.listeners[n].host();
        for other in self.beside(n) {
            let theirs = other.host();
            if own != theirs && own.covers(&theirs) {
                hosts.retain(|host| !theirs.covers(host));
            }
        }
        hosts
    }

    /// Whether some other listener of plain HTTP would take a listener's requests, if it were not there.
    pub(super) fn is_within_another(&self, n: usize) -> bool {
        let own = self.listeners[n].host();
        self.listeners[n].serves()
            && self.beside(n).any(|other| {
                let theirs = other.host();
                own != theirs && theirs.covers(&own)
            })
    }

    /// Other listeners of plain HTTP of a Gateway's port.
    fn beside(&self, n: usize) -> impl Iterator<Item = &Bound<'_>> {
        let own = &self.listeners[n];
        let all = self.listeners.iter().enumerate();
        all.filter(move |(m, other)| {
            *m != n
                && own.role == Role::Http
                && other.role == Role::Http
                && other.serves()
                && std::ptr::eq(own.gateway, other.gateway)
                && own.listener.port == other.listener.port
        })
        .map(|(_, other)| other)
    }
}

/// Hosts that a listener and a route both have.
fn common(bound: &Bound<'_>, hostnames: &[String]) -> Vec<Hostname> {
    let own = bound.host();
    if hostnames.is_empty() || matches!(bound.role, Role::Tcp | Role::Udp) {
        return vec![own];
    }
    let mut all = Vec::new();
    for host in hostnames.iter().map(Hostname::new) {
        let shared = match (own.covers(&host), host.covers(&own)) {
            (true, _) => host,
            (_, true) => own.clone(),
            _ => continue,
        };
        if !all.contains(&shared) {
            all.push(shared);
        }
    }
    all
}
