//! The clusters that a request may go to, and their hosts.

use std::sync::PoisonError;

use lateen_balance::{Balancer, HostSpec, Pick};
use lateen_decode::{Discovery, TransportSpec};
use lateen_pilot::Origin;
use lateen_route::Target;

use super::Asker;
use crate::answer::{Cluster, Host};
use crate::served::{address, host};

/// How often a host is drawn to tell the shares of hosts.
const DRAWS: u64 = 1_000;

impl Asker<'_> {
    /// Those that a rule leads to, with the field of each destination of it.
    pub(super) fn clusters(
        &self,
        target: &Target,
        destination: impl Fn(usize) -> Option<Origin>,
    ) -> Vec<Cluster> {
        let destination = |n: usize| destination(n).map(|origin| self.behind.source(&origin));
        match target {
            Target::Cluster(name) => vec![Cluster {
                destination: destination(0),
                ..self.cluster(name, 100.0)
            }],
            Target::Header(name) => {
                let named = self.call.headers.iter().find(|(key, _)| key == name);
                let named = named.map_or("", |(_, value)| value.as_str());
                vec![self.cluster(named, 100.0)]
            }
            Target::Weighted(list) => {
                let total: u32 = list.clusters().iter().map(|cluster| cluster.weight).sum();
                let shares = list.clusters().iter().enumerate().map(|(n, cluster)| {
                    let percent = f64::from(cluster.weight) * 100.0 / f64::from(total.max(1));
                    Cluster {
                        destination: destination(n),
                        ..self.cluster(&cluster.cluster, percent)
                    }
                });
                shares.filter(|cluster| cluster.percent > 0.0).collect()
            }
        }
    }

    pub(super) fn cluster(&self, name: &str, percent: f64) -> Cluster {
        let mut told = Cluster {
            name: name.to_owned(),
            percent,
            ..Cluster::default()
        };
        let Some(served) = self.served.clusters.get(name) else {
            return told;
        };
        let spec = &served.spec;
        told.known = true;
        self.trace(&served.config, &mut told);
        told.policy = format!("{:?}", spec.policy);
        let endpoints = match &spec.discovery {
            Discovery::Static(list) => list.as_slice(),
            Discovery::Eds(service) => {
                let found = self.served.endpoints.get(service.as_str());
                found.map_or(&[][..], Vec::as_slice)
            }
            Discovery::Dns(dns) => {
                told.hosts_from = "names that are resolved".to_owned();
                dns.endpoints.as_slice()
            }
            Discovery::Dynamic(_) => {
                told.hosts_from = "the name that the client gives".to_owned();
                &[]
            }
            Discovery::OriginalDst { .. } => {
                told.hosts_from = "the destination of the connection".to_owned();
                &[]
            }
        };
        let mut tls: Vec<String> = if endpoints.is_empty() {
            vec![security(&spec.transports[0])]
        } else {
            let of = endpoints.iter().map(|endpoint| {
                let transport = spec.transport_for(&endpoint.spec.socket_match);
                security(&spec.transports[transport])
            });
            of.collect()
        };
        tls.sort();
        tls.dedup();
        told.tls = tls;
        let hosts = endpoints.iter().map(|of| host(of, spec.locality_weighted));
        let hosts: Vec<HostSpec> = hosts.collect();
        let drawn = self.served.drawn.lock();
        let mut drawn = drawn.unwrap_or_else(PoisonError::into_inner);
        let shares = drawn.entry(name.to_owned()).or_insert_with(|| {
            let balancer = Balancer::new(spec.policy, spec.panic_percent, &hosts);
            let balancer = balancer.with_zones(spec.zones, self.served.peers().as_ref(), &hosts);
            shares(&balancer, &hosts).into()
        });
        told.hosts = endpoints
            .iter()
            .zip(shares.iter().copied())
            .map(|(endpoint, percent)| Host {
                address: address(endpoint),
                workload: endpoint
                    .spec
                    .workload
                    .as_ref()
                    .map_or_else(String::new, |workload| {
                        format!("{}.{}", workload.name, workload.namespace)
                    }),
                percent,
            })
            .collect();
        told
    }

    /// What the cluster was made of.
    fn trace(&self, config: &str, told: &mut Cluster) {
        let behind = self.behind;
        let traced = behind.offline.and_then(|of| of.trace_cluster(&told.name));
        let Some(trace) = traced else {
            told.from.extend(behind.named(config));
            return;
        };
        let source = |origin: &Origin| behind.source(origin);
        told.service = trace.service.as_ref().map(source);
        told.seen_by = trace.seen_by.as_ref().map(source);
        told.subset = trace.subset.as_ref().map(source);
        if let Some((_, place)) = trace.rules.first() {
            told.found_in = (*place).to_owned();
        }
        let rules = trace.rules.into_iter();
        told.from = rules.map(|(rule, _)| behind.whole(rule)).collect();
        let settings = trace.settings.iter();
        told.said = settings.map(|(what, by)| behind.said(what, by)).collect();
    }
}

fn security(transport: &TransportSpec) -> String {
    match transport {
        TransportSpec::Raw => "plain text".to_owned(),
        TransportSpec::Proxied(_, inner) => format!("a PROXY header, then {}", security(inner)),
        TransportSpec::Tls(tls) if tls.alpn.iter().any(|name| name == "istio") => {
            "mutual TLS of the mesh".to_owned()
        }
        TransportSpec::Tls(tls) => {
            let mutual = if tls.certs.is_empty() {
                "TLS"
            } else {
                "mutual TLS"
            };
            match &tls.sni {
                Some(sni) => format!("{mutual} for {sni}"),
                None => mutual.to_owned(),
            }
        }
    }
}

/// Draws many times, evenly.
fn shares(balancer: &Balancer, hosts: &[HostSpec]) -> Vec<f64> {
    let mut counts = vec![0u64; hosts.len()];
    let mut state = 0u64;
    let mut random = || {
        // Numbers that are spread evenly and the same in each run (Weyl's sequence, mixed).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 32)
    };
    for _ in 0..DRAWS {
        let hash = Some(random());
        let mut pick = Pick {
            now: 0,
            random: &mut random,
            hash,
            tried: &[],
            attempts: 1,
            avoid: &[],
        };
        if let Some(index) = balancer.pick(hosts, &mut pick) {
            counts[index] += 1;
        }
    }
    let percent = |count: &u64| *count as f64 * 100.0 / DRAWS as f64;
    counts.iter().map(percent).collect()
}
