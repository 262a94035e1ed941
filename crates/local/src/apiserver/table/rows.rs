//! The rows of the builtin kinds but pods.

use serde_json::{Value, json};

use super::{age, duration, object_age};
use crate::apiserver::kinds::Resource;
use crate::apiserver::meta;

const NONE: &str = "<none>";

/// Endpoints and ports beyond these are counted only.
const MAX_SHOWN: usize = 3;

fn joined(parts: Vec<String>) -> String {
    if parts.is_empty() {
        NONE.into()
    } else {
        parts.join(",")
    }
}

fn text_or(object: &Value, pointer: &str, otherwise: &str) -> String {
    match object.pointer(pointer) {
        Some(Value::String(text)) if !text.is_empty() => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => otherwise.to_owned(),
    }
}

fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

fn count(object: &Value, pointers: &[&str]) -> usize {
    let len = |pointer: &&str| match object.pointer(pointer) {
        Some(Value::Array(items)) => items.len(),
        Some(Value::Object(members)) => members.len(),
        _ => 0,
    };
    pointers.iter().map(len).sum()
}

pub(super) fn cells(resource: &Resource, object: &Value) -> Vec<Value> {
    let name = Value::from(meta::name(object));
    let age = object_age(object);
    let text = |pointer: &str| Value::from(text_or(object, pointer, ""));
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "services") => service(object),
        ("", "nodes") => node(object),
        ("", "namespaces") => vec![name, text("/status/phase"), age],
        ("", "configmaps") => vec![name, count(object, &["/data", "/binaryData"]).into(), age],
        ("", "secrets") => vec![name, text("/type"), count(object, &["/data"]).into(), age],
        ("", "serviceaccounts") => vec![name, count(object, &["/secrets"]).into(), age],
        ("", "endpoints") => vec![name, endpoints(object).into(), age],
        ("" | "events.k8s.io", "events") => event(object),
        ("apps", _) => workload(resource, object),
        ("batch", _) => job(object),
        ("discovery.k8s.io", _) => slice(object),
        ("networking.k8s.io", "ingresses") => ingress(object),
        ("networking.k8s.io", "ingressclasses") => {
            vec![
                name,
                text("/spec/controller"),
                text_or(object, "/spec/parameters/name", NONE).into(),
                age,
            ]
        }
        ("coordination.k8s.io", _) => vec![name, text("/spec/holderIdentity"), age],
        ("policy", _) => vec![
            name,
            text_or(object, "/spec/minAvailable", "N/A").into(),
            text_or(object, "/spec/maxUnavailable", "N/A").into(),
            number(object, "/status/disruptionsAllowed").into(),
            age,
        ],
        ("autoscaling", _) => vec![
            name,
            format!(
                "{}/{}",
                text_or(object, "/spec/scaleTargetRef/kind", ""),
                text_or(object, "/spec/scaleTargetRef/name", "")
            )
            .into(),
            "<unknown>".into(),
            text_or(object, "/spec/minReplicas", "<unset>").into(),
            number(object, "/spec/maxReplicas").into(),
            number(object, "/status/currentReplicas").into(),
            age,
        ],
        ("rbac.authorization.k8s.io", "roles" | "clusterroles") | ("apiextensions.k8s.io", _) => {
            vec![name, text("/metadata/creationTimestamp")]
        }
        ("rbac.authorization.k8s.io", _) => binding(object),
        ("admissionregistration.k8s.io", _) => {
            vec![name, count(object, &["/webhooks"]).into(), age]
        }
        _ => vec![name, age],
    }
}

fn selector(labels: Option<&Value>) -> Value {
    let labels = labels.and_then(Value::as_object);
    let pairs = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    joined(pairs.collect()).into()
}

fn service(service: &Value) -> Vec<Value> {
    let kind = text_or(service, "/spec/type", "ClusterIP");
    let strings = |pointer: &str, key: &str| -> Vec<String> {
        let pick = |one: &Value| {
            if key.is_empty() {
                one.as_str().map(str::to_owned)
            } else {
                one[key].as_str().map(str::to_owned)
            }
        };
        meta::list(service, pointer)
            .iter()
            .filter_map(pick)
            .collect()
    };
    let mut external = strings("/spec/externalIPs", "");
    if kind == "LoadBalancer" {
        let mut balanced = strings("/status/loadBalancer/ingress", "ip");
        balanced.extend(strings("/status/loadBalancer/ingress", "hostname"));
        external.splice(0..0, balanced);
        if external.is_empty() {
            external.push("<pending>".into());
        }
    }
    if kind == "ExternalName" {
        external = vec![text_or(service, "/spec/externalName", NONE)];
    }
    let ports = meta::list(service, "/spec/ports").iter().map(|port| {
        let protocol = text_or(port, "/protocol", "TCP");
        match number(port, "/nodePort") {
            0 => format!("{}/{protocol}", port["port"]),
            node => format!("{}:{node}/{protocol}", port["port"]),
        }
    });
    vec![
        meta::name(service).into(),
        kind.into(),
        text_or(service, "/spec/clusterIP", NONE).into(),
        joined(external).into(),
        joined(ports.collect()).into(),
        object_age(service),
        selector(service.pointer("/spec/selector")),
    ]
}

