//! What applies to a service and to a workload: ports, rules that lead there, what shapes the way,
//! how TLS ends. Like an explanation, it is asked of galley and pilot and written down.

mod rules;
mod text;
mod tls;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use lateen_api::Object;
use lateen_api::networking::{ClientTlsMode, ClientTlsSettings, DestinationRule};
use lateen_core::{Labels, ObjectRef, Protocol};
use lateen_pilot::Offline;
use lateen_registry::{Service, TargetPort, Workload};
use lateen_xds::names::ClusterName;
use serde_json::Value;

use crate::platform::{Caller, Platform};

pub use rules::{Exposed, Leading};
pub use tls::{Agreement, TlsCheck};

/// An address that nobody has, for a client that is only imagined.
const IMAGINED: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

/// A service, and what applies to it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DescribedService {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its full name.
    pub host: String,
    /// Its ports.
    pub ports: Vec<DescribedPort>,
    /// Whether clients of its own namespace see it.
    pub seen: bool,
    /// The DestinationRules that hold for such clients.
    pub rules: Vec<DescribedRule>,
    /// Rules of VirtualServices, and of what becomes VirtualServices, that lead to it.
    pub leading: Vec<Leading>,
    /// VirtualServices for its host of which no rule leads to it.
    pub elsewhere: Vec<String>,
    /// Gateways by which it is reached from outside.
    pub exposed: Vec<Exposed>,
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct DescribedPort {
    /// Its name; may be empty.
    pub name: String,
    /// The port that clients ask for.
    pub number: u16,
    /// What is spoken.
    pub protocol: Protocol,
    /// The port of the workload: a number, or the name of a container's port.
    pub target: String,
}

/// A DestinationRule that holds for clients of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct DescribedRule {
    /// Its namespace and name.
    pub object: String,
    /// The host that it is for, as it is written.
    pub host: String,
    /// Subsets that have the workload, or all where it is the service that is described.
    pub subsets: Vec<String>,
    /// The other subsets.
    pub other_subsets: Vec<String>,
    /// What it says of ports that it names nowhere.
    pub policy: DescribedPolicy,
    /// What it says of single ports of the service.
    pub of_ports: Vec<(u16, DescribedPolicy)>,
}

/// What a DestinationRule says of a port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DescribedPolicy {
    /// How it has connections secured, where it says so.
    pub tls: Option<ClientTlsMode>,
    /// What else it says something of: `loadBalancer`.
    pub others: Vec<&'static str>,
}

/// How the mesh's TLS ends at a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mode {
    /// The port; 0 stands for those that nothing is said of.
    pub port: u16,
    /// `STRICT`, `PERMISSIVE` or `DISABLE`.
    pub mode: String,
    /// The object that says so; empty where none does.
    pub by: String,
}

/// What applies to a workload itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DescribedWorkload {
    /// For all ports, and then for those that differ.
    pub modes: Vec<Mode>,
    /// The Sidecar that says what it sees.
    pub sidecar: Option<String>,
    /// The EnvoyFilters that patch its proxy.
    pub filters: Vec<String>,
}

impl Platform {
    /// A service of a namespace, by its name or its host.
    pub fn service(&self, name: &str, namespace: &str) -> Option<&Arc<Service>> {
        let mut all = self.world.services.values();
        all.find(|service| {
            service.namespace == *namespace
                && (service.name == name || service.hostname.as_str() == name)
        })
    }

    /// What applies to a service; to one workload of it, where that is given.
    pub fn described_service(
        &self,
        service: &Service,
        workload: Option<&Workload>,
    ) -> DescribedService {
        let client = self.client_in(&service.namespace);
        let offline = client.map(|client| self.offline(&client));
        let mut told = DescribedService {
            name: service.name.clone(),
            namespace: service.namespace.to_string(),
            host: service.hostname.to_string(),
            ports: service.ports.iter().map(port).collect(),
            ..DescribedService::default()
        };
        if let Some(offline) = &offline {
            self.shaping(offline, service, workload, &mut told);
        }
        rules::find(self, service, workload, &mut told);
        told
    }

