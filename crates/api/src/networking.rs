//! `networking.istio.io`: how traffic goes.

mod destination_rule;
mod fault;
mod gateway;
mod service_entry;
mod sidecar;
mod string_match;
mod virtual_service;

pub use destination_rule::*;
pub use fault::grpc_status;
pub use gateway::*;
pub use service_entry::*;
pub use sidecar::*;
pub use string_match::StringMatch;
pub use virtual_service::*;

use crate::schema::message;

message! {
    /// A port by its number.
    pub struct PortSelector {
        /// 1 to 65535.
        pub number: u32,
    }

    /// A percentage with decimals, 0 to 100.
    pub struct Percent {
        /// 0.0 to 100.0.
        pub value: f64,
    }

    /// Picks workloads by labels.
    pub struct WorkloadSelector {
        /// All of them must match.
        pub labels: std::collections::BTreeMap<String, String>,
    }
}
