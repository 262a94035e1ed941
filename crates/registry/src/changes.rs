//! What is different between two worlds.

use std::{collections::BTreeSet, net::IpAddr};

use lateen_core::ServiceId;

use crate::{Changes, EndpointKey, World};

/// Names the parts of a world that are new, different or gone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorldChanges {
    /// Services.
    pub services: BTreeSet<ServiceId>,
    /// Endpoints of a port of a service.
    pub endpoints: BTreeSet<EndpointKey>,
    /// Addresses that stand for another workload, or for another state of it.
    pub workloads: BTreeSet<IpAddr>,
    /// Namespaces.
    pub namespaces: BTreeSet<String>,
    /// Nodes. What follows from a node is among endpoints and workloads too.
    pub nodes: BTreeSet<String>,
}

impl WorldChanges {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Makes this the union of both.
    pub fn merge(&mut self, other: Self) {
        self.services.extend(other.services);
        self.endpoints.extend(other.endpoints);
        self.workloads.extend(other.workloads);
        self.namespaces.extend(other.namespaces);
        self.nodes.extend(other.nodes);
    }
}

impl Changes for World {
    type Changes = WorldChanges;

    /// By allocation: a part that was made anew counts even where it came out the same. The work
    /// grows with the changes; parts that both share are passed over in chunks.
    fn since(&self, earlier: &Self) -> WorldChanges {
        WorldChanges {
            services: self.services.changed(&earlier.services),
            endpoints: self.endpoints.changed(&earlier.endpoints),
            workloads: self.workloads_by_ip.changed(&earlier.workloads_by_ip),
            namespaces: self.namespaces.changed(&earlier.namespaces),
            nodes: self.nodes.changed(&earlier.nodes),
        }
    }
}
