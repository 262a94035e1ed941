use super::*;
use crate::hash::mix;
use crate::{Balancer, Pick};

const NAMES: [&str; 5] = ["r/a/", "r/b/", "r/c/", "r/d/", "r/e/"];

/// So many hosts in each zone.
fn hosts(counts: &[u64]) -> Vec<HostSpec> {
    let zones = counts.iter().zip(NAMES);
    let each = |(count, zone): (&u64, &'static str)| {
        (0..*count).map(move |i| HostSpec {
            locality: (zone.into(), None),
            ..HostSpec::new(&format!("{zone}{i}"))
        })
    };
    zones.flat_map(each).collect()
}

fn peers(own: usize, counts: &[u64]) -> Peers {
    Peers::new(NAMES[own].into(), &hosts(counts))
}

fn always() -> ZoneAware {
    ZoneAware {
        min_hosts: 1,
        ..ZoneAware::default()
    }
}

/// The shares of zones, in thousandths, of what a proxy sends; the last is what went nowhere.
fn shares(spec: ZoneAware, panic: u32, hosts: &[HostSpec], peers: &Peers) -> Vec<u64> {
    const DRAWS: u64 = 20_000;
    let balancer = Balancer::new(Policy::Random, panic, hosts);
    let balancer = balancer.with_zones(Some(spec), Some(peers), hosts);
    let mut seed = 1_u64;
    let mut found = vec![0; NAMES.len() + 1];
    for _ in 0..DRAWS {
        let mut random = || {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            mix(seed)
        };
        let mut pick = Pick {
            now: 1,
            random: &mut random,
            hash: None,
            tried: &[],
            attempts: 1,
            avoid: &[],
        };
        let chosen = balancer.pick(hosts, &mut pick);
        let zone = chosen.map(|index| &hosts[index].locality.0);
        let at = zone.and_then(|zone| NAMES.iter().position(|name| zone == name));
        found[at.unwrap_or(NAMES.len())] += 1;
    }
    found
        .iter()
        .map(|n| (n * 1_000 + DRAWS / 2) / DRAWS)
        .collect()
}

#[track_caller]
fn check(spec: ZoneAware, there: &[u64], peers: &Peers, expect: &[u64]) {
    let found = shares(spec, 50, &hosts(there), peers);
    for (n, found) in found.iter().enumerate() {
        let expect = expect.get(n).copied().unwrap_or(0);
        assert!(found.abs_diff(expect) <= 15, "{found} for {expect} at {n}");
    }
}

#[test]
fn what_fits_stays() {
    // As many here as there: all stays.
    check(always(), &[3, 3], &peers(0, &[2, 2]), &[1000, 0]);
    check(always(), &[3, 3], &peers(1, &[2, 2]), &[0, 1000]);
    // Half of the peers and a quarter of the hosts: half of it stays, the rest goes where there is room.
    check(always(), &[1, 3], &peers(0, &[2, 2]), &[500, 500]);
    check(always(), &[1, 3], &peers(1, &[2, 2]), &[0, 1000]);
    // The only peer.
    check(always(), &[1, 1], &peers(0, &[1]), &[500, 500]);
    // No host here: by the room that is left, where half of the peers keep to b.
    check(always(), &[0, 3, 3], &peers(0, &[2, 2, 0]), &[0, 0, 1000]);
}

#[test]
fn conditions_of_looking_at_zones() {
    let same = peers(0, &[2, 2]);
    check(ZoneAware::default(), &[2, 3], &same, &[400, 600]);
    check(ZoneAware::default(), &[3, 3], &same, &[1000, 0]);
    let never = ZoneAware {
        percent: 0,
        ..always()
    };
    check(never, &[2, 2], &same, &[500, 500]);
    // Not one choice: without a limit of fewer hosts than there are, each would go to the own zone.
    let forced = ZoneAware {
        force: Some(1),
        ..never
    };
    let found = shares(forced, 50, &hosts(&[1, 999]), &same);
    assert!(found[0] <= 2, "{found:?}");
    let half = ZoneAware {
        percent: 50,
        ..always()
    };
    check(half, &[2, 2], &same, &[750, 250]);
    let forced = ZoneAware {
        force: Some(2),
        ..always()
    };
    check(forced, &[2, 6], &same, &[1000, 0]);
    check(forced, &[1, 7], &same, &[250, 750]);
}

#[test]
fn hosts_that_cannot_be_used_do_not_count() {
    let mut there = hosts(&[3, 3]);
    for host in &mut there[..2] {
        host.healthy = false;
    }
    // A quarter of what is left is here, and half of the peers.
    let found = shares(always(), 50, &there, &peers(0, &[2, 2]));
    assert!(found[0].abs_diff(500) <= 15, "{found:?}");
    there[2].healthy = false;
    let found = shares(always(), 50, &there, &peers(0, &[2, 2]));
    assert_eq!(found[..2], [0, 1000]);
}

