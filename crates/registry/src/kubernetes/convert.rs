//! Kubernetes' objects to ours, each a pure function.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use k8s_openapi::{
    api::{
        core::v1 as core,
        discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice},
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use kube::api::DynamicObject;
use lateen_api::{Kind, Maker, annotations, kinds, labels, status};
use lateen_core::{Hostname, Labels, Locality, Protocol};
use serde_json::{Value, json};

use super::Document;
use crate::{
    Namespace, Node, Provider, Resolution, Service, ServicePort, TargetPort, TrafficDistribution,
    Workload, WorkloadOwner,
    state::{MeshTexts, Slice, SliceAddress},
};

fn labels_of(meta: &ObjectMeta) -> Labels {
    Labels(meta.labels.clone().unwrap_or_default())
}

fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The host name is only the short one here; the writer adds the domain.
pub(crate) fn service(object: core::Service) -> Option<Arc<Service>> {
    let meta = object.metadata;
    let spec = object.spec.unwrap_or_default();
    let external_name = (spec.type_.as_deref() == Some("ExternalName"))
        .then_some(spec.external_name)
        .flatten();
    let addresses = addresses(spec.cluster_ip.as_deref(), spec.cluster_ips.as_deref());
    let resolution = match (&external_name, addresses.is_empty()) {
        (Some(_), _) => Resolution::Dns,
        (None, true) => Resolution::Passthrough,
        (None, false) => Resolution::ClientSide,
    };
    let export_to = annotation(&meta, annotations::EXPORT_TO)
        .unwrap_or_default()
        .to_owned();
    // The annotation is older than the field and counts for more.
    let near = annotation(&meta, annotations::TRAFFIC_DISTRIBUTION);
    let distribution = near
        .or(spec.traffic_distribution.as_deref())
        .and_then(TrafficDistribution::parse);
    let balancer = object
        .status
        .and_then(|s| s.load_balancer)
        .and_then(|b| b.ingress);
    Some(Arc::new(Service {
        hostname: Hostname::new(""),
        labels: labels_of(&meta),
        created: meta.creation_timestamp.as_ref().map(|time| time.0),
        export_to: export_to
            .split(',')
            .map(str::trim)
            .filter(|s| !s.is_empty())
            .map(Into::into)
            .collect(),
        name: meta.name?,
        namespace: meta.namespace.unwrap_or_default().into(),
        provider: Provider::Kubernetes,
        addresses,
        address_ranges: Vec::new(),
        ports: spec
            .ports
            .unwrap_or_default()
            .into_iter()
            .filter_map(service_port)
            .collect(),
        resolution,
        external: external_name.is_some(),
        selector: Labels(spec.selector.unwrap_or_default()),
        subject_alt_names: Vec::new(),
        external_name,
        load_balancer: balancer
            .unwrap_or_default()
            .into_iter()
            .filter_map(|ingress| ingress.ip.or(ingress.hostname))
            .collect(),
        distribution,
        allocated: Vec::new(),
    }))
}

/// `None` and the empty string both say headless.
fn addresses(first: Option<&str>, all: Option<&[String]>) -> Vec<IpAddr> {
    let mut out: Vec<IpAddr> = Vec::new();
    let all = all.unwrap_or_default().iter().map(String::as_str);
    for ip in first
        .into_iter()
        .chain(all)
        .filter_map(|text| text.parse().ok())
    {
        if !out.contains(&ip) {
            out.push(ip);
        }
    }
    out
}

fn service_port(port: core::ServicePort) -> Option<ServicePort> {
    let number = u16::try_from(port.port).ok()?;
    let name = port.name.unwrap_or_default();
    let transport = port.protocol.as_deref().unwrap_or("TCP");
    let protocol = Protocol::of_port(&name, port.app_protocol.as_deref(), transport, number);
    let target_port = match port.target_port {
        Some(IntOrString::String(name)) => TargetPort::Name(name),
        Some(IntOrString::Int(n)) => TargetPort::Number(u16::try_from(n).unwrap_or(number)),
        None => TargetPort::Number(number),
    };
    Some(ServicePort {
        name: name.into(),
        port: number,
        target_port,
        protocol,
    })
}

