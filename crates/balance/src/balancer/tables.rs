//! Orders of hosts that are made once and looked up by each choice: turns by weight, rings of hashes and
//! Maglev's table.

use crate::HostSpec;
use crate::hash::{hash_bytes, mix};

/// Hosts in turn, smoothly by weight, for one full period of at most 1,024 turns.
pub(super) fn schedule(hosts: &[HostSpec], members: &[usize]) -> Vec<usize> {
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
pub(super) fn ring(hosts: &[HostSpec], members: &[usize], min: u32, max: u32) -> Vec<(u64, usize)> {
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
pub(super) fn maglev(hosts: &[HostSpec], members: &[usize], size: u32) -> Vec<(u64, usize)> {
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
