//! Where datagrams go: by the addresses that they come from and were sent to.

use std::net::SocketAddr;

use arcstr::ArcStr;
use xxhash_rust::xxh64::xxh64;

use crate::{Fraction, StringTest};

/// Where datagrams go: the first rule that matches decides. All datagrams between the same two
/// addresses go the same way.
#[derive(Debug, Clone, Default)]
pub struct DatagramRoutes {
    /// Tried in this order.
    pub rules: Vec<DatagramRule>,
    /// The cluster of those that no rule matches; without one they are dropped.
    pub otherwise: Option<ArcStr>,
}

/// One rule.
#[derive(Debug, Clone)]
pub struct DatagramRule {
    /// What is looked at.
    pub part: DatagramPart,
    /// What it has to be.
    pub test: DatagramTest,
    /// Where those go that match.
    pub cluster: ArcStr,
}

/// A part of the addresses of a datagram, as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatagramPart {
    /// The client's IP address.
    SourceIp,
    /// The client's port.
    SourcePort,
    /// The IP address that the client sent to.
    DestinationIp,
    /// The port that the client sent to.
    DestinationPort,
}

/// What a part has to be.
#[derive(Debug, Clone)]
pub enum DatagramTest {
    /// A text that passes.
    Text(StringTest),
    /// One of this share of all texts, which a hash decides: Envoy's, so that both choose alike.
    Share {
        /// How large the share is.
        of: Fraction,
        /// Makes shares independent of each other.
        seed: u64,
    },
}

impl DatagramRule {
    /// Whether it is for datagrams from `source` to `destination`.
    pub fn matches(&self, source: SocketAddr, destination: SocketAddr) -> bool {
        let text = match self.part {
            DatagramPart::SourceIp => source.ip().to_string(),
            DatagramPart::SourcePort => source.port().to_string(),
            DatagramPart::DestinationIp => destination.ip().to_string(),
            DatagramPart::DestinationPort => destination.port().to_string(),
        };
        match &self.test {
            DatagramTest::Text(test) => test.test(text.as_bytes()),
            DatagramTest::Share { of, seed } => of.hits(xxh64(text.as_bytes(), *seed)),
        }
    }
}

impl DatagramRoutes {
    /// All to one cluster.
    pub fn all_to(cluster: impl Into<ArcStr>) -> Self {
        DatagramRoutes {
            rules: Vec::new(),
            otherwise: Some(cluster.into()),
        }
    }

    /// The cluster for datagrams from `source` to `destination`.
    pub fn choose(&self, source: SocketAddr, destination: SocketAddr) -> Option<&ArcStr> {
        let mut rules = self.rules.iter();
        let found = rules.find(|rule| rule.matches(source, destination));
        found.map(|rule| &rule.cluster).or(self.otherwise.as_ref())
    }

    /// All clusters that datagrams may go to.
    pub fn clusters(&self) -> impl Iterator<Item = &ArcStr> {
        let of_rules = self.rules.iter().map(|rule| &rule.cluster);
        of_rules.chain(&self.otherwise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StringMatch;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    fn rule(part: DatagramPart, test: DatagramTest, cluster: &str) -> DatagramRule {
        DatagramRule {
            part,
            test,
            cluster: cluster.into(),
        }
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let exact = |text: &str| {
            let test = StringTest::new("test", StringMatch::Exact(text.into()), false);
            DatagramTest::Text(test.expect("a test"))
        };
        let mut routes = DatagramRoutes {
            rules: vec![
                rule(DatagramPart::SourceIp, exact("10.0.0.9"), "no"),
                rule(DatagramPart::SourcePort, exact("7"), "by-source-port"),
                rule(DatagramPart::DestinationPort, exact("53"), "by-port"),
                rule(DatagramPart::DestinationIp, exact("10.0.0.1"), "by-ip"),
            ],
            otherwise: None,
        };
        let check = |routes: &DatagramRoutes, source, destination, want: Option<&str>| {
            let found = routes.choose(address(source), destination);
            assert_eq!(found.map(ArcStr::as_str), want);
        };
        check(&routes, 7, address(53), Some("by-source-port"));
        check(&routes, 8, address(53), Some("by-port"));
        check(&routes, 8, address(54), Some("by-ip"));
        let elsewhere = SocketAddr::from(([10, 0, 0, 2], 54));
        check(&routes, 8, elsewhere, None);
        routes.otherwise = Some("rest".into());
        check(&routes, 8, elsewhere, Some("rest"));
    }

    #[test]
    fn shares_are_of_all_sources_and_independent() {
        let share = |millionths, seed| DatagramTest::Share {
            of: Fraction { millionths },
            seed,
        };
        // A half, and a half of what is left.
        let routes = DatagramRoutes {
            rules: vec![
                rule(DatagramPart::SourcePort, share(500_000, 1), "half"),
                rule(DatagramPart::SourcePort, share(500_000, 2), "quarter"),
            ],
            otherwise: Some("rest".into()),
        };
        let chosen = |port| routes.choose(address(port), address(53)).cloned();
        let count = |name: &str| {
            let of = |port: &u16| chosen(*port).is_some_and(|found| found == name);
            (20_000..60_000).filter(of).count()
        };
        for (name, want) in [("half", 20_000), ("quarter", 10_000), ("rest", 10_000)] {
            let n = count(name);
            assert!(n.abs_diff(want) < 600, "{name}: {n}");
        }
        assert_eq!(chosen(1234), chosen(1234));
    }

    #[test]
    fn shares_are_those_that_envoy_chooses() {
        let share = DatagramTest::Share {
            of: Fraction {
                millionths: 700_000,
            },
            seed: 1,
        };
        let routes = DatagramRoutes {
            rules: vec![rule(DatagramPart::SourcePort, share, "a")],
            otherwise: None,
        };
        // As Envoy 1.40 answered for the ports from 26000 on.
        let want = [
            1, 2, 3, 4, 6, 9, 10, 12, 13, 14, 18, 19, 21, 22, 24, 25, 27, 30, 31, 33, 35, 37, 38,
            39,
        ];
        let chosen = |n: &u16| routes.choose(address(26_000 + n), address(53)).is_some();
        assert_eq!((0..40).filter(chosen).collect::<Vec<_>>(), want);
    }
}
