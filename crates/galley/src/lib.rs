//! What users write: taken in, checked and published as one immutable set.

mod config_set;

pub use config_set::ConfigSet;
