//! What tests of several crates share. A dev-dependency only.

mod network;
mod secrets;
mod tools;

pub use network::Network;
pub use secrets::Secrets;
pub use tools::{conformance, find_envoy, find_tool, lacks, not_checked};
