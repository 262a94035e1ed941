//! Choosing one host of a cluster.
//!
//! Hosts are grouped by priority and, where localities carry weights, by locality. A priority takes
//! traffic in the measure of its available hosts, with Envoy's overprovisioning factor of 1.4; where
//! too few are available anywhere, all are used rather than none.
//!
//! Where the proxy knows who its peers are, hosts of the first priority are chosen by zone
//! ([`ZoneAware`]).

mod group;
mod slow_start;
mod tables;
mod zones;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arcstr::ArcStr;

use crate::HostState;
use crate::hash::mix;
use crate::outlier::{self, Outcome, OutlierConfig};
use group::{Group, choose_group, groups};
pub use slow_start::SlowStart;
use slow_start::Weights;
use zones::{Choice, Zones};
pub use zones::{Peers, ZoneAware};

/// The way of choosing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// In turn, by weight.
    RoundRobin,
    /// The least busy of so many drawn at random.
    LeastRequest {
        /// How many are drawn.
        choices: u32,
    },
    /// At random, by weight.
    Random,
    /// On a ring of hashes.
    RingHash {
        /// The least number of points on the ring.
        min: u32,
        /// The greatest.
        max: u32,
    },
    /// By Maglev's table.
    Maglev {
        /// The table's length, a prime.
        size: u32,
    },
}

/// A host as the balancer sees it.
#[derive(Debug, Clone)]
pub struct HostSpec {
    /// What identifies it in consistent hashing.
    pub key: ArcStr,
    /// Its share.
    pub weight: u32,
    /// Its priority; 0 is the first.
    pub priority: u32,
    /// Its locality, and that locality's weight where localities are weighted.
    pub locality: (ArcStr, Option<u32>),
    /// What the control plane says.
    pub healthy: bool,
    /// What the workers share.
    pub state: Arc<HostState>,
}

impl HostSpec {
    /// A healthy host of weight 1.
    pub fn new(key: &str) -> Self {
        HostSpec {
            key: key.into(),
            weight: 1,
            priority: 0,
            locality: (ArcStr::new(), None),
            healthy: true,
            state: Arc::default(),
        }
    }

    fn available(&self, now: u64) -> bool {
        self.healthy && !self.state.is_ejected(now)
    }
}

/// What one choice may use.
pub struct Pick<'a> {
    /// Milliseconds.
    pub now: u64,
    /// Draws a number.
    pub random: &'a mut dyn FnMut() -> u64,
    /// The request's hash.
    pub hash: Option<u64>,
    /// Hosts that were tried already.
    pub tried: &'a [usize],
    /// How often to draw again to avoid them.
    pub attempts: u32,
    /// Priorities that are passed over where another one has an available host.
    pub avoid: &'a [u32],
}

/// The hosts of a cluster, ready for choosing.
#[derive(Debug)]
pub struct Balancer {
    policy: Policy,
    /// The share of available hosts, in percent, below which all are used.
    panic_percent: u32,
    levels: Vec<Level>,
    /// With the time until which some host is new.
    slow_start: Option<(SlowStart, u64)>,
    /// Rather none than one that may not work.
    fail_on_panic: bool,
    zones: Option<Zones>,
    /// The time from which on no host is ejected, as far as is known. All balancers that a cluster has
    /// had know it, as requests end that chose by an older one.
    calm_from: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Level {
    priority: u32,
    hosts: Vec<usize>,
    n_healthy: usize,
    groups: Vec<Group>,
}

/// The hosts at the time of a choice.
#[derive(Clone, Copy)]
struct Moment<'a> {
    hosts: &'a [HostSpec],
    now: u64,
    /// None is ejected, so that whoever is healthy is available.
    is_calm: bool,
    /// All are to be used, as too few are available.
    panic: bool,
}

impl Moment<'_> {
    fn available(&self, index: usize) -> bool {
        self.hosts[index].available(self.now)
    }

    fn usable(&self, index: usize) -> bool {
        self.panic || self.available(index)
    }
}

