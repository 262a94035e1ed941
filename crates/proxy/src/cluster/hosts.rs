//! The hosts of a cluster at one moment.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use arcstr::ArcStr;
use lateen_balance::{Balancer, HostSpec, HostState, Peers};
use lateen_decode::{ClusterSpec, EndpointSpec, NamedEndpoint, Workload};

/// Where a host is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    /// On the network.
    Ip(SocketAddr),
    /// At a socket of this machine.
    Path(ArcStr),
}

impl Address {
    /// Reads what [`Display`](fmt::Display) writes.
    pub(crate) fn parse(text: &str) -> Option<Address> {
        match text.parse() {
            Ok(address) => Some(Address::Ip(address)),
            Err(_) => text
                .starts_with(['/', '@'])
                .then(|| Address::Path(text.into())),
        }
    }

    /// Where it is on the network.
    pub(crate) fn ip(&self) -> Option<SocketAddr> {
        match self {
            Address::Ip(address) => Some(*address),
            Address::Path(_) => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Address::Ip(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => address.fmt(f),
            Address::Path(path) => f.write_str(path),
        }
    }
}

/// One host.
#[derive(Debug)]
pub(crate) struct Host {
    pub address: Address,
    /// Its name, where it has one.
    pub hostname: ArcStr,
    /// Which of the cluster's transports it takes.
    pub transport: usize,
    pub workload: Option<Arc<Workload>>,
    pub locality: ArcStr,
}

/// What hosts come into.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    /// Milliseconds since the start.
    pub now: u64,
    /// Who sends as much as this proxy does, where that is known.
    pub peers: Option<&'a Peers>,
}

/// All hosts, and the choice among them.
pub(crate) struct HostSet {
    pub hosts: Vec<Arc<Host>>,
    pub specs: Vec<HostSpec>,
    pub balancer: Balancer,
    /// Their places, once somebody has asked for one.
    places: OnceLock<HashMap<Address, usize, foldhash::fast::RandomState>>,
}

impl HostSet {
    /// No host.
    pub(crate) fn empty(spec: &ClusterSpec) -> Self {
        let (now, peers) = (0, None);
        HostSet::new(spec, Vec::new(), None, Around { now, peers })
    }

    /// Hosts at these addresses. What is known of a host that stays (requests under way, failures)
    /// is taken over from the set before; others have come now.
    pub(crate) fn new(
        spec: &ClusterSpec,
        endpoints: Vec<(Address, EndpointSpec)>,
        before: Option<&HostSet>,
        around: Around<'_>,
    ) -> Self {
        let mut hosts = Vec::with_capacity(endpoints.len());
        let mut specs = Vec::with_capacity(endpoints.len());
        for (address, endpoint) in endpoints {
            let known = before.and_then(|before| before.position(&address));
            let state = match (known, before) {
                (Some(index), Some(before)) => before.specs[index].state.clone(),
                _ => Arc::new(HostState::arrived(around.now)),
            };
            let weight = endpoint.locality_weight.filter(|_| spec.locality_weighted);
            specs.push(HostSpec {
                key: address.to_string().into(),
                weight: endpoint.weight,
                priority: endpoint.priority,
                locality: (endpoint.locality.clone(), weight),
                healthy: endpoint.healthy,
                state,
            });
            hosts.push(Arc::new(Host {
                address,
                transport: spec.transport_for(&endpoint.socket_match),
                hostname: endpoint.hostname,
                workload: endpoint.workload,
                locality: endpoint.locality,
            }));
        }
        HostSet {
            hosts,
            balancer: balancer(spec, &specs, before, around.peers),
            specs,
            places: OnceLock::new(),
        }
    }

    /// Hosts of endpoints that have addresses; others are left out.
    pub(crate) fn from_endpoints(
        spec: &ClusterSpec,
        endpoints: Vec<NamedEndpoint>,
        before: Option<&HostSet>,
        around: Around<'_>,
    ) -> Self {
        let addressed = endpoints
            .into_iter()
            .filter_map(|endpoint| {
                let path = endpoint.path().map(|path| Address::Path(path.into()));
                let address = path.or_else(|| endpoint.address().map(Address::Ip))?;
                Some((address, endpoint.spec))
            })
            .collect();
        HostSet::new(spec, addressed, before, around)
    }

    /// The same hosts under another configuration, or among other peers.
    pub(crate) fn moved(
        spec: &ClusterSpec,
        before: Option<&HostSet>,
        peers: Option<&Peers>,
    ) -> Self {
        let Some(before) = before else {
            return HostSet::empty(spec);
        };
        HostSet {
            hosts: before.hosts.clone(),
            specs: before.specs.clone(),
            balancer: balancer(spec, &before.specs, Some(before), peers),
            places: OnceLock::new(),
        }
    }

    /// Whether they are in more than one place.
    pub(crate) fn is_spread(&self) -> bool {
        let mut places = self.specs.iter().map(|host| &host.locality.0);
        let first = places.next();
        places.any(|place| Some(place) != first)
    }

    /// Whether the host at this place is well.
    pub(crate) fn is_fit(&self, index: usize, now: u64) -> bool {
        let spec = &self.specs[index];
        spec.healthy && !spec.state.is_ejected(now)
    }

    /// The place of a host among them; the first one where it has several.
    pub(crate) fn position(&self, address: &Address) -> Option<usize> {
        let places = self.places.get_or_init(|| {
            let all = self.hosts.iter().enumerate().rev();
            all.map(|(place, host)| (host.address.clone(), place))
                .collect()
        });
        places.get(address).copied()
    }
}

fn balancer(
    spec: &ClusterSpec,
    hosts: &[HostSpec],
    before: Option<&HostSet>,
    peers: Option<&Peers>,
) -> Balancer {
    Balancer::new(spec.policy, spec.panic_percent, hosts)
        .after(before.map(|before| &before.balancer))
        .with_slow_start(spec.slow_start, hosts)
        .with_zones(spec.zones, peers, hosts)
}

impl Host {
    /// A host of which nothing but the address is known.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Host {
            address: address.into(),
            hostname: ArcStr::new(),
            transport: 0,
            workload: None,
            locality: ArcStr::new(),
        }
    }
}
