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

/// How important a request is. Each kind has limits and counts of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Priority {
    /// As most are.
    #[default]
    Default,
    /// More than those.
    High,
}

/// A limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("limit reached: {0:?}")]
pub struct Overflow(pub Resource);

/// The counters of one cluster, shared by all workers.
#[derive(Debug, Default)]
pub struct Breaker {
    active: [[AtomicU32; 4]; 2],
    overflows: AtomicU64,
}

impl Breaker {
    /// How many are under way.
    pub fn active(&self, resource: Resource, priority: Priority) -> u32 {
        self.counter(resource, priority).load(Ordering::Relaxed)
    }

    fn counter(&self, resource: Resource, priority: Priority) -> &AtomicU32 {
        &self.active[priority as usize][resource as usize]
    }

    /// How often a limit said no.
    pub fn overflows(&self) -> u64 {
        self.overflows.load(Ordering::Relaxed)
    }

    /// Takes one, to be given back when the permit is dropped.
    pub fn acquire(
        self: &Arc<Self>,
        resource: Resource,
        priority: Priority,
        limits: &Limits,
    ) -> Result<Permit, Overflow> {
        let limit = match resource {
            Resource::Connection => limits.connections,
            Resource::Pending => limits.pending,
            Resource::Request => limits.requests,
            Resource::Retry => self.retry_limit(priority, limits),
        };
        let counter = self.counter(resource, priority);
        if counter.fetch_add(1, Ordering::Relaxed) >= limit {
            counter.fetch_sub(1, Ordering::Relaxed);
            self.overflows.fetch_add(1, Ordering::Relaxed);
            return Err(Overflow(resource));
        }
        Ok(Permit {
            breaker: self.clone(),
            resource,
            priority,
        })
    }

    /// Takes one whatever the limit says.
    pub fn acquire_anyway(self: &Arc<Self>, resource: Resource, priority: Priority) -> Permit {
        let counter = self.counter(resource, priority);
        counter.fetch_add(1, Ordering::Relaxed);
        Permit {
            breaker: self.clone(),
            resource,
            priority,
        }
    }

    fn retry_limit(&self, priority: Priority, limits: &Limits) -> u32 {
        match limits.retry_budget {
            None => limits.retries,
            Some((percent, least)) => {
                let active = f64::from(self.active(Resource::Request, priority));
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
    priority: Priority,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let counter = self.breaker.counter(self.resource, self.priority);
        counter.fetch_sub(1, Ordering::Relaxed);
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
        let ask = |priority| breaker.acquire(Resource::Request, priority, &limits);
        let permit = ask(Priority::Default).expect("first");
        let overflow = Overflow(Resource::Request);
        assert_eq!(ask(Priority::Default).expect_err("second"), overflow);
        // What is important has room of its own.
        let important = ask(Priority::High).expect("first");
        assert_eq!(ask(Priority::High).expect_err("second"), overflow);
        drop(permit);
        assert!(ask(Priority::Default).is_ok());
        assert!(ask(Priority::High).is_err());
        drop(important);
        assert!(ask(Priority::High).is_ok());
        assert_eq!(breaker.overflows(), 3);
    }

    #[test]
    fn a_budget_follows_the_requests() {
        let breaker = Arc::new(Breaker::default());
        let limits = Limits {
            retry_budget: Some((20.0, 1)),
            ..Limits::default()
        };
        let ask = |resource| breaker.acquire(resource, Priority::Default, &limits);
        let requests: Vec<_> = (0..10)
            .map(|_| ask(Resource::Request).expect("below 1024"))
            .collect();
        let first = ask(Resource::Retry);
        let second = ask(Resource::Retry);
        assert!(first.is_ok() && second.is_ok());
        assert!(ask(Resource::Retry).is_err());
        drop(requests);
    }
}