impl Balancer {
    /// Prepares hosts for choosing. Each choice is to be given the same ones.
    pub fn new(policy: Policy, panic_percent: u32, hosts: &[HostSpec]) -> Self {
        let mut priorities: Vec<u32> = hosts.iter().map(|host| host.priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        let levels = priorities
            .into_iter()
            .map(|priority| {
                let members: Vec<usize> = (0..hosts.len())
                    .filter(|i| hosts[*i].priority == priority)
                    .collect();
                Level {
                    priority,
                    groups: groups(policy, hosts, &members),
                    n_healthy: members.iter().filter(|i| hosts[**i].healthy).count(),
                    hosts: members,
                }
            })
            .collect();
        let ejected = hosts.iter().map(|host| host.state.ejected_until());
        Balancer {
            policy,
            panic_percent,
            levels,
            slow_start: None,
            fail_on_panic: false,
            zones: None,
            calm_from: Arc::new(ejected.max().unwrap_or(0).into()),
        }
    }

    /// Takes the place of another one of the same cluster. Hosts that are in both are ejected in both.
    #[must_use]
    pub fn after(mut self, before: Option<&Balancer>) -> Self {
        if let Some(before) = before {
            let own = self.calm_from.load(Ordering::Relaxed);
            self.calm_from = before.calm_from.clone();
            self.calm_from.fetch_max(own, Ordering::Relaxed);
        }
        self
    }

    /// Reports how a request to `hosts[index]` ended; true where that ejected the host.
    pub fn report(
        &self,
        config: &OutlierConfig,
        hosts: &[HostSpec],
        index: usize,
        outcome: Outcome,
        now: u64,
    ) -> bool {
        let until = outlier::report(config, hosts, index, outcome, now);
        if let Some(until) = until {
            self.calm_from.fetch_max(until, Ordering::Relaxed);
        }
        until.is_some()
    }

    /// Chooses by zone, where that is asked for and peers are known. Consistent hashing knows no zones,
    /// and weights of localities count for more.
    #[must_use]
    pub fn with_zones(
        mut self,
        zones: Option<ZoneAware>,
        peers: Option<&Peers>,
        hosts: &[HostSpec],
    ) -> Self {
        let applies = !matches!(self.policy, Policy::RingHash { .. } | Policy::Maglev { .. });
        let Some(spec) = zones.filter(|_| applies) else {
            return self;
        };
        self.fail_on_panic = spec.fail_on_panic;
        let first = self.levels.first();
        let first = first.filter(|level| level.priority == 0 && !level.is_weighted(hosts));
        self.zones = first.zip(peers).and_then(|(first, peers)| {
            let (policy, panic) = (self.policy, self.panic_percent);
            Zones::new(spec, policy, panic, peers, hosts, &first.hosts)
        });
        self
    }

    /// Gives hosts that have just come less than their weight at first. Consistent hashing and choice
    /// at random know no such thing, as in Envoy.
    #[must_use]
    pub fn with_slow_start(mut self, slow_start: Option<SlowStart>, hosts: &[HostSpec]) -> Self {
        let applies = matches!(
            self.policy,
            Policy::RoundRobin | Policy::LeastRequest { .. }
        );
        self.slow_start = slow_start
            .filter(|slow_start| applies && slow_start.window > 0)
            .map(|slow_start| (slow_start, slow_start.until(hosts)));
        self
    }

    /// The index of a host, or none where there is none to use.
    pub fn pick(&self, hosts: &[HostSpec], pick: &mut Pick<'_>) -> Option<usize> {
        let mut chosen = self.pick_once(hosts, pick)?;
        for _ in 1..pick.attempts.max(1) {
            if !pick.tried.contains(&chosen) {
                break;
            }
            // Another point of the ring for another try.
            pick.hash = pick.hash.map(|hash| mix(hash.wrapping_add(1)));
            chosen = self.pick_once(hosts, pick)?;
        }
        Some(chosen)
    }

    fn pick_once(&self, hosts: &[HostSpec], pick: &mut Pick<'_>) -> Option<usize> {
        let mut at = Moment {
            hosts,
            now: pick.now,
            is_calm: self.calm_from.load(Ordering::Relaxed) <= pick.now,
            panic: false,
        };
        let (level, panic) = self.level(at, pick)?;
        if panic && self.fail_on_panic {
            return None;
        }
        at.panic = panic;
        let zones = self.zones.as_ref();
        let choice = match zones.filter(|_| !panic && level.priority == 0) {
            Some(zones) => zones.choose(at, pick.random),
            None => Choice::All,
        };
        let group = match choice {
            Choice::All => choose_group(level, at, (pick.random)())?,
            Choice::Zone(group) => group,
            Choice::Nowhere => return None,
        };
        let slow_start = self.slow_start.as_ref();
        let weights = Weights {
            hosts,
            slow_start: slow_start.and_then(|(how, until)| (pick.now < *until).then_some(how)),
            now: pick.now,
        };
        match self.policy {
            Policy::RingHash { .. } | Policy::Maglev { .. } => {
                let hash = pick.hash.unwrap_or_else(|| (pick.random)());
                group.by_hash(hash, at)
            }
            Policy::RoundRobin if weights.slow_start.is_none() => group.in_turn(at),
            Policy::RoundRobin | Policy::Random => group.draw(&weights, at, pick.random),
            Policy::LeastRequest { choices } => {
                let mut best = group.draw(&weights, at, pick.random)?;
                for _ in 1..choices.max(2) {
                    let other = group.draw(&weights, at, pick.random)?;
                    if busier(&weights, best, other) {
                        best = other;
                    }
                }
                Some(best)
            }
        }
    }

    /// The priority to use, and whether all of its hosts are to be used for want of available ones.
    fn level(&self, at: Moment<'_>, pick: &mut Pick<'_>) -> Option<(&Level, bool)> {
        let available = |level: &Level| level.available(at);
        if let [only] = self.levels.as_slice() {
            let share = available(only) * 100 / only.hosts.len();
            return Some((only, share < self.panic_percent as usize));
        }
        let first = self.levels.first()?;
        if !pick.avoid.is_empty()
            && let Some(level) = self.level_not_avoided(at, pick)
        {
            return Some((level, false));
        }
        let mut left = 100_usize;
        let mut draw = (pick.random)() as usize % 100;
        let mut fallback = None;
        for level in &self.levels {
            let count = available(level);
            let load = (count * 140 / level.hosts.len()).min(left);
            if load > draw {
                return Some((level, false));
            }
            if count > 0 && fallback.is_none() {
                fallback = Some(level);
            }
            draw -= load;
            left -= load;
        }
        // The shares of all priorities do not fill the whole.
        match fallback {
            Some(level) => Some((level, false)),
            None => Some((first, self.panic_percent > 0)),
        }
    }

    /// One of the priorities that are not to be avoided, in the measure of its available hosts; none
    /// where they have none.
    fn level_not_avoided(&self, at: Moment<'_>, pick: &mut Pick<'_>) -> Option<&Level> {
        let health = |level: &Level| match pick.avoid.contains(&level.priority) {
            true => 0,
            false => (level.available(at) * 140 / level.hosts.len()).min(100),
        };
        let total = self.levels.iter().map(health).sum::<usize>().min(100);
        let mut left = 100_usize;
        let mut draw = (pick.random)() as usize % 100;
        for level in &self.levels {
            let load = (health(level) * 100).checked_div(total)?.min(left);
            if load > draw {
                return Some(level);
            }
            draw -= load;
            left -= load;
        }
        // What rounding has left over.
        self.levels.iter().find(|level| health(level) > 0)
    }
}

/// True where the second host has less to do for its weight.
fn busier(weights: &Weights<'_>, first: usize, second: usize) -> bool {
    let load = |index: usize| {
        let active = &weights.hosts[index].state.active;
        u64::from(active.load(Ordering::Relaxed)) + 1
    };
    load(second) * weights.of(first) < load(first) * weights.of(second)
}

impl Level {
    fn available(&self, at: Moment<'_>) -> usize {
        match at.is_calm {
            true => self.n_healthy,
            false => {
                let available = self.hosts.iter().filter(|index| at.available(**index));
                available.count()
            }
        }
    }

    /// Whether localities have weights of their own.
    fn is_weighted(&self, hosts: &[HostSpec]) -> bool {
        let mut localities = self.hosts.iter().map(|index| &hosts[*index].locality);
        localities.any(|(_, weight)| weight.is_some())
    }
}

#[cfg(test)]
mod tests;
