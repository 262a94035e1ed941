//! ServiceEntry and WorkloadEntry to services, endpoints and workloads.

use std::net::IpAddr;

use arcstr::ArcStr;
use ipnet::IpNet;
use lateen_api::{
    Object, annotations, labels,
    networking::{ServiceEntry, ServiceLocation, ServiceResolution, WorkloadEntry},
    status,
};
use lateen_core::{Hostname, Labels, Locality, Protocol};
use serde_json::Value;

use crate::{
    Endpoint, Provider, Resolution, Service, ServicePort, TargetPort, TrafficDistribution,
    Workload, WorkloadOwner,
};

/// Kind of the owner of a workload that is an entry.
pub(crate) const OWNER: &str = "WorkloadEntry";

/// The service that the entry makes of one of its hosts.
pub(crate) fn service(entry: &Object<ServiceEntry>, host: &str) -> Service {
    let (meta, spec) = (&entry.meta, &entry.spec);
    let resolution = match spec.resolution {
        ServiceResolution::None => Resolution::None,
        ServiceResolution::Static => Resolution::ClientSide,
        ServiceResolution::Dns => Resolution::Dns,
        ServiceResolution::DnsRoundRobin => Resolution::DnsRoundRobin,
        ServiceResolution::DynamicDns => Resolution::DynamicDns,
    };
    Service {
        hostname: Hostname::new(host),
        name: meta.name.clone(),
        namespace: meta.namespace.as_str().into(),
        provider: Provider::ServiceEntry,
        addresses: spec
            .addresses
            .iter()
            .filter_map(|a| a.parse().ok())
            .collect(),
        address_ranges: spec.addresses.iter().filter_map(|a| range(a)).collect(),
        ports: spec.ports.iter().filter_map(service_port).collect(),
        resolution,
        external: spec.location == ServiceLocation::MeshExternal,
        labels: Labels(meta.labels.clone()),
        selector: Labels::new(),
        created: meta.creation_timestamp,
        export_to: spec.export_to.clone(),
        subject_alt_names: spec.subject_alt_names.clone(),
        external_name: None,
        load_balancer: Vec::new(),
        distribution: meta
            .annotations
            .get(annotations::TRAFFIC_DISTRIBUTION)
            .and_then(|value| TrafficDistribution::parse(value)),
        allocated: Vec::new(),
    }
}

/// Whether a host of the entry is given an address: it has none, and one tells it from others.
pub(crate) fn wants_address(entry: &Object<ServiceEntry>, host: &Hostname) -> bool {
    let spec = &entry.spec;
    let label = entry.meta.labels.get(labels::AUTO_ALLOCATE);
    spec.addresses.is_empty()
        && spec.resolution != ServiceResolution::None
        && !host.is_wildcard()
        && label.is_none_or(|value| value != "false")
}

fn range(text: &str) -> Option<IpNet> {
    text.contains('/').then(|| text.parse().ok()).flatten()
}

fn service_port(port: &lateen_api::networking::ServicePort) -> Option<ServicePort> {
    // Validation refuses others; one that got past it would spoil the listeners of every proxy.
    let valid = |number: u32| u16::try_from(number).ok().filter(|n| *n > 0);
    let number = valid(port.number)?;
    let target = port.target_port.and_then(valid).unwrap_or(number);
    Some(ServicePort {
        name: port.name.as_str().into(),
        port: number,
        target_port: TargetPort::Number(target),
        protocol: Protocol::parse(&port.protocol).unwrap_or(Protocol::Unsupported),
    })
}

/// The workload's port, which an entry gives as a number.
pub(crate) fn target(port: &ServicePort) -> u16 {
    match port.target_port {
        TargetPort::Number(number) => number,
        TargetPort::Name(_) => port.port,
    }
}

