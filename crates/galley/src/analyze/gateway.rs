//! Gateways: ports, hosts, certificates, and who else claims them.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{
    Code, Findings, credential,
    index::{Index, selector},
    object::{Obj, in_words, list, text, texts},
};

/// Ports that the services of the selected pods do not lead to.
pub(super) fn ports<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    for object in index.of("Gateway") {
        let Some(selector) = selector(&object.spec()["selector"]) else {
            continue;
        };
        let pods = index.select(None, selector);
        if pods.is_empty() {
            nobody(object, selector, findings);
        }
        let services: Vec<_> = pods
            .iter()
            .flat_map(|(n, _)| index.services_of(*n))
            .collect();
        if services.is_empty() {
            continue;
        }
        let led_to = |number: u64| {
            let ports = services
                .iter()
                .flat_map(|service| list(&service.spec()["ports"]));
            let is = |value: &Value| value.as_u64() == Some(number);
            ports
                .into_iter()
                .any(|port| is(&port["port"]) || is(&port["targetPort"]))
        };
        for (n, server) in list(&object.spec()["servers"]).iter().enumerate() {
            let number = server["port"]["number"].as_u64();
            if let Some(number) = number.filter(|number| !led_to(*number)) {
                let what = format!(
                    "port {number} is at no Service of the pods with {}, so nobody reaches it; add it \
                     to the Service",
                    in_words(selector)
                );
                let field = format!("spec.servers[{n}].port.number");
                findings.add(object, Code::GatewayPortNotDefinedOnService, &field, what);
            }
        }
    }
}

/// No pod has the labels. Those of the usual gateway are another installation's, where none of them
/// is known.
fn nobody<'a>(object: &Obj<'a>, selector: &Map<String, Value>, findings: &mut Findings<'a>) {
    if selector
        .get("istio")
        .is_none_or(|label| label != "ingressgateway")
    {
        let labels = in_words(selector);
        let what = format!("Referenced selector not found: {labels:?}: no pod has these labels");
        let code = Code::ReferencedResourceNotFound;
        findings.add(object, code, "spec.selector", what);
    }
}

/// A server of a Gateway.
#[derive(Clone)]
struct Server<'a> {
    gateway: Obj<'a>,
    selector: &'a Map<String, Value>,
    at: usize,
}

fn servers<'a>(index: &Index<'a>) -> impl Iterator<Item = (Server<'a>, &'a Value)> {
    static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    index.of("Gateway").iter().flat_map(|gateway| {
        let selector = gateway.spec()["selector"].as_object().unwrap_or(&EMPTY);
        let servers = list(&gateway.spec()["servers"]).iter().enumerate();
        servers.map(move |(at, server)| {
            let of = Server {
                gateway: *gateway,
                selector,
                at,
            };
            (of, server)
        })
    })
}

fn is_within(a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    a.iter().all(|(key, value)| b.get(key) == Some(value))
}

/// One host on one port of the same pods, in two Gateways.
pub(super) fn conflicts<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    let mut held: HashMap<(u64, &str, String), Vec<Server<'a>>> = HashMap::new();
    for (server, value) in servers(index) {
        let Some(number) = value["port"]["number"].as_u64() else {
            continue;
        };
        let mut hosts: Vec<_> = texts(&value["hosts"]).map(bare_host).collect();
        hosts.sort();
        hosts.dedup();
        for host in hosts {
            let key = (number, text(&value["bind"]), host);
            held.entry(key).or_default().push(server.clone());
        }
    }
    for ((number, _, host), servers) in held {
        for server in &servers {
            let others = servers.iter().filter(|other| {
                let (a, b) = (server.selector, other.selector);
                !other.gateway.is(&server.gateway) && (is_within(a, b) || is_within(b, a))
            });
            let mut names: Vec<_> = others.map(|other| other.gateway.key()).collect();
            names.dedup();
            if names.is_empty() {
                continue;
            }
            let what = format!(
                "Gateways {} also have host {host:?} on port {number} of the pods with {}; pods serve \
                 it as one of them says",
                names.join(", "),
                in_words(server.selector),
            );
            let field = format!("spec.servers[{}].hosts", server.at);
            findings.add(&server.gateway, Code::ConflictingGateways, &field, what);
        }
    }
}

/// `ns/host` without whose routes it is for.
fn bare_host(host: &str) -> String {
    let host = host.split_once('/').map_or(host, |(_, host)| host);
    host.to_ascii_lowercase()
}

/// One certificate of several Gateways of the same pods: clients reuse a connection for hosts that its
/// certificate has, and are answered 404.
pub(super) fn certificates<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    let mut users: HashMap<&str, Vec<Server<'a>>> = HashMap::new();
    for (server, value) in servers(index) {
        let name = text(&value["tls"]["credentialName"]);
        if !name.is_empty() {
            users.entry(name).or_default().push(server);
        }
    }
    for (name, servers) in users {
        let mut told: Vec<Obj<'_>> = Vec::new();
        for server in &servers {
            let shares = |other: &&Server<'_>| {
                !other.gateway.is(&server.gateway) && is_within(server.selector, other.selector)
            };
            let mut names: Vec<_> = servers
                .iter()
                .filter(shares)
                .map(|o| o.gateway.key())
                .collect();
            names.dedup();
            if names.is_empty() || told.iter().any(|other| other.is(&server.gateway)) {
                continue;
            }
            told.push(server.gateway);
            let what = format!(
                "certificate {name:?} is also that of Gateways {}: browsers reuse a connection for all \
                 hosts of a certificate and are answered 404; make one Gateway of them",
                names.join(", ")
            );
            let field = format!("spec.servers[{}].tls.credentialName", server.at);
            findings.add(
                &server.gateway,
                Code::GatewayDuplicateCertificate,
                &field,
                what,
            );
        }
    }
}

/// Secrets that servers name: whether they are there, and whether they hold what servers need.
pub(super) fn secrets<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    for (server, value) in servers(index) {
        let name = text(&value["tls"]["credentialName"]);
        if name.is_empty() || server.selector.is_empty() {
            continue;
        }
        // The proxy takes it from its own namespace, so where its pods are unknown, so is the Secret.
        let pods = index.select(None, server.selector);
        let Some((_, pod)) = pods.first() else {
            continue;
        };
        let field = format!("spec.servers[{}].tls.credentialName", server.at);
        match index.find("Secret", pod.object.namespace, name) {
            None => {
                let what = format!(
                    "Referenced credentialName not found: {name:?}: gateways take it from namespace {:?}",
                    pod.object.namespace
                );
                findings.add(
                    &server.gateway,
                    Code::ReferencedResourceNotFound,
                    &field,
                    what,
                );
            }
            Some(secret) => {
                if let Some(fault) = credential::fault(&secret.written.value) {
                    let what = format!(
                        "Secret {:?} is no certificate for it: {fault}",
                        secret.key()
                    );
                    findings.add(
                        &server.gateway,
                        Code::InvalidGatewayCredential,
                        &field,
                        what,
                    );
                }
            }
        }
    }
}