fn node(node: &Value) -> Vec<Value> {
    let ready = meta::list(node, "/status/conditions")
        .iter()
        .find(|one| one["type"] == "Ready");
    let mut status = match ready.map(|one| &one["status"]) {
        Some(status) if status == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if node.pointer("/spec/unschedulable") == Some(&Value::Bool(true)) {
        status.push_str(",SchedulingDisabled");
    }
    let labels = node.pointer("/metadata/labels").and_then(Value::as_object);
    let roles = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/"));
    let address = |kind: &str| {
        let found = meta::list(node, "/status/addresses")
            .iter()
            .find(|one| one["type"] == kind);
        found
            .and_then(|one| one["address"].as_str())
            .unwrap_or(NONE)
            .to_owned()
    };
    let info = |key: &str| text_or(node, &format!("/status/nodeInfo/{key}"), "<unknown>");
    vec![
        meta::name(node).into(),
        status.into(),
        joined(roles.map(str::to_owned).collect()).into(),
        object_age(node),
        info("kubeletVersion").into(),
        address("InternalIP").into(),
        address("ExternalIP").into(),
        info("osImage").into(),
        info("kernelVersion").into(),
        info("containerRuntimeVersion").into(),
    ]
}

/// A few of many, and how many more there are.
fn few(mut all: Vec<String>) -> String {
    let n = all.len();
    if n <= MAX_SHOWN {
        return joined(all);
    }
    all.truncate(MAX_SHOWN);
    format!("{} + {} more...", all.join(","), n - MAX_SHOWN)
}

fn endpoints(object: &Value) -> String {
    let mut all = Vec::new();
    for subset in meta::list(object, "/subsets") {
        for address in meta::list(subset, "/addresses") {
            let ip = address["ip"].as_str().unwrap_or_default();
            let ports = meta::list(subset, "/ports");
            all.extend(ports.iter().map(|port| format!("{ip}:{}", port["port"])));
        }
    }
    few(all)
}

fn slice(slice: &Value) -> Vec<Value> {
    let ports = meta::list(slice, "/ports")
        .iter()
        .map(|port| text_or(port, "/port", "*"));
    let ports = match count(slice, &["/ports"]) {
        0 => "<unset>".to_owned(),
        _ => few(ports.collect()),
    };
    let addresses = meta::list(slice, "/endpoints")
        .iter()
        .flat_map(|one| meta::list(one, "/addresses"));
    let addresses: Vec<String> = addresses
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let shown = if addresses.is_empty() {
        "<unset>".to_owned()
    } else {
        few(addresses)
    };
    vec![
        meta::name(slice).into(),
        text_or(slice, "/addressType", "").into(),
        ports.into(),
        shown.into(),
        object_age(slice),
    ]
}

fn event(event: &Value) -> Vec<Value> {
    let pick = |pointers: &[&str]| {
        let found = pointers
            .iter()
            .find_map(|pointer| meta::text(event, pointer).filter(|text| !text.is_empty()));
        found.map(str::to_owned)
    };
    let about = |key: &str| {
        pick(&[
            &format!("/involvedObject/{key}"),
            &format!("/regarding/{key}"),
        ])
        .unwrap_or_default()
    };
    let first = pick(&["/firstTimestamp", "/deprecatedFirstTimestamp", "/eventTime"]);
    let last = pick(&[
        "/series/lastObservedTime",
        "/lastTimestamp",
        "/deprecatedLastTimestamp",
    ])
    .or(first.clone());
    let times = |pointer: &str| event.pointer(pointer).and_then(Value::as_i64);
    let count = times("/series/count")
        .or(times("/count"))
        .or(times("/deprecatedCount"))
        .unwrap_or(1);
    let component = pick(&[
        "/source/component",
        "/deprecatedSource/component",
        "/reportingComponent",
        "/reportingController",
    ]);
    let host = pick(&["/source/host", "/deprecatedSource/host"]);
    let source = [component, host]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(", ");
    vec![
        age(last.as_deref()).into(),
        text_or(event, "/type", "").into(),
        text_or(event, "/reason", "").into(),
        format!("{}/{}", about("kind").to_lowercase(), about("name")).into(),
        pick(&["/message", "/note"])
            .unwrap_or_default()
            .trim()
            .into(),
        about("fieldPath").into(),
        source.into(),
        age(first.as_deref()).into(),
        count.into(),
        meta::name(event).into(),
    ]
}

fn containers(object: &Value, key: &str) -> Value {
    let all = meta::list(object, "/spec/template/spec/containers").iter();
    all.filter_map(|one| one[key].as_str())
        .collect::<Vec<_>>()
        .join(",")
        .into()
}

fn workload(resource: &Resource, object: &Value) -> Vec<Value> {
    let status = |key: &str| number(object, &format!("/status/{key}"));
    let desired = number(object, "/spec/replicas");
    let mut cells = vec![Value::from(meta::name(object))];
    if resource.plural == "deployments" {
        cells.push(format!("{}/{desired}", status("readyReplicas")).into());
        cells.push(status("updatedReplicas").into());
        cells.push(status("availableReplicas").into());
    } else {
        cells.extend([desired, status("replicas"), status("readyReplicas")].map(Value::from));
    }
    cells.push(object_age(object));
    cells.extend([containers(object, "name"), containers(object, "image")]);
    cells.push(selector(object.pointer("/spec/selector/matchLabels")));
    cells
}

fn job(job: &Value) -> Vec<Value> {
    let condition = |kind: &str| {
        meta::list(job, "/status/conditions")
            .iter()
            .any(|one| one["type"] == kind && one["status"] == "True")
    };
    let status = [
        ("Complete", "Complete"),
        ("Failed", "Failed"),
        ("Suspended", "Suspended"),
        ("FailureTarget", "FailureTarget"),
    ]
    .iter()
    .find(|(kind, _)| condition(kind))
    .map_or("Running", |(_, shown)| *shown);
    let status = if meta::is_deleting(job) {
        "Terminating"
    } else {
        status
    };
    let wanted = job
        .pointer("/spec/completions")
        .and_then(Value::as_i64)
        .unwrap_or(1);
    let time = |key: &str| {
        meta::text(job, &format!("/status/{key}"))
            .and_then(|time| time.parse::<jiff::Timestamp>().ok())
    };
    let lasted = time("startTime").map(|start| {
        let end = time("completionTime").unwrap_or_else(jiff::Timestamp::now);
        duration(end.as_second() - start.as_second())
    });
    vec![
        meta::name(job).into(),
        status.into(),
        format!("{}/{wanted}", number(job, "/status/succeeded")).into(),
        lasted.unwrap_or_default().into(),
        object_age(job),
        containers(job, "name"),
        containers(job, "image"),
        selector(job.pointer("/spec/selector/matchLabels")),
    ]
}

fn ingress(ingress: &Value) -> Vec<Value> {
    let hosts = meta::list(ingress, "/spec/rules")
        .iter()
        .map(|rule| text_or(rule, "/host", "*"))
        .collect::<Vec<_>>();
    let hosts = if hosts.is_empty() {
        "*".to_owned()
    } else {
        few(hosts)
    };
    let addresses = meta::list(ingress, "/status/loadBalancer/ingress").iter();
    let addresses = addresses
        .filter_map(|one| one["ip"].as_str().or(one["hostname"].as_str()))
        .collect::<Vec<_>>();
    let ports = if meta::list(ingress, "/spec/tls").is_empty() {
        "80"
    } else {
        "80, 443"
    };
    vec![
        meta::name(ingress).into(),
        text_or(ingress, "/spec/ingressClassName", NONE).into(),
        hosts.into(),
        addresses.join(",").into(),
        ports.into(),
        object_age(ingress),
    ]
}

fn binding(binding: &Value) -> Vec<Value> {
    let subjects = |kind: &str| {
        let all = meta::list(binding, "/subjects")
            .iter()
            .filter(|subject| subject["kind"] == kind);
        let shown = all.map(|subject| match (kind, subject["namespace"].as_str()) {
            ("ServiceAccount", Some(namespace)) => {
                format!("{namespace}/{}", text_or(subject, "/name", ""))
            }
            _ => text_or(subject, "/name", ""),
        });
        json!(shown.collect::<Vec<_>>().join(", "))
    };
    vec![
        meta::name(binding).into(),
        format!(
            "{}/{}",
            text_or(binding, "/roleRef/kind", ""),
            text_or(binding, "/roleRef/name", "")
        )
        .into(),
        object_age(binding),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}