pub(crate) fn slice(object: EndpointSlice) -> Option<Slice> {
    let service = labels_of(&object.metadata)
        .value(labels::SERVICE_NAME)?
        .to_owned();
    let ports = object.ports.unwrap_or_default().into_iter();
    Some(Slice {
        service,
        ports: ports
            .filter_map(|port| {
                Some((
                    port.name.unwrap_or_default(),
                    u16::try_from(port.port?).ok()?,
                ))
            })
            .collect(),
        addresses: object
            .endpoints
            .unwrap_or_default()
            .into_iter()
            .flat_map(slice_addresses)
            .collect(),
    })
}

fn slice_addresses(endpoint: SliceEndpoint) -> impl Iterator<Item = SliceAddress> {
    let conditions = endpoint.conditions.unwrap_or_default();
    // "Unknown" is ready, says the API.
    let ready = conditions.ready.unwrap_or(true);
    let pod = endpoint
        .target_ref
        .filter(|target| target.kind.as_deref() == Some("Pod"))
        .and_then(|target| target.name);
    let node = endpoint.node_name.unwrap_or_default();
    endpoint
        .addresses
        .into_iter()
        .map(move |address| SliceAddress {
            address,
            ready,
            pod: pod.clone(),
            node: node.clone(),
        })
}

pub(crate) fn workload(object: core::Pod) -> Option<Arc<Workload>> {
    let (meta, spec, status) = (
        object.metadata,
        object.spec?,
        object.status.unwrap_or_default(),
    );
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let labels = labels_of(&meta);
    let injected = annotation(&meta, annotations::STATUS).is_some();
    let ready = status
        .conditions
        .iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True");
    // Pods on the host's network share its address, so the address does not name them.
    let ips = if spec.host_network == Some(true) {
        Vec::new()
    } else {
        let all = status
            .pod_ips
            .unwrap_or_default()
            .into_iter()
            .map(|ip| ip.ip)
            .collect::<Vec<_>>();
        addresses(status.pod_ip.as_deref(), Some(&all))
    };
    Some(Arc::new(Workload {
        mtls: takes_mtls(&labels, injected),
        locality: Locality::of_labels(|label| labels.value(label)).unwrap_or_default(),
        owner: owner(&meta, &labels),
        annotations: mesh_annotations(&meta),
        labels,
        name: meta.name?,
        namespace: meta.namespace.unwrap_or_default(),
        ips,
        service_account: spec
            .service_account_name
            .unwrap_or_else(|| "default".into()),
        node: spec.node_name.unwrap_or_default(),
        ports: container_ports(spec.containers),
        ready,
    }))
}

/// The label decides; a pod injected by hand before the label existed has only the status.
fn takes_mtls(labels: &Labels, injected: bool) -> bool {
    labels
        .value(labels::TLS_MODE)
        .map_or(injected, |mode| mode == "istio")
}

fn container_ports(containers: Vec<core::Container>) -> BTreeMap<String, u16> {
    let ports = containers
        .into_iter()
        .flat_map(|container| container.ports.unwrap_or_default());
    ports
        .filter_map(|port| Some((port.name?, u16::try_from(port.container_port).ok()?)))
        .collect()
}

fn mesh_annotations(meta: &ObjectMeta) -> BTreeMap<String, String> {
    let all = meta.annotations.iter().flatten();
    all.filter(|(key, _)| key.contains("istio.io/"))
        .filter(|(key, _)| *key != annotations::STATUS)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn owner(meta: &ObjectMeta, labels: &Labels) -> Option<WorkloadOwner> {
    let owner = meta
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))?;
    let controller = Maker {
        api_version: &owner.api_version,
        kind: &owner.kind,
        name: &owner.name,
    };
    let maker = controller.behind(|key| labels.value(key));
    Some(WorkloadOwner {
        kind: maker.kind.to_owned(),
        name: maker.name.to_owned(),
    })
}

/// Of a node only its labels count.
pub(crate) fn node(meta: &ObjectMeta) -> Option<Arc<Node>> {
    let labels = labels_of(meta);
    let first = |keys: [&str; 2]| {
        keys.into_iter()
            .find_map(|key| labels.value(key))
            .unwrap_or_default()
            .into()
    };
    Some(Arc::new(Node {
        locality: Locality {
            region: first([labels::REGION, labels::REGION_BETA]),
            zone: first([labels::ZONE, labels::ZONE_BETA]),
            sub_zone: labels.value(labels::SUBZONE).unwrap_or_default().into(),
        },
        name: meta.name.clone()?,
    }))
}