    /// What applies to a workload.
    pub fn described_workload(&self, caller: &Caller) -> DescribedWorkload {
        let offline = self.offline(caller);
        let workload = &caller.workload;
        let of_port = |port| mode(&offline, port);
        let whole = of_port(0);
        let services = self.world.services_of(workload);
        let ports = services.flat_map(|service| &service.ports);
        let mut numbers: Vec<u16> = ports.filter_map(|port| target(port, workload)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let others = numbers.into_iter().map(of_port);
        let others = others.filter(|other| (&other.mode, &other.by) != (&whole.mode, &whole.by));
        let root = self.config.mesh.root_namespace();
        let patching = self.config.envoy_filters.iter().filter(|filter| {
            let own = filter.meta.namespace == workload.namespace || filter.meta.namespace == root;
            let selector = filter.spec.workload_selector.iter();
            let wanted = selector.flat_map(|of| &of.labels);
            let wanted = wanted.chain(&filter.spec.workload_labels);
            own && filter.spec.target_refs.is_empty() && has_all(&workload.labels, wanted)
        });
        DescribedWorkload {
            modes: std::iter::once(whole.clone()).chain(others).collect(),
            sidecar: offline.trace_sidecar().map(|of| named(&of)),
            filters: patching.map(|filter| filter.key()).collect(),
        }
    }

    /// A client of a namespace that no rule for some workloads alone is for.
    fn client_in(&self, namespace: &str) -> Option<Caller> {
        let workload = Workload {
            name: "client".to_owned(),
            namespace: namespace.to_owned(),
            ips: vec![IMAGINED],
            labels: Labels::default(),
            annotations: Default::default(),
            service_account: "default".to_owned(),
            node: String::new(),
            locality: Default::default(),
            ports: Default::default(),
            owner: None,
            mtls: true,
            ready: true,
        };
        self.caller_of(Arc::new(workload))
    }

    /// The DestinationRules, by what clusters are made of.
    fn shaping(
        &self,
        offline: &Offline,
        service: &Service,
        workload: Option<&Workload>,
        told: &mut DescribedService,
    ) {
        let seen = seen(offline);
        for port in &service.ports {
            let name = ClusterName::outbound(port.port, "", service.hostname.as_str()).to_string();
            let trace = seen.contains(&name).then(|| offline.trace_cluster(&name));
            let Some(trace) = trace.flatten() else {
                continue;
            };
            told.seen = true;
            for (object, _) in &trace.rules {
                let Some(rule) = self.destination_rule(object) else {
                    continue;
                };
                let own = trace.settings.iter().filter(|(_, by)| by.object == *object);
                let said = described_policy(rule, own);
                let key = rule.key();
                let at = told.rules.iter().position(|known| known.object == key);
                let at = at.unwrap_or_else(|| {
                    told.rules.push(described_rule(rule, workload));
                    told.rules.len() - 1
                });
                match names_port(&rule.spec, port.port) {
                    true => told.rules[at].of_ports.push((port.port, said)),
                    false => told.rules[at].policy = said,
                }
            }
        }
    }

    fn destination_rule(&self, object: &ObjectRef) -> Option<&Arc<Object<DestinationRule>>> {
        let mut all = self.config.destination_rules.iter();
        all.find(|rule| {
            *rule.meta.namespace == *object.namespace && *rule.meta.name == *object.name
        })
    }
}

/// What a rule is, without what it says of ports.
fn described_rule(rule: &Object<DestinationRule>, workload: Option<&Workload>) -> DescribedRule {
    let has = |labels| workload.is_none_or(|workload| has_all(&workload.labels, labels));
    let (own, others): (Vec<_>, Vec<_>) = rule
        .spec
        .subsets
        .iter()
        .partition(|subset| has(&subset.labels));
    let names = |of: Vec<&lateen_api::networking::Subset>| {
        of.into_iter().map(|subset| subset.name.clone()).collect()
    };
    DescribedRule {
        object: rule.key(),
        host: rule.spec.host.clone(),
        subsets: names(own),
        other_subsets: names(others),
        policy: DescribedPolicy::default(),
        of_ports: Vec::new(),
    }
}

/// What a rule says of a port, by the settings that the port's cluster has of it.
fn described_policy<'a>(
    rule: &Object<DestinationRule>,
    settings: impl Iterator<Item = &'a (&'static str, lateen_pilot::Origin)>,
) -> DescribedPolicy {
    let mut policy = DescribedPolicy::default();
    for (what, by) in settings {
        match *what {
            "tls" => policy.tls = tls_mode(rule, &by.field),
            other => policy.others.push(other),
        }
    }
    policy
}

