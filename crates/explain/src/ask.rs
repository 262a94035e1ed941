//! Puts a call to what a proxy is served, step by step as the proxy does.

mod cluster;
mod connection;
mod request;
mod rules;

use lateen_core::Direction;
use lateen_decode::{DownstreamSpec, FilterChainSpec, ListenerSpec, NetworkSpec};
use lateen_pilot::ServersOf;
use lateen_route::{ConnectionView, without_port};

use crate::answer::{Candidate, Carried, Choice, Destination, Explanation, Outcome, Source};
use crate::served::Served;
use crate::{Behind, Call, Security};
use connection::Connections;

/// What the mesh's own TLS offers for requests, and for what is no HTTP.
const MESH_TCP: &str = "istio";
const MESH_HTTP: [&str; 5] = ["istio-h2", "istio-http/1.1", "istio", "h2", "http/1.1"];

/// What becomes of a call at a proxy, and why; `behind` is what is known of the objects that the
/// proxy's configuration was made of.
pub fn explain(served: &Served, call: &Call, behind: Behind<'_>) -> Explanation {
    let asker = Asker {
        served,
        call,
        behind,
    };
    let mut told = Explanation::default();
    let Some(listener) = asker.listener(&mut told) else {
        return told;
    };
    if let Some(udp) = &listener.udp {
        told.outcome = asker.datagram(udp, &mut told);
        return told;
    }
    let rules = asker.connections(listener);
    let Some((index, chain)) = asker.chain(listener, &rules, &mut told) else {
        told.outcome = Outcome::NoChain;
        asker.not_for_it(&rules, None, &mut told);
        return told;
    };
    told.outcome = match &chain.network {
        NetworkSpec::Close => Outcome::Closed,
        // `downstream` says why: who has no sidecar has no certificate of the mesh.
        _ if lacks_certificate(chain, &call.security) => Outcome::Closed,
        NetworkSpec::Tcp(tcp) => {
            let rule = rules.of(index);
            let clusters = asker.clusters(&tcp.target, |n| rule?.destination(n));
            let first = clusters.first().map(|cluster| cluster.name.clone());
            asker.not_for_it(&rules, first.as_deref(), &mut told);
            Outcome::Forward(Destination {
                carries: Carried::Connections,
                clusters,
                ..Destination::default()
            })
        }
        NetworkSpec::Http(hcm) => asker.request(listener, index, hcm, &mut told),
    };
    asker.servers(&mut told);
    told
}

struct Asker<'a> {
    served: &'a Served,
    call: &'a Call,
    behind: Behind<'a>,
}

