//! What configuration means, apart from the resources that come of it.

mod conflicts;
mod networks;
mod sidecar;
mod unresolved;

pub(crate) use conflicts::{Conflict, Conflicts};
pub(crate) use networks::{Gateway, Networks, Reach, Way};
pub(crate) use sidecar::{Egress, Sidecar, Sidecars};
pub(crate) use unresolved::Unresolved;
