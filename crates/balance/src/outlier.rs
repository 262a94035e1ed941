//! Ejection of hosts that keep failing.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::HostSpec;

/// What all workers know of one host.
#[derive(Debug, Default)]
pub struct HostState {
    /// Requests under way.
    pub active: AtomicU32,
    /// When the host came, in milliseconds; 0 for one that was always there.
    pub(crate) since: AtomicU64,
    consecutive_5xx: AtomicU32,
    consecutive_gateway: AtomicU32,
    consecutive_local: AtomicU32,
    ejections: AtomicU32,
    /// Milliseconds; 0 means not ejected.
    ejected_until: AtomicU64,
    ejected_at: AtomicU64,
}

impl HostState {
    /// The state of a host that has come now.
    pub fn arrived(now: u64) -> Self {
        HostState {
            since: AtomicU64::new(now),
            ..HostState::default()
        }
    }

    /// True while the host is ejected.
    pub fn is_ejected(&self, now: u64) -> bool {
        self.ejected_until() > now
    }

    /// The end of its ejection in milliseconds, which may be over; 0 where there was none.
    pub(crate) fn ejected_until(&self) -> u64 {
        self.ejected_until.load(Ordering::Relaxed)
    }

    /// How often it was ejected.
    pub fn ejections(&self) -> u32 {
        self.ejections.load(Ordering::Relaxed)
    }
}

/// How a request to a host ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With a response of that status.
    Status(u16),
    /// Without a connection or a response.
    LocalFailure,
}

/// When to eject.
#[derive(Debug, Clone, PartialEq)]
pub struct OutlierConfig {
    /// So many 5xx in a row; `None` is never.
    pub consecutive_5xx: Option<u32>,
    /// So many 502, 503 or 504 in a row; `None` is never.
    pub consecutive_gateway: Option<u32>,
    /// So many failed connections in a row; `None` counts them as gateway failures.
    pub consecutive_local: Option<u32>,
    /// The first ejection's length; the next ones are multiples.
    pub base_ejection: Duration,
    /// The longest ejection.
    pub max_ejection: Duration,
    /// At most this share of the hosts, in percent; one host may always go where it is above 0.
    pub max_percent: u32,
}

impl Default for OutlierConfig {
    /// Envoy's defaults.
    fn default() -> Self {
        OutlierConfig {
            consecutive_5xx: Some(5),
            consecutive_gateway: None,
            consecutive_local: None,
            base_ejection: Duration::from_secs(30),
            max_ejection: Duration::from_secs(300),
            max_percent: 10,
        }
    }
}

/// Reports how a request to `hosts[index]` ended; the time until which that ejected the host.
pub(crate) fn report(
    config: &OutlierConfig,
    hosts: &[HostSpec],
    index: usize,
    outcome: Outcome,
    now: u64,
) -> Option<u64> {
    let state = &hosts.get(index)?.state;
    let (server, gateway, local) = match outcome {
        Outcome::Status(status) => (
            (500..600).contains(&status),
            matches!(status, 502..=504),
            false,
        ),
        Outcome::LocalFailure if config.consecutive_local.is_some() => (false, false, true),
        Outcome::LocalFailure => (true, true, false),
    };
    let reached = |counter: &AtomicU32, failed: bool, limit: Option<u32>| {
        if !failed {
            counter.store(0, Ordering::Relaxed);
            return false;
        }
        let count = counter.fetch_add(1, Ordering::Relaxed) + 1;
        limit.is_some_and(|limit| limit > 0 && count >= limit)
    };
    let by_server = reached(&state.consecutive_5xx, server, config.consecutive_5xx);
    let by_gateway = reached(
        &state.consecutive_gateway,
        gateway,
        config.consecutive_gateway,
    );
    let by_local = reached(&state.consecutive_local, local, config.consecutive_local);
    let is_reached = by_server || by_gateway || by_local;
    is_reached.then(|| eject(config, hosts, state, now))?
}

fn eject(config: &OutlierConfig, hosts: &[HostSpec], state: &HostState, now: u64) -> Option<u64> {
    if state.is_ejected(now) || config.max_percent == 0 {
        return None;
    }
    let ejected = hosts
        .iter()
        .filter(|host| host.state.is_ejected(now))
        .count();
    let share = (ejected + 1) * 100 / hosts.len().max(1);
    if ejected > 0 && share > config.max_percent as usize {
        return None;
    }
    // A host that behaved for a long time starts over.
    let previous = state.ejected_at.swap(now, Ordering::Relaxed);
    let max = config.max_ejection.max(config.base_ejection);
    if previous > 0 && u128::from(now.saturating_sub(previous)) > 4 * max.as_millis() {
        state.ejections.store(0, Ordering::Relaxed);
    }
    let times = state.ejections.fetch_add(1, Ordering::Relaxed) + 1;
    let length = config.base_ejection.saturating_mul(times).min(max);
    let until = now.saturating_add(u64::try_from(length.as_millis()).unwrap_or(u64::MAX));
    state.ejected_until.store(until, Ordering::Relaxed);
    for counter in [
        &state.consecutive_5xx,
        &state.consecutive_gateway,
        &state.consecutive_local,
    ] {
        counter.store(0, Ordering::Relaxed);
    }
    Some(until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_errors_eject_and_time_brings_back() {
        let hosts: Vec<HostSpec> = (0..2).map(|i| HostSpec::new(&format!("h{i}"))).collect();
        let config = OutlierConfig {
            consecutive_5xx: Some(2),
            ..OutlierConfig::default()
        };
        let end = |index, status, now| report(&config, &hosts, index, Outcome::Status(status), now);
        let fail = |index, now| end(index, 503, now).is_some();
        assert!(!fail(0, 1));
        assert_eq!(end(0, 200, 2), None);
        assert!(!fail(0, 3));
        assert!(fail(0, 4));
        assert!(hosts[0].state.is_ejected(5));
        // The other one stays: 10 % of two hosts allow no second.
        assert!(!fail(1, 6));
        assert!(!fail(1, 7));
        assert!(!hosts[0].state.is_ejected(4 + 30_000));
        // The second ejection lasts twice as long.
        let later = 40_000;
        assert!(!fail(0, later));
        assert!(fail(0, later + 1));
        assert!(hosts[0].state.is_ejected(later + 59_000));
    }
}
