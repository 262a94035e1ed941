//! Services: defaults, cluster addresses and node ports.

mod validate;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde_json::{Value, json};
use tokio::sync::MutexGuard;

use crate::apiserver::SERVICE_CIDR;
use crate::apiserver::core::Core;
use crate::apiserver::error::{ApiError, FieldError};
use crate::apiserver::kinds::Resource;
use crate::apiserver::meta;

pub(super) use validate::{validate, validate_update};

/// Ports of nodes that services may have; Kubernetes' default range.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;

fn kind(service: &Value) -> &str {
    meta::text(service, "/spec/type").unwrap_or("ClusterIP")
}

fn has_cluster_ip(service: &Value) -> bool {
    kind(service) != "ExternalName"
}

fn has_node_ports(service: &Value) -> bool {
    match kind(service) {
        "NodePort" => true,
        "LoadBalancer" => {
            service.pointer("/spec/allocateLoadBalancerNodePorts") != Some(&Value::Bool(false))
        }
        _ => false,
    }
}

pub(super) fn default(service: &mut Value) {
    let spec = meta::child(service, "spec");
    meta::default(spec, "type", "ClusterIP");
    meta::default(spec, "sessionAffinity", "None");
    if spec["sessionAffinity"] == "ClientIP" {
        meta::default(
            spec,
            "sessionAffinityConfig",
            json!({"clientIP": {"timeoutSeconds": 10800}}),
        );
    }
    let kind = spec["type"].as_str().unwrap_or_default().to_owned();
    if kind != "ExternalName" {
        meta::default(spec, "internalTrafficPolicy", "Cluster");
        meta::default(spec, "ipFamilies", json!(["IPv4"]));
        meta::default(spec, "ipFamilyPolicy", "SingleStack");
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        meta::default(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        meta::default(spec, "allocateLoadBalancerNodePorts", true);
    }
    for port in spec
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let Some(port) = port.as_object_mut() else {
            continue;
        };
        meta::default(port, "protocol", "TCP");
        if let Some(number) = port.get("port").cloned() {
            meta::default(port, "targetPort", number);
        }
        if port
            .get("targetPort")
            .is_some_and(|target| target == 0 || target == "")
        {
            port["targetPort"] = port["port"].clone();
        }
    }
    let status = meta::child(service, "status");
    meta::default(status, "loadBalancer", json!({}));
}

/// Only one service at a time is given addresses.
pub(in crate::apiserver) async fn lock<'a>(
    core: &'a Core,
    resource: &Resource,
) -> Option<MutexGuard<'a, ()>> {
    if resource.is("", "services") {
        Some(core.allocation.lock().await)
    } else {
        None
    }
}

/// Takes over what an update leaves out but the service has.
pub(super) fn keep_allocated(old: &Value, new: &mut Value) {
    if has_cluster_ip(old)
        && has_cluster_ip(new)
        && meta::text(new, "/spec/clusterIP").is_none_or(str::is_empty)
    {
        for key in ["clusterIP", "clusterIPs"] {
            if let Some(value) = old["spec"].get(key) {
                new["spec"][key] = value.clone();
            }
        }
    }
    if !has_cluster_ip(new) {
        let spec = meta::child(new, "spec");
        for key in [
            "clusterIP",
            "clusterIPs",
            "ipFamilies",
            "ipFamilyPolicy",
            "internalTrafficPolicy",
        ] {
            spec.shift_remove(key);
        }
    }
    let keeps_ports = has_node_ports(old) && has_node_ports(new);
    let needs_ports = has_node_ports(new);
    let old_ports = meta::list(old, "/spec/ports").to_vec();
    for port in new
        .pointer_mut("/spec/ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let before = old_ports
            .iter()
            .find(|old| old["port"] == port["port"] && old["protocol"] == port["protocol"]);
        let Some(members) = port.as_object_mut() else {
            continue;
        };
        let unset = members
            .get("nodePort")
            .is_none_or(|number| number.is_null() || number == 0);
        match before.and_then(|before| before.get("nodePort")) {
            Some(number) if keeps_ports && unset => {
                members.insert("nodePort".into(), number.clone());
            }
            Some(number) if !needs_ports && members.get("nodePort") == Some(number) => {
                members.shift_remove("nodePort");
            }
            _ => {}
        }
    }
}

