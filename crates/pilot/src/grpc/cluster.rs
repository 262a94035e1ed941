//! Clusters in gRPC's part of the language.

use lateen_api::networking::ClientTlsMode;
use lateen_xds::types::cluster::Cluster;
use lateen_xds::types::cluster::cluster::ring_hash_lb_config::HashFunction;
use lateen_xds::types::cluster::cluster::{LbConfig, LbPolicy, MaglevLbConfig, RingHashLbConfig};

use crate::cluster::OutboundKey;
use crate::policy::Policy;

/// All that a cluster is made from; its endpoints come by EDS.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClusterKey(pub(crate) OutboundKey);

impl ClusterKey {
    pub(crate) fn generate(&self) -> Cluster {
        let (key, of_envoy) = (&self.0, self.0.generate());
        let policy = Policy::of(&key.rules, key.port, &key.subset).or_of(&key.mesh);
        let mode = policy.tls.map(|tls| tls.mode);
        let socket = (mode == Some(ClientTlsMode::IstioMutual)).then(|| {
            let own = policy.tls.map(|tls| tls.subject_alt_names.as_slice());
            let names = own.filter(|names| !names.is_empty());
            super::client_tls(names.unwrap_or(&key.accounts))
        });
        let (lb_policy, lb_config) = balancing(of_envoy.lb_policy(), of_envoy.lb_config);
        Cluster {
            name: of_envoy.name,
            cluster_discovery_type: of_envoy.cluster_discovery_type,
            eds_cluster_config: of_envoy.eds_cluster_config,
            lb_policy: lb_policy.into(),
            lb_config,
            circuit_breakers: of_envoy.circuit_breakers,
            outlier_detection: of_envoy.outlier_detection,
            transport_socket: socket,
            ..Cluster::default()
        }
    }
}

/// Two policies are everywhere in gRPC. A hash leads to the ring, whatever table Envoy would use.
fn balancing(policy: LbPolicy, config: Option<LbConfig>) -> (LbPolicy, Option<LbConfig>) {
    let ring = match (policy, config) {
        (LbPolicy::RingHash, Some(LbConfig::RingHashLbConfig(ring))) => ring,
        (LbPolicy::RingHash, _) => RingHashLbConfig::default(),
        (LbPolicy::Maglev, Some(LbConfig::MaglevLbConfig(MaglevLbConfig { table_size }))) => {
            RingHashLbConfig {
                minimum_ring_size: table_size,
                ..RingHashLbConfig::default()
            }
        }
        _ => return (LbPolicy::RoundRobin, None),
    };
    let ring = RingHashLbConfig {
        hash_function: HashFunction::XxHash.into(),
        ..ring
    };
    (LbPolicy::RingHash, Some(LbConfig::RingHashLbConfig(ring)))
}
