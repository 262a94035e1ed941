//! Services that a catalogue outside of the platform tells of.

use crate::{Endpoint, EndpointKey, Service};

/// A service with the endpoints of each of its ports.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct External {
    pub(crate) service: Service,
    pub(crate) endpoints: Vec<(EndpointKey, Vec<Endpoint>)>,
}
