//! IPv4 and IPv6: which of them a workload has.

use std::net::IpAddr;

use lateen_xds::types::cluster::cluster::DnsLookupFamily;
use lateen_xds::types::listener::AdditionalAddress;

use crate::listener::EVERYWHERE;
use crate::wire;

/// Every address of IPv6.
const EVERYWHERE_V6: &str = "::";

/// The families of a workload's addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Families {
    #[default]
    V4,
    V6,
    Both,
}

impl Families {
    /// Those of these addresses.
    pub(crate) fn of(addresses: &[IpAddr]) -> Families {
        let has_v4 = addresses.iter().any(IpAddr::is_ipv4);
        match (has_v4, addresses.iter().any(IpAddr::is_ipv6)) {
            (true, true) => Families::Both,
            (false, true) => Families::V6,
            (_, false) => Families::V4,
        }
    }

    /// Whether a workload that has them can connect to an address.
    pub(crate) fn reach(self, address: &IpAddr) -> bool {
        match self {
            Families::Both => true,
            Families::V4 => address.is_ipv4(),
            Families::V6 => address.is_ipv6(),
        }
    }

    /// The addresses of a listener whose main one is given: `0.0.0.0` stands for all addresses that
    /// the workload has.
    pub(crate) fn expand(self, address: &str) -> Vec<String> {
        let all: &[&str] = match (address, self) {
            (EVERYWHERE, Families::Both) => &[EVERYWHERE, EVERYWHERE_V6],
            (EVERYWHERE, Families::V6) => &[EVERYWHERE_V6],
            (own, _) => &[own],
        };
        all.iter().map(|address| (*address).to_owned()).collect()
    }

    /// The address of the workload itself.
    pub(crate) fn loopback(self) -> &'static str {
        match self {
            Families::V4 | Families::Both => "127.0.0.1",
            Families::V6 => "::1",
        }
    }

    /// Which addresses of a name are looked for.
    pub(crate) fn lookup(self) -> DnsLookupFamily {
        match self {
            Families::V4 => DnsLookupFamily::V4Preferred,
            Families::V6 => DnsLookupFamily::V6Only,
            Families::Both => DnsLookupFamily::All,
        }
    }
}

/// Whether an address of a listener is any address.
pub(crate) fn is_everywhere(address: &str) -> bool {
    [EVERYWHERE, EVERYWHERE_V6].contains(&address)
}

/// The addresses of a listener after the first.
pub(crate) fn additional(addresses: &[String], port: u16) -> Vec<AdditionalAddress> {
    let additional = |address: &String| AdditionalAddress {
        address: Some(wire::socket_address(address, port)),
        ..AdditionalAddress::default()
    };
    addresses.iter().skip(1).map(additional).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_of_addresses() {
        for (addresses, expect, everywhere) in [
            (&["10.0.0.1"][..], Families::V4, &["0.0.0.0"][..]),
            (&["fd00::1"], Families::V6, &["::"]),
            (&["10.0.0.1", "fd00::1"], Families::Both, &["0.0.0.0", "::"]),
            (&[], Families::V4, &["0.0.0.0"]),
        ] {
            let ips = addresses.iter().map(|ip| ip.parse().expect("an address"));
            let ips: Vec<IpAddr> = ips.collect();
            let found = Families::of(&ips);
            assert_eq!(found, expect);
            assert_eq!(found.expand(EVERYWHERE), everywhere);
            assert_eq!(found.expand("10.1.1.1"), ["10.1.1.1"]);
            assert!(ips.iter().all(|ip| found.reach(ip)));
        }
    }
}
