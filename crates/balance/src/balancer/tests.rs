use std::sync::atomic::Ordering;

use super::*;
use crate::{Outcome, OutlierConfig, report};

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
    assert!(report(&config, &all, 1, Outcome::Status(500), 1));
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
    };
    assert_eq!(balancer.pick(&all, &mut pick), None);
    let panicking = Balancer::new(Policy::RoundRobin, 50, &all);
    assert!(panicking.pick(&all, &mut pick).is_some());
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
    };
    assert_eq!(balancer.pick(&all, &mut pick), Some(1));
}
