use std::sync::atomic::Ordering;

use super::*;
use crate::hash::hash_bytes;
use crate::{HostState, Outcome, OutlierConfig};

fn hosts(weights: &[u32]) -> Vec<HostSpec> {
    let host = |(i, weight): (usize, &u32)| HostSpec {
        weight: *weight,
        ..HostSpec::new(&format!("10.0.0.{i}:80"))
    };
    weights.iter().enumerate().map(host).collect()
}

fn counts(policy: Policy, hosts: &[HostSpec], times: usize) -> Vec<usize> {
    let balancer = Balancer::new(policy, 0, hosts);
    let mut seed = 1_u64;
    let mut counts = vec![0; hosts.len()];
    for _ in 0..times {
        let mut random = || {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            crate::hash::mix(seed)
        };
        let mut pick = Pick {
            now: 1,
            random: &mut random,
            hash: None,
            tried: &[],
            attempts: 1,
            avoid: &[],
        };
        counts[balancer.pick(hosts, &mut pick).expect("a host")] += 1;
    }
    counts
}

#[test]
fn weights_are_kept() {
    let check = |policy, weights: &[u32], expect: &[usize], slack: usize| {
        let counts = counts(policy, &hosts(weights), 10_000);
        for (count, expect) in counts.iter().zip(expect) {
            assert!(count.abs_diff(*expect) <= slack, "{policy:?} {counts:?}");
        }
    };
    check(Policy::RoundRobin, &[1, 1, 1, 1], &[2500; 4], 0);
    check(Policy::RoundRobin, &[90, 10], &[9000, 1000], 0);
    check(Policy::Random, &[3, 1], &[7500, 2500], 250);
    check(
        Policy::LeastRequest { choices: 2 },
        &[1, 1],
        &[5000, 5000],
        250,
    );
    check(
        Policy::RingHash {
            min: 1024,
            max: 8_388_608,
        },
        &[1, 1],
        &[5000, 5000],
        700,
    );
    check(Policy::Maglev { size: 65_537 }, &[3, 1], &[7500, 2500], 300);
}

/// Those that are not healthy are not walked over, so that their neighbours do not get their share.
#[test]
fn what_is_not_healthy_leaves_its_share_to_all() {
    for policy in [
        Policy::RoundRobin,
        Policy::Random,
        Policy::LeastRequest { choices: 2 },
    ] {
        for (weights, expect) in [
            ([1; 6], [2500; 4]),
            ([3, 3, 3, 1, 1, 1], [3750, 3750, 1250, 1250]),
        ] {
            // Of two, the heavier one is the less busy one.
            if weights[0] != weights[5] && matches!(policy, Policy::LeastRequest { .. }) {
                continue;
            }
            let mut hosts = hosts(&weights);
            for index in [1, 5] {
                hosts[index].healthy = false;
            }
            let counts = counts(policy, &hosts, 10_000);
            let slack = if policy == Policy::RoundRobin { 4 } else { 300 };
            for (index, expect) in [0, 2, 3, 4].into_iter().zip(expect) {
                assert!(
                    counts[index].abs_diff(expect) <= slack,
                    "{policy:?} {weights:?} {counts:?}"
                );
            }
            assert_eq!(counts[1] + counts[5], 0, "{policy:?} {counts:?}");
        }
    }
}

#[test]
fn the_busy_host_gets_less() {
    let hosts = hosts(&[1, 1]);
    hosts[0].state.active.store(10, Ordering::Relaxed);
    let counts = counts(Policy::LeastRequest { choices: 2 }, &hosts, 1000);
    assert!(counts[0] < 300, "{counts:?}");
}

#[test]
fn a_hash_stays_with_its_host_when_another_goes() {
    let all = hosts(&[1, 1, 1, 1]);
    for policy in [
        Policy::RingHash {
            min: 1024,
            max: 8192,
        },
        Policy::Maglev { size: 65_537 },
    ] {
        let of = |hosts: &[HostSpec], hash| {
            let mut random = || 7;
            let mut pick = Pick {
                now: 1,
                random: &mut random,
                hash: Some(hash),
                tried: &[],
                attempts: 1,
                avoid: &[],
            };
            let index = Balancer::new(policy, 0, hosts)
                .pick(hosts, &mut pick)
                .expect("a host");
            hosts[index].key.clone()
        };
        let moved = (0..50)
            .map(|i| hash_bytes(format!("user{i}").as_bytes()))
            .filter(|hash| {
                let before = of(&all, *hash);
                before != all[3].key && of(&all[..3], *hash) != before
            })
            .count();
        assert!(moved <= 12, "{policy:?} moved {moved}");
    }
}

