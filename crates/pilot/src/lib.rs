//! Model to xDS: one immutable snapshot of services and configuration becomes clusters, endpoints,
//! listeners, routes and secrets for each proxy.
//!
//! Generators are pure functions of keys, and a key holds every input of its resource, so a cached
//! resource cannot be wrong. Proxies that see the same thing share one key and one allocation.

mod auth;
mod cluster;
mod debug;
mod delegate;
mod discovery;
mod distribution;
mod dynamic;
mod endpoint;
mod engine;
mod envoy_filter;
mod families;
mod grpc;
mod key;
mod listener;
mod metrics;
mod model;
mod mtls;
mod offline;
mod platform;
mod policy;
mod proxy;
mod registration;
mod rest_v1;
mod rights;
mod route;
mod secret;
mod shared;
mod snapshot;
mod source;
mod tls;
mod trace;
mod view;
mod wire;

#[cfg(test)]
mod fixture;

pub use auth::{Anonymous, Authenticate};
pub use discovery::{AdsService, Discovery, Options, Settings, Templates};
pub use distribution::{
    CONDITIONS, MESSAGES_MAX, Problems, Refusal, Report, Reports, Share, Slowest, conditions,
    message, messages,
};
pub use engine::{Counts, Served};
pub use envoy_filter::PatchReport;
pub use lateen_xds::server::Peer;
pub use offline::Offline;
pub use platform::Platform;
pub use proxy::{Dialect, Kind, NotAProxy, Proxy};
pub use registration::{Entries, EntriesError, Registering};
pub use rights::ASK_AGAIN;
pub use secret::{Credential, CredentialSource, Leave, NoCredentials};
pub use snapshot::{Snapshot, full_host};
pub use source::{Client, Source};
pub use trace::{
    ClusterTrace, Condition, L4Condition, L4Fate, L4Trace, Origin, PassedOver, RuleFate, RuleTrace,
    ServersOf, Setting,
};
