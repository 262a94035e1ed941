//! What configuration means, apart from the resources that come of it.

mod conflicts;
mod sidecar;

pub use conflicts::{Conflict, conflicts};
pub(crate) use sidecar::{Egress, Sidecar, Sidecars};