#[test]
fn ejected_and_unhealthy_hosts_are_left_out() {
    let mut all = hosts(&[1, 1, 1]);
    all[0].healthy = false;
    let config = OutlierConfig {
        consecutive_5xx: Some(1),
        ..OutlierConfig::default()
    };
    let before = Balancer::new(Policy::RoundRobin, 0, &all);
    assert!(before.report(&config, &all, 1, Outcome::Status(500), 1));
    assert_eq!(counts(Policy::RoundRobin, &all, 10), [0, 0, 10]);
    all[2].healthy = false;
    let balancer = Balancer::new(Policy::RoundRobin, 0, &all);
    let mut random = || 0;
    let mut pick = Pick {
        now: 1,
        random: &mut random,
        hash: None,
        tried: &[],
        attempts: 1,
        avoid: &[],
    };
    assert_eq!(balancer.pick(&all, &mut pick), None);
    let panicking = Balancer::new(Policy::RoundRobin, 50, &all);
    assert!(panicking.pick(&all, &mut pick).is_some());
}

/// What a choice looks up was counted when the hosts came, and an ejection since then changes it, by
/// whichever balancer it was reported.
#[test]
fn an_ejection_is_known_to_all_balancers_of_a_cluster() {
    let mut all = hosts(&[5, 2, 1]);
    all[1].healthy = false;
    let config = OutlierConfig {
        consecutive_5xx: Some(1),
        ..OutlierConfig::default()
    };
    for policy in [Policy::Random, Policy::LeastRequest { choices: 2 }] {
        let mut hosts = all.clone();
        for host in &mut hosts {
            host.state = Arc::default();
        }
        let older = Balancer::new(policy, 0, &hosts);
        let newer = Balancer::new(policy, 0, &hosts).after(Some(&older));
        let picked = |now| {
            let mut drawn = 0;
            let mut random = || {
                drawn += 1;
                drawn
            };
            let mut pick = Pick {
                now,
                random: &mut random,
                hash: None,
                tried: &[],
                attempts: 1,
                avoid: &[],
            };
            newer.pick(&hosts, &mut pick)
        };
        assert_eq!(picked(1), Some(0), "{policy:?}");
        assert!(older.report(&config, &hosts, 0, Outcome::Status(500), 2));
        assert_eq!(picked(3), Some(2), "{policy:?}");
        assert_eq!(picked(40_000), Some(0), "{policy:?}: it is over");
    }
}

#[test]
fn the_second_priority_takes_over() {
    let mut all = hosts(&[1, 1]);
    all[1].priority = 1;
    assert_eq!(counts(Policy::RoundRobin, &all, 10), [10, 0]);
    all[0].healthy = false;
    assert_eq!(counts(Policy::RoundRobin, &all, 10), [0, 10]);
}

#[test]
fn another_host_is_tried() {
    let all = hosts(&[1, 1]);
    let balancer = Balancer::new(Policy::RoundRobin, 0, &all);
    let mut random = || 0;
    let mut pick = Pick {
        now: 1,
        random: &mut random,
        hash: None,
        tried: &[0],
        attempts: 5,
        avoid: &[],
    };
    assert_eq!(balancer.pick(&all, &mut pick), Some(1));
}

#[test]
fn a_new_host_gets_less_at_first() {
    let window = SlowStart {
        window: 60_000,
        aggression: 1.0,
        min_percent: 10.0,
    };
    let mut hosts = hosts(&[1, 1]);
    hosts[1].state = Arc::new(HostState::arrived(10_000));
    for policy in [Policy::RoundRobin, Policy::LeastRequest { choices: 2 }] {
        let balancer = Balancer::new(policy, 0, &hosts).with_slow_start(Some(window), &hosts);
        let share = |now: u64| {
            let mut seed = 1_u64;
            let mut count = 0;
            for _ in 0..10_000 {
                let mut random = || {
                    seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
                    crate::hash::mix(seed)
                };
                let mut pick = Pick {
                    now,
                    random: &mut random,
                    hash: None,
                    tried: &[],
                    attempts: 1,
                    avoid: &[],
                };
                count += balancer.pick(&hosts, &mut pick).expect("a host");
            }
            count
        };
        let (young, half, grown) = (share(10_001), share(40_000), share(70_000));
        // A tenth against a whole is one in eleven; the least busy of two draws is rarer still.
        assert!((5..=1_100).contains(&young), "{policy:?} {young}");
        assert!(young < half && half < 4_000, "{policy:?} {young} {half}");
        assert!(grown.abs_diff(5_000) < 250, "{policy:?} {grown}");
    }
}

#[test]
fn priorities_that_were_tried_are_passed_over() {
    let mut all = hosts(&[1, 1, 1]);
    all[1].priority = 1;
    all[2].priority = 2;
    let picked = |hosts: &[HostSpec], avoid: &[u32]| {
        let balancer = Balancer::new(Policy::RoundRobin, 0, hosts);
        let mut random = || 3;
        let mut pick = Pick {
            now: 1,
            random: &mut random,
            hash: None,
            tried: &[],
            attempts: 1,
            avoid,
        };
        balancer.pick(hosts, &mut pick)
    };
    assert_eq!(picked(&all, &[]), Some(0));
    assert_eq!(picked(&all, &[0]), Some(1));
    assert_eq!(picked(&all, &[0, 1]), Some(2));
    // Where there is nothing else, priorities count as ever.
    assert_eq!(picked(&all, &[0, 1, 2]), Some(0));
    all[1].healthy = false;
    assert_eq!(picked(&all, &[0]), Some(2));
}
