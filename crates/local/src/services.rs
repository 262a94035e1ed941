//! Service addresses: connections to them are translated to a pod of the service, by rules in the
//! node's network namespace.
//!
//! The whole table is replaced in one transaction at each change. Connections that are open keep
//! their translation, which the kernel tracks by connection. Session affinity is not supported.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use kube::Client;
use lateen_capture::nft::{
    Batch, Chain, ChainType, Family, Hook, L4, Rule, Table, Verdict, priority,
};
use lateen_core::Backoff;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::cluster::{self, ClusterService, Services};
use crate::net::LocalRoutes;

/// The table's name in the node's namespace.
const TABLE: &str = "lateen-services";
/// Where connections to service addresses are looked up.
const LOOKUP: &str = "services";
/// Where a pod that reaches itself through a service is given another source.
const HAIRPIN: &str = "hairpin";

/// Keeps the rules equal to the services until told to stop.
pub(crate) async fn run(
    client: Client,
    node: IpAddr,
    mut routes: LocalRoutes,
    shutdown: CancellationToken,
) {
    let mut services_rx = cluster::follow(&client);
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        let services = services_rx.borrow_and_update().clone();
        // Before there is a route to an address, nothing on the node can be translated.
        let routed = routes.keep(&external_addresses(&services)).await;
        let written = write(services, node).await;
        let written = routed.map_err(|error| error.to_string()).and(written);
        let retry = written.is_err();
        match written {
            Ok(()) => backoff.reset(),
            Err(error) => warn!(
                error,
                "services cannot be reached by their addresses; trying again"
            ),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = services_rx.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(backoff.next_delay()), if retry => {}
        }
    }
}

/// What users named as addresses of their own.
fn external_addresses(services: &Services) -> BTreeSet<Ipv4Addr> {
    let all = services.values().flat_map(|service| &service.external);
    all.filter_map(|ip| match ip {
        IpAddr::V4(ip) => Some(*ip),
        IpAddr::V6(_) => None,
    })
    .collect()
}

async fn write(services: Arc<Services>, node: IpAddr) -> Result<(), String> {
    let commit = move || {
        let table = table(&services, node);
        Batch::new()
            .replace(&table)
            .commit()
            .map_err(|error| error.to_string())
    };
    // A netlink transaction waits for the kernel's answer.
    tokio::task::spawn_blocking(commit)
        .await
        .map_err(|error| error.to_string())?
}

/// One port of one service, reachable at some addresses.
struct Target<'a> {
    chain: String,
    protocol: L4,
    service: &'a ClusterService,
    port: u16,
    node_port: Option<u16>,
    backends: Vec<(IpAddr, u16)>,
}

fn table(services: &Services, node: IpAddr) -> Table {
    let mut table = Table::new(Family::Ip, TABLE);
    table.add_chain(Chain::regular(LOOKUP));
    for (name, hook) in [("prerouting", Hook::Prerouting), ("output", Hook::Output)] {
        table.add_chain(Chain::base(name, ChainType::Nat, hook, priority::DSTNAT));
        table.add_rule(name, Rule::new().jump(LOOKUP));
    }
    table.add_chain(Chain::base(
        HAIRPIN,
        ChainType::Nat,
        Hook::Postrouting,
        priority::SRCNAT,
    ));
    let targets: Vec<_> = services.values().flat_map(targets).collect();
    for target in &targets {
        add(&mut table, target);
        let own = target
            .service
            .addresses
            .iter()
            .chain(&target.service.balanced);
        lookup(&mut table, target, own.map(|ip| (*ip, target.port)));
        lookup(
            &mut table,
            target,
            target.node_port.map(|port| (node, port)),
        );
    }
    // Nobody takes over another service's address by naming it, whatever ports that one has and whether
    // or not it has backends.
    let given = services.values();
    let given = given.flat_map(|service| service.addresses.iter().chain(&service.balanced));
    let given: BTreeSet<IpAddr> = given.copied().collect();
    for target in &targets {
        let external = target.service.external.iter();
        let external = external.filter(|ip| !given.contains(ip));
        lookup(&mut table, target, external.map(|ip| (*ip, target.port)));
    }
    table
}

/// Leads connections to these addresses to the target.
fn lookup(table: &mut Table, target: &Target<'_>, at: impl IntoIterator<Item = (IpAddr, u16)>) {
    for (ip, port) in at.into_iter().filter(|(ip, _)| ip.is_ipv4()) {
        table.add_rule(
            LOOKUP,
            Rule::new()
                .daddr(ip)
                .dport(target.protocol, port)
                .jump(&target.chain),
        );
    }
}

