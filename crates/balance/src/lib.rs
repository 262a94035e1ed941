//! Pure choice of an upstream host: load balancing, ejection of outliers, limits and budgets.
//!
//! Invariant: no clock and no random source of its own; time comes in as milliseconds since a start
//! that the caller chose, and random numbers as a function. What workers share is atomics.

mod balancer;
mod breaker;
mod hash;
mod outlier;

pub use balancer::{Balancer, HostSpec, Peers, Pick, Policy, SlowStart, ZoneAware};
pub use breaker::{Breaker, Limits, Overflow, Permit, Priority, Resource};
pub use hash::hash_bytes;
pub use outlier::{HostState, Outcome, OutlierConfig};
