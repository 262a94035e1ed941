//! The smaller kinds.

use serde_json::{Value, json};

use crate::apiserver::meta;

pub(super) fn create_namespace(namespace: &mut Value) {
    let name = meta::name(namespace).to_owned();
    meta::child(&mut namespace["metadata"], "labels")
        .insert("kubernetes.io/metadata.name".into(), name.into());
    meta::child(namespace, "spec").insert("finalizers".into(), json!(["kubernetes"]));
    namespace["status"] = json!({"phase": "Active"});
}

/// Only `/finalize` changes the finalizers of the spec.
pub(super) fn update_namespace(subresource: &str, old: &Value, new: &mut Value) {
    if subresource != "finalize" {
        new["spec"] = old["spec"].clone();
    } else {
        let spec = new["spec"].clone();
        *new = old.clone();
        new["spec"] = spec;
    }
    let name = meta::name(new).to_owned();
    meta::child(&mut new["metadata"], "labels")
        .insert("kubernetes.io/metadata.name".into(), name.into());
}

pub(super) fn default_autoscaler(autoscaler: &mut Value) {
    meta::default(meta::child(autoscaler, "spec"), "minReplicas", 1);
}

pub(super) fn default_slice(slice: &mut Value) {
    for port in slice
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(port) = port.as_object_mut() {
            meta::default(port, "protocol", "TCP");
            meta::default(port, "name", "");
        }
    }
}
