//! What one choice costs by the number of hosts: `cargo bench -p lateen-balance`.

use divan::{Bencher, black_box};
use lateen_balance::{
    Balancer, HostSpec, Outcome, OutlierConfig, Peers, Pick, Policy, ZoneAware, hash_bytes,
};

const HOSTS: [usize; 3] = [10, 1_000, 10_000];
const ZONES: [&str; 3] = ["r/a/", "r/b/", "r/c/"];

fn main() {
    divan::main();
}

fn hosts(n: usize, weights: u32) -> Vec<HostSpec> {
    let host = |i: usize| HostSpec {
        weight: 1 + i as u32 % weights,
        locality: (ZONES[i % ZONES.len()].into(), None),
        ..HostSpec::new(&format!("10.0.0.{i}:80"))
    };
    (0..n).map(host).collect()
}

fn pick(bencher: Bencher<'_, '_>, balancer: &Balancer, hosts: &[HostSpec]) {
    let mut seed = 1_u64;
    bencher.bench_local(|| {
        let mut random = || {
            seed += 1;
            hash_bytes(&seed.to_le_bytes())
        };
        let mut pick = Pick {
            now: 1,
            random: &mut random,
            hash: None,
            tried: &[],
            attempts: 1,
            avoid: &[],
        };
        black_box(balancer.pick(hosts, &mut pick))
    });
}

#[divan::bench(args = HOSTS)]
fn least_request(bencher: Bencher<'_, '_>, n: usize) {
    let hosts = hosts(n, 1);
    let balancer = Balancer::new(Policy::LeastRequest { choices: 2 }, 50, &hosts);
    pick(bencher, &balancer, &hosts);
}

#[divan::bench(args = HOSTS)]
fn weights(bencher: Bencher<'_, '_>, n: usize) {
    let hosts = hosts(n, 3);
    let balancer = Balancer::new(Policy::LeastRequest { choices: 2 }, 50, &hosts);
    pick(bencher, &balancer, &hosts);
}

fn zoned(hosts: &[HostSpec]) -> Balancer {
    let peers = Peers::new(ZONES[0].into(), hosts);
    let balancer = Balancer::new(Policy::LeastRequest { choices: 2 }, 50, hosts);
    balancer.with_zones(Some(ZoneAware::default()), Some(&peers), hosts)
}

#[divan::bench(args = HOSTS)]
fn zones(bencher: Bencher<'_, '_>, n: usize) {
    let hosts = hosts(n, 1);
    pick(bencher, &zoned(&hosts), &hosts);
}

#[divan::bench(args = HOSTS)]
fn zones_while_a_host_is_ejected(bencher: Bencher<'_, '_>, n: usize) {
    let hosts = hosts(n, 1);
    let balancer = zoned(&hosts);
    let config = OutlierConfig {
        consecutive_5xx: Some(1),
        ..OutlierConfig::default()
    };
    balancer.report(&config, &hosts, 0, Outcome::Status(500), 1);
    pick(bencher, &balancer, &hosts);
}
