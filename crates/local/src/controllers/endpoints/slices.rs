//! What a service's endpoints are. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort as OldPort, EndpointSubset, Endpoints, ObjectReference, Pod,
    Service, ServicePort,
};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource;
use kube::api::ResourceExt;

use crate::controllers::pods;
use crate::kubelet::NODE_NAME;

pub(super) const SERVICE_LABEL: &str = "kubernetes.io/service-name";
pub(super) const MANAGER_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
pub(super) const MANAGER: &str = "endpointslice-controller.k8s.io";
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// Whether the service's endpoints are this controller's.
pub(super) fn has_selector(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    let external = spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName");
    !external
        && spec
            .and_then(|spec| spec.selector.as_ref())
            .is_some_and(|selector| !selector.is_empty())
}

/// Whether the service selects the pod.
pub(super) fn selects(service: &Service, pod: &Pod) -> bool {
    let selector = service
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.as_ref());
    has_selector(service)
        && service.namespace() == pod.namespace()
        && selector.is_some_and(|selector| {
            selector
                .iter()
                .all(|(key, value)| pod.labels().get(key) == Some(value))
        })
}

/// One pod as an endpoint of one service.
struct Member<'a> {
    pod: &'a Pod,
    ip: String,
    ready: bool,
    serving: bool,
    terminating: bool,
}

impl<'a> Member<'a> {
    fn of(service: &Service, pod: &'a Pod) -> Option<Self> {
        let ip = pod
            .status
            .as_ref()?
            .pod_ip
            .clone()
            .filter(|ip| !ip.is_empty())?;
        if matches!(pods::phase(pod), "Succeeded" | "Failed") {
            return None;
        }
        let spec = service.spec.as_ref();
        let anyway = spec.and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
        let serving = pods::is_ready(pod);
        let terminating = pod.metadata.deletion_timestamp.is_some();
        Some(Self {
            pod,
            ip,
            ready: anyway || (serving && !terminating),
            serving,
            terminating,
        })
    }

    fn target(&self) -> ObjectReference {
        ObjectReference {
            kind: Some("Pod".into()),
            namespace: self.pod.namespace(),
            name: self.pod.metadata.name.clone(),
            uid: self.pod.uid(),
            ..ObjectReference::default()
        }
    }

    /// The name by which DNS knows the pod, if its subdomain is this service.
    fn hostname(&self, service: &Service) -> Option<String> {
        let spec = self.pod.spec.as_ref()?;
        let here = spec.subdomain.is_some() && spec.subdomain == service.metadata.name;
        spec.hostname.clone().filter(|_| here)
    }
}

fn members<'a>(service: &Service, pods: &[&'a Pod]) -> Vec<Member<'a>> {
    let mut members: Vec<_> = pods
        .iter()
        .filter_map(|pod| Member::of(service, pod))
        .collect();
    members.sort_by(|a, b| a.ip.cmp(&b.ip));
    members
}

/// The port numbers of a service on one pod; a named target port differs from pod to pod.
fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let spec = service.spec.clone().unwrap_or_default();
    let all = spec.ports.unwrap_or_default();
    let resolve = |port: &ServicePort| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(target_port(port, pod)?),
            protocol: port.protocol.clone().or_else(|| Some("TCP".into())),
            app_protocol: port.app_protocol.clone(),
        })
    };
    all.iter().filter_map(resolve).collect()
}

fn target_port(port: &ServicePort, pod: &Pod) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let containers = spec
                .containers
                .iter()
                .chain(spec.init_containers.iter().flatten());
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
            let found = ports.find(|port| {
                port.name.as_ref() == Some(name)
                    && port.protocol.as_deref().unwrap_or("TCP") == protocol
            });
            found.map(|port| port.container_port)
        }
    }
}

/// The slices of a service by name: one for each distinct set of port numbers.
pub(super) fn slices(service: &Service, pods: &[&Pod]) -> BTreeMap<String, EndpointSlice> {
    let mut groups: BTreeMap<String, (Vec<EndpointPort>, Vec<Endpoint>)> = BTreeMap::new();
    for member in members(service, pods) {
        let ports = ports(service, member.pod);
        let numbers: Vec<String> = ports
            .iter()
            .map(|port| port.port.unwrap_or(0).to_string())
            .collect();
        let group = groups
            .entry(numbers.join("-"))
            .or_insert_with(|| (ports, Vec::new()));
        group.1.push(endpoint(service, &member));
    }
    if groups.is_empty() {
        groups.insert(String::new(), (Vec::new(), Vec::new()));
    }
    let numbered = groups.into_values().enumerate();
    let slices =
        numbered.map(|(index, (ports, endpoints))| slice(service, index, ports, endpoints));
    slices.map(|slice| (slice.name_any(), slice)).collect()
}

fn endpoint(service: &Service, member: &Member<'_>) -> Endpoint {
    Endpoint {
        addresses: vec![member.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(member.ready),
            serving: Some(member.serving),
            terminating: Some(member.terminating),
        }),
        hostname: member.hostname(service),
        node_name: Some(NODE_NAME.into()),
        target_ref: Some(member.target()),
        ..Endpoint::default()
    }
}

