//! Traffic capture in a network namespace.
//!
//! A pod's connections reach the sidecar proxy because nf_tables rules in the pod's network
//! namespace redirect them. [`Config`] says what to capture, [`apply`] writes the rules and
//! [`cleanup`] removes them, [`original_dst`] tells the proxy where a captured connection was
//! going, and [`iptables::main`] is the command that the init container runs,
//! whose flags [`iptables::config`] reads for whoever sets capture up in its place. [`nft`] is the client
//! underneath, which the local platform also uses for its services.

pub mod config;
mod error;
pub mod iptables;
mod loopback;
pub mod nft;
mod original_dst;
mod plan;
mod validate;

pub use config::{Config, Ranges};
pub use error::Error;
pub use original_dst::original_dst;
pub use plan::{apply, cleanup, is_applied, plan};
pub use validate::validate;