/// The entry's own endpoints for one port. By DNS and without endpoints, the host is the endpoint.
pub(crate) fn endpoints(
    entry: &Object<ServiceEntry>,
    service: &Service,
    port: &ServicePort,
) -> Vec<Endpoint> {
    let target = target(port);
    let namespace = &entry.meta.namespace;
    let by_name = matches!(
        service.resolution,
        Resolution::Dns | Resolution::DnsRoundRobin
    );
    if entry.spec.endpoints.is_empty() && by_name {
        let host = WorkloadEntry {
            address: service.hostname.to_string(),
            ..Default::default()
        };
        return vec![endpoint(&host, target, namespace)];
    }
    let number = |listed: &WorkloadEntry| {
        listed
            .ports
            .get(port.name.as_str())
            .and_then(|n| u16::try_from(*n).ok())
            .unwrap_or(target)
    };
    entry
        .spec
        .endpoints
        .iter()
        .map(|e| endpoint(e, number(e), namespace))
        .collect()
}

/// Whether a WorkloadEntry, as it is stored, is an endpoint: nobody looks at its health, or it was
/// found to be good. One whose health nobody has told yet is none.
pub(crate) fn is_healthy(entry: &Value) -> bool {
    let watched = entry["metadata"]["annotations"][annotations::HEALTH_CHECKS].as_str();
    // What Go reads as true.
    if !matches!(watched, Some("1" | "t" | "T" | "true" | "TRUE" | "True")) {
        return true;
    }
    let conditions = entry["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|one| one["type"] == status::HEALTHY && one["status"] == "True")
}

/// An entry as an endpoint on one port.
pub(crate) fn endpoint(entry: &WorkloadEntry, port: u16, namespace: &str) -> Endpoint {
    let labels = Labels(entry.labels.clone());
    Endpoint {
        address: entry.address.clone(),
        port,
        service_account: entry.service_account.clone(),
        namespace: namespace.to_owned(),
        workload_name: labels
            .value(labels::WORKLOAD_NAME)
            .unwrap_or_default()
            .to_owned(),
        locality: locality(entry, &labels),
        mtls: labels.value(labels::TLS_MODE) == Some("istio"),
        weight: entry.weight.max(1),
        ready: true,
        network: entry.network.clone(),
        node: ArcStr::new(),
        labels,
    }
}

fn locality(entry: &WorkloadEntry, labels: &Labels) -> Locality {
    let label = || Locality::of_labels(|label| labels.value(label));
    match entry.locality.as_str() {
        "" => label().unwrap_or_default(),
        text => text.parse().unwrap_or_default(),
    }
}

/// The entry as a workload, if its address is an IP address.
pub(crate) fn workload(entry: &Object<WorkloadEntry>, ready: bool) -> Option<(IpAddr, Workload)> {
    let ip: IpAddr = entry.spec.address.parse().ok()?;
    let labels = Labels(entry.spec.labels.clone());
    let number = |(name, port): (&String, &u32)| Some((name.clone(), u16::try_from(*port).ok()?));
    let workload = Workload {
        name: entry.meta.name.clone(),
        namespace: entry.meta.namespace.clone(),
        ips: vec![ip],
        annotations: entry.meta.annotations.clone(),
        service_account: entry.spec.service_account.clone(),
        node: String::new(),
        locality: locality(&entry.spec, &labels),
        ports: entry.spec.ports.iter().filter_map(number).collect(),
        owner: Some(WorkloadOwner {
            kind: OWNER.into(),
            name: entry.meta.name.clone(),
        }),
        mtls: labels.value(labels::TLS_MODE) == Some("istio"),
        ready,
        labels,
    };
    Some((ip, workload))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_entry_that_is_watched_serves_while_it_is_healthy() {
        let entry = |watched: Option<&str>, healthy: Option<&str>| {
            let other = json!({"type": "Reconciled", "status": "True"});
            let healthy = healthy.map(|status| json!({"type": "Healthy", "status": status}));
            let conditions: Vec<_> = [other].into_iter().chain(healthy).collect();
            let mut entry = json!({"metadata": {}, "status": {"conditions": conditions}});
            if let Some(watched) = watched {
                entry["metadata"]["annotations"] = json!({annotations::HEALTH_CHECKS: watched});
            }
            entry
        };
        for (watched, healthy, expect) in [
            (None, None, true),
            (None, Some("False"), true),
            (Some("false"), Some("False"), true),
            (Some("true"), None, false),
            (Some("true"), Some("False"), false),
            (Some("true"), Some("Unknown"), false),
            (Some("true"), Some("True"), true),
        ] {
            assert_eq!(
                is_healthy(&entry(watched, healthy)),
                expect,
                "{watched:?} {healthy:?}"
            );
        }
    }
}
