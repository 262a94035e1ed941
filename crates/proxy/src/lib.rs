//! The data plane: a proxy that starts from an Envoy bootstrap, takes its configuration from any
//! Envoy v3 discovery server, and carries the traffic.
//!
//! Entry point: [`run`]. `state` writes the snapshot, `worker` threads serve from it. Invariant: no
//! Kubernetes here; what the proxy knows comes from the bootstrap and from discovery.

mod admin;
mod ads;
mod bind;
mod bootstrap;
mod clock;
mod cluster;
mod drain;
mod error;
mod http;
mod listener;
mod memory;
mod network;
mod node;
mod peer;
mod redact;
mod run;
mod secrets;
mod snapshot;
mod socket;
mod state;
mod stats;
mod udp;
mod worker;

pub use error::Error;
pub use run::{BootstrapSource, DEFAULT_CONCURRENCY, ProxyOptions, run};
