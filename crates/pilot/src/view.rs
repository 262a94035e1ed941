//! What is seen of a snapshot from one vantage: the keys of resources.

mod aliases;
mod clusters;
mod datagrams;
mod endpoints;
pub(crate) mod gateways;
mod inbound;
mod misdirected;
mod names;
mod outbound;
mod reach;
mod rivals;
mod routes;
mod tcp;

use std::sync::Arc;

use lateen_core::Labels;
use lateen_registry::Service;

use crate::engine::Vantage;
use crate::mtls;
use crate::policy::Rule;
use crate::route::{Client, Target, Targets};
use crate::shared::Shared;
use crate::snapshot::{HostedVirtualService, Snapshot};
use reach::Through;
pub(crate) use tcp::{L4Fate, l4_takers};

/// A vantage and the snapshot that is seen from it.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) from: &'a Vantage,
    through: Through<'a>,
}

impl<'a> View<'a> {
    /// All that is seen from a vantage.
    pub(crate) fn new(snapshot: &'a Snapshot, from: &'a Vantage) -> View<'a> {
        View {
            snapshot,
            from,
            through: Through::All,
        }
    }

    pub(crate) fn rules(self, service: &Service) -> Vec<Rule> {
        let rules = self.snapshot.rules(self.from, service);
        rules.into_iter().map(Shared).collect()
    }

    fn labels(self) -> &'a Labels {
        &self.from.labels
    }

    /// Services that the proxy's workload serves, the oldest first.
    fn own_services(self) -> Vec<&'a Arc<Service>> {
        self.services_of(self.labels())
    }

    /// Services of the namespace that select by labels and select these, the oldest first.
    fn services_of(self, labels: &Labels) -> Vec<&'a Arc<Service>> {
        let own = |service: &&Arc<Service>| {
            !service.selector.is_empty() && service.selector.selects(labels)
        };
        let all = self.snapshot.services_in(&self.from.namespace);
        let mut services: Vec<_> = all.filter(own).collect();
        services.sort_by_key(|s| (s.created.is_none(), s.created, s.hostname.clone()));
        services
    }

    /// The number that a service's port has at the proxy's workload.
    fn target_port(self, port: &lateen_registry::ServicePort) -> Option<u16> {
        match &port.target_port {
            lateen_registry::TargetPort::Number(number) => Some(*number),
            lateen_registry::TargetPort::Name(name) => self.from.ports.get(name).copied(),
        }
    }

    /// The Sidecar of the proxy's workload.
    pub(crate) fn own_sidecar(
        self,
    ) -> Option<&'a Arc<lateen_api::Object<lateen_api::networking::Sidecar>>> {
        let sidecars = self.snapshot.sidecars();
        sidecars.of(&self.from.namespace, self.labels())
    }

    /// What is said of mutual TLS at a port of the workload.
    pub(crate) fn said_of_mtls(self, port: u16) -> Option<mtls::Said<'a>> {
        mtls::said(
            self.snapshot,
            &self.from.namespace,
            self.labels(),
            Some(port),
        )
    }

    fn mode(self, port: Option<u16>) -> crate::listener::Mode {
        mtls::mode(self.snapshot, &self.from.namespace, self.labels(), port)
    }

    /// What routes may depend on: labels and the namespace only where a rule asks for them, so that
    /// clients for which that makes no difference share what is made.
    fn client<'b>(self, rules: impl IntoIterator<Item = &'b HostedVirtualService>) -> Client {
        let (mut labels, mut namespace) = (false, false);
        for hosted in rules {
            let http = hosted.object.spec.http.iter();
            for of in http.flat_map(|route| &route.r#match) {
                labels |= !of.source_labels.is_empty();
                namespace |= !of.source_namespace.is_empty();
            }
        }
        let mesh = &self.snapshot.config.mesh;
        Client {
            namespace: match namespace {
                true => self.from.namespace.clone(),
                false => String::new(),
            },
            labels: match labels {
                true => self.labels().0.clone(),
                false => Default::default(),
            },
            domain: self.snapshot.domain.clone(),
            mesh: mesh
                .default_http_retry_policy
                .is_some()
                .then(|| Shared::of(mesh)),
        }
    }

    fn targets<'b>(
        self,
        rules: impl IntoIterator<Item = &'b HostedVirtualService>,
        own: Option<&Service>,
    ) -> Targets {
        let domain = &self.snapshot.domain;
        let mut targets = Targets::new();
        for hosted in rules {
            let object = &hosted.object;
            let namespace = &object.meta.namespace;
            for host in crate::route::destinations(&object.spec, namespace, domain) {
                let target = self.target(&host);
                targets.insert(host.to_string(), target);
            }
        }
        if let Some(service) = own {
            let target = self.target(&service.hostname);
            targets.insert(service.hostname.to_string(), target);
        }
        targets
    }

    fn target(self, host: &str) -> Target {
        let Some(named) = self.service(host) else {
            return Target::default();
        };
        let meant = self.meant_by(named);
        let service = meant.unwrap_or(named);
        let rules = self.rules(service);
        let hashes = rules
            .iter()
            .any(|rule| crate::policy::uses_hash(&rule.spec));
        Target {
            meant: meant.map(|service| service.hostname.clone()),
            ports: service.ports.iter().map(|port| port.port).collect(),
            rules: if hashes { rules } else { Vec::new() },
        }
    }
}

#[cfg(test)]
mod tests;
