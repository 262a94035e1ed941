//! How a proxy is connected, as far as what it is served depends on it.

use std::net::IpAddr;

use lateen_api::labels;
use lateen_core::Labels;

use crate::families::Families;
use crate::proxy::Proxy;
use crate::snapshot::Snapshot;

/// The metadata field of a proxy beside which the mesh resolves names.
const DNS_CAPTURE: &str = "DNS_CAPTURE";
/// The metadata field with the network that a proxy is in.
const NETWORK: &str = "NETWORK";
/// The metadata field with the networks whose endpoints a gateway is to see, with commas.
const REQUESTED_NETWORK_VIEW: &str = "REQUESTED_NETWORK_VIEW";

/// The metadata field with the addresses of the workload, with commas.
const INSTANCE_IPS: &str = "INSTANCE_IPS";

/// What a proxy says of its connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Connectivity {
    /// The mesh resolves names for its application: it is sent the table of them, and listeners are at
    /// the addresses that hosts were given.
    pub(crate) resolves: bool,
    /// Its network; empty where that is not known or makes no difference.
    pub(crate) network: String,
    /// The networks whose endpoints it sees; empty is all.
    pub(crate) view: Vec<String>,
    /// The families of its addresses.
    pub(crate) families: Families,
}

impl Connectivity {
    pub(super) fn of(proxy: &Proxy) -> Connectivity {
        let text = |key: &str| proxy.metadata.get(key).map_or("", String::as_str);
        let view = text(REQUESTED_NETWORK_VIEW).split(',').map(str::trim);
        let addresses = text(INSTANCE_IPS).split(',');
        let addresses: Vec<IpAddr> = addresses.filter_map(|ip| ip.trim().parse().ok()).collect();
        Connectivity {
            resolves: text(DNS_CAPTURE) == "true",
            network: text(NETWORK).to_owned(),
            view: view.filter(|n| !n.is_empty()).map(str::to_owned).collect(),
            families: match &addresses[..] {
                [] => Families::of(&[proxy.ip]),
                all => Families::of(all),
            },
        }
    }

    /// The parts that make a difference, so that proxies which nothing tells apart share what they
    /// are served.
    pub(super) fn reduced(&self, labels: &Labels, snapshot: &Snapshot) -> Connectivity {
        let networks = snapshot.networks();
        if !networks.are_several() {
            return Connectivity {
                resolves: self.resolves,
                families: self.families,
                ..Connectivity::default()
            };
        }
        let label = labels.value(labels::NETWORK).unwrap_or_default();
        // The label is the pod's own, the other may be that of all pods.
        let network = match (label, self.network.as_str()) {
            ("", "") => networks.of_workload("", None),
            ("", said) => said,
            (own, _) => own,
        };
        Connectivity {
            resolves: self.resolves,
            network: network.to_owned(),
            view: self.view.clone(),
            families: self.families,
        }
    }
}
