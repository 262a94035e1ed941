//! The `scale` subresource.

use serde_json::{Value, json};

use crate::apiserver::error::ApiError;
use crate::apiserver::kinds::Resource;
use crate::apiserver::meta;

struct Paths {
    spec: String,
    status: String,
    selector: Option<String>,
}

fn paths(resource: &Resource) -> Paths {
    let pointer = |path: &str| path.replace('.', "/");
    match resource
        .custom
        .as_ref()
        .and_then(|custom| custom.scale.as_ref())
    {
        Some(scale) => Paths {
            spec: pointer(meta::text(scale, "/specReplicasPath").unwrap_or(".spec.replicas")),
            status: pointer(meta::text(scale, "/statusReplicasPath").unwrap_or(".status.replicas")),
            selector: meta::text(scale, "/labelSelectorPath").map(pointer),
        },
        None => Paths {
            spec: "/spec/replicas".into(),
            status: "/status/replicas".into(),
            selector: None,
        },
    }
}

/// The scale of an object.
pub(in crate::apiserver) fn of(resource: &Resource, object: &Value) -> Result<Value, ApiError> {
    if !resource.scale {
        return Err(ApiError::no_such_path());
    }
    let paths = paths(resource);
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": object["metadata"]["name"], "namespace": object["metadata"]["namespace"],
            "uid": object["metadata"]["uid"], "resourceVersion": object["metadata"]["resourceVersion"],
            "creationTimestamp": object["metadata"]["creationTimestamp"],
        },
        "spec": {"replicas": number(&paths.spec)},
        "status": {"replicas": number(&paths.status)},
    });
    let selector = match &paths.selector {
        Some(pointer) => meta::text(object, pointer).map(str::to_owned),
        None => object
            .pointer("/spec/selector/matchLabels")
            .and_then(Value::as_object)
            .map(|labels| {
                let pairs = labels
                    .iter()
                    .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
                pairs.collect::<Vec<_>>().join(",")
            }),
    };
    if let Some(selector) = selector {
        scale["status"]["selector"] = selector.into();
    }
    Ok(scale)
}

/// The object with the replicas of a scale.
pub(in crate::apiserver) fn apply(
    resource: &Resource,
    object: &Value,
    scale: &Value,
) -> Result<Value, ApiError> {
    let replicas = scale
        .pointer("/spec/replicas")
        .map_or(Some(0), Value::as_i64)
        .filter(|replicas| *replicas >= 0)
        .ok_or_else(|| {
            ApiError::bad_request("spec.replicas must be a number that is not negative")
        })?;
    let mut object = object.clone();
    if let Some(revision) = scale.pointer("/metadata/resourceVersion") {
        object["metadata"]["resourceVersion"] = revision.clone();
    }
    let pointer = paths(resource).spec;
    let (parent, last) = pointer.rsplit_once('/').unwrap_or(("/spec", "replicas"));
    let holder =
        parent
            .split('/')
            .filter(|part| !part.is_empty())
            .fold(&mut object, |place, part| {
                meta::child(place, part);
                &mut place[part]
            });
    holder[last] = replicas.into();
    Ok(object)
}
