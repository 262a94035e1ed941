//! Zone-aware routing: as much as possible stays in the proxy's own zone, while every host of the
//! cluster is to get as much as any other.
//!
//! Each proxy decides for itself, by two distributions over the zones: that of its peers (the hosts of
//! its own service, which send as much as it does) and that of the cluster's hosts. A zone with no
//! smaller share of the hosts than of the peers keeps all that its peers send. One with less keeps what
//! its hosts can take, and the rest goes to zones that have room, in the measure of it. Envoy's rules,
//! and its arithmetic in hundredths of a percent.

use arcstr::ArcStr;

use super::group::{Group, Share};
use super::{Moment, Policy};
use crate::HostSpec;

/// All of a distribution.
const WHOLE: u64 = 10_000;

/// When a cluster looks at zones. The default is Envoy's for clusters that say nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ZoneAware {
    /// The share of choices that do, in percent.
    pub percent: u32,
    /// With fewer hosts that can be used, none does.
    pub min_hosts: u64,
    /// With so many of them in the own zone, everything goes there.
    pub force: Option<u64>,
    /// Weights of hosts count, not their number.
    pub by_weight: bool,
    /// Where too few hosts can be used, or too few peers are well, there is no choice.
    pub fail_on_panic: bool,
}

impl Default for ZoneAware {
    fn default() -> Self {
        ZoneAware {
            percent: 100,
            min_hosts: 6,
            force: None,
            by_weight: false,
            fail_on_panic: false,
        }
    }
}

/// The hosts of the proxy's own service, by zone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peers {
    own: ArcStr,
    /// The number of those that are well, and their weight; zones where none is well as well.
    zones: Vec<(ArcStr, u64, u64)>,
    n_well: u64,
    n_all: u64,
}

impl Peers {
    /// Counts the peers of a proxy in that zone.
    pub fn new(own: ArcStr, hosts: &[HostSpec]) -> Self {
        let mut peers = Peers {
            own,
            n_all: hosts.len() as u64,
            ..Peers::default()
        };
        for host in hosts {
            let zone = &host.locality.0;
            let (count, weight) = match host.healthy {
                true => (1, u64::from(host.weight.max(1))),
                false => (0, 0),
            };
            peers.n_well += count;
            match peers.zones.iter_mut().find(|(known, ..)| known == zone) {
                Some((_, n, total)) => {
                    *n += count;
                    *total += weight;
                }
                None => peers.zones.push((zone.clone(), count, weight)),
            }
        }
        peers.zones.sort();
        peers
    }

    /// The share of a zone, of [`WHOLE`].
    fn share(&self, zone: &ArcStr, by_weight: bool) -> u64 {
        let measure = |(_, count, weight): &(ArcStr, u64, u64)| match by_weight {
            true => *weight,
            false => *count,
        };
        let total: u64 = self.zones.iter().map(measure).sum();
        let own = self.zones.iter().find(|(known, ..)| known == zone);
        let part = WHOLE * own.map_or(0, measure);
        part.checked_div(total).unwrap_or(0)
    }

    /// Whether too few are well.
    fn panic(&self, panic_percent: u32) -> bool {
        let well = (self.n_well * 100).checked_div(self.n_all).unwrap_or(0);
        well < u64::from(panic_percent.min(100))
    }
}

/// The hosts of the first priority by zone, the proxy's own first where it has hosts.
#[derive(Debug)]
pub(super) struct Zones {
    spec: ZoneAware,
    zones: Vec<Zone>,
    has_own: bool,
    peers_panic: bool,
    /// What each zone has while no host is ejected.
    calm: Vec<Share>,
}

#[derive(Debug)]
struct Zone {
    group: Group,
    /// The share of the peers that are here.
    peers: u64,
}

/// Where a choice is to be made.
#[derive(Debug)]
pub(super) enum Choice<'a> {
    /// Among all hosts.
    All,
    /// Among those of a zone.
    Zone(&'a Group),
    /// Nowhere.
    Nowhere,
}

impl Zones {
    /// `None` where the members are all in one zone, or no peer is in the own one, which says that the
    /// peers are not those of this proxy.
    pub(super) fn new(
        spec: ZoneAware,
        policy: Policy,
        panic_percent: u32,
        peers: &Peers,
        hosts: &[HostSpec],
        members: &[usize],
    ) -> Option<Zones> {
        let mut names: Vec<&ArcStr> = members.iter().map(|i| &hosts[*i].locality.0).collect();
        // The own one is less than any other.
        names.sort_by_key(|name| (**name != peers.own, *name));
        names.dedup();
        let mut known = peers.zones.iter();
        if names.len() < 2 || !known.any(|(zone, ..)| *zone == peers.own) {
            return None;
        }
        let zone = |name: &&ArcStr| {
            let here = members.iter().copied();
            let here = here.filter(|i| hosts[*i].locality.0 == **name);
            Zone {
                group: Group::new(policy, hosts, 1, here.collect()),
                peers: peers.share(name, spec.by_weight),
            }
        };
        let zones: Vec<Zone> = names.iter().map(zone).collect();
        Some(Zones {
            spec,
            calm: zones.iter().map(|zone| zone.group.healthy).collect(),
            zones,
            has_own: *names[0] == peers.own,
            peers_panic: peers.panic(panic_percent),
        })
    }

    /// Where one choice is made. Hosts that cannot be used count for nothing.
    pub(super) fn choose(&self, at: Moment<'_>, random: &mut dyn FnMut() -> u64) -> Choice<'_> {
        let counted: Vec<Share>;
        let shares = match at.is_calm {
            true => &self.calm,
            false => {
                counted = self
                    .zones
                    .iter()
                    .map(|zone| zone.group.usable(at))
                    .collect();
                &counted
            }
        };
        let all = shares
            .iter()
            .fold(Share::default(), |all, one| all.and(*one));
        if all.count < self.spec.min_hosts || random() % 100 >= u64::from(self.spec.percent) {
            return Choice::All;
        }
        if self.peers_panic {
            return match self.spec.fail_on_panic {
                true => Choice::Nowhere,
                false => Choice::All,
            };
        }
        let part = |of: &Share| {
            let (part, total) = match self.spec.by_weight {
                true => (of.weight, all.weight),
                false => (of.count, all.count),
            };
            (WHOLE * part).checked_div(total).unwrap_or(0)
        };
        let mut zones = self.zones.iter().zip(shares);
        let own = if self.has_own { zones.next() } else { None };
        if let Some((own, there)) = own {
            let here = part(there);
            let is_forced = self.spec.force.is_some_and(|least| there.count >= least);
            if is_forced || (here > 0 && here >= own.peers) {
                return Choice::Zone(&own.group);
            }
            let stays = (here * WHOLE).checked_div(own.peers).unwrap_or(0);
            if random() % WHOLE < stays {
                return Choice::Zone(&own.group);
            }
        }
        let room = |(zone, there): (&Zone, &Share)| part(there).saturating_sub(zone.peers);
        // What rounding leaves over goes anywhere.
        let Some(mut left) = random().checked_rem(zones.clone().map(room).sum()) else {
            return Choice::All;
        };
        let found = zones.find(|zone| {
            let room = room(*zone);
            let hit = left < room;
            left = left.saturating_sub(room);
            hit
        });
        found.map_or(Choice::All, |(zone, _)| Choice::Zone(&zone.group))
    }
}

#[cfg(test)]
mod tests;
