//! How a proxy is connected, as far as what it is served depends on it.

use crate::proxy::Proxy;
use crate::snapshot::Snapshot;

/// The metadata field of a proxy beside which the mesh resolves names.
const DNS_CAPTURE: &str = "DNS_CAPTURE";

/// What a proxy says of its connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Connectivity {
    /// The mesh resolves names for its application, which so learns of addresses that hosts were
    /// given.
    pub(crate) resolves: bool,
}

impl Connectivity {
    pub(super) fn of(proxy: &Proxy) -> Connectivity {
        Connectivity {
            resolves: proxy
                .metadata
                .get(DNS_CAPTURE)
                .is_some_and(|is| is == "true"),
        }
    }

    /// The parts that make a difference, so that proxies which nothing tells apart share what they
    /// are served.
    pub(super) fn reduced(&self, snapshot: &Snapshot) -> Connectivity {
        Connectivity {
            resolves: self.resolves && snapshot.gives_addresses(),
        }
    }
}
