//! What every crate of the mesh agrees on: identities, names, ports, reasons.
//!
//! Invariant: no I/O, no clock, no protocol messages. Whatever needs one of
//! these lives in the crate that owns it.

pub mod backoff;
pub mod hostname;
pub mod identity;
pub mod labels;
pub mod locality;
pub mod object;
pub mod pipe;
pub mod ports;
pub mod problem;
pub mod protocol;
pub mod proxy_protocol;
pub mod reason;
pub mod service;

pub use backoff::Backoff;
pub use hostname::Hostname;
pub use identity::SpiffeId;
pub use labels::Labels;
pub use locality::Locality;
pub use object::ObjectRef;
pub use problem::{Problem, ProblemKind};
pub use protocol::Protocol;
pub use reason::Reason;
pub use service::ServiceId;

/// Which way traffic flows, seen from the workload that the proxy serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// From other workloads to this one.
    Inbound,
    /// From this workload to others.
    Outbound,
}

impl Direction {
    /// The word used in cluster names and statistics: `inbound` or `outbound`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
        }
    }
}

impl std::fmt::Display for Direction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