fn slice(
    service: &Service,
    index: usize,
    ports: Vec<EndpointPort>,
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    let name = service.name_any();
    // The uid's first letters tell the slices of two services of one name, one after the other, apart.
    let unique: String = service.uid().unwrap_or_default().chars().take(5).collect();
    let mut labels = service.labels().clone();
    labels.insert(SERVICE_LABEL.into(), name.clone());
    labels.insert(MANAGER_LABEL.into(), MANAGER.into());
    if is_headless(service) {
        labels.insert(HEADLESS_LABEL.into(), String::new());
    }
    EndpointSlice {
        address_type: "IPv4".into(),
        metadata: ObjectMeta {
            name: Some(if index == 0 {
                format!("{name}-{unique}")
            } else {
                format!("{name}-{unique}-{index}")
            }),
            namespace: service.namespace(),
            labels: Some(labels),
            owner_references: service.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        ports: (!ports.is_empty()).then_some(ports),
        endpoints: Some(endpoints),
    }
}

fn is_headless(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .and_then(|spec| spec.cluster_ip.as_deref())
        == Some("None")
}

/// The same in the older kind.
pub(super) fn endpoints(service: &Service, pods: &[&Pod]) -> Endpoints {
    let mut groups: BTreeMap<String, EndpointSubset> = BTreeMap::new();
    for member in members(service, pods) {
        let ports = ports(service, member.pod);
        if member.terminating || ports.is_empty() {
            continue;
        }
        let numbers: Vec<String> = ports
            .iter()
            .map(|port| port.port.unwrap_or(0).to_string())
            .collect();
        let subset = groups
            .entry(numbers.join("-"))
            .or_insert_with(|| EndpointSubset {
                ports: Some(ports.into_iter().map(old_port).collect()),
                ..EndpointSubset::default()
            });
        let list = if member.ready {
            &mut subset.addresses
        } else {
            &mut subset.not_ready_addresses
        };
        list.get_or_insert_default().push(EndpointAddress {
            hostname: member.hostname(service),
            ip: member.ip.clone(),
            node_name: Some(NODE_NAME.into()),
            target_ref: Some(member.target()),
        });
    }
    Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.namespace(),
            labels: Some(service.labels().clone()).filter(|labels| !labels.is_empty()),
            ..ObjectMeta::default()
        },
        subsets: (!groups.is_empty()).then(|| groups.into_values().collect()),
    }
}

fn old_port(port: EndpointPort) -> OldPort {
    OldPort {
        name: port.name.filter(|name| !name.is_empty()),
        port: port.port.unwrap_or(0),
        protocol: port.protocol,
        app_protocol: port.app_protocol,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn service(ports: Value) -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": "s", "namespace": "n", "uid": "abcdefgh"},
            "spec": {"selector": {"app": "a"}, "clusterIP": "10.96.0.9", "ports": ports},
        }))
        .unwrap()
    }

    fn pod(ip: &str, ready: &str, port: i32) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": format!("p{ip}"), "namespace": "n", "labels": {"app": "a"}},
            "spec": {"containers": [{"name": "c", "ports": [{"name": "web", "containerPort": port}]}]},
            "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    }

    #[test]
    fn ready_and_unready_pods() {
        let service = service(json!([{"name": "http", "port": 80, "targetPort": 9080}]));
        let (a, b) = (pod("10.0.0.1", "True", 1), pod("10.0.0.2", "False", 1));
        let slices = slices(&service, &[&a, &b]);
        let slice = &slices["s-abcde"];
        assert_eq!(slice.ports.as_ref().unwrap()[0].port, Some(9080));
        let ready: Vec<_> = slice
            .endpoints
            .iter()
            .flatten()
            .map(|one| one.conditions.clone().unwrap().ready)
            .collect();
        assert_eq!(ready, [Some(true), Some(false)]);
        let subset = endpoints(&service, &[&a, &b]).subsets.unwrap().remove(0);
        assert_eq!(subset.addresses.unwrap()[0].ip, "10.0.0.1");
        assert_eq!(subset.not_ready_addresses.unwrap()[0].ip, "10.0.0.2");
    }

    #[test]
    fn a_terminating_pod_still_serves_but_is_not_ready() {
        let service = service(json!([{"port": 80}]));
        let mut pod = pod("10.0.0.1", "True", 1);
        pod.metadata.deletion_timestamp = Some(
            k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::now()),
        );
        let slices = slices(&service, &[&pod]);
        let conditions = slices["s-abcde"].endpoints.as_ref().unwrap()[0]
            .conditions
            .clone()
            .unwrap();
        assert_eq!(
            (conditions.ready, conditions.serving, conditions.terminating),
            (Some(false), Some(true), Some(true))
        );
        assert_eq!(endpoints(&service, &[&pod]).subsets, None);
    }

    #[test]
    fn named_ports_differ_by_pod() {
        let service = service(json!([{"port": 80, "targetPort": "web"}]));
        let (a, b) = (pod("10.0.0.1", "True", 8080), pod("10.0.0.2", "True", 9090));
        let slices = slices(&service, &[&a, &b]);
        let numbers: Vec<_> = slices
            .values()
            .map(|slice| slice.ports.as_ref().unwrap()[0].port)
            .collect();
        assert_eq!(numbers, [Some(8080), Some(9090)]);
    }

    #[test]
    fn other_pods_are_not_selected() {
        let service = service(json!([]));
        let mut other = pod("10.0.0.1", "True", 1);
        assert!(selects(&service, &other));
        other.metadata.labels = None;
        assert!(!selects(&service, &other));
        assert_eq!(
            slices(&service, &[]).len(),
            1,
            "a service without pods has an empty slice"
        );
    }
}
