//! Pods: the token of their service account, and where the rest is.

mod defaults;
mod validate;

use serde_json::{Value, json};

use crate::apiserver::admission::pod_security;
use crate::apiserver::core::Core;
use crate::apiserver::error::ApiError;
use crate::apiserver::kinds::Resource;
use crate::apiserver::meta;
use crate::apiserver::write::random_suffix;

pub(super) use defaults::{default, default_spec};
pub(super) use validate::{validate, validate_spec, validate_update};

/// 0644, for files in volumes.
const FILE_MODE: u32 = 0o644;

/// What is asked of a token for the API server; renewed well before.
const TOKEN_SECONDS: u32 = 3607;

/// Where containers expect the token.
const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

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
    let in_namespace = core.get("namespaces", "", &namespace);
    if in_namespace.is_some_and(|namespace| pod_security::has_own_users(&namespace.value)) {
        meta::default(meta::child(pod, "spec"), "hostUsers", false);
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
