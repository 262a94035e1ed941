//! The pod's resolvers, as `/etc/resolv.conf` names them.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

const PORT: u16 = 53;
/// More are not asked, as by the C library.
const SERVERS_MAX: usize = 3;

/// Who is asked, and what short names are completed with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Resolv {
    pub(crate) servers: Vec<SocketAddr>,
    /// In lower case, without a dot at the end.
    pub(crate) search: Vec<String>,
}

impl Resolv {
    /// What a file says; nothing where there is none.
    pub(crate) fn read(path: &Path) -> Resolv {
        Resolv::parse(&std::fs::read_to_string(path).unwrap_or_default())
    }

    fn parse(text: &str) -> Resolv {
        let mut found = Resolv::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let ip = words.next().and_then(|ip| ip.parse::<IpAddr>().ok());
                    found.servers.extend(ip.map(|ip| SocketAddr::new(ip, PORT)));
                }
                // The last one counts.
                Some("search" | "domain") => {
                    let plain = |word: &str| word.trim_end_matches('.').to_ascii_lowercase();
                    let domains = words.map(plain).filter(|domain| !domain.is_empty());
                    found.search = domains.collect();
                }
                _ => {}
            }
        }
        found.servers.truncate(SERVERS_MAX);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_domains_are_read() {
        let text = "# a comment\nsearch old.example\nnameserver 10.96.0.10\nnameserver ::1\n\
                    search default.svc.Cluster.local. svc.cluster.local\noptions ndots:5\n\
                    nameserver fe80::1%eth0\nnameserver x\nnameserver 10.0.0.1\nnameserver 10.0.0.2\n";
        let found = Resolv::parse(text);
        let servers: Vec<_> = found.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.96.0.10:53", "[::1]:53", "10.0.0.1:53"]);
        assert_eq!(
            found.search,
            ["default.svc.cluster.local", "svc.cluster.local"]
        );
    }
}