/// Whether a rule says something of a port alone.
fn names_port(rule: &DestinationRule, number: u16) -> bool {
    let policy = rule.traffic_policy.iter();
    let mut ports = policy.flat_map(|policy| &policy.port_level_settings);
    ports.any(|of| {
        of.port
            .as_ref()
            .is_some_and(|port| port.number == u32::from(number))
    })
}

/// The names of a proxy's clusters: what a Sidecar leaves out is not among them.
fn seen(offline: &Offline) -> BTreeSet<String> {
    let clusters = offline.clusters();
    clusters
        .iter()
        .map(|of| of.name.as_str().to_owned())
        .collect()
}

/// The mode of a rule's `tls` block at a path.
fn tls_mode(rule: &Object<DestinationRule>, path: &str) -> Option<ClientTlsMode> {
    let value = serde_json::to_value(rule).ok()?;
    let block: ClientTlsSettings = serde_json::from_value(field(&value, path)?.clone()).ok()?;
    Some(block.mode)
}

/// A field by its path: `spec.trafficPolicy.portLevelSettings[0].tls`.
fn field<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, step| {
        let (name, places) = step.split_once('[').unwrap_or((step, ""));
        let mut places = places.split(['[', ']']).filter(|place| !place.is_empty());
        places.try_fold(value.get(name)?, |value, place| {
            value.get(place.parse::<usize>().ok()?)
        })
    })
}

fn port(port: &lateen_registry::ServicePort) -> DescribedPort {
    DescribedPort {
        name: port.name.to_string(),
        number: port.port,
        protocol: port.protocol,
        target: match &port.target_port {
            TargetPort::Number(number) => number.to_string(),
            TargetPort::Name(name) => name.clone(),
        },
    }
}

/// The number that a service's port has at a workload.
fn target(port: &lateen_registry::ServicePort, workload: &Workload) -> Option<u16> {
    match &port.target_port {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => workload.ports.get(name).copied(),
    }
}

fn mode(offline: &Offline, port: u16) -> Mode {
    let said = offline.trace_inbound_tls(port);
    let mutual = said.iter().find_map(|(what, by)| {
        let mode = what.strip_prefix("mutual TLS ")?;
        Some((mode, by))
    });
    Mode {
        port,
        mode: mutual
            .map_or_else(|| offline.unsaid_tls(), |(mode, _)| mode)
            .to_owned(),
        by: mutual.map_or_else(String::new, |(_, by)| named(&by.object)),
    }
}

/// `namespace/name`.
fn named(object: &ObjectRef) -> String {
    format!("{}/{}", object.namespace, object.name)
}

/// Whether labels have each of those that are wanted.
fn has_all<'a>(
    labels: &Labels,
    wanted: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> bool {
    let mut wanted = wanted.into_iter();
    wanted.all(|(key, value)| labels.value(key) == Some(value.as_str()))
}

#[cfg(test)]
mod tests;
