//! Which filter chain of a listener a connection takes.
//!
//! The criteria are tried in Envoy's order: destination port, destination address, server name,
//! transport protocol, application protocols, source type, source address, source port. At each
//! step only the most specific chains that match stay, and there is no way back: a chain that is
//! less specific in an earlier criterion is not reconsidered.

use std::net::{IpAddr, SocketAddr};

pub use ipnet::IpNet as Prefix;

/// What a chain asks of a connection; an empty list asks nothing.
#[derive(Debug, Clone, Default)]
pub struct ChainMatch {
    /// The original destination's port.
    pub destination_port: Option<u16>,
    /// The original destination's networks.
    pub destinations: Vec<Prefix>,
    /// The TLS server names: exact, or `*.` and a suffix.
    pub server_names: Vec<String>,
    /// `tls` or `raw_buffer`.
    pub transport: Option<String>,
    /// The application protocols, by ALPN or inspection.
    pub application: Vec<String>,
    /// Connections from this host (true) or from elsewhere (false).
    pub source_local: Option<bool>,
    /// The source's networks.
    pub sources: Vec<Prefix>,
    /// The source's ports.
    pub source_ports: Vec<u16>,
}

/// What matching reads of a connection.
#[derive(Debug, Clone)]
pub struct ConnectionView<'a> {
    /// Where the client meant to go.
    pub destination: SocketAddr,
    /// Where it came from.
    pub source: SocketAddr,
    /// The TLS server name.
    pub server_name: Option<&'a str>,
    /// `tls` or `raw_buffer`.
    pub transport: &'a str,
    /// The application protocols that the client offers, by preference.
    pub application: &'a [String],
}

/// Why a chain is not the one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainMiss {
    /// What decided.
    pub criterion: Criterion,
    /// The connection passes, but another chain asks for it more closely.
    pub less_specific: bool,
}

/// What chains ask about, in the order in which it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Criterion {
    /// The destination's port.
    Port,
    /// The destination's address.
    Destination,
    /// The name that a TLS client asks for.
    ServerName,
    /// TLS or not.
    Transport,
    /// The application protocols.
    Application,
    /// From this host or elsewhere.
    SourceType,
    /// The source's address.
    Source,
    /// The source's port.
    SourcePort,
    /// Which comes first, where all else is equal.
    Order,
}

impl Criterion {
    const ALL: [Criterion; 8] = [
        Criterion::Port,
        Criterion::Destination,
        Criterion::ServerName,
        Criterion::Transport,
        Criterion::Application,
        Criterion::SourceType,
        Criterion::Source,
        Criterion::SourcePort,
    ];

    /// How closely a chain asks for a connection; `None` where it does not pass.
    fn rank(self, chain: &ChainMatch, view: &ConnectionView<'_>) -> Option<u32> {
        match self {
            Criterion::Port => port(chain, view),
            Criterion::Destination => networks(&chain.destinations, view.destination.ip()),
            Criterion::ServerName => server_name(chain, view),
            Criterion::Transport => transport(chain, view),
            Criterion::Application => application(chain, view),
            Criterion::SourceType => source_type(chain, view),
            Criterion::Source => networks(&chain.sources, view.source.ip()),
            Criterion::SourcePort => source_port(chain, view),
            Criterion::Order => Some(0),
        }
    }
}

/// The chains of a listener.
#[derive(Debug, Clone, Default)]
pub struct Chains {
    list: Vec<ChainMatch>,
}

impl Chains {
    /// From the matches in their order.
    pub fn new(list: Vec<ChainMatch>) -> Self {
        Chains { list }
    }

    /// The index of the chain for a connection.
    pub fn select(&self, view: &ConnectionView<'_>) -> Option<usize> {
        self.choose(view, |_, _| {})
    }

    /// The index of the chain for a connection; `lost` hears of each other one, and why it is not
    /// that one.
    pub fn choose(
        &self,
        view: &ConnectionView<'_>,
        mut lost: impl FnMut(usize, ChainMiss),
    ) -> Option<usize> {
        let mut left: Vec<usize> = (0..self.list.len()).collect();
        for criterion in Criterion::ALL {
            let rank = |index: usize| criterion.rank(&self.list[index], view);
            let best = left.iter().filter_map(|index| rank(*index)).max();
            // Keeps the candidates of the highest rank; `None` is no match.
            left.retain(|index| {
                let own = rank(*index);
                if own.is_some() && own == best {
                    return true;
                }
                let less_specific = own.is_some();
                lost(
                    *index,
                    ChainMiss {
                        criterion,
                        less_specific,
                    },
                );
                false
            });
        }
        let (first, others) = left.split_first()?;
        for index in others {
            let criterion = Criterion::Order;
            lost(
                *index,
                ChainMiss {
                    criterion,
                    less_specific: true,
                },
            );
        }
        Some(*first)
    }

    /// What each chain asks of a connection.
    pub fn list(&self) -> &[ChainMatch] {
        &self.list
    }
}

fn port(chain: &ChainMatch, view: &ConnectionView<'_>) -> Option<u32> {
    match chain.destination_port {
        None => Some(0),
        Some(port) => (port == view.destination.port()).then_some(1),
    }
}

fn networks(list: &[Prefix], address: IpAddr) -> Option<u32> {
    if list.is_empty() {
        return Some(0);
    }
    let address = address.to_canonical();
    let matching = list.iter().filter(|network| network.contains(&address));
    matching
        .map(|network| u32::from(network.prefix_len()) + 1)
        .max()
}

