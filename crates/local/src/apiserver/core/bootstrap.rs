//! What every cluster has from the start: namespaces, the `kubernetes` service, default roles.

mod roles;

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::Core;
use crate::apiserver::auth::{MASTERS, User};
use crate::apiserver::error::ApiError;
use crate::apiserver::request::{Call, Form, Target};
use crate::apiserver::write;

/// Creates what is missing; what is there is left as it is.
pub(in crate::apiserver) async fn run(core: &Arc<Core>) -> Result<(), ApiError> {
    for object in objects() {
        create(core, object).await?;
    }
    Ok(())
}

async fn create(core: &Arc<Core>, object: Value) -> Result<(), ApiError> {
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let (group, version) = text("/apiVersion")
        .rsplit_once('/')
        .unwrap_or(("", text("/apiVersion")));
    let kinds = core.kinds();
    let resource = kinds
        .of(group, version)
        .find(|resource| resource.kind == text("/kind"))
        .ok_or_else(|| ApiError::internal(format!("no kind for {object}")))?;
    let (namespace, name) = (
        text("/metadata/namespace").to_owned(),
        text("/metadata/name"),
    );
    if core
        .store
        .get(&Core::key(resource, &namespace, name))
        .is_some()
    {
        return Ok(());
    }
    let target = Target {
        resource: Arc::clone(resource),
        namespace,
        name: String::new(),
        subresource: String::new(),
    };
    let call = Call {
        target,
        verb: "create",
        query: std::collections::BTreeMap::new(),
        form: Form::Json,
        user: User::new("system:apiserver", [MASTERS.to_owned()]),
        user_agent: "lateen-apiserver".into(),
        content_type: "application/json".into(),
        body: Bytes::from(object.to_string()),
        command: Vec::new(),
        upgrade: None,
    };
    write::create(core, &call).await.map(drop)
}

fn objects() -> Vec<Value> {
    let mut objects: Vec<Value> = ["default", "kube-system", "kube-public", "kube-node-lease"]
        .iter()
        .map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
        .collect();
    objects.push(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default",
                     "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443, "targetPort": 443}]},
    }));
    objects.push(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "endpoints": [{"addresses": ["10.96.0.1"], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": 443, "protocol": "TCP"}],
    }));
    objects.extend(roles::all());
    objects
}
