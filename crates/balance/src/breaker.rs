//! Circuit breakers: how much may be under way towards one cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The limits of a cluster.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Connections.
    pub connections: u32,
    /// Requests that wait for a connection.
    pub pending: u32,
    /// Requests.
    pub requests: u32,
    /// Retries, where no budget is set.
    pub retries: u32,
    /// Retries as a share of the requests under way, in percent, but at least so many.
    pub retry_budget: Option<(f64, u32)>,
}

impl Default for Limits {
    /// Envoy's defaults.
    fn default() -> Self {
        Limits {
            connections: 1024,
            pending: 1024,
            requests: 1024,
            retries: 3,
            retry_budget: None,
        }
    }
}

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// A connection.
    Connection,
    /// A request that waits for a connection.
    Pending,
    /// A request.
    Request,
    /// A retry.
    Retry,
}

/// A limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("limit reached: {0:?}")]
pub struct Overflow(pub Resource);

/// The counters of one cluster, shared by all workers.
#[derive(Debug, Default)]
pub struct Breaker {
    active: [AtomicU32; 4],
    overflows: AtomicU64,
}

impl Breaker {
    /// How many are under way.
    pub fn active(&self, resource: Resource) -> u32 {
        self.active[resource as usize].load(Ordering::Relaxed)
    }

    /// How often a limit said no.
    pub fn overflows(&self) -> u64 {
        self.overflows.load(Ordering::Relaxed)
    }

    /// Takes one, to be given back when the permit is dropped.
    pub fn acquire(
        self: &Arc<Self>,
        resource: Resource,
        limits: &Limits,
    ) -> Result<Permit, Overflow> {
        let limit = match resource {
            Resource::Connection => limits.connections,
            Resource::Pending => limits.pending,
            Resource::Request => limits.requests,
            Resource::Retry => self.retry_limit(limits),
        };
        let counter = &self.active[resource as usize];
        if counter.fetch_add(1, Ordering::Relaxed) >= limit {
            counter.fetch_sub(1, Ordering::Relaxed);
            self.overflows.fetch_add(1, Ordering::Relaxed);
            return Err(Overflow(resource));
        }
        Ok(Permit {
            breaker: self.clone(),
            resource,
        })
    }

    /// Takes one whatever the limit says.
    pub fn acquire_anyway(self: &Arc<Self>, resource: Resource) -> Permit {
        self.active[resource as usize].fetch_add(1, Ordering::Relaxed);
        Permit {
            breaker: self.clone(),
            resource,
        }
    }

    fn retry_limit(&self, limits: &Limits) -> u32 {
        match limits.retry_budget {
            None => limits.retries,
            Some((percent, least)) => {
                let active = f64::from(self.active(Resource::Request));
                ((active * percent / 100.0) as u32).max(least)
            }
        }
    }
}

/// One thing under way; dropping it ends it.
#[derive(Debug)]
pub struct Permit {
    breaker: Arc<Breaker>,
    resource: Resource,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.breaker.active[self.resource as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_and_permits_return() {
        let breaker = Arc::new(Breaker::default());
        let limits = Limits {
            requests: 1,
            ..Limits::default()
        };
        let permit = breaker.acquire(Resource::Request, &limits).expect("first");
        assert_eq!(
            breaker
                .acquire(Resource::Request, &limits)
                .expect_err("second"),
            Overflow(Resource::Request)
        );
        drop(permit);
        assert!(breaker.acquire(Resource::Request, &limits).is_ok());
        assert_eq!(breaker.overflows(), 1);
    }

    #[test]
    fn a_budget_follows_the_requests() {
        let breaker = Arc::new(Breaker::default());
        let limits = Limits {
            retry_budget: Some((20.0, 1)),
            ..Limits::default()
        };
        let requests: Vec<_> = (0..10)
            .map(|_| {
                breaker
                    .acquire(Resource::Request, &limits)
                    .expect("below 1024")
            })
            .collect();
        let first = breaker.acquire(Resource::Retry, &limits);
        let second = breaker.acquire(Resource::Retry, &limits);
        assert!(first.is_ok() && second.is_ok());
        assert!(breaker.acquire(Resource::Retry, &limits).is_err());
        drop(requests);
    }
}
