//! VirtualService: its hosts, gateways and what all kinds of routes share.

mod http;
mod http_actions;

use std::collections::BTreeMap;

use lateen_api::{
    Object,
    networking::{
        Destination, L4MatchAttributes, RouteDestination, TcpRoute, TlsRoute, VirtualService,
    },
};

use super::common;
use crate::fault::{Faults, Path};

pub(super) fn check(object: &Object<VirtualService>, faults: &mut Faults) {
    let (root, spec) = (Path::root("spec"), &object.spec);
    // A delegate has no hosts: its root brings them. It can hold HTTP routes alone.
    let delegate = spec.hosts.is_empty();
    if delegate && !spec.gateways.is_empty() {
        faults.add(
            &root.field("gateways"),
            "a delegate has no gateways",
            "remove them, or add hosts",
        );
    }
    if delegate && (!spec.tls.is_empty() || !spec.tcp.is_empty()) {
        faults.add(
            &root.field("hosts"),
            "Required value",
            "name the hosts that the routes are for",
        );
    }
    check_hosts(spec, &root, faults);
    gateway_names(&spec.gateways, &root.field("gateways"), faults);
    if spec.http.is_empty() && spec.tls.is_empty() && spec.tcp.is_empty() {
        faults.add(
            &root,
            "no routes: http, tls and tcp are all empty",
            "add a route",
        );
    }
    let http_list = root.field("http");
    for (n, route) in spec.http.iter().enumerate() {
        http::check(route, delegate, &http_list.index(n), faults);
    }
    let (tls_list, tcp_list) = (root.field("tls"), root.field("tcp"));
    for (n, route) in spec.tls.iter().enumerate() {
        check_tls(route, &spec.hosts, &tls_list.index(n), faults);
    }
    for (n, route) in spec.tcp.iter().enumerate() {
        check_tcp(route, &tcp_list.index(n), faults);
    }
    common::export_to(&spec.export_to, &root.field("exportTo"), faults);
}

fn check_hosts(spec: &VirtualService, root: &Path<'_>, faults: &mut Faults) {
    let list = root.field("hosts");
    let for_mesh = spec.gateways.is_empty() || spec.gateways.iter().any(|g| g == "mesh");
    for (n, host) in spec.hosts.iter().enumerate() {
        let at = list.index(n);
        common::host(host, &at, faults);
        if host == "*" && for_mesh {
            faults.add(
                &at,
                "the host * matches everything and is not allowed for sidecars",
                "name the hosts, or set gateways to those that it is for",
            );
        }
        if spec.hosts[..n].contains(host) {
            faults.add(&at, format!("host {host:?} is listed twice"), "remove one");
        }
    }
}

pub(super) fn gateway_names(names: &[String], at: &Path<'_>, faults: &mut Faults) {
    for (n, name) in names.iter().enumerate() {
        let valid = match name.split_once('/') {
            Some((namespace, name)) => {
                (namespace == "." || common::is_label(namespace)) && common::is_dns_name(name)
            }
            None => common::is_dns_name(name),
        };
        if !valid {
            faults.add(
                &at.index(n),
                format!("{name:?} is not a gateway's name"),
                "write mesh, a name in this namespace, or namespace/name",
            );
        }
    }
}

pub(super) fn destination(value: Option<&Destination>, at: &Path<'_>, faults: &mut Faults) {
    let at = at.field("destination");
    let Some(value) = value else {
        return faults.add(&at, "Required value", "name the destination's host");
    };
    common::destination_host(&value.host, &at.field("host"), faults);
    if !value.subset.is_empty() && !value.subset.split('.').all(common::is_label) {
        let reason = format!("{:?} is not a subset's name", value.subset);
        faults.add(
            &at.field("subset"),
            reason,
            "use letters, digits and dashes",
        );
    }
    if let Some(port) = &value.port {
        common::port(port.number, &at.field("port").field("number"), faults);
    }
}

