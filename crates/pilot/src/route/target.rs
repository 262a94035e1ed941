//! What a route needs to know about the services it leads to.

use std::collections::{BTreeMap, BTreeSet};

use lateen_api::networking::{Destination, VirtualService};
use lateen_core::Hostname;
use lateen_xds::names::ClusterName;

use crate::policy::Rule;
use crate::snapshot::full_host;

/// Destinations by full host name.
pub(crate) type Targets = BTreeMap<String, Target>;

/// One destination's service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    /// The service that the name stands for, where that is one of another name.
    pub(crate) meant: Option<Hostname>,
    /// Its ports; empty for a host that is not known.
    pub(crate) ports: Vec<u16>,
    /// Its rules, where one of them asks for consistent hashing.
    pub(crate) rules: Vec<Rule>,
}

impl Target {
    /// The cluster that a destination of this host means.
    pub(crate) fn cluster(&self, destination: &Destination, host: &str, asked: u16) -> ClusterName {
        let host = self.meant.as_ref().map_or(host, Hostname::as_str);
        ClusterName::outbound(self.port(destination, asked), &destination.subset, host)
    }

    /// The port that a destination means: its own, else the only one, else that of the request.
    pub(crate) fn port(&self, destination: &Destination, asked: u16) -> u16 {
        let own = destination.port.as_ref().map(|port| port.number);
        if let Some(port) = own.and_then(|port| u16::try_from(port).ok()) {
            return port;
        }
        match self.ports[..] {
            [only] => only,
            _ => asked,
        }
    }
}

/// The hosts that a VirtualService sends or mirrors to, in full.
pub(crate) fn destinations(
    spec: &VirtualService,
    namespace: &str,
    domain: &str,
) -> BTreeSet<Hostname> {
    let http = spec.http.iter().flat_map(|route| {
        let weighted = route.route.iter().map(|r| &r.destination);
        let mirrors = route.mirrors.iter().map(|m| &m.destination);
        weighted.chain(mirrors).chain([&route.mirror])
    });
    let tls = spec.tls.iter().flat_map(|route| &route.route);
    let tcp = spec.tcp.iter().flat_map(|route| &route.route);
    let opaque = tls.chain(tcp).map(|r| &r.destination);
    let all = http.chain(opaque).flatten();
    all.map(|d| full_host(&d.host, namespace, domain)).collect()
}
