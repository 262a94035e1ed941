//! ServiceEntry and WorkloadEntry.

use std::net::IpAddr;

use ipnet::IpNet;
use lateen_api::{
    Object,
    networking::{ServiceEntry, ServiceResolution, WorkloadEntry},
};
use lateen_core::Protocol;

use super::common;
use crate::fault::{Faults, Path};

pub(super) fn check(object: &Object<ServiceEntry>, faults: &mut Faults) {
    let (root, spec) = (Path::root("spec"), &object.spec);
    check_hosts(spec, &root.field("hosts"), faults);
    check_addresses(spec, &root.field("addresses"), faults);
    check_ports(spec, &root.field("ports"), faults);
    check_endpoints(spec, &root, faults);
    if let Some(selector) = &spec.workload_selector {
        let at = root.field("workloadSelector");
        if !spec.endpoints.is_empty() {
            faults.add(
                &at,
                "only one of WorkloadSelector or Endpoints can be set",
                "remove one",
            );
        }
        common::selector(&selector.labels, &at.field("labels"), faults);
    }
    common::export_to(&spec.export_to, &root.field("exportTo"), faults);
}

fn check_hosts(spec: &ServiceEntry, at: &Path<'_>, faults: &mut Faults) {
    if spec.hosts.is_empty() {
        faults.add(at, "Required value", "name the hosts");
    }
    for (n, host) in spec.hosts.iter().enumerate() {
        let at = at.index(n);
        if host == "*" {
            faults.add(
                &at,
                "hostname cannot be wildcard",
                "name the host, or a domain as *.example.com",
            );
        } else {
            common::host(host, &at, faults);
        }
        let by_name = matches!(
            spec.resolution,
            ServiceResolution::Dns | ServiceResolution::DnsRoundRobin
        );
        if host.starts_with("*.")
            && by_name
            && spec.endpoints.is_empty()
            && spec.workload_selector.is_none()
        {
            faults.add(
                &at,
                "a wildcard host cannot be resolved by DNS",
                "list endpoints, or use DYNAMIC_DNS",
            );
        }
    }
}

fn check_addresses(spec: &ServiceEntry, at: &Path<'_>, faults: &mut Faults) {
    let ranges = matches!(
        spec.resolution,
        ServiceResolution::None | ServiceResolution::Static
    );
    for (n, address) in spec.addresses.iter().enumerate() {
        common::subnet(address, &at.index(n), faults);
        if address.parse::<IpNet>().is_ok() && !ranges {
            faults.add(
                &at.index(n),
                "CIDR addresses are allowed only for NONE/STATIC resolution types",
                "write single addresses",
            );
        }
    }
}

fn check_ports(spec: &ServiceEntry, at: &Path<'_>, faults: &mut Faults) {
    for (n, port) in spec.ports.iter().enumerate() {
        let at = at.index(n);
        common::port(port.number, &at.field("number"), faults);
        if let Some(target) = port.target_port {
            common::port(target, &at.field("targetPort"), faults);
        }
        if port.name.is_empty() {
            faults.add(&at.field("name"), "Required value", "name the port");
        }
        if !port.protocol.is_empty() && Protocol::parse(&port.protocol).is_none() {
            let reason = format!("Unsupported value: {:?}", port.protocol);
            faults.add(
                &at.field("protocol"),
                reason,
                "use HTTP, HTTPS, HTTP2, GRPC, TLS, TCP or MONGO",
            );
        }
        for other in &spec.ports[..n] {
            if other.name == port.name {
                faults.add(
                    &at.field("name"),
                    format!("Duplicate value: {:?}", port.name),
                    "rename one",
                );
            }
            if other.number == port.number {
                faults.add(
                    &at.field("number"),
                    "port number cannot be duplicated",
                    "remove one",
                );
            }
        }
    }
}

fn check_endpoints(spec: &ServiceEntry, root: &Path<'_>, faults: &mut Faults) {
    let list = root.field("endpoints");
    match spec.resolution {
        ServiceResolution::None if !spec.endpoints.is_empty() => {
            faults.add(
                &list,
                "NONE mode cannot set endpoints",
                "set resolution, or remove them",
            );
        }
        ServiceResolution::DnsRoundRobin if spec.endpoints.len() > 1 => {
            faults.add(
                &list,
                "DNS_ROUND_ROBIN mode cannot have multiple endpoints",
                "keep one, or use DNS",
            );
        }
        _ => {}
    }
    for (n, entry) in spec.endpoints.iter().enumerate() {
        let at = list.index(n);
        check_entry(entry, &at, faults);
        for name in entry.ports.keys() {
            if !spec.ports.iter().any(|port| port.name == *name) {
                faults.add(
                    &at.field("ports").key(name),
                    format!("the service has no port {name:?}"),
                    "name one of its ports",
                );
            }
        }
        let by_address = spec.resolution == ServiceResolution::Static;
        let address = &entry.address;
        if address.starts_with("unix://") {
            if !by_address {
                faults.add(
                    &at.field("address"),
                    "a socket in the file system is no name to look up",
                    "use resolution STATIC",
                );
            }
            if spec.ports.len() != 1 {
                faults.add(
                    &Path::root("spec").field("ports"),
                    "exactly 1 service port required for unix endpoints",
                    "make an entry for each socket",
                );
            }
        }
        if by_address
            && !address.starts_with("unix://")
            && address.parse::<IpAddr>().is_err()
            && !address.is_empty()
        {
            faults.add(
                &at.field("address"),
                format!("{address:?} is not an address"),
                "write an IP address, or use resolution DNS",
            );
        }
    }
}

pub(super) fn check_workload_entry(object: &Object<WorkloadEntry>, faults: &mut Faults) {
    check_entry(&object.spec, &Path::root("spec"), faults);
}

fn check_entry(entry: &WorkloadEntry, at: &Path<'_>, faults: &mut Faults) {
    let address_at = at.field("address");
    let unix = entry.address.strip_prefix("unix://");
    match (entry.address.as_str(), unix) {
        // Without an address the network's gateway is meant.
        ("", _) if entry.network.is_empty() => {
            faults.add(
                &address_at,
                "Address is required",
                "write an address or a DNS name",
            );
        }
        ("", _) => {}
        (_, Some(path)) => check_unix(path, entry, &address_at, faults),
        (address, None) if address.parse::<IpAddr>().is_err() => {
            common::destination_host(address, &address_at, faults);
        }
        _ => {}
    }
    check_entry_parts(entry, at, faults);
}

/// All of an entry but its address.
pub(super) fn check_entry_parts(entry: &WorkloadEntry, at: &Path<'_>, faults: &mut Faults) {
    let ports = at.field("ports");
    for (name, number) in &entry.ports {
        if !common::is_label(name) {
            faults.add(
                &ports,
                format!("Invalid value: {name:?} is not a port name"),
                "use letters, digits and dashes",
            );
        }
        common::port(*number, &ports.key(name), faults);
    }
    common::labels(&entry.labels, &at.field("labels"), faults);
}

fn check_unix(path: &str, entry: &WorkloadEntry, at: &Path<'_>, faults: &mut Faults) {
    common::socket_path(path, at, faults);
    if !entry.ports.is_empty() {
        faults.add(at, "UDS may not include ports", "remove the ports");
    }
}
