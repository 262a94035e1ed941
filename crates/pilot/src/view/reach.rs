//! What a proxy sees of the mesh: everything that is exported to it, or what its Sidecar lets
//! through.

use std::collections::BTreeMap;
use std::sync::Arc;

use lateen_api::networking::{self as api, IstioEgressListener, OutboundTrafficMode};
use lateen_core::Hostname;
use lateen_registry::Service;

use super::View;
use crate::model::Egress;
use crate::route::{Others, destinations};
use crate::snapshot::{HostedVirtualService, MESH_GATEWAY, full_host};
use crate::trace::Origin;

/// Which of the Sidecar's egress listeners are looked through.
#[derive(Clone, Copy)]
pub(super) enum Through<'a> {
    /// All that there are; everything where there is no Sidecar or it has none.
    All,
    /// This one.
    Listener(&'a IstioEgressListener),
    /// None of them.
    Nothing,
}

impl<'a> View<'a> {
    /// The egress listeners of the Sidecar; empty where nothing is kept out.
    pub(super) fn egress(self) -> &'a [IstioEgressListener] {
        let sidecar = self.from.sidecar.as_ref();
        sidecar.map_or(&[], |sidecar| &sidecar.spec.egress)
    }

    /// What is seen through one of them.
    pub(super) fn through(self, listener: &'a IstioEgressListener) -> View<'a> {
        View {
            through: Through::Listener(listener),
            ..self
        }
    }

    /// What is seen at an outbound port: through the listener for it, else through the one for all
    /// other ports.
    pub(super) fn at(self, port: u16) -> View<'a> {
        let number = |listener: &IstioEgressListener| listener.port.as_ref().map(|p| p.number);
        let mut listeners = self.egress().iter();
        match listeners.find(|listener| number(listener) == Some(u32::from(port))) {
            Some(listener) => self.through(listener),
            None => self.elsewhere(),
        }
    }

    /// What is seen at ports that have no listener of their own.
    pub(super) fn elsewhere(self) -> View<'a> {
        let egress = self.egress();
        if egress.is_empty() {
            return self;
        }
        let through = match egress.iter().find(|listener| listener.port.is_none()) {
            Some(listener) => Through::Listener(listener),
            None => Through::Nothing,
        };
        View { through, ..self }
    }

    /// Whether it is looked through a listener that a Sidecar has for a port.
    pub(super) fn is_own_listener(self) -> bool {
        matches!(self.through, Through::Listener(listener) if listener.port.is_some())
    }

    /// The listeners that are looked through; `None` where nothing is kept out.
    fn limits(self) -> Option<impl Iterator<Item = Egress<'a>>> {
        let listeners = match self.through {
            Through::All if self.egress().is_empty() => return None,
            Through::All => self.egress(),
            Through::Listener(listener) => std::slice::from_ref(listener),
            Through::Nothing => &[],
        };
        let own = &self.from.namespace;
        let egress = move |listener| Egress { listener, own };
        Some(listeners.iter().map(egress))
    }

    /// Services that the proxy sees, the oldest first: where two want the same, it wins.
    pub(crate) fn services(self) -> Vec<&'a Arc<Service>> {
        let mut services: Vec<_> = match self.limits() {
            None => self.snapshot.services(&self.from.namespace).collect(),
            Some(limits) => self.services_through(limits).into_values().collect(),
        };
        services.sort_by_key(|s| (s.created.is_none(), s.created, s.hostname.clone()));
        self.without_aliases(services)
    }

    /// Those of them whose hosts are looked up by the names that clients give.
    pub(super) fn by_name(self) -> impl Iterator<Item = &'a Arc<Service>> {
        let all = self.snapshot.by_name().iter();
        all.filter(move |service| {
            let counts = self.service(&service.hostname);
            counts.is_some_and(|counts| Arc::ptr_eq(counts, service)) && self.lets_service(service)
        })
    }

    /// Services that listeners let through, one for each host name. It looks at no more than their
    /// hosts ask for: a Sidecar makes a large mesh small.
    fn services_through(
        self,
        limits: impl Iterator<Item = Egress<'a>>,
    ) -> BTreeMap<&'a Hostname, &'a Arc<Service>> {
        let world = &self.snapshot.world;
        let mut found = BTreeMap::new();
        for (of, pattern) in limits.flat_map(Egress::hosts) {
            let wanted = |service: &&Arc<Service>| {
                of.is_none_or(|of| *service.namespace == *of)
                    && Hostname::pattern_covers(pattern, &service.hostname)
            };
            if !pattern.starts_with('*') {
                let named = world.named(pattern);
                named.filter(wanted).for_each(|s| self.take(s, &mut found));
            } else if let Some(namespace) = of {
                let there = self.snapshot.services_in(namespace);
                there.filter(wanted).for_each(|s| self.take(s, &mut found));
            } else {
                let all = world.services.values();
                all.filter(wanted).for_each(|s| self.take(s, &mut found));
            }
        }
        found
    }

    fn take(self, service: &'a Arc<Service>, found: &mut BTreeMap<&'a Hostname, &'a Arc<Service>>) {
        let known = found.get(&service.hostname).copied();
        let namespace = &self.from.namespace;
        if let Some(best) = self.snapshot.preferred(known, service, namespace) {
            found.insert(&service.hostname, best);
        }
    }

    /// A service that the proxy may send to, by full name. What no listener lets through can still
    /// be the destination of a rule.
    pub(crate) fn service(self, host: &str) -> Option<&'a Arc<Service>> {
        let namespace = &self.from.namespace;
        let through = |limits: Vec<Egress<'a>>| {
            let named = self.snapshot.world.named(host);
            let is_let = |service: &&'a Arc<Service>| {
                let mut limits = limits.iter();
                limits.any(|egress| egress.lets_service(&service.namespace, host))
            };
            named.filter(is_let).fold(None, |best, other| {
                self.snapshot.preferred(best, other, namespace)
            })
        };
        let limits = self.limits().map(Iterator::collect);
        let own = limits.and_then(through);
        own.or_else(|| self.snapshot.service(host, namespace))
    }

    /// Services that the proxy has clusters for: those that it sees, and where a Sidecar keeps others
    /// out, those that rules lead to all the same.
    pub(crate) fn destinations(self) -> Vec<&'a Arc<Service>> {
        let Some(limits) = self.limits() else {
            return self.services();
        };
        let mut found = self.services_through(limits);
        for host in self.implied() {
            if let Some(service) = self.snapshot.service(&host, &self.from.namespace) {
                found.entry(&service.hostname).or_insert(service);
            }
        }
        self.without_aliases(found.into_values().collect())
    }

    /// The same for one name.
    pub(crate) fn destination(self, host: &str) -> Option<&'a Arc<Service>> {
        let service = self.service(host)?;
        // What only stands for another one has no clusters of its own.
        if self.meant_by(service).is_some() {
            return None;
        }
        let seen = self.lets_service(service) || self.aliases().contains_key(&service.hostname);
        let implied = || {
            self.implied()
                .iter()
                .any(|implied| implied.as_str() == host)
        };
        (seen || implied()).then_some(service)
    }

    /// Whether listeners let a service through.
    pub(super) fn lets_service(self, service: &Service) -> bool {
        self.limits().is_none_or(|mut limits| {
            limits.any(|egress| egress.lets_service(&service.namespace, &service.hostname))
        })
    }

    /// The host of the Sidecar that lets a service be seen; `None` where nothing is kept out.
    pub(crate) fn let_in_by(self, service: &Service) -> Option<Origin> {
        let sidecar = self.from.sidecar.as_ref()?;
        let own = &self.from.namespace;
        let egress = sidecar.spec.egress.iter().enumerate();
        let mut hosts = egress.flat_map(|(at, listener)| {
            let hosts = listener.hosts.iter().enumerate();
            hosts.map(move |(of, host)| (at, of, listener, host))
        });
        let lets = |(_, _, listener, host): &(_, _, &IstioEgressListener, &String)| {
            let only = IstioEgressListener {
                hosts: vec![(*host).clone()],
                ..(*listener).clone()
            };
            let listener = &only;
            let egress = Egress { listener, own };
            egress.lets_service(&service.namespace, &service.hostname)
        };
        let (at, of, _, _) = hosts.find(lets)?;
        let field = format!("spec.egress[{at}].hosts[{of}]");
        Some(Origin::new("Sidecar", &sidecar.meta, field))
    }

    /// Whether a Sidecar keeps anything out, so that rules say what is needed besides.
    pub(crate) fn is_limited(self) -> bool {
        self.limits().is_some()
    }

    /// Hosts that rules send to, and the one that unknown traffic is sent to.
    fn implied(self) -> Vec<Hostname> {
        let domain = &self.snapshot.domain;
        let mut hosts = Vec::new();
        for hosted in self.mesh_rules() {
            let object = &hosted.object;
            hosts.extend(destinations(&object.spec, &object.meta.namespace, domain));
        }
        let proxy = self.egress_proxy();
        hosts.extend(proxy.map(|to| full_host(&to.host, &self.from.namespace, domain)));
        if !self.snapshot.aliases().is_empty() {
            for host in &mut hosts {
                let service = self.snapshot.service(host, &self.from.namespace);
                if let Some(meant) = service.and_then(|service| self.meant_by(service)) {
                    host.clone_from(&meant.hostname);
                }
            }
        }
        hosts
    }

    /// VirtualServices for sidecars that the proxy sees, the oldest first.
    pub(super) fn mesh_rules(self) -> impl Iterator<Item = &'a HostedVirtualService> {
        let namespace = &self.from.namespace;
        let all = self.snapshot.virtual_services(namespace, MESH_GATEWAY);
        all.filter(move |hosted| self.lets_rule(hosted))
    }

    pub(super) fn lets_rule(self, hosted: &HostedVirtualService) -> bool {
        let namespace = &hosted.object.meta.namespace;
        self.limits().is_none_or(|mut limits| {
            limits.any(|egress| egress.lets_rule(namespace, &hosted.hosts))
        })
    }

    /// The VirtualService that counts for a host: one that names it, else the one with the longest
    /// wildcard; of equals, the oldest.
    pub(super) fn rule_for(
        self,
        host: &Hostname,
        gateway: &'a str,
    ) -> Option<&'a HostedVirtualService> {
        let namespace = &self.from.namespace;
        let is_let =
            |hosted: &HostedVirtualService| gateway != MESH_GATEWAY || self.lets_rule(hosted);
        self.snapshot
            .virtual_service(namespace, gateway, host, is_let)
    }

    /// What becomes of traffic to hosts and addresses that the proxy does not know.
    pub(super) fn others(self) -> Others {
        let sidecar = self.from.sidecar.as_ref();
        let Some(own) = sidecar.and_then(|s| s.spec.outbound_traffic_policy.as_ref()) else {
            return self.snapshot.config.mesh.outbound_mode().into();
        };
        if let Some(to) = self.egress_proxy() {
            let host = full_host(&to.host, &self.from.namespace, &self.snapshot.domain);
            return Others::To(self.target(&host).cluster(to, &host, 0).to_string());
        }
        match own.mode {
            OutboundTrafficMode::RegistryOnly => Others::Block,
            OutboundTrafficMode::AllowAny => Others::Allow,
            OutboundTrafficMode::AllowAnyDynamicDns => Others::ByName,
        }
    }

    fn egress_proxy(self) -> Option<&'a api::Destination> {
        let sidecar = self.from.sidecar.as_ref()?;
        let policy = sidecar.spec.outbound_traffic_policy.as_ref()?;
        policy.egress_proxy.as_ref()
    }
}
