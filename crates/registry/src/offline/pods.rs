//! What the controllers of a cluster would add to documents.

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use lateen_api::labels;
use serde_json::{Value, json};

/// The pods of a Deployment or the like.
pub(super) fn of_workload(kind: &str, key: &(String, String), value: &Value) -> Vec<Value> {
    let (namespace, name) = key;
    let replicas = value["spec"]["replicas"].as_u64().unwrap_or(1);
    (0..replicas)
        .map(|index| {
            let mut pod = value["spec"]["template"].clone();
            pod["apiVersion"] = json!("v1");
            pod["kind"] = json!("Pod");
            if !pod["metadata"].is_object() {
                pod["metadata"] = json!({});
            }
            let meta = &mut pod["metadata"];
            meta["name"] = json!(format!("{name}-{index}"));
            meta["namespace"] = json!(namespace);
            meta["ownerReferences"] = json!([{ "apiVersion": "apps/v1", "kind": kind,
                "name": name, "uid": "", "controller": true }]);
            pod
        })
        .collect()
}

/// Addresses of services and pods that have none, each from the range that the local platform has.
pub(super) fn give_addresses(services: &mut [Service], pods: &mut [Pod]) {
    let mut next = 0u16;
    for service in services {
        let spec = service.spec.get_or_insert_default();
        if spec.cluster_ip.is_none() && spec.type_.as_deref() != Some("ExternalName") {
            next += 1;
            let [high, low] = next.to_be_bytes();
            let first = spec.ip_families.iter().flatten().next();
            spec.cluster_ip = Some(match first.map(String::as_str) {
                Some("IPv6") => format!("fd00:10:96::{next:x}"),
                _ => format!("10.96.{}.{low}", high + 1),
            });
        }
    }
    let mut next = 0u16;
    for pod in pods {
        let injected = with_sidecar(pod);
        let status = pod.status.get_or_insert_default();
        if status.pod_ip.is_none() {
            next += 1;
            let [high, low] = next.to_be_bytes();
            status.pod_ip = Some(format!("10.244.{high}.{low}"));
        }
        let conditions = status.conditions.get_or_insert_default();
        if !conditions
            .iter()
            .any(|condition| condition.type_ == "Ready")
        {
            conditions.push(k8s_openapi::api::core::v1::PodCondition {
                type_: "Ready".to_owned(),
                status: "True".to_owned(),
                ..Default::default()
            });
        }
        if injected {
            let all = pod.metadata.labels.get_or_insert_default();
            all.entry(labels::TLS_MODE.to_owned())
                .or_insert_with(|| "istio".to_owned());
        }
    }
}

fn with_sidecar(pod: &Pod) -> bool {
    let meta = &pod.metadata;
    let says = |map: &Option<std::collections::BTreeMap<String, String>>| {
        map.as_ref()?.get("sidecar.istio.io/inject").cloned()
    };
    let said = says(&meta.labels).or_else(|| says(&meta.annotations));
    said.as_deref() != Some("false")
}

/// Whether a slice is of a service.
pub(super) fn is_of(slice: &EndpointSlice, service: &Service) -> bool {
    let of = slice.metadata.labels.as_ref();
    let of = of.and_then(|labels| labels.get(labels::SERVICE_NAME));
    of == service.metadata.name.as_ref() && slice.metadata.namespace == service.metadata.namespace
}

/// The slices that a controller makes: one for each number that a port has at the pods, with the
/// pods that the service selects.
pub(super) fn slices(service: &Service, pods: &[Pod]) -> Vec<EndpointSlice> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let selector = spec.selector.clone().unwrap_or_default();
    if selector.is_empty() {
        return Vec::new();
    }
    let name = service.metadata.name.clone().unwrap_or_default();
    let namespace = service.metadata.namespace.clone();
    let mut slices = Vec::new();
    for pod in pods {
        let own = pod.metadata.labels.clone().unwrap_or_default();
        let selected = selector
            .iter()
            .all(|(key, value)| own.get(key) == Some(value));
        if !selected || pod.metadata.namespace != namespace {
            continue;
        }
        let ports: Vec<Value> = spec
            .ports
            .iter()
            .flatten()
            .filter_map(|port| Some(json!({ "name": port.name, "port": target(port, pod)? })))
            .collect();
        let pod_name = pod.metadata.name.clone().unwrap_or_default();
        let families = families(spec);
        let addresses = addresses(pod);
        let addresses = addresses.iter().filter(|ip| families.contains(&family(ip)));
        slices.extend(addresses.map(|address| {
            let family = family(address);
            let slice = json!({
                "metadata": { "name": format!("{name}-{pod_name}-{family}"), "namespace": namespace,
                    "labels": { labels::SERVICE_NAME: name } },
                "addressType": family,
                "ports": ports,
                "endpoints": [{ "addresses": [address],
                    "targetRef": { "kind": "Pod", "name": pod_name, "namespace": namespace } }],
            });
            serde_json::from_value::<EndpointSlice>(slice).expect("the fields of a slice")
        }));
    }
    slices
}

fn family(address: &str) -> &'static str {
    if address.contains(':') {
        "IPv6"
    } else {
        "IPv4"
    }
}

/// The families of a service: those that it names, else that of its address.
fn families(spec: &k8s_openapi::api::core::v1::ServiceSpec) -> Vec<&str> {
    let named: Vec<&str> = spec.ip_families.iter().flatten().map(|of| &**of).collect();
    match (&spec.cluster_ip, named.is_empty()) {
        (_, false) => named,
        // A headless one is of both, where it has pods of both.
        (Some(ip), true) if ip != "None" => vec![family(ip)],
        (_, true) => vec!["IPv4", "IPv6"],
    }
}

/// All addresses of a pod, its own first.
fn addresses(pod: &Pod) -> Vec<String> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let mut all: Vec<String> = status.pod_ip.iter().cloned().collect();
    let more = status.pod_ips.iter().flatten().map(|of| of.ip.clone());
    all.extend(more);
    all.dedup();
    all
}

/// The number of a service's port at a pod.
fn target(port: &k8s_openapi::api::core::v1::ServicePort, pod: &Pod) -> Option<i32> {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
            let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
            let named = ports.find(|found| found.name.as_ref() == Some(name));
            named.map(|found| found.container_port)
        }
    }
}
