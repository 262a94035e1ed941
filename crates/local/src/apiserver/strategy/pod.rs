//! Pods and pod templates.

use serde_json::{Map, Value, json};

use super::names;
use crate::apiserver::core::Core;
use crate::apiserver::error::{ApiError, FieldError};
use crate::apiserver::kinds::Resource;
use crate::apiserver::meta;
use crate::apiserver::write::random_suffix;

/// 0644, for files in volumes.
const FILE_MODE: u32 = 0o644;

/// What is asked of a token for the API server; renewed well before.
const TOKEN_SECONDS: u32 = 3607;

/// Where containers expect the token.
const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

pub(super) fn default(pod: &mut Value) {
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
pub(super) fn default_spec(spec: &mut Map<String, Value>) {
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

/// A new pod is pending, and gets the token of its service account.
pub(super) fn for_create(
    core: &Core,
    resource: &Resource,
    pod: &mut Value,
) -> Result<(), ApiError> {
    let account_name = meta::text(pod, "/spec/serviceAccountName")
        .unwrap_or("default")
        .to_owned();
    let namespace = meta::namespace(pod).to_owned();
    let account = core.get("serviceaccounts", &namespace, &account_name);
    if account.is_none() && account_name != "default" {
        let why = format!(
            "error looking up service account {namespace}/{account_name}: serviceaccount {account_name:?} not found"
        );
        return Err(ApiError::forbidden(resource, meta::name(pod), &why));
    }
    let mounts = |value: Option<&Value>| {
        value
            .and_then(|value| value.get("automountServiceAccountToken"))
            .and_then(Value::as_bool)
    };
    let wanted = mounts(pod.get("spec"))
        .or_else(|| mounts(account.as_ref().map(|account| &account.value)))
        .unwrap_or(true);
    if wanted {
        mount_token(pod);
    }
    let qos = qos_class(pod);
    pod["status"] = json!({"phase": "Pending", "qosClass": qos});
    Ok(())
}

fn mount_token(pod: &mut Value) {
    let existing = meta::list(pod, "/spec/volumes")
        .iter()
        .filter_map(|volume| meta::text(volume, "/name"))
        .find(|name| name.starts_with("kube-api-access-"))
        .map(str::to_owned);
    let name = existing
        .clone()
        .unwrap_or_else(|| format!("kube-api-access-{}", random_suffix()));
    let spec = meta::child(pod, "spec");
    let mut mounted = existing.is_some();
    for list in ["containers", "initContainers"] {
        for container in spec
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if meta::list(container, "/volumeMounts")
                .iter()
                .any(|mount| mount["mountPath"] == TOKEN_PATH)
            {
                continue;
            }
            let Some(container) = container.as_object_mut() else {
                continue;
            };
            meta::default(container, "volumeMounts", json!([]));
            if let Some(list) = container["volumeMounts"].as_array_mut() {
                list.push(json!({"name": name, "readOnly": true, "mountPath": TOKEN_PATH}));
                mounted = true;
            }
        }
    }
    if !mounted || existing.is_some() {
        return;
    }
    meta::default(spec, "volumes", json!([]));
    if let Some(volumes) = spec["volumes"].as_array_mut() {
        volumes.push(json!({"name": name, "projected": {"defaultMode": FILE_MODE, "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ]}}));
    }
}

fn qos_class(pod: &Value) -> &'static str {
    let containers = meta::list(pod, "/spec/containers");
    let amounts = |container: &Value, kind: &str| {
        container
            .pointer(&format!("/resources/{kind}"))
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default()
    };
    if containers
        .iter()
        .all(|one| amounts(one, "requests").is_empty() && amounts(one, "limits").is_empty())
    {
        return "BestEffort";
    }
    let guaranteed = containers.iter().all(|one| {
        let (requests, limits) = (amounts(one, "requests"), amounts(one, "limits"));
        ["cpu", "memory"]
            .iter()
            .all(|name| limits.contains_key(*name) && requests.get(*name) == limits.get(*name))
    });
    if guaranteed {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

pub(super) fn validate(pod: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    validate_spec(&pod["spec"], "spec", &mut errors);
    errors
}

/// Checks a pod spec, in a pod or in a template.
pub(super) fn validate_spec(spec: &Value, field: &str, errors: &mut Vec<FieldError>) {
    let containers = meta::list(spec, "/containers");
    if containers.is_empty() {
        errors.push(FieldError::required(format!("{field}.containers"), ""));
    }
    let volumes: Vec<&str> = meta::list(spec, "/volumes")
        .iter()
        .filter_map(|volume| meta::text(volume, "/name"))
        .collect();
    let mut seen = Vec::new();
    for list in ["initContainers", "containers"] {
        for (index, container) in meta::list(spec, &format!("/{list}")).iter().enumerate() {
            let field = format!("{field}.{list}[{index}]");
            validate_container(container, &field, &volumes, errors);
            let name = meta::text(container, "/name").unwrap_or_default();
            if !name.is_empty() && seen.contains(&name) {
                errors.push(FieldError::duplicate(format!("{field}.name"), &name.into()));
            }
            seen.push(name);
        }
    }
    let policies = ["Always", "OnFailure", "Never"];
    if !meta::text(spec, "/restartPolicy").is_some_and(|policy| policies.contains(&policy)) {
        errors.push(FieldError::unsupported(
            format!("{field}.restartPolicy"),
            &spec["restartPolicy"],
            &policies,
        ));
    }
}

fn validate_container(
    container: &Value,
    field: &str,
    volumes: &[&str],
    errors: &mut Vec<FieldError>,
) {
    names::require_label(
        &format!("{field}.name"),
        meta::text(container, "/name"),
        errors,
    );
    if meta::text(container, "/image").is_none_or(str::is_empty) {
        errors.push(FieldError::required(format!("{field}.image"), ""));
    }
    for (index, port) in meta::list(container, "/ports").iter().enumerate() {
        let at = format!("{field}.ports[{index}].containerPort");
        match port["containerPort"].as_i64() {
            None | Some(0) => errors.push(FieldError::required(at, "")),
            Some(number) if !(1..=65535).contains(&number) => {
                errors.push(FieldError::invalid(
                    at,
                    &number.into(),
                    "must be between 1 and 65535, inclusive",
                ));
            }
            Some(_) => {}
        }
    }
    for (index, mount) in meta::list(container, "/volumeMounts").iter().enumerate() {
        let name = meta::text(mount, "/name").unwrap_or_default();
        if !volumes.contains(&name) {
            errors.push(FieldError {
                reason: "FieldValueNotFound",
                field: format!("{field}.volumeMounts[{index}].name"),
                detail: format!("Not found: {name:?}"),
            });
        }
        if meta::text(mount, "/mountPath").is_none_or(str::is_empty) {
            errors.push(FieldError::required(
                format!("{field}.volumeMounts[{index}].mountPath"),
                "",
            ));
        }
    }
}

/// Of a pod's spec only images and a few others may change.
pub(super) fn validate_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let fixed = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        for list in ["containers", "initContainers"] {
            for container in spec
                .get_mut(list)
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                if let Some(container) = container.as_object_mut() {
                    container.shift_remove("image");
                }
            }
        }
        for key in [
            "activeDeadlineSeconds",
            "tolerations",
            "terminationGracePeriodSeconds",
            "nodeName",
            "ephemeralContainers",
        ] {
            if let Some(spec) = spec.as_object_mut() {
                spec.shift_remove(key);
            }
        }
        spec
    };
    let moved = match (
        meta::text(old, "/spec/nodeName"),
        meta::text(new, "/spec/nodeName"),
    ) {
        (Some(before), after) => Some(before) != after,
        (None, _) => false,
    };
    if fixed(old) == fixed(new) && !moved {
        return Vec::new();
    }
    vec![FieldError::forbidden(
        "spec",
        "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
    )]
}