/// Gives the service the addresses and node ports that it lacks.
pub(in crate::apiserver) fn allocate(
    core: &Core,
    resource: &Resource,
    service: &mut Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    if !resource.is("", "services") || !service["spec"].is_object() {
        return Ok(());
    }
    let own = old.map(|old| (meta::namespace(old).to_owned(), meta::name(old).to_owned()));
    let (services, _) = core.store.list("services", None);
    let others: Vec<&Value> = services
        .iter()
        .filter(|other| {
            own.as_ref() != Some(&(other.key.namespace.clone(), other.key.name.clone()))
        })
        .map(|other| &other.value)
        .collect();
    allocate_address(resource, &others, service)?;
    if has_node_ports(service) {
        allocate_ports(resource, &others, service)
    } else {
        Ok(())
    }
}

fn allocate_address(
    resource: &Resource,
    others: &[&Value],
    service: &mut Value,
) -> Result<(), ApiError> {
    if !has_cluster_ip(service) {
        return Ok(());
    }
    let used: BTreeSet<&str> = others
        .iter()
        .filter_map(|other| meta::text(other, "/spec/clusterIP"))
        .collect();
    let refuse = |error| Err(ApiError::invalid(resource, meta::name(service), &[error]));
    let range: ipnet::Ipv4Net = SERVICE_CIDR.parse().expect("a constant");
    let address = match meta::text(service, "/spec/clusterIP") {
        Some("None") => "None".to_owned(),
        Some(asked) if !asked.is_empty() => {
            let field = "spec.clusterIPs";
            let shown = json!([asked]);
            match asked.parse::<Ipv4Addr>() {
                Ok(address) if !range.contains(&address) => {
                    let detail = format!(
                        "failed to allocate IP {asked}: the provided IP ({asked}) is not in the valid range. The range of valid IPs is {SERVICE_CIDR}"
                    );
                    return refuse(FieldError::invalid(field, &shown, detail));
                }
                Ok(_) if used.contains(asked) => {
                    let detail =
                        format!("failed to allocate IP {asked}: provided IP is already allocated");
                    return refuse(FieldError::invalid(field, &shown, detail));
                }
                Ok(_) => asked.to_owned(),
                Err(_) => {
                    let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
                    return refuse(FieldError::invalid(
                        "spec.clusterIPs[0]",
                        &asked.into(),
                        detail,
                    ));
                }
            }
        }
        _ => free_address(&range, &used),
    };
    service["spec"]["clusterIPs"] = json!([address]);
    service["spec"]["clusterIP"] = address.into();
    Ok(())
}

/// A random free address above the first 256, which are left for those who ask for one.
fn free_address(range: &ipnet::Ipv4Net, used: &BTreeSet<&str>) -> String {
    let (first, last) = (
        u32::from(range.network()) + 256,
        u32::from(range.broadcast()) - 1,
    );
    loop {
        let address = Ipv4Addr::from(rand::random_range(first..=last)).to_string();
        if !used.contains(address.as_str()) {
            return address;
        }
    }
}

fn allocate_ports(
    resource: &Resource,
    others: &[&Value],
    service: &mut Value,
) -> Result<(), ApiError> {
    let number = |port: &Value| port["nodePort"].as_u64().filter(|port| *port != 0);
    let mut used: BTreeSet<u64> = others
        .iter()
        .flat_map(|other| meta::list(other, "/spec/ports"))
        .filter_map(number)
        .collect();
    let mut errors = Vec::new();
    let mut mine = BTreeSet::new();
    for (index, port) in meta::list(service, "/spec/ports").iter().enumerate() {
        let Some(asked) = number(port) else { continue };
        let field = format!("spec.ports[{index}].nodePort");
        if !u16::try_from(asked).is_ok_and(|asked| NODE_PORTS.contains(&asked)) {
            errors.push(FieldError::invalid(
                field,
                &asked.into(),
                "provided port is not in the valid range. The range of valid ports is 30000-32767",
            ));
        } else if used.contains(&asked) {
            errors.push(FieldError::invalid(
                field,
                &asked.into(),
                "provided port is already allocated",
            ));
        }
        mine.insert(asked);
    }
    if !errors.is_empty() {
        return Err(ApiError::invalid(resource, meta::name(service), &errors));
    }
    used.extend(mine);
    for port in service["spec"]["ports"]
        .as_array_mut()
        .into_iter()
        .flatten()
    {
        if number(port).is_none() && port.is_object() {
            let free =
                free_port(&used).ok_or_else(|| ApiError::internal("no node port is free"))?;
            used.insert(free);
            port["nodePort"] = free.into();
        }
    }
    Ok(())
}

fn free_port(used: &BTreeSet<u64>) -> Option<u64> {
    let n = u64::from(NODE_PORTS.end() - NODE_PORTS.start()) + 1;
    let start = rand::random_range(0..n);
    (0..n)
        .map(|step| u64::from(*NODE_PORTS.start()) + (start + step) % n)
        .find(|port| !used.contains(port))
}
