//! What a pod's spec holds where the user says nothing.

use serde_json::{Map, Value, json};

use super::FILE_MODE;
use crate::apiserver::meta;

pub(in crate::apiserver::strategy) fn default(pod: &mut Value) {
    default_spec(meta::child(pod, "spec"));
    let spec = meta::child(pod, "spec");
    meta::default(spec, "serviceAccountName", "default");
    let account = spec["serviceAccountName"].clone();
    spec.insert("serviceAccount".into(), account);
    meta::default(spec, "priority", 0);
    meta::default(spec, "preemptionPolicy", "PreemptLowerPriority");
    meta::default(
        spec,
        "tolerations",
        json!([
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
            {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
        ]),
    );
}

/// The defaults of a pod spec, in a pod or in a template.
pub(in crate::apiserver::strategy) fn default_spec(spec: &mut Map<String, Value>) {
    meta::default(spec, "restartPolicy", "Always");
    meta::default(spec, "terminationGracePeriodSeconds", 30);
    meta::default(spec, "dnsPolicy", "ClusterFirst");
    meta::default(spec, "securityContext", json!({}));
    meta::default(spec, "schedulerName", "default-scheduler");
    if let Some(account) = spec
        .get("serviceAccountName")
        .or_else(|| spec.get("serviceAccount"))
        .cloned()
    {
        spec.insert("serviceAccountName".into(), account.clone());
        spec.insert("serviceAccount".into(), account);
    }
    for list in ["containers", "initContainers"] {
        for container in spec
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if let Some(container) = container.as_object_mut() {
                default_container(container);
            }
        }
    }
    for volume in spec
        .get_mut("volumes")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(volume) = volume.as_object_mut() {
            default_volume(volume);
        }
    }
}

fn default_container(container: &mut Map<String, Value>) {
    let image = container
        .get("image")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let last = image.rsplit('/').next().unwrap_or_default();
    let tag = last.split_once(':').map_or("latest", |(_, tag)| tag);
    let policy = if tag == "latest" && !last.contains('@') {
        "Always"
    } else {
        "IfNotPresent"
    };
    meta::default(container, "resources", json!({}));
    meta::default(container, "terminationMessagePath", "/dev/termination-log");
    meta::default(container, "terminationMessagePolicy", "File");
    meta::default(container, "imagePullPolicy", policy);
    for port in container
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(port) = port.as_object_mut() {
            meta::default(port, "protocol", "TCP");
        }
    }
    for variable in container
        .get_mut("env")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(field) = variable
            .pointer_mut("/valueFrom/fieldRef")
            .and_then(Value::as_object_mut)
        {
            meta::default(field, "apiVersion", "v1");
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe).and_then(Value::as_object_mut) {
            default_probe(probe);
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(get) = container
            .get_mut("lifecycle")
            .and_then(|life| life.pointer_mut(&format!("/{hook}/httpGet")))
        {
            default_http_get(get);
        }
    }
    default_resources(container);
}

/// What is limited but not requested is requested as much as it is limited.
fn default_resources(container: &mut Map<String, Value>) {
    let Some(resources) = container
        .get_mut("resources")
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    let limits = resources
        .get("limits")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    if limits.is_empty() {
        return;
    }
    meta::default(resources, "requests", json!({}));
    if let Some(requests) = resources["requests"].as_object_mut() {
        for (name, limit) in limits {
            meta::default(requests, &name, limit);
        }
    }
}

fn default_probe(probe: &mut Map<String, Value>) {
    for (key, value) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        if probe.get(key).is_some_and(|given| given == 0) {
            probe.shift_remove(key);
        }
        meta::default(probe, key, value);
    }
    if let Some(get) = probe.get_mut("httpGet") {
        default_http_get(get);
    }
    if let Some(grpc) = probe.get_mut("grpc").and_then(Value::as_object_mut) {
        meta::default(grpc, "service", "");
    }
}

fn default_http_get(get: &mut Value) {
    if let Some(get) = get.as_object_mut() {
        meta::default(get, "path", "/");
        meta::default(get, "scheme", "HTTP");
    }
}

fn default_volume(volume: &mut Map<String, Value>) {
    if volume.keys().all(|key| key == "name") {
        volume.insert("emptyDir".into(), json!({}));
    }
    for source in ["configMap", "secret", "downwardAPI", "projected"] {
        if let Some(source) = volume.get_mut(source).and_then(Value::as_object_mut) {
            meta::default(source, "defaultMode", FILE_MODE);
            for inner in source
                .get_mut("sources")
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                default_projection(inner);
            }
            default_field_refs(source.get_mut("items"));
        }
    }
    if let Some(path) = volume.get_mut("hostPath").and_then(Value::as_object_mut) {
        meta::default(path, "type", "");
    }
}

fn default_projection(source: &mut Value) {
    if let Some(token) = source
        .get_mut("serviceAccountToken")
        .and_then(Value::as_object_mut)
    {
        meta::default(token, "expirationSeconds", 3600);
    }
    default_field_refs(source.pointer_mut("/downwardAPI/items"));
}

fn default_field_refs(items: Option<&mut Value>) {
    for item in items.and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(field) = item.get_mut("fieldRef").and_then(Value::as_object_mut) {
            meta::default(field, "apiVersion", "v1");
        }
    }
}
