//! MeshNetworks: which addresses are in which network, and by which gateways a network is reached from
//! others; from ConfigMap `istio`, key `meshNetworks`.

use std::collections::BTreeMap;

use crate::schema::message;

message! {
    /// Networks of the mesh. Within one, every workload reaches every other by its address.
    pub struct MeshNetworks {
        /// By name.
        pub networks: BTreeMap<String, Network>,
    }

    /// One network.
    pub struct Network {
        /// What is in it.
        pub endpoints: Vec<NetworkEndpoints>,
        /// How it is reached from others.
        pub gateways: Vec<NetworkGateway>,
    }

    /// What is in a network: one of the two.
    pub struct NetworkEndpoints {
        /// A range of addresses.
        pub from_cidr: String,
        /// The name of a cluster, all workloads of which are in the network.
        pub from_registry: String,
    }

    /// How a network is reached: by one of the first two.
    pub struct NetworkGateway {
        /// Full name of a service with addresses outside of its network.
        pub registry_service_name: String,
        /// An address.
        pub address: String,
        /// Its port; 0 is 15443.
        pub port: u32,
        /// Where it is, `region/zone/sub-zone`.
        pub locality: String,
    }
}
