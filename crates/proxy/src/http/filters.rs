//! The HTTP filters' settings, for a whole listener and for one route.

use std::sync::Arc;
use std::time::Duration;

use lateen_route::{Fraction, HeaderTest, StringTest};

/// The filters of a connection manager. Their order is fixed by the engine, see
/// `http/exchange.rs`; the configuration says which take part.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    pub cors_enabled: bool,
    pub fault_enabled: bool,
    /// Applies where a route has none of its own.
    pub fault: Option<Arc<Fault>>,
}

/// Settings of one route or virtual host.
#[derive(Debug, Default, Clone)]
pub(crate) struct RouteExtra {
    pub fault: Option<Arc<Fault>>,
    pub cors: Option<Arc<Cors>>,
}

/// Faults to inject.
#[derive(Debug)]
pub(crate) struct Fault {
    pub delay: Option<(Fraction, Duration)>,
    pub abort: Option<Abort>,
    /// Requests that pass all of these alone.
    pub headers: Vec<HeaderTest>,
    /// Requests to this cluster alone; empty means any.
    pub upstream_cluster: String,
    /// At most so many at once.
    pub max_active: Option<u32>,
}

/// An answer instead of the upstream's.
#[derive(Debug)]
pub(crate) struct Abort {
    pub share: Fraction,
    pub status: AbortStatus,
}

/// What an abort answers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AbortStatus {
    Http(u16),
    Grpc(u32),
}

impl Fault {
    /// True where nothing is injected.
    pub(crate) fn is_empty(&self) -> bool {
        self.delay.is_none() && self.abort.is_none()
    }
}

/// Cross-origin resource sharing.
#[derive(Debug)]
pub(crate) struct Cors {
    pub enabled: bool,
    pub origins: Vec<StringTest>,
    pub methods: String,
    pub headers: String,
    pub expose: String,
    pub max_age: String,
    pub credentials: bool,
    /// Send preflights of unknown origins on.
    pub forward_unmatched: bool,
}
