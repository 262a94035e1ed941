//! Choosing one host of a cluster.
//!
//! Hosts are grouped by priority and, where localities carry weights, by locality. A priority takes
//! traffic in the measure of its available hosts, with Envoy's overprovisioning factor of 1.4; where
//! too few are available anywhere, all are used rather than none.
//!
//! Where the proxy knows who its peers are, hosts of the first priority are chosen by zone
//! ([`ZoneAware`]).

mod slow_start;
mod zones;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arcstr::ArcStr;

use crate::HostState;
use crate::hash::{hash_bytes, mix};
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
}

#[derive(Debug)]
struct Level {
    priority: u32,
    hosts: Vec<usize>,
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    weight: u32,
    hosts: Vec<usize>,
    equal: bool,
    next: AtomicUsize,
    /// Hosts in turn by weight; empty where the weights are equal.
    schedule: Vec<usize>,
    /// Points and hosts of a ring, or the slots of a Maglev table.
    ring: Vec<(u64, usize)>,
}

impl Balancer {
    /// Prepares hosts for choosing.
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
                    hosts: members,
                }
            })
            .collect();
        Balancer {
            policy,
            panic_percent,
            levels,
            slow_start: None,
            fail_on_panic: false,
            zones: None,
        }
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
        let (level, panic) = self.level(hosts, pick)?;
        if panic && self.fail_on_panic {
            return None;
        }
        let usable = |index: usize| panic || hosts[index].available(pick.now);
        let zones = self.zones.as_ref();
        let choice = match zones.filter(|_| !panic && level.priority == 0) {
            Some(zones) => zones.choose(hosts, &usable, pick.random),
            None => Choice::All,
        };
        let group = match choice {
            Choice::All => choose_group(level, &usable, (pick.random)())?,
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
                group.by_hash(hash, &usable)
            }
            Policy::RoundRobin if weights.slow_start.is_none() => group.in_turn(&usable),
            Policy::RoundRobin | Policy::Random => group.draw(&weights, &usable, pick.random),
            Policy::LeastRequest { choices } => {
                let mut best = group.draw(&weights, &usable, pick.random)?;
                for _ in 1..choices.max(2) {
                    let other = group.draw(&weights, &usable, pick.random)?;
                    if busier(&weights, best, other) {
                        best = other;
                    }
                }
                Some(best)
            }
        }
    }

    /// The priority to use, and whether all of its hosts are to be used for want of available ones.
    fn level(&self, hosts: &[HostSpec], pick: &mut Pick<'_>) -> Option<(&Level, bool)> {
        let now = pick.now;
        let available = |level: &Level| level.available(hosts, now);
        if let [only] = self.levels.as_slice() {
            let share = available(only) * 100 / only.hosts.len();
            return Some((only, share < self.panic_percent as usize));
        }
        let first = self.levels.first()?;
        if !pick.avoid.is_empty()
            && let Some(level) = self.level_not_avoided(hosts, pick)
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
    fn level_not_avoided(&self, hosts: &[HostSpec], pick: &mut Pick<'_>) -> Option<&Level> {
        let health = |level: &Level| match pick.avoid.contains(&level.priority) {
            true => 0,
            false => (level.available(hosts, pick.now) * 140 / level.hosts.len()).min(100),
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
    fn available(&self, hosts: &[HostSpec], now: u64) -> usize {
        let available = |index: &&usize| hosts[**index].available(now);
        self.hosts.iter().filter(available).count()
    }

    /// Whether localities have weights of their own.
    fn is_weighted(&self, hosts: &[HostSpec]) -> bool {
        let mut localities = self.hosts.iter().map(|index| &hosts[*index].locality);
        localities.any(|(_, weight)| weight.is_some())
    }
}

fn groups(policy: Policy, hosts: &[HostSpec], members: &[usize]) -> Vec<Group> {
    let weighted = members
        .iter()
        .any(|index| hosts[*index].locality.1.is_some());
    let mut named: Vec<(&ArcStr, u32, Vec<usize>)> = Vec::new();
    for &index in members {
        let (name, weight) = &hosts[index].locality;
        let name = if weighted {
            name
        } else {
            &hosts[members[0]].locality.0
        };
        match named.iter_mut().find(|(known, ..)| *known == name) {
            Some((_, _, list)) => list.push(index),
            None => {
                let weight = if weighted { weight.unwrap_or(0) } else { 1 };
                named.push((name, weight, vec![index]));
            }
        }
    }
    named
        .into_iter()
        .map(|(_, weight, list)| Group::new(policy, hosts, weight, list))
        .collect()
}

/// Draws a locality by weight and by the share of its hosts that can be used.
fn choose_group<'a>(
    level: &'a Level,
    usable: &impl Fn(usize) -> bool,
    random: u64,
) -> Option<&'a Group> {
    if let [only] = level.groups.as_slice() {
        return Some(only);
    }
    let effective = |group: &Group| {
        let up = group.hosts.iter().filter(|index| usable(**index)).count() as u64;
        let share = (up * 140).min(group.hosts.len() as u64 * 100) / group.hosts.len() as u64;
        u64::from(group.weight) * share
    };
    let total: u64 = level.groups.iter().map(effective).sum();
    let mut left = random.checked_rem(total)?;
    level.groups.iter().find(|group| {
        let weight = effective(group);
        let hit = left < weight;
        left = left.saturating_sub(weight);
        hit
    })
}