fn server_name(chain: &ChainMatch, view: &ConnectionView<'_>) -> Option<u32> {
    if chain.server_names.is_empty() {
        return Some(0);
    }
    let name = view.server_name?;
    let rank = |pattern: &String| match pattern.strip_prefix('*') {
        None => pattern.eq_ignore_ascii_case(name).then_some(u32::MAX),
        Some(suffix) => {
            let start = name
                .len()
                .checked_sub(suffix.len())
                .filter(|start| *start > 0)?;
            let tail = name.get(start..)?;
            tail.eq_ignore_ascii_case(suffix)
                .then_some(suffix.len() as u32 + 1)
        }
    };
    chain.server_names.iter().filter_map(rank).max()
}

fn transport(chain: &ChainMatch, view: &ConnectionView<'_>) -> Option<u32> {
    match &chain.transport {
        None => Some(0),
        Some(transport) => (transport == view.transport).then_some(1),
    }
}

fn application(chain: &ChainMatch, view: &ConnectionView<'_>) -> Option<u32> {
    if chain.application.is_empty() {
        return Some(0);
    }
    // The client's first choice ranks highest.
    let place = view
        .application
        .iter()
        .position(|offered| chain.application.contains(offered))?;
    Some(u32::MAX - place as u32)
}

fn source_type(chain: &ChainMatch, view: &ConnectionView<'_>) -> Option<u32> {
    let local = view.source.ip().is_loopback() || view.source.ip() == view.destination.ip();
    match chain.source_local {
        None => Some(0),
        Some(want) => (want == local).then_some(1),
    }
}

fn source_port(chain: &ChainMatch, view: &ConnectionView<'_>) -> Option<u32> {
    if chain.source_ports.is_empty() {
        return Some(0);
    }
    chain
        .source_ports
        .contains(&view.source.port())
        .then_some(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|word| (*word).to_owned()).collect()
    }

    fn inbound() -> Chains {
        let any = ChainMatch::default;
        Chains::new(vec![
            ChainMatch {
                destination_port: Some(15006),
                ..any()
            },
            ChainMatch {
                transport: Some("raw_buffer".into()),
                ..any()
            },
            ChainMatch {
                destination_port: Some(9080),
                transport: Some("tls".into()),
                application: words(&["istio", "istio-peer-exchange", "istio-http/1.1"]),
                ..any()
            },
            ChainMatch {
                destination_port: Some(9080),
                transport: Some("raw_buffer".into()),
                ..any()
            },
            ChainMatch {
                destination_port: Some(9080),
                transport: Some("tls".into()),
                ..any()
            },
        ])
    }

    #[test]
    fn inbound_permissive() {
        let check = |port: u16, transport: &str, alpn: &[&str], expect: Option<usize>| {
            let application = words(alpn);
            let view = ConnectionView {
                destination: SocketAddr::from(([10, 0, 0, 1], port)),
                source: SocketAddr::from(([10, 0, 0, 2], 4000)),
                server_name: None,
                transport,
                application: &application,
            };
            assert_eq!(
                inbound().select(&view),
                expect,
                "{port} {transport} {alpn:?}"
            );
        };
        check(15006, "raw_buffer", &[], Some(0));
        check(80, "raw_buffer", &[], Some(1));
        check(80, "tls", &[], None);
        check(9080, "tls", &["istio-peer-exchange", "istio"], Some(2));
        check(9080, "tls", &["h2", "http/1.1"], Some(4));
        check(9080, "raw_buffer", &["http/1.1"], Some(3));
    }

    #[test]
    fn why_a_chain_is_the_one() {
        let application = words(&["h2"]);
        let view = ConnectionView {
            destination: SocketAddr::from(([10, 0, 0, 1], 9080)),
            source: SocketAddr::from(([10, 0, 0, 2], 4000)),
            server_name: None,
            transport: "tls",
            application: &application,
        };
        let mut lost = Vec::new();
        let found = inbound().choose(&view, |index, miss| lost.push((index, miss)));
        assert_eq!(found, Some(4));
        let miss = |index, criterion, less_specific| {
            let miss = ChainMiss {
                criterion,
                less_specific,
            };
            (index, miss)
        };
        let expect = [
            miss(0, Criterion::Port, false),
            miss(1, Criterion::Port, true),
            miss(3, Criterion::Transport, false),
            miss(2, Criterion::Application, false),
        ];
        assert_eq!(lost, expect);
    }

    #[test]
    fn server_names_by_length() {
        let named = |name: &str| ChainMatch {
            server_names: words(&[name]),
            ..ChainMatch::default()
        };
        let chains = Chains::new(vec![
            named("*.example.com"),
            named("a.example.com"),
            named("*.b.example.com"),
            ChainMatch::default(),
        ]);
        let check = |name: Option<&str>, expect| {
            let view = ConnectionView {
                destination: SocketAddr::from(([10, 0, 0, 1], 443)),
                source: SocketAddr::from(([10, 0, 0, 2], 4000)),
                server_name: name,
                transport: "tls",
                application: &[],
            };
            assert_eq!(chains.select(&view), Some(expect), "{name:?}");
        };
        check(Some("a.example.com"), 1);
        check(Some("x.B.example.com"), 2);
        check(Some("x.example.com"), 0);
        check(Some("example.com"), 3);
        check(None, 3);
    }
}