/// Of a namespace too.
pub(crate) fn namespace(meta: &ObjectMeta) -> Option<Arc<Namespace>> {
    Some(Arc::new(Namespace {
        name: meta.name.clone()?,
        labels: labels_of(meta),
    }))
}

pub(crate) fn mesh(object: core::ConfigMap) -> Option<Arc<MeshTexts>> {
    let data = object.data?;
    let text = |key: &str| data.get(key).map(|text| Arc::from(text.as_str()));
    let texts = MeshTexts {
        mesh: text("mesh"),
        networks: text("meshNetworks"),
    };
    (texts != MeshTexts::default()).then(|| Arc::new(texts))
}

/// Items of a list carry no `apiVersion` and `kind` of their own; galley wants whole documents.
pub(super) fn raw(kind: &Kind, object: DynamicObject) -> Option<Document> {
    let mut value = serde_json::to_value(object).ok()?;
    let map = value.as_object_mut()?;
    map.insert("apiVersion".into(), json!(kind.api_version()));
    map.insert("kind".into(), json!(kind.kind));
    if let Some(Value::Object(meta)) = map.get_mut("metadata") {
        meta.remove("managedFields");
        // It counts writes of the status too, which say nothing new.
        meta.remove("resourceVersion");
    }
    let status = map.remove("status").unwrap_or_default();
    if let Some(status) = used_status(kind, &status) {
        map.insert("status".into(), status);
    }
    Some(Arc::new(value))
}

/// What of a status is of use: the addresses that hosts were given, since whoever was told of one
/// keeps it, and the health of workloads.
fn used_status(kind: &Kind, status: &Value) -> Option<Value> {
    if kind.id() == kinds::SERVICE_ENTRY.kind {
        let addresses = status["addresses"].as_array()?;
        return Some(json!({"addresses": addresses}));
    }
    if kind.id() == kinds::WORKLOAD_ENTRY.kind {
        let mut conditions = status["conditions"].as_array()?.iter();
        let health = conditions.find(|one| one["type"] == status::HEALTHY)?;
        // When it was looked at says nothing new.
        let health = json!({"type": health["type"], "status": health["status"]});
        return Some(json!({"conditions": [health]}));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_is_named_as_its_proxy_is_told() {
        let check = |kind: &str, name: &str, label: &str, want: (&str, &str)| {
            let meta = json!({"ownerReferences": [
                {"apiVersion": "v1", "kind": kind, "name": name, "uid": "u", "controller": true},
            ]});
            let meta: ObjectMeta = serde_json::from_value(meta).expect("metadata");
            let labels = Labels([(label.to_owned(), "77bb".to_owned())].into());
            let owner = owner(&meta, &labels).expect("an owner");
            assert_eq!((&*owner.kind, &*owner.name), want);
        };
        let hash = labels::POD_TEMPLATE_HASH;
        check("ReplicaSet", "a-77bb", hash, ("Deployment", "a"));
        check("ReplicaSet", "a-88cc", hash, ("ReplicaSet", "a-88cc"));
        check("Job", "tick-29681234", hash, ("CronJob", "tick"));
        check(
            "ReplicaSet",
            "a-77bb",
            labels::ROLLOUT_HASH,
            ("Rollout", "a"),
        );
    }

    #[test]
    fn of_a_status_what_is_used_is_kept() {
        let status = json!({
            "addresses": [{"value": "240.240.0.1", "host": "a"}],
            "conditions": [
                {"type": "Reconciled", "status": "True"},
                {"type": "Healthy", "status": "False", "message": "refused", "lastProbeTime": "t"},
            ],
        });
        let health = json!({"conditions": [{"type": "Healthy", "status": "False"}]});
        for (kind, expect) in [
            (
                &kinds::SERVICE_ENTRY,
                Some(json!({"addresses": status["addresses"]})),
            ),
            (&kinds::WORKLOAD_ENTRY, Some(health)),
            (&kinds::VIRTUAL_SERVICE, None),
        ] {
            assert_eq!(used_status(kind, &status), expect, "{}", kind.kind);
            assert_eq!(used_status(kind, &Value::Null), None, "{}", kind.kind);
        }
    }
}
