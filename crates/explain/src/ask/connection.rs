//! What becomes of connections that are no HTTP, and of datagrams: the rules behind their chains.

use std::borrow::Cow;

use lateen_decode::{ListenerSpec, UdpProxySpec};
use lateen_pilot::{L4Condition, L4Fate, L4Trace, PassedOver, ServersOf};
use lateen_route::{ChainMiss, Criterion, DatagramTest};
use lateen_xds::names::ClusterName;
use lateen_xds::types::listener::FilterChainMatch;

use super::Asker;
use crate::Security;
use crate::answer::{
    Candidate, Carried, Choice, Cluster, Destination, Explanation, Outcome, Said, Source,
};

/// The rules for connections at a listener, and what its chains ask for.
#[derive(Default)]
pub(super) struct Connections {
    rules: Vec<L4Trace>,
    /// Of each chain of the listener, in their order.
    asks: Vec<FilterChainMatch>,
}

impl Connections {
    /// The rule that became a chain. No two chains of a listener ask for the same, so that it is known
    /// by that.
    pub(super) fn of(&self, chain: usize) -> Option<&L4Trace> {
        let asks = self.asks.get(chain)?;
        let mut rules = self.rules.iter();
        rules.find(|rule| matches!(&rule.fate, L4Fate::Chains(all) if all.contains(asks)))
    }
}

impl<'a> Asker<'a> {
    /// The rules for connections at a listener; none where nothing is known of them.
    pub(super) fn connections(&self, listener: &ListenerSpec) -> Connections {
        let offline = self.behind.offline.filter(|_| !self.call.inbound);
        let (Some(offline), Some(main)) = (offline, listener.addresses.first()) else {
            return Connections::default();
        };
        let name = listener.name.to_string();
        // The default chain is for what the rules leave.
        let chains = 0..listener.chains.len();
        let asks = chains.map(|n| self.served.asks.get(&(name.clone(), n)).cloned());
        Connections {
            rules: offline.trace_connections(&main.ip().to_string(), main.port()),
            asks: asks.map(Option::unwrap_or_default).collect(),
        }
    }

    /// The condition by which a connection is not a rule's.
    pub(super) fn missed_by(&self, rule: Option<&L4Trace>, miss: ChainMiss) -> Vec<Source> {
        let condition = match miss.criterion {
            Criterion::ServerName => Some(L4Condition::ServerName),
            Criterion::Destination => Some(L4Condition::Destination),
            Criterion::Source => Some(L4Condition::Source),
            _ => None,
        };
        let origin = rule.map(|rule| match condition {
            Some(condition) => rule.condition(condition),
            None => rule.origin(),
        });
        origin
            .iter()
            .map(|origin| self.behind.source(origin))
            .collect()
    }

    /// Rules that became no chain here, and VirtualServices that are not asked; `cluster` is the one that
    /// is chosen.
    pub(super) fn not_for_it(
        &self,
        rules: &Connections,
        cluster: Option<&str>,
        told: &mut Explanation,
    ) {
        let mut others = Vec::new();
        for rule in &rules.rules {
            let (why, from): (Cow<'_, str>, _) = match &rule.fate {
                L4Fate::Chains(_) => continue,
                L4Fate::Elsewhere { field, why } => (why.into(), rule.within(field)),
                L4Fate::OtherNames => (
                    "the server has none of its names".into(),
                    rule.condition(L4Condition::ServerName),
                ),
                L4Fate::Nowhere => ("it leads nowhere".into(), rule.origin()),
                L4Fate::Behind => {
                    let why = "rules before it take all that it asks for";
                    (why.into(), rule.origin())
                }
            };
            others.push(Candidate {
                name: String::new(),
                why: why.into_owned(),
                from: vec![self.behind.source(&from)],
            });
        }
        let of_service = rules.rules.iter().find_map(|rule| rule.service.clone());
        let of_cluster = || {
            let name: ClusterName = cluster?.parse().ok()?;
            (!self.served.is_gateway()).then_some(name.host)
        };
        let of_client = || match &self.call.security {
            Security::Tls { server_name, .. } => server_name.clone(),
            _ => None,
        };
        let host = of_service.or_else(of_cluster).or_else(of_client);
        others.extend(self.passed_over(host.as_deref().unwrap_or("*"), false));
        if let Some(chain) = &mut told.chain {
            chain.others.extend(others);
        }
    }

