//! Workloads: which services are theirs, and who they run as.

use std::collections::{BTreeMap, BTreeSet};

use lateen_core::Protocol;
use serde_json::Value;

use super::{
    Code, Findings,
    index::{Index, Workload},
    object::{Obj, list, text},
};

/// The user that proxies run as, whose traffic is not captured.
const PROXY_UID: u64 = 1337;

/// Services that say different things of one port.
pub(super) fn services<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    for (n, workload) in index.workloads() {
        if workload.object.kind != "Deployment" || !index.in_mesh(&workload) {
            continue;
        }
        protocols(&workload.object, index.services_of(n), findings);
        targets(&workload.object, index.services_of(n), findings);
    }
}

fn names(services: impl IntoIterator<Item = String>) -> String {
    services.into_iter().collect::<Vec<_>>().join(", ")
}

fn protocols<'a>(object: &Obj<'a>, services: &[Obj<'a>], findings: &mut Findings<'a>) {
    let mut spoken: BTreeMap<u64, (BTreeSet<String>, BTreeSet<String>)> = BTreeMap::new();
    for service in services {
        for port in list(&service.spec()["ports"]) {
            let number = port["port"].as_u64().unwrap_or_default();
            let (protocols, names) = spoken.entry(number).or_default();
            protocols.insert(protocol(port, number));
            names.insert(service.key());
        }
    }
    for (number, (protocols, of)) in spoken
        .into_iter()
        .filter(|(_, (spoken, _))| spoken.len() > 1)
    {
        let what = format!(
            "deployment {} is that of several services, which say of port {number} that it speaks {}: {}",
            object.key(),
            names(protocols),
            names(of),
        );
        findings.add(
            object,
            Code::DeploymentAssociatedToMultipleServices,
            "",
            what,
        );
    }
}

/// What a port speaks, by its name, or how it is carried.
fn protocol(port: &Value, number: u64) -> String {
    let transport = text(&port["protocol"]);
    let number = u16::try_from(number).unwrap_or_default();
    let app = port["appProtocol"].as_str();
    match Protocol::of_port(text(&port["name"]), app, transport, number) {
        Protocol::Unsupported if transport.is_empty() => "TCP".to_owned(),
        Protocol::Unsupported => transport.to_owned(),
        protocol => protocol.to_string(),
    }
}

fn targets<'a>(object: &Obj<'a>, services: &[Obj<'a>], findings: &mut Findings<'a>) {
    let mut led: BTreeMap<String, (BTreeSet<u64>, BTreeSet<String>)> = BTreeMap::new();
    for service in services {
        for port in list(&service.spec()["ports"]) {
            let target = match &port["targetPort"] {
                Value::Null => continue,
                target => target
                    .as_str()
                    .map_or_else(|| target.to_string(), str::to_owned),
            };
            let (ports, names) = led.entry(target).or_default();
            ports.insert(port["port"].as_u64().unwrap_or_default());
            names.insert(service.key());
        }
    }
    let several =
        |(_, (ports, of)): &(_, (BTreeSet<u64>, BTreeSet<String>))| ports.len() > 1 && of.len() > 1;
    for (target, (ports, of)) in led.into_iter().filter(several) {
        let what = format!(
            "services {} lead ports {} to the same targetPort {target} of deployment {}",
            names(of),
            names(ports.iter().map(u64::to_string)),
            object.key(),
        );
        findings.add(object, Code::DeploymentConflictingPorts, "", what);
    }
}

/// Applications that run as the proxy does.
pub(super) fn users<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    for (_, workload) in index.workloads() {
        if !matches!(workload.object.kind, "Pod" | "Deployment") || workload.is_owned() {
            continue;
        }
        if let Some(field) = as_proxy(&workload) {
            let what = format!(
                "user {PROXY_UID} is the proxy's: traffic of the application would not be captured; \
                 choose another"
            );
            findings.add(&workload.object, Code::InvalidApplicationUID, &field, what);
        }
    }
}

/// Where an application is made to run as the proxy's user.
fn as_proxy(workload: &Workload<'_>) -> Option<String> {
    let user = |of: &Value| of["securityContext"]["runAsUser"].as_u64();
    let of_pod = user(workload.spec);
    for of in ["containers", "initContainers"] {
        for (n, container) in list(&workload.spec[of]).iter().enumerate() {
            let name = text(&container["name"]);
            if name.starts_with("istio-") {
                continue;
            }
            let at = match user(container) {
                Some(PROXY_UID) => format!("{of}[{n}].securityContext.runAsUser"),
                None if of_pod == Some(PROXY_UID) => "securityContext.runAsUser".to_owned(),
                _ => continue,
            };
            return Some(format!("{}.{at}", workload.path()));
        }
    }
    None
}