impl Group {
    fn new(policy: Policy, hosts: &[HostSpec], weight: u32, members: Vec<usize>) -> Self {
        let equal = members
            .windows(2)
            .all(|pair| hosts[pair[0]].weight == hosts[pair[1]].weight);
        let schedule = match policy {
            Policy::RoundRobin if !equal => schedule(hosts, &members),
            _ => Vec::new(),
        };
        let ring = match policy {
            Policy::RingHash { min, max } => ring(hosts, &members, min, max),
            Policy::Maglev { size } => maglev(hosts, &members, size),
            _ => Vec::new(),
        };
        Group {
            weight,
            hosts: members,
            equal,
            next: AtomicUsize::new(0),
            schedule,
            ring,
        }
    }

    fn in_turn(&self, usable: &impl Fn(usize) -> bool) -> Option<usize> {
        let order = if self.schedule.is_empty() {
            &self.hosts
        } else {
            &self.schedule
        };
        for _ in 0..order.len() {
            let turn = self.next.fetch_add(1, Ordering::Relaxed) % order.len();
            if usable(order[turn]) {
                return Some(order[turn]);
            }
        }
        None
    }

    fn draw(
        &self,
        weights: &Weights<'_>,
        usable: &impl Fn(usize) -> bool,
        random: &mut dyn FnMut() -> u64,
    ) -> Option<usize> {
        // Most of the time the first draw is good, and nothing needs counting.
        if self.equal && weights.slow_start.is_none() {
            let first = self.hosts[random() as usize % self.hosts.len()];
            if usable(first) {
                return Some(first);
            }
        }
        let candidates = || self.hosts.iter().copied().filter(|index| usable(*index));
        let total: u64 = candidates().map(|index| weights.of(index)).sum();
        let mut left = random().checked_rem(total)?;
        candidates().find(|index| {
            let share = weights.of(*index);
            let hit = left < share;
            left = left.saturating_sub(share);
            hit
        })
    }

    fn by_hash(&self, hash: u64, usable: &impl Fn(usize) -> bool) -> Option<usize> {
        let length = self.ring.len();
        let start = self.ring.partition_point(|(point, _)| *point < hash);
        (0..length)
            .map(|step| self.ring[(start + step) % length].1)
            .find(|index| usable(*index))
    }
}

/// Hosts in turn, smoothly by weight, for one full period of at most 1,024 turns.
fn schedule(hosts: &[HostSpec], members: &[usize]) -> Vec<usize> {
    let weights: Vec<i64> = members
        .iter()
        .map(|i| i64::from(hosts[*i].weight.max(1)))
        .collect();
    let total: i64 = weights.iter().sum();
    let divisor = weights.iter().fold(0, |a, b| gcd(a, *b)).max(1);
    let turns = (total / divisor).clamp(1, 1024);
    let mut credit = vec![0_i64; members.len()];
    (0..turns)
        .map(|_| {
            for (credit, weight) in credit.iter_mut().zip(&weights) {
                *credit += weight;
            }
            let best = (0..credit.len()).max_by_key(|i| (credit[*i], std::cmp::Reverse(*i)));
            let best = best.expect("a group has members");
            credit[best] -= total;
            members[best]
        })
        .collect()
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Points of each host on a ring, by weight.
fn ring(hosts: &[HostSpec], members: &[usize], min: u32, max: u32) -> Vec<(u64, usize)> {
    let total: u64 = members
        .iter()
        .map(|i| u64::from(hosts[*i].weight.max(1)))
        .sum();
    let least = members
        .iter()
        .map(|i| u64::from(hosts[*i].weight.max(1)))
        .min()
        .unwrap_or(1);
    // The lightest host has at least one point.
    let wanted = u64::from(min)
        .max(total.div_ceil(least))
        .min(u64::from(max.max(1)));
    let mut ring = Vec::with_capacity(wanted as usize);
    for &index in members {
        let host = &hosts[index];
        let points = (wanted * u64::from(host.weight.max(1))).div_ceil(total);
        let base = hash_bytes(host.key.as_bytes());
        ring.extend((0..points).map(|point| (mix(base ^ mix(point + 1)), index)));
    }
    ring.sort_unstable();
    ring
}

/// Maglev's table, spread over the range of hashes so that a lookup is the same as on a ring.
fn maglev(hosts: &[HostSpec], members: &[usize], size: u32) -> Vec<(u64, usize)> {
    let size = u64::from(size.max(1));
    let mut table: Vec<Option<usize>> = vec![None; size as usize];
    let heaviest = members
        .iter()
        .map(|i| hosts[*i].weight.max(1))
        .max()
        .unwrap_or(1);
    let mut seats: Vec<(u64, u64, u64, u64)> = members
        .iter()
        .map(|index| {
            let hash = hash_bytes(hosts[*index].key.as_bytes());
            (hash % size, mix(hash) % (size.max(2) - 1) + 1, 0, 0)
        })
        .collect();
    let mut filled = 0;
    while filled < size && !members.is_empty() {
        for (position, index) in members.iter().enumerate() {
            let (offset, skip, next, credit) = &mut seats[position];
            // A lighter host takes a seat in fewer of the rounds.
            *credit += u64::from(hosts[*index].weight.max(1));
            if *credit < u64::from(heaviest) || filled == size {
                continue;
            }
            *credit -= u64::from(heaviest);
            loop {
                let seat = ((*offset + *skip * *next) % size) as usize;
                *next += 1;
                if table[seat].is_none() {
                    table[seat] = Some(*index);
                    break;
                }
                if *next > size {
                    // The length is no prime: take the first free seat.
                    let free = table
                        .iter()
                        .position(Option::is_none)
                        .expect("filled < size");
                    table[free] = Some(*index);
                    break;
                }
            }
            filled += 1;
        }
    }
    let step = u64::MAX / size;
    (0..size)
        .zip(table)
        .filter_map(|(seat, host)| Some((seat * step, host?)))
        .collect()
}

#[cfg(test)]
mod tests;
