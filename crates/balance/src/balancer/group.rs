//! Hosts that are chosen among by weight alone: all of a priority, or those of one locality or zone.
//!
//! While no host is ejected, a choice in turn or by chance does not depend on the number of hosts: what
//! the control plane says is healthy was put apart and counted when the group was made. With ejected
//! hosts, in a panic and during a slow start the hosts are looked at one by one, and on a ring those are
//! passed over that cannot be used, as their neighbours take their place there.

use std::sync::atomic::{AtomicUsize, Ordering};

use arcstr::ArcStr;

use super::slow_start::Weights;
use super::tables::{maglev, ring, schedule};
use super::{Level, Moment, Policy};
use crate::HostSpec;

#[derive(Debug)]
pub(super) struct Group {
    weight: u32,
    /// Those that are healthy come first.
    hosts: Vec<usize>,
    equal: bool,
    next: AtomicUsize,
    /// Healthy hosts in turn by weight; empty where the weights are equal.
    schedule: Vec<usize>,
    /// All hosts so, where some are not healthy: for a panic.
    whole_schedule: Vec<usize>,
    /// Points and hosts of a ring, or the slots of a Maglev table.
    ring: Vec<(u64, usize)>,
    /// The hosts that are healthy.
    pub(super) healthy: Share,
    /// Of those, each with the weight of it and of all before it; empty where the weights are equal.
    sums: Vec<(u64, usize)>,
}

/// So many hosts, of this weight together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) count: u64,
    pub(super) weight: u64,
}

impl Share {
    pub(super) fn of<'a>(hosts: impl Iterator<Item = &'a HostSpec>) -> Share {
        hosts.fold(Share::default(), |share, host| {
            share.and(Share {
                count: 1,
                weight: u64::from(host.weight.max(1)),
            })
        })
    }

    pub(super) fn and(self, other: Share) -> Share {
        Share {
            count: self.count + other.count,
            weight: self.weight + other.weight,
        }
    }
}

pub(super) fn groups(policy: Policy, hosts: &[HostSpec], members: &[usize]) -> Vec<Group> {
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
pub(super) fn choose_group<'a>(level: &'a Level, at: Moment<'_>, random: u64) -> Option<&'a Group> {
    if let [only] = level.groups.as_slice() {
        return Some(only);
    }
    let effective = |group: &Group| {
        let all = group.hosts.len() as u64;
        let share = (group.usable(at).count * 140).min(all * 100) / all;
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
    pub(super) fn new(
        policy: Policy,
        hosts: &[HostSpec],
        weight: u32,
        mut members: Vec<usize>,
    ) -> Self {
        members.sort_by_key(|index| !hosts[*index].healthy);
        let n_healthy = members.partition_point(|index| hosts[*index].healthy);
        let able = &members[..n_healthy];
        let equal = members
            .windows(2)
            .all(|pair| hosts[pair[0]].weight == hosts[pair[1]].weight);
        let in_turn = |members: &[usize]| match policy {
            Policy::RoundRobin if !equal && !members.is_empty() => schedule(hosts, members),
            _ => Vec::new(),
        };
        let whole_schedule = match n_healthy < members.len() {
            true => in_turn(&members),
            false => Vec::new(),
        };
        let sums = match policy {
            Policy::Random | Policy::LeastRequest { .. } if !equal => sums(hosts, able),
            _ => Vec::new(),
        };
        let ring = match policy {
            Policy::RingHash { min, max } => ring(hosts, &members, min, max),
            Policy::Maglev { size } => maglev(hosts, &members, size),
            _ => Vec::new(),
        };
        Group {
            weight,
            equal,
            next: AtomicUsize::new(0),
            schedule: in_turn(able),
            whole_schedule,
            ring,
            healthy: Share::of(able.iter().map(|index| &hosts[*index])),
            sums,
            hosts: members,
        }
    }

    /// The hosts that may be used now, where they are not ejected.
    fn able(&self, at: Moment<'_>) -> &[usize] {
        match at.panic {
            true => &self.hosts,
            false => &self.hosts[..self.healthy.count as usize],
        }
    }

    /// The hosts that can be used now.
    pub(super) fn usable(&self, at: Moment<'_>) -> Share {
        if at.is_calm && !at.panic {
            return self.healthy;
        }
        let usable = self.able(at).iter().filter(|index| at.usable(**index));
        Share::of(usable.map(|index| &at.hosts[*index]))
    }

    pub(super) fn in_turn(&self, at: Moment<'_>) -> Option<usize> {
        let schedule = match at.panic && !self.whole_schedule.is_empty() {
            true => &self.whole_schedule,
            false => &self.schedule,
        };
        let order = match schedule.is_empty() {
            true => self.able(at),
            false => schedule,
        };
        for _ in 0..order.len() {
            let turn = self.next.fetch_add(1, Ordering::Relaxed) % order.len();
            if at.usable(order[turn]) {
                return Some(order[turn]);
            }
        }
        None
    }

    pub(super) fn draw(
        &self,
        weights: &Weights<'_>,
        at: Moment<'_>,
        random: &mut dyn FnMut() -> u64,
    ) -> Option<usize> {
        let able = self.able(at);
        // Most of the time the first draw is good, and nothing needs counting.
        if weights.slow_start.is_none() && !able.is_empty() {
            if self.equal {
                let first = able[random() as usize % able.len()];
                if at.usable(first) {
                    return Some(first);
                }
            } else if at.is_calm && !at.panic && !self.sums.is_empty() {
                let drawn = random().checked_rem(self.healthy.weight)?;
                let place = self.sums.partition_point(|(sum, _)| *sum <= drawn);
                return self.sums.get(place).map(|(_, index)| *index);
            }
        }
        let candidates = || able.iter().copied().filter(|index| at.usable(*index));
        let total: u64 = candidates().map(|index| weights.of(index)).sum();
        let mut left = random().checked_rem(total)?;
        candidates().find(|index| {
            let share = weights.of(*index);
            let hit = left < share;
            left = left.saturating_sub(share);
            hit
        })
    }

    pub(super) fn by_hash(&self, hash: u64, at: Moment<'_>) -> Option<usize> {
        let length = self.ring.len();
        let start = self.ring.partition_point(|(point, _)| *point < hash);
        (0..length)
            .map(|step| self.ring[(start + step) % length].1)
            .find(|index| at.usable(*index))
    }
}

/// Hosts, each with the weight of it and of all before it.
fn sums(hosts: &[HostSpec], members: &[usize]) -> Vec<(u64, usize)> {
    let mut sum = 0;
    let with_sum = members.iter().map(|index| {
        sum += u64::from(hosts[*index].weight.max(1));
        (sum, *index)
    });
    with_sum.collect()
}