impl<'a> Asker<'a> {
    /// The listener: for traffic that was captured, that of the destination, where there is one.
    fn listener(&self, told: &mut Explanation) -> Option<&'a ListenerSpec> {
        let all = &self.served.listeners;
        let wanted = if self.call.inbound {
            Direction::Inbound
        } else {
            Direction::Outbound
        };
        let destination = self.call.destination;
        if self.call.udp {
            return self.datagram_listener(told);
        }
        let own = || {
            let mut bound_at = lateen_decode::bound_at(destination).into_iter();
            let all = || all.iter().filter(|listener| listener.udp.is_none());
            bound_at.find_map(|at| all().find(|l| l.addresses.contains(&at)))
        };
        let captured = all
            .iter()
            .find(|l| l.original_dst && l.direction == Some(wanted));
        let (found, why) = match captured {
            Some(captured) if captured.use_original_dst => match own() {
                Some(own) => (own, format!("the listener of {destination}")),
                None => (captured, format!("no listener is made for {destination}")),
            },
            Some(captured) => (captured, "all that comes to the workload".to_owned()),
            None => (own()?, format!("the listener of {destination}")),
        };
        told.listener = Some(Choice {
            name: found.name.to_string(),
            why,
            from: self.sidecar().into_iter().collect(),
            ..Choice::default()
        });
        Some(found)
    }

    fn chain(
        &self,
        listener: &'a ListenerSpec,
        rules: &Connections,
        told: &mut Explanation,
    ) -> Option<(usize, &'a FilterChainSpec)> {
        let offered: Vec<String> = match &self.call.security {
            Security::Plain if self.call.http && listener.inspect_http => {
                let spoken = if self.call.h2 { "h2c" } else { "http/1.1" };
                vec![spoken.to_owned()]
            }
            Security::Plain => Vec::new(),
            Security::Tls { alpn, .. } => alpn.clone(),
            Security::Mesh if self.call.http => MESH_HTTP.map(str::to_owned).to_vec(),
            Security::Mesh => vec![MESH_TCP.to_owned()],
        };
        let is_tls = self.call.security != Security::Plain && listener.inspect_tls;
        let view = ConnectionView {
            destination: self.call.destination,
            source: self.call.source,
            server_name: match &self.call.security {
                Security::Tls { server_name, .. } if is_tls => server_name.as_deref(),
                _ => None,
            },
            transport: if is_tls { "tls" } else { "raw_buffer" },
            application: &offered,
        };
        let mut others = Vec::new();
        let found = listener.matches.choose(&view, |index, miss| {
            others.push(Candidate {
                name: name_of(&listener.chains[index], index),
                why: miss.to_string(),
                from: self.missed_by(rules.of(index), miss),
            });
        });
        let (index, chain, why) = match (found, &listener.default_chain) {
            (Some(index), _) => (
                index,
                &listener.chains[index],
                "it asks for the connection most closely",
            ),
            (None, Some(chain)) => (
                listener.chains.len(),
                chain,
                "no other chain takes the connection",
            ),
            (None, None) => {
                told.chain = Some(Choice {
                    said: self.said_of_tls(),
                    others,
                    ..Choice::default()
                });
                return None;
            }
        };
        let rule = rules
            .of(index)
            .map(|rule| self.behind.source(&rule.origin()));
        told.chain = Some(Choice {
            name: name_of(chain, index),
            why: why.to_owned(),
            from: rule.into_iter().collect(),
            said: self.said_of_tls(),
            others,
        });
        told.downstream = match &chain.transport {
            DownstreamSpec::Raw => "plain text, or TLS that is passed on".to_owned(),
            DownstreamSpec::Tls(tls) if tls.require_client => {
                "TLS is ended here; clients must have a certificate".to_owned()
            }
            DownstreamSpec::Tls(_) => "TLS is ended here".to_owned(),
        };
        Some((index, chain))
    }

    /// The Sidecar that says what the workload sees.
    fn sidecar(&self) -> Option<Source> {
        let offline = self.behind.offline.filter(|_| !self.call.inbound)?;
        Some(self.behind.whole(offline.trace_sidecar()?))
    }

    /// The servers of Gateways that a gateway's chain stands for.
    fn servers(&self, told: &mut Explanation) {
        let (Some(offline), Some(chain)) = (self.behind.offline, &mut told.chain) else {
            return;
        };
        if self.call.udp || !self.served.is_gateway() || chain.name.is_empty() {
            return;
        }
        let of = match told.table.as_str() {
            "" => ServersOf::Connections,
            table => ServersOf::Table(table),
        };
        let host = match (&self.call.security, of) {
            (_, ServersOf::Table(_)) => Some(without_port(&self.call.authority)),
            (Security::Tls { server_name, .. }, _) => server_name.as_deref(),
            _ => None,
        };
        let servers = offline.trace_servers(self.call.destination.port(), of, host);
        chain.from.splice(0..0, self.behind.sources(&servers));
    }
}

/// Whether a caller's own TLS meets a chain that asks for a certificate.
fn lacks_certificate(chain: &FilterChainSpec, security: &Security) -> bool {
    let asks = matches!(&chain.transport, DownstreamSpec::Tls(tls) if tls.require_client);
    let has = matches!(
        security,
        Security::Tls {
            certificate: true,
            ..
        }
    );
    asks && matches!(security, Security::Tls { .. }) && !has
}

fn name_of(chain: &FilterChainSpec, index: usize) -> String {
    if chain.name.is_empty() {
        format!("#{index}")
    } else {
        chain.name.clone()
    }
}
