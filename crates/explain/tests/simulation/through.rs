//! The cases of a configuration, through a proxy.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use lateen_explain::{Explanation, Outcome};
use lateen_testkit::Network;
use lateen_tls::Authority;

use crate::backend::{Backends, DAY, listen, serve_names};
use crate::client::Client;
use crate::compare::Comparison;
use crate::proxies::{Kind, Proxy};
use crate::table::{Asked, Case, Group};

/// Runs what a proxy can run, and tells what was not as the table says.
pub(crate) fn run(kind: &Kind, group: &Group) -> Vec<String> {
    let mut by_proxy: BTreeMap<&str, Vec<(&Case, Asked)>> = BTreeMap::new();
    let mut faults = Vec::new();
    for case in group.cases.iter().filter(|case| case.route_only.is_none()) {
        match group.ask(case) {
            Ok(asked) => by_proxy.entry(case.who()).or_default().push((case, asked)),
            Err(fault) => faults.push(format!("{}: {fault}", case.name)),
        }
    }
    for (who, cases) in by_proxy {
        let address = cases[0].1.caller.address();
        let work = |network: &Network| at_proxy(kind, group, &cases, network);
        match Network::of_pod(address, work) {
            Ok(found) => faults.extend(found),
            Err(fault) => faults.push(format!("{who}: {fault}")),
        }
    }
    faults
}

/// In the pod's network: captures, starts everything, and calls.
fn at_proxy(
    kind: &Kind,
    group: &Group,
    cases: &[(&Case, Asked)],
    network: &Network,
) -> Result<Vec<String>, String> {
    let caller = &cases[0].1.caller;
    let is_gateway = caller.proxy.is_router();
    if !is_gateway {
        let config = lateen_capture::Config::default();
        lateen_capture::apply(&config).map_err(|error| error.to_string())?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let authority = Authority::self_signed("simulation", DAY).expect("a root");
        let authority = Arc::new(authority);
        let world = &group.platform.world;
        let backends = Backends::new(world.clone(), authority.clone());
        serve_names(network);
        for port in outside_ports(group, cases) {
            for listener in network.outside(|| listen(port)) {
                backends.serve(listener);
            }
        }
        for port in own_ports(cases) {
            for listener in listen(port) {
                backends.serve(listener);
            }
        }
        let proxy = Proxy::start(kind, &group.platform, caller, &authority).await?;
        let mut faults = Vec::new();
        for (case, asked) in cases {
            let client = Client {
                network,
                authority: &authority,
                outside: is_gateway || case.is_inbound(),
                shown: case.shown(),
            };
            let comparison = Comparison {
                case,
                asked,
                client,
                proxy: &proxy,
                backends: &backends,
                world,
            };
            if let Err(fault) = comparison.run().await {
                faults.push(format!("{}: {fault}\n{}", case.name, asked.told));
            }
        }
        if !faults.is_empty() {
            faults.push(proxy.log());
        }
        proxy.stop().await;
        Ok(faults)
    })
}

/// Ports on which somebody outside listens: those of all endpoints and of all calls.
fn outside_ports(group: &Group, cases: &[(&Case, Asked)]) -> BTreeSet<u16> {
    let endpoints = group.platform.world.endpoints.values();
    let of_endpoints = endpoints.flat_map(|list| list.iter().map(|endpoint| endpoint.port));
    let of_calls = cases
        .iter()
        .filter(|(case, _)| !case.is_inbound())
        .map(|(_, asked)| asked.call.destination.port());
    let hosts = cases.iter().flat_map(|(_, asked)| hosts(&asked.told));
    let mut ports: BTreeSet<u16> = of_endpoints.chain(of_calls).collect();
    ports.extend(hosts.map(|address| address.port()));
    ports
}

/// Ports of the workload itself.
fn own_ports(cases: &[(&Case, Asked)]) -> BTreeSet<u16> {
    let inbound = cases.iter().filter(|(case, _)| case.is_inbound());
    let ports = inbound.flat_map(|(_, asked)| {
        let own = hosts(&asked.told).map(|address| address.port());
        own.chain([asked.call.destination.port()])
    });
    ports.collect()
}

fn hosts(told: &Explanation) -> impl Iterator<Item = SocketAddr> {
    let clusters = match &told.outcome {
        Outcome::Forward(to) => to.clusters.as_slice(),
        _ => &[],
    };
    let hosts = clusters.iter().flat_map(|cluster| &cluster.hosts);
    hosts.filter_map(|host| host.address.parse().ok())
}
