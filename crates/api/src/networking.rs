//! `networking.istio.io`: how traffic goes.

mod destination_rule;
mod envoy_filter;
mod fault;
mod gateway;
mod proxy_config;
mod service_entry;
mod sidecar;
mod string_match;
mod virtual_service;

pub use destination_rule::*;
pub use envoy_filter::*;
pub use fault::grpc_status;
pub use gateway::*;
pub use proxy_config::*;
pub use service_entry::*;
pub(crate) use service_entry::{HAS_ADDRESS, PORT_NAMES};
pub use sidecar::*;
pub use string_match::StringMatch;
pub use virtual_service::*;

use crate::{compat::OldPortSelector, schema::message};

message! {
    /// A port by its number.
    pub struct PortSelector where [Limit::Old(OldPortSelector::schema)] {
        /// 1 to 65535.
        pub number: u32 where [Limit::Min(1), Limit::Max(65535)],
    }

    /// A percentage with decimals, 0 to 100.
    pub struct Percent {
        /// 0.0 to 100.0.
        pub value: f64 where [Limit::Min(0), Limit::Max(100)],
    }

    /// Picks workloads by labels.
    pub struct WorkloadSelector {
        /// All of them must match.
        pub labels: std::collections::BTreeMap<String, String> where [
            Limit::MaxItems(256),
            Limit::Rule("self.all(k, !k.contains('*'))", "wildcard is not supported in selector"),
            Limit::Each(&[
                Limit::MaxLength(63),
                Limit::Rule("!self.contains('*')", "wildcard is not supported in selector"),
            ]),
        ],
    }
}