    /// VirtualServices for a host that do not decide about it.
    pub(super) fn passed_over(&self, chosen: &str, http: bool) -> Vec<Candidate> {
        let Some(offline) = self.behind.offline.filter(|_| !self.call.inbound) else {
            return Vec::new();
        };
        // A service has many names, and rules know it by its own.
        let asked = match http && self.served.is_gateway() {
            true => lateen_route::without_port(&self.call.authority),
            false => chosen,
        };
        let port = self.call.destination.port();
        let all = offline
            .trace_passed_over(asked, chosen, port, http)
            .into_iter();
        let told = |PassedOver { from, why }| Candidate {
            name: String::new(),
            why,
            from: self.behind.sources(&from),
        };
        all.map(told).collect()
    }

    /// Who says how TLS ends at the workload's port.
    pub(super) fn said_of_tls(&self) -> Vec<Said> {
        let Some(offline) = self.behind.offline.filter(|_| self.call.inbound) else {
            return Vec::new();
        };
        let said = offline.trace_inbound_tls(self.call.destination.port());
        let said = said.iter();
        said.map(|(what, by)| self.behind.said(what, by)).collect()
    }

    /// The listener that takes a datagram: sidecars have none.
    pub(super) fn datagram_listener(&self, told: &mut Explanation) -> Option<&'a ListenerSpec> {
        let mut bound_at = lateen_decode::bound_at(self.call.destination).into_iter();
        let all = || self.served.listeners.iter().filter(|of| of.udp.is_some());
        let found = bound_at.find_map(|at| all().find(|of| of.addresses.contains(&at)))?;
        told.listener = Some(Choice {
            name: found.name.to_string(),
            why: format!("the listener for datagrams to {}", self.call.destination),
            ..Choice::default()
        });
        Some(found)
    }

    /// Where a datagram goes: a client's datagrams all go to one of the clusters, by their shares.
    pub(super) fn datagram(&self, udp: &UdpProxySpec, told: &mut Explanation) -> Outcome {
        let port = self.call.destination.port();
        let offline = self.behind.offline;
        let rule = offline.and_then(|offline| offline.trace_datagrams(port));
        let servers =
            offline.map(|offline| offline.trace_servers(port, ServersOf::Datagrams, None));
        if let Some(listener) = &mut told.listener {
            let origins = servers.into_iter().flatten();
            let origins = origins.chain(rule.as_ref().map(L4Trace::origin));
            listener.from = origins.map(|origin| self.behind.source(&origin)).collect();
        }
        let clusters: Vec<Cluster> = self
            .shares(udp)
            .into_iter()
            .enumerate()
            .map(|(n, (name, percent))| {
                let destination = rule.as_ref().and_then(|rule| rule.destination(n));
                Cluster {
                    destination: destination.map(|origin| self.behind.source(&origin)),
                    ..self.cluster(&name, percent)
                }
            })
            .collect();
        if clusters.is_empty() {
            return Outcome::Dropped;
        }
        Outcome::Forward(Destination {
            carries: Carried::Datagrams,
            clusters,
            ..Destination::default()
        })
    }

    /// The clusters of datagrams with their shares of clients, in percent.
    fn shares(&self, udp: &UdpProxySpec) -> Vec<(String, f64)> {
        let (source, destination) = (self.call.source, self.call.destination);
        let mut left = 100.0;
        let mut shares = Vec::new();
        for rule in &udp.routes.rules {
            match &rule.test {
                DatagramTest::Share { of, .. } => {
                    let share = left * f64::from(of.millionths) / 1_000_000.0;
                    shares.push((rule.cluster.to_string(), share));
                    left -= share;
                }
                DatagramTest::Text(_) if rule.matches(source, destination) => {
                    shares.push((rule.cluster.to_string(), left));
                    return shares;
                }
                DatagramTest::Text(_) => {}
            }
        }
        let rest = udp.routes.otherwise.as_ref();
        shares.extend(rest.map(|cluster| (cluster.to_string(), left)));
        shares
    }
}
