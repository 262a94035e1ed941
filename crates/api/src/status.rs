//! What the control plane says of an object, in its `status`.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::schema::message;

/// Type of the condition that says whether the workload of a WorkloadEntry is well.
pub const HEALTHY: &str = "Healthy";

message! {
    /// Status of any kind.
    pub struct Status {
        /// Conditions, one of each type.
        pub conditions: Vec<Condition>,
        /// Messages of an analysis.
        pub validation_messages: Vec<Value>,
        /// Generation of the spec that this is about.
        pub observed_generation: i64,
    }

    /// Status of a ServiceEntry.
    pub struct ServiceEntryStatus {
        /// Conditions, one of each type.
        pub conditions: Vec<Condition>,
        /// Messages of an analysis.
        pub validation_messages: Vec<Value>,
        /// Generation of the spec that this is about.
        pub observed_generation: i64,
        /// Addresses that the hosts were given.
        pub addresses: Vec<ServiceEntryAddress>,
    }

    /// An address that a host was given.
    pub struct ServiceEntryAddress {
        /// The address.
        pub value: String,
        /// The host.
        pub host: String,
    }

    /// One thing that is so, is not so, or is not known.
    pub struct Condition {
        /// What.
        pub r#type: String,
        /// `True`, `False` or `Unknown`.
        pub status: String,
        /// When it was last looked at.
        pub last_probe_time: Option<Time>,
        /// When the status last changed.
        pub last_transition_time: Option<Time>,
        /// Why, in one word.
        pub reason: String,
        /// Why, in a sentence; Kubernetes' own kinds want one.
        pub message: String,
        /// Generation of the spec that this is about.
        pub observed_generation: i64,
    }
}

/// A point in time, in the form of RFC 3339.
pub type Time = Timestamp;

impl crate::Schema for Timestamp {
    fn schema() -> Value {
        json!({"type": "string", "format": "date-time"})
    }
}
