//! What tests of several crates share. A dev-dependency only.

mod envoy;
mod network;
mod secrets;

pub use envoy::find_envoy;
pub use network::Network;
pub use secrets::Secrets;