/// What each zone has is counted when the hosts come, and an ejection changes it.
#[test]
fn ejected_hosts_do_not_count() {
    let there = hosts(&[2, 2]);
    let config = crate::OutlierConfig {
        consecutive_5xx: Some(1),
        ..crate::OutlierConfig::default()
    };
    let balancer = Balancer::new(Policy::Random, 0, &there);
    let balancer = balancer.with_zones(Some(always()), Some(&peers(0, &[2, 2])), &there);
    let mut seed = 1_u64;
    let mut stay = |now| {
        let mut pick = || {
            let mut random = || {
                seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
                mix(seed)
            };
            let mut pick = Pick {
                now,
                random: &mut random,
                hash: None,
                tried: &[],
                attempts: 1,
                avoid: &[],
            };
            balancer.pick(&there, &mut pick)
        };
        (0..3_000)
            .filter(|_| pick().is_some_and(|index| index < 2))
            .count()
    };
    assert_eq!(stay(1), 3_000);
    assert!(balancer.report(&config, &there, 0, crate::Outcome::Status(500), 2));
    // A third of the hosts that are left, and half of the peers.
    assert!(stay(3).abs_diff(2_000) <= 100);
    assert_eq!(stay(40_000), 3_000, "it is over");
}

#[test]
fn where_too_few_are_well() {
    // Without a peer here, nothing is known.
    check(always(), &[2, 2], &peers(0, &[]), &[500, 500]);
    check(always(), &[2, 2], &peers(0, &[0, 3, 3]), &[500, 500]);
    let ill = |n: usize| {
        let mut all = hosts(&[2, 2]);
        for peer in &mut all[..n] {
            peer.healthy = false;
        }
        Peers::new(NAMES[0].into(), &all)
    };
    check(always(), &[2, 2], &ill(1), &[1000, 0]);
    check(always(), &[2, 2], &ill(3), &[500, 500]);
    let strict = ZoneAware {
        fail_on_panic: true,
        ..always()
    };
    check(strict, &[2, 2], &ill(3), &[0, 0, 0, 0, 0, 1000]);
    // Unless nobody asks for some to be well.
    let found = shares(strict, 0, &hosts(&[2, 2]), &ill(4));
    assert_eq!(found[0], 1000);
    let mut there = hosts(&[2, 2]);
    for host in &mut there[..3] {
        host.healthy = false;
    }
    let found = shares(strict, 50, &there, &peers(0, &[1, 1]));
    assert_eq!(found[NAMES.len()], 1000, "none of too few");
    let found = shares(always(), 50, &there, &peers(0, &[1, 1]));
    assert!(found[0].abs_diff(500) <= 15, "all of them: {found:?}");
}

#[test]
fn weights_count_where_that_is_asked_for() {
    let mut there = hosts(&[2, 2]);
    there[0].weight = 5;
    let by_weight = ZoneAware {
        by_weight: true,
        ..always()
    };
    // Three quarters of the weight are here, and nine tenths of the peers.
    let found = shares(by_weight, 50, &there, &peers(0, &[9, 1]));
    assert!(found[0].abs_diff(833) <= 15, "{found:?}");
    let found = shares(always(), 50, &there, &peers(0, &[9, 1]));
    assert!(found[0].abs_diff(555) <= 15, "{found:?}");
}

#[test]
fn hashes_and_weighted_localities_know_no_zones() {
    let there = hosts(&[2, 2]);
    let peers = peers(0, &[1, 1]);
    let zones_of = |policy, hosts: &[HostSpec]| {
        let balancer = Balancer::new(policy, 50, hosts);
        let balancer = balancer.with_zones(Some(always()), Some(&peers), hosts);
        balancer.zones.is_some()
    };
    assert!(zones_of(Policy::RoundRobin, &there));
    assert!(!zones_of(Policy::Maglev { size: 101 }, &there));
    let mut weighted = there.clone();
    weighted[0].locality.1 = Some(1);
    assert!(!zones_of(Policy::RoundRobin, &weighted));
    let mut second = there.clone();
    second.iter_mut().for_each(|host| host.priority = 1);
    assert!(!zones_of(Policy::RoundRobin, &second));
}

/// For many distributions: the peers of all zones together load each host alike, and no zone sends away
/// what it could have kept.
#[test]
fn every_host_gets_the_same() {
    let mut seed = 7_u64;
    let mut below = |n: u64| {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(seed) % n
    };
    for case in 0..60 {
        let n_zones = 2 + below(4) as usize;
        let mut counts = |least| (0..n_zones).map(|_| least + below(6)).collect::<Vec<u64>>();
        let (there, mut here) = (counts(1), counts(0));
        here[0] += 1;
        let (n_there, n_here): (u64, u64) = (there.iter().sum(), here.iter().sum());
        let upstream = hosts(&there);
        let mut load = [0_u64; NAMES.len()];
        for own in (0..n_zones).filter(|own| here[*own] > 0) {
            let sent = shares(always(), 50, &upstream, &peers(own, &here));
            for (load, sent) in load.iter_mut().zip(&sent) {
                *load += sent * here[own];
            }
            let (fits, wants) = (there[own] * n_here, here[own] * n_there);
            let stays = (1_000 * fits / wants).min(1_000);
            assert!(sent[own].abs_diff(stays) <= 20, "{case}: {sent:?} {stays}");
        }
        for (load, count) in load.iter().zip(&there) {
            let (found, fair) = (load / n_here, 1_000 * count / n_there);
            assert!(
                found.abs_diff(fair) <= 20,
                "{case}: {there:?} {here:?} {load}"
            );
        }
    }
}
