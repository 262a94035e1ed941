//! What is to be captured in a pod.

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

/// All or some of a kind of thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ranges<T> {
    /// Every one (`*`).
    All,
    /// Only these.
    Only(Vec<T>),
}

impl<T> Ranges<T> {
    /// None at all.
    #[must_use]
    pub fn none() -> Self {
        Self::Only(Vec::new())
    }
}

/// How DNS queries of the pod are captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dns {
    /// Not at all.
    Off,
    /// Those to these name servers.
    Servers(Vec<IpAddr>),
    /// All.
    All,
}

/// What to capture, and for which proxy. The default captures all TCP for the standard sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Port that takes outbound connections.
    pub proxy_port: u16,
    /// Port that takes inbound connections.
    pub inbound_port: u16,
    /// Port of tunnelled inbound connections, which are never redirected.
    pub tunnel_port: u16,
    /// Users whose sockets are the proxy's own.
    pub proxy_uids: Vec<u32>,
    /// Groups whose sockets are the proxy's own.
    pub proxy_gids: Vec<u32>,
    /// Mark of sockets that are the proxy's own; for where users cannot be told apart.
    pub proxy_mark: Option<u32>,
    /// Groups whose sockets are captured.
    pub owner_groups: Ranges<u32>,
    /// Groups whose sockets are left alone, if those of all are captured.
    pub exclude_owner_groups: Vec<u32>,
    /// Inbound ports to capture.
    pub inbound_ports: Ranges<u16>,
    /// Inbound ports to leave alone.
    pub exclude_inbound_ports: Vec<u16>,
    /// Interfaces whose traffic is left alone.
    pub exclude_interfaces: Vec<String>,
    /// Destinations to capture.
    pub outbound_ranges: Ranges<IpNet>,
    /// Destinations to leave alone.
    pub exclude_outbound_ranges: Vec<IpNet>,
    /// Destination ports to capture whatever the address.
    pub outbound_ports: Vec<u16>,
    /// Destination ports to leave alone.
    pub exclude_outbound_ports: Vec<u16>,
    /// Interfaces of virtual machines behind the pod, whose traffic counts as outbound.
    pub virtual_interfaces: Vec<String>,
    /// DNS capture.
    pub dns: Dns,
    /// Where DNS is captured to.
    pub dns_port: u16,
    /// Also for IPv6.
    pub ipv6: bool,
    /// Drop packets that connection tracking cannot place.
    pub drop_invalid: bool,
    /// The proxy's own loop-back source, whose connections are left alone.
    pub loopback: IpNet,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            proxy_port: 15001,
            inbound_port: 15006,
            tunnel_port: 15008,
            proxy_uids: vec![1337],
            proxy_gids: vec![1337],
            proxy_mark: Some(1337),
            owner_groups: Ranges::All,
            exclude_owner_groups: Vec::new(),
            inbound_ports: Ranges::All,
            exclude_inbound_ports: vec![15090, 15021, 15020],
            exclude_interfaces: Vec::new(),
            outbound_ranges: Ranges::All,
            exclude_outbound_ranges: Vec::new(),
            outbound_ports: Vec::new(),
            exclude_outbound_ports: Vec::new(),
            virtual_interfaces: Vec::new(),
            dns: Dns::Off,
            dns_port: 15053,
            ipv6: true,
            drop_invalid: false,
            loopback: IpNet::new_assert([127, 0, 0, 1].into(), 32),
        }
    }
}

/// The name servers that a resolv.conf lists.
#[must_use]
pub fn nameservers(resolv_conf: &Path) -> Vec<IpAddr> {
    let text = std::fs::read_to_string(resolv_conf).unwrap_or_default();
    let server = |line: &str| line.strip_prefix("nameserver")?.trim().parse().ok();
    text.lines()
        .filter_map(|line| server(line.trim()))
        .collect()
}
