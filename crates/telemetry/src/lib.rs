//! What the mesh tells about itself: metric families in Prometheus' text form, access logs, the
//! process' own log, and the base of the admin interfaces.

pub mod access_log;
pub mod admin;
mod log;
pub mod metrics;

pub use log::{Level, LogError, Scope, directives, init, level, levels, set_level, set_levels};
