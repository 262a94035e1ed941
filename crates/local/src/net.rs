//! The node's network: one namespace for the node, one for each pod, a veth pair between them.
//!
//! There is no bridge. A pod has its address as a /32 and a default route through a link-local gateway
//! whose neighbour entry is fixed; the node has a host route to each pod. So no ARP is ever sent and
//! nothing needs tuning.

mod addresses;
pub(crate) mod namespace;
mod node;
mod pod;

pub(crate) use addresses::Pool;
pub(crate) use node::{LocalRoutes, NodeNet};
pub(crate) use pod::PodNet;

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// The pods' range.
pub(crate) const POD_CIDR: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 244, 0, 0), 16);
/// The node's own address, also the source of its probes.
pub(crate) const NODE_IP: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
/// The services' range.
pub(crate) const SERVICE_CIDR: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 96, 0, 0), 12);
/// The API server as pods see it.
pub(crate) const API_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// The cluster's DNS.
pub(crate) const DNS_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

/// Each pod's default gateway; it exists only as a neighbour entry.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// Hardware address of the node's end of every veth pair.
const NODE_MAC: [u8; 6] = [0xee, 0xee, 0xee, 0xee, 0xee, 0xee];

/// Ranges in which a pool of virtual addresses would be in the way, with whose they are.
const TAKEN: [(&str, (Ipv4Addr, u8)); 6] = [
    ("nobody's", (Ipv4Addr::UNSPECIFIED, 8)),
    ("the pods'", POD_CIDR),
    ("the services'", SERVICE_CIDR),
    ("each machine's own", (Ipv4Addr::new(127, 0, 0, 0), 8)),
    ("each network's own", (Ipv4Addr::new(169, 254, 0, 0), 16)),
    (
        "for groups, or kept for later",
        (Ipv4Addr::new(224, 0, 0, 0), 3),
    ),
];

/// The range that has an address of this pool and cannot give it, with whose it is.
#[must_use]
pub fn taken_range(first: Ipv4Addr, last: Ipv4Addr) -> Option<(&'static str, Ipv4Net)> {
    TAKEN.iter().find_map(|(whose, (network, prefix))| {
        let network = Ipv4Net::new_assert(*network, *prefix);
        let overlaps = first <= network.broadcast() && network.network() <= last;
        overlaps.then_some((*whose, network))
    })
}
