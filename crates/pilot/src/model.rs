//! What configuration means, apart from the resources that come of it.

mod conflicts;
mod sidecar;
mod unresolved;

pub(crate) use conflicts::{Conflict, conflicts};
pub(crate) use sidecar::{Egress, Sidecar, Sidecars};
pub(crate) use unresolved::unresolved;
