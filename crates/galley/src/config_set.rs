//! All valid configuration at one moment.

use std::sync::Arc;

use lateen_api::{
    Object,
    mesh::MeshConfig,
    networking::{DestinationRule, Gateway, ServiceEntry, Sidecar, VirtualService, WorkloadEntry},
    security::PeerAuthentication,
};

/// All valid configuration at one moment, each list sorted by age, then namespace, then name: where
/// two objects compete, the earlier in the list wins. Unchanged objects are shared between sets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConfigSet {
    /// VirtualServices.
    pub virtual_services: Vec<Arc<Object<VirtualService>>>,
    /// DestinationRules.
    pub destination_rules: Vec<Arc<Object<DestinationRule>>>,
    /// Gateways.
    pub gateways: Vec<Arc<Object<Gateway>>>,
    /// ServiceEntries; the registry has already made services of them.
    pub service_entries: Vec<Arc<Object<ServiceEntry>>>,
    /// WorkloadEntries; the registry has already made workloads of them.
    pub workload_entries: Vec<Arc<Object<WorkloadEntry>>>,
    /// Sidecars.
    pub sidecars: Vec<Arc<Object<Sidecar>>>,
    /// PeerAuthentications.
    pub peer_authentications: Vec<Arc<Object<PeerAuthentication>>>,
    /// What holds for the whole mesh.
    pub mesh: Arc<MeshConfig>,
}