fn targets(service: &ClusterService) -> Vec<Target<'_>> {
    let mut targets = Vec::new();
    for (index, port) in service.ports.iter().enumerate() {
        let protocol = match port.protocol.as_deref().unwrap_or("TCP") {
            "TCP" => L4::Tcp,
            "UDP" => L4::Udp,
            // Nothing of the platform speaks SCTP.
            _ => continue,
        };
        let Ok(number) = u16::try_from(port.port) else {
            continue;
        };
        let mut backends = service.backends(port);
        backends.retain(|(ip, _)| ip.is_ipv4());
        // Without a pod there is nothing to translate to: the address is the node's, where nobody
        // listens, and clients are told at once. A service without selector may be the platform's own listener.
        if backends.is_empty() {
            continue;
        }
        targets.push(Target {
            chain: format!("{}/{}/{index}", service.namespace, service.name),
            protocol,
            service,
            port: number,
            node_port: port.node_port.and_then(|port| u16::try_from(port).ok()),
            backends,
        });
    }
    targets
}

/// Chooses one of the target's backends.
fn add(table: &mut Table, target: &Target<'_>) {
    table.add_chain(Chain::regular(&target.chain));
    let mut verdicts = Vec::new();
    for (index, (ip, port)) in target.backends.iter().enumerate() {
        let chain = format!("{}/{index}", target.chain);
        table.add_chain(Chain::regular(&chain));
        table.add_rule(
            &chain,
            Rule::new()
                .l4proto(target.protocol)
                .dnat((*ip, *port).into()),
        );
        verdicts.push(Verdict::Goto(chain));
        table.add_rule(
            HAIRPIN,
            Rule::new()
                .saddr(*ip)
                .daddr(*ip)
                .ct_status_dnat()
                .masquerade(),
        );
    }
    let choose = match &verdicts[..] {
        [only] => Rule::new().verdict(only.clone()),
        _ => Rule::new().random_of(verdicts),
    };
    table.add_rule(&target.chain, choose);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(n_backends: u8) -> Services {
        let endpoints: Vec<_> = (0..n_backends)
            .map(|n| json!({"addresses": [format!("10.244.0.{n}")]}))
            .collect();
        let service = ClusterService {
            namespace: "n".into(),
            name: "a".into(),
            addresses: vec!["10.96.0.9".parse().unwrap()],
            balanced: vec!["10.10.99.148".parse().unwrap()],
            ports: serde_json::from_value(json!([{"name": "http", "port": 80, "nodePort": 31380}]))
                .unwrap(),
            slices: vec![(
                serde_json::from_value(json!([{"name": "http", "port": 8080}])).unwrap(),
                serde_json::from_value(json!(endpoints)).unwrap(),
            )],
            ..ClusterService::default()
        };
        [(("n".to_owned(), "a".to_owned()), service)].into()
    }

    #[test]
    fn every_address_leads_to_a_backend() {
        let table = table(&service(2), "10.244.0.1".parse().unwrap());
        let lookup = table.rule_texts(LOOKUP);
        assert_eq!(lookup.len(), 3, "{lookup:?}");
        assert!(
            lookup[0].contains("10.96.0.9") && lookup[0].contains("80"),
            "{lookup:?}"
        );
        assert_eq!(table.rule_texts("n/a/0").len(), 1);
        assert!(table.rule_texts("n/a/0/1")[0].contains("10.244.0.1:8080"));
        assert_eq!(table.rule_texts(HAIRPIN).len(), 2);
    }

    #[test]
    fn nobody_takes_over_an_address_by_naming_it() {
        let mut services = service(1);
        let mut other = services.values().next().cloned().unwrap();
        other.namespace = "a".into();
        other.addresses.clear();
        other.external = std::mem::replace(&mut other.balanced, vec!["192.0.2.1".parse().unwrap()]);
        services.insert(("a".into(), "a".into()), other);
        let table = table(&services, "10.244.0.1".parse().unwrap());
        let to_the_address: Vec<_> = table
            .rule_texts(LOOKUP)
            .into_iter()
            .filter(|rule| rule.contains("10.10.99.148"))
            .collect();
        assert_eq!(to_the_address.len(), 1, "{to_the_address:?}");
        assert!(to_the_address[0].contains("n/a/0"), "{to_the_address:?}");
        let routed: Vec<_> = external_addresses(&services).into_iter().collect();
        assert_eq!(routed, ["10.10.99.148".parse::<Ipv4Addr>().unwrap()]);
    }

    #[test]
    fn a_service_without_pods_has_no_rules() {
        let table = table(&service(0), "10.244.0.1".parse().unwrap());
        assert!(table.rule_texts(LOOKUP).is_empty());
    }
}