/// Weights are shares of their sum. One destination alone needs none.
pub(super) fn weights(weights: &[i32], at: &Path<'_>, faults: &mut Faults) {
    for (n, weight) in weights.iter().enumerate() {
        if *weight < 0 {
            faults.add(
                &at.index(n).field("weight"),
                format!("weight {weight} must not be negative"),
                "write zero or more",
            );
        }
    }
    let total: i64 = weights.iter().map(|w| i64::from(*w)).sum();
    if weights.len() > 1 && total == 0 {
        faults.add(
            at,
            "total destination weight is 0",
            "give at least one destination a weight",
        );
    }
    if total > i64::from(u32::MAX) {
        faults.add(
            at,
            format!("total destination weight {total} is too large"),
            "write smaller weights",
        );
    }
}

fn connection_route(route: &[RouteDestination], at: &Path<'_>, faults: &mut Faults) {
    let list = at.field("route");
    if route.is_empty() {
        faults.add(&list, "Required value", "add a destination");
    }
    for (n, entry) in route.iter().enumerate() {
        destination(entry.destination.as_ref(), &list.index(n), faults);
    }
    weights(
        &route.iter().map(|r| r.weight).collect::<Vec<_>>(),
        &list,
        faults,
    );
}

fn check_tls(route: &TlsRoute, hosts: &[String], at: &Path<'_>, faults: &mut Faults) {
    let list = at.field("match");
    if route.r#match.is_empty() {
        faults.add(&list, "Required value", "add a match with sniHosts");
    }
    for (n, rule) in route.r#match.iter().enumerate() {
        let at = list.index(n);
        let names = at.field("sniHosts");
        if rule.sni_hosts.is_empty() {
            faults.add(&names, "Required value", "name the server names to match");
        }
        for (n, name) in rule.sni_hosts.iter().enumerate() {
            check_sni(name, hosts, &names.index(n), faults);
        }
        connection_match(
            (
                &rule.destination_subnets,
                rule.port,
                &rule.source_labels,
                &rule.gateways,
            ),
            &at,
            faults,
        );
    }
    connection_route(&route.route, at, faults);
}

/// A server name outside the VirtualService's hosts would never be asked for.
fn check_sni(name: &str, hosts: &[String], at: &Path<'_>, faults: &mut Faults) {
    if !common::is_wildcard_name(name) {
        return faults.add(
            at,
            format!("invalid server name {name:?}"),
            "write a DNS name or *.name",
        );
    }
    let name = lateen_core::Hostname::new(name);
    if !hosts
        .iter()
        .any(|host| lateen_core::Hostname::new(host).covers(&name))
    {
        faults.add(
            at,
            format!("{name} is not one of the hosts"),
            "sniHosts must be a subset of spec.hosts: add it there",
        );
    }
}

fn check_tcp(route: &TcpRoute, at: &Path<'_>, faults: &mut Faults) {
    let list = at.field("match");
    for (n, rule) in route.r#match.iter().enumerate() {
        let at = list.index(n);
        let L4MatchAttributes {
            destination_subnets,
            port,
            source_labels,
            gateways,
            ..
        } = rule;
        connection_match(
            (destination_subnets, *port, source_labels, gateways),
            &at,
            faults,
        );
        if !rule.source_subnet.is_empty() {
            common::subnet(&rule.source_subnet, &at.field("sourceSubnet"), faults);
        }
    }
    connection_route(&route.route, at, faults);
}

type ConnectionMatch<'a> = (
    &'a [String],
    Option<u32>,
    &'a BTreeMap<String, String>,
    &'a [String],
);

fn connection_match(
    (subnets, port, labels, gateways): ConnectionMatch<'_>,
    at: &Path<'_>,
    faults: &mut Faults,
) {
    let list = at.field("destinationSubnets");
    for (n, subnet) in subnets.iter().enumerate() {
        common::subnet(subnet, &list.index(n), faults);
    }
    if let Some(port) = port {
        common::port(port, &at.field("port"), faults);
    }
    common::labels(labels, &at.field("sourceLabels"), faults);
    gateway_names(gateways, &at.field("gateways"), faults);
}
