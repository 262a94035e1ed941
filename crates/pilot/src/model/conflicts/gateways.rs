//! Servers of Gateways that want the same port of the same workloads.

use std::collections::BTreeMap;

use lateen_api::Object;
use lateen_api::networking::{Gateway, Server};
use lateen_core::ObjectRef;

use super::{Conflict, of};
use crate::snapshot::Snapshot;
use crate::view::gateways::Role;

/// A server that has its port.
struct Holder<'a> {
    gateway: &'a Object<Gateway>,
    server: &'a Server,
    role: Role,
}

/// Servers that came too late: for a port that is of another kind, or for names at which TLS ends
/// elsewhere.
pub(super) fn conflicts(snapshot: &Snapshot) -> Vec<Conflict> {
    let mut ports: BTreeMap<_, Vec<Holder<'_>>> = BTreeMap::new();
    let mut found = Vec::new();
    for gateway in &snapshot.config.gateways {
        for (n, server) in gateway.spec.servers.iter().enumerate() {
            let role = Role::of(server);
            let number = server.port.as_ref().map_or(0, |port| port.number);
            if role == Role::None {
                continue;
            }
            let holders = ports.entry((number, server.bind.as_str())).or_default();
            let late = Holder {
                gateway,
                server,
                role,
            };
            let meets = |held: &&Holder<'_>| is_same_workload(held.gateway, gateway);
            let held = holders.iter().filter(meets);
            match held.clone().find(|held| !held.role.fits(role)) {
                Some(held) => found.push(Conflict {
                    loser: name(gateway),
                    winner: name(held.gateway),
                    field: format!("spec.servers[{n}].port"),
                    about: format!("port {number} is of another kind by the older server"),
                }),
                None => {
                    found.extend(held.flat_map(|held| names_taken(held, &late, n)));
                    holders.push(late);
                }
            }
        }
    }
    found
}

/// Workloads that one selector picks are picked by the other one: then they meet for certain.
fn is_same_workload(a: &Object<Gateway>, b: &Object<Gateway>) -> bool {
    let (a, b) = (&a.spec.selector, &b.spec.selector);
    let lies_in = |narrow: &BTreeMap<String, String>, wide: &BTreeMap<String, String>| {
        wide.iter()
            .all(|(key, value)| narrow.get(key) == Some(value))
    };
    lies_in(a, b) || lies_in(b, a)
}

/// Names at which an older server ends TLS already.
fn names_taken(held: &Holder<'_>, late: &Holder<'_>, n: usize) -> Vec<Conflict> {
    let ends = |role: Role| matches!(role, Role::Https | Role::TerminatedTcp);
    if !ends(held.role) || !ends(late.role) {
        return Vec::new();
    }
    let bare = |host: &String| match host.split_once('/') {
        Some((_, host)) => host.to_owned(),
        None => host.clone(),
    };
    let taken: Vec<String> = held.server.hosts.iter().map(bare).collect();
    let hosts = late.server.hosts.iter().map(bare).enumerate();
    let hosts = hosts.filter(|(_, host)| taken.contains(host));
    let conflict = |(m, host): (usize, String)| Conflict {
        loser: name(late.gateway),
        winner: name(held.gateway),
        field: format!("spec.servers[{n}].hosts[{m}]"),
        about: format!("TLS for {host} ends at the older server"),
    };
    hosts.map(conflict).collect()
}

fn name(gateway: &Object<Gateway>) -> ObjectRef {
    of("Gateway", gateway)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[track_caller]
    fn check(gateways: &[(&str, &str)], want: &[(&str, &str, &str)]) {
        let gateway = |(n, (selector, server)): (usize, &(&str, &str))| {
            format!(
                "---\nkind: Gateway\nmetadata: {{name: g{n}}}\n\
                 spec: {{selector: {selector}, servers: [{server}]}}\n"
            )
        };
        let yaml: String = gateways.iter().enumerate().map(gateway).collect();
        let found = conflicts(&fixture::snapshot(&yaml));
        let found: Vec<_> = found
            .iter()
            .map(|c| {
                (
                    c.loser.name.as_str(),
                    c.winner.name.as_str(),
                    c.field.as_str(),
                )
            })
            .collect();
        assert_eq!(found, want, "{yaml}");
    }

    #[test]
    fn a_port_is_of_one_kind() {
        let http = "{port: {number: 80, protocol: HTTP}, hosts: [a]}";
        let tcp = "{port: {number: 80, protocol: TCP}, hosts: [a]}";
        let bound = "{port: {number: 80, protocol: TCP}, bind: 10.0.0.1, hosts: [a]}";
        let lost = [("g1", "g0", "spec.servers[0].port")];
        check(&[("{a: b}", http), ("{a: b}", tcp)], &lost);
        check(&[("{a: b}", http), ("{a: b, c: d}", tcp)], &lost);
        check(&[("{a: b}", http), ("{a: c}", tcp)], &[]);
        check(&[("{a: b}", http), ("{a: b}", bound)], &[]);
        check(&[("{a: b}", http), ("{a: b}", http)], &[]);
    }

    #[test]
    fn tls_of_a_name_ends_once() {
        let ends = |hosts: &str| {
            format!(
                "{{port: {{number: 443, protocol: HTTPS}}, hosts: [{hosts}], \
                 tls: {{mode: SIMPLE, credentialName: a}}}}"
            )
        };
        check(
            &[
                ("{a: b}", &ends("a.com, ns/b.com")),
                ("{a: b}", &ends("c.com, b.com")),
            ],
            &[("g1", "g0", "spec.servers[0].hosts[1]")],
        );
        let passes =
            "{port: {number: 443, protocol: TLS}, hosts: [a.com], tls: {mode: PASSTHROUGH}}";
        check(&[("{a: b}", &ends("a.com")), ("{a: b}", passes)], &[]);
    }
}
