//! Hosts that have just come get less at first: a cold cache or an empty pool needs time.

use std::sync::atomic::Ordering;

use crate::HostSpec;

/// How the share of a new host grows to its full weight. Envoy's slow start: after a part `t` of the
/// window the host has the share `t^(1/aggression)`, but no less than the least one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlowStart {
    /// Milliseconds from a host's arrival to its full share.
    pub window: u64,
    /// 1 grows evenly; more grows fast at first. Above 0.
    pub aggression: f64,
    /// The least share, in percent.
    pub min_percent: f64,
}

/// The fineness of shares.
const WHOLE: f64 = 1000.0;

impl SlowStart {
    /// The share of a host of that age in milliseconds, in thousandths.
    fn share(&self, age: u64) -> u64 {
        if age >= self.window {
            return WHOLE as u64;
        }
        let part = age.max(1) as f64 / self.window as f64;
        let share = part.powf(1.0 / self.aggression);
        (share.max(self.min_percent / 100.0).min(1.0) * WHOLE) as u64
    }

    /// When the last of the hosts will have its full share.
    pub(super) fn until(&self, hosts: &[HostSpec]) -> u64 {
        let since = |host: &HostSpec| host.state.since.load(Ordering::Relaxed);
        let newest = hosts.iter().map(since).max().unwrap_or(0);
        match newest {
            0 => 0,
            newest => newest.saturating_add(self.window),
        }
    }
}

/// The weights of hosts at one moment.
pub(super) struct Weights<'a> {
    pub hosts: &'a [HostSpec],
    /// Set while some host is new.
    pub slow_start: Option<&'a SlowStart>,
    /// Milliseconds.
    pub now: u64,
}

impl Weights<'_> {
    pub(super) fn of(&self, index: usize) -> u64 {
        let host = &self.hosts[index];
        let weight = u64::from(host.weight.max(1));
        let Some(slow_start) = self.slow_start else {
            return weight;
        };
        let since = host.state.since.load(Ordering::Relaxed);
        // Whoever was there from the beginning is not new.
        let share = match since {
            0 => WHOLE as u64,
            since => slow_start.share(self.now.saturating_sub(since)),
        };
        (weight * share).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_grow_as_envoy_has_it() {
        let even = SlowStart {
            window: 1000,
            aggression: 1.0,
            min_percent: 10.0,
        };
        assert_eq!(even.share(0), 100);
        assert_eq!(even.share(50), 100);
        assert_eq!(even.share(500), 500);
        assert_eq!(even.share(1000), 1000);
        let eager = SlowStart {
            aggression: 2.0,
            ..even
        };
        assert_eq!(eager.share(250), 500);
    }
}
