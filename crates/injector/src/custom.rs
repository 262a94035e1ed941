//! Templates of the ConfigMap: a partial pod in Go-template form, laid over the pod that is injected.

use lateen_api::mesh::InboundTrafficMode;
use lateen_core::ports;
use serde_json::{Value, json};

use crate::{
    gotemplate::{GoTemplate, TemplateError},
    overlay,
    template::{Draft, OWN, PROXY},
    values::{items, list, name},
};

mod functions;

use functions::InjectionFunctions;

/// A template that was read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template(GoTemplate);

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        GoTemplate::parse::<InjectionFunctions>(text).map(Self)
    }

    /// Fills the template in and lays it over the pod. What the user wrote of a container stays in force.
    pub(crate) fn fill(&self, template: &str, draft: &mut Draft<'_>) -> Result<(), String> {
        let failed = |reason: String| format!("injection template {template:?}: {reason}");
        let rendered = self.0.render(&data(draft), &InjectionFunctions);
        let rendered = rendered.map_err(|error| failed(error.to_string()))?;
        let mut patch: Value = lateen_yaml::from_str(&rendered)
            .map_err(|error| failed(format!("what it becomes is not valid YAML: {error}")))?;
        if patch.is_null() {
            return Ok(());
        }
        if !patch.is_object() {
            return Err(failed("what it becomes is not a pod".to_owned()));
        }
        if draft.settings.native {
            bring_proxy_home(&mut patch);
        }
        lay(&patch, draft);
        Ok(())
    }
}

/// A native sidecar is an init container, wherever the template has it.
fn bring_proxy_home(patch: &mut Value) {
    let Some(containers) = patch
        .pointer_mut("/spec/containers")
        .and_then(Value::as_array_mut)
    else {
        return;
    };
    let Some(at) = containers
        .iter()
        .position(|container| name(container) == PROXY)
    else {
        return;
    };
    let proxy = containers.remove(at);
    list(&mut patch["spec"], "initContainers").push(proxy);
}

fn lay(patch: &Value, draft: &mut Draft<'_>) {
    const LISTS: [&str; 2] = ["initContainers", "containers"];
    let spec = &patch["spec"];
    for field in LISTS {
        for container in items(spec, field) {
            let name = name(container);
            let of_user = items(&draft.pod["spec"], field).iter();
            let of_user = of_user.filter(|_| !OWN.contains(&name));
            let of_user = of_user.filter(|held| crate::values::name(held) == name);
            let of_user: Vec<Value> = of_user.cloned().collect();
            for own in of_user {
                draft.overrides.keep(field, own, &draft.added);
            }
        }
    }
    overlay::lay(draft.pod, patch);
    for field in LISTS {
        for container in items(spec, field) {
            let name = name(container);
            let held = list(&mut draft.pod["spec"], field).iter_mut();
            for held in held.filter(|held| crate::values::name(held) == name) {
                draft.overrides.apply(held, name);
            }
            if field == "containers" {
                draft.added.container(name);
            } else {
                draft.added.init(name);
            }
        }
    }
    for volume in items(spec, "volumes") {
        draft.added.volume(name(volume));
    }
    for secret in items(spec, "imagePullSecrets") {
        draft.added.secret(name(secret));
    }
}

/// What the template sees, as Istio names it.
fn data(draft: &Draft<'_>) -> Value {
    let Draft { pod, settings, .. } = draft;
    let (params, owner) = (settings.params, settings.owner);
    let mut metadata = pod["metadata"].clone();
    if !metadata.is_object() {
        metadata = json!({});
    }
    // A pod that is about to be made may not say it.
    if metadata["namespace"].is_null() {
        metadata["namespace"] = json!(owner.namespace);
    }
    let mut proxy_config = default_proxy_config();
    crate::merge::merge(
        &mut proxy_config,
        &Value::Object(settings.proxy_config.clone()),
    );
    proxy_config[crate::template::INTERCEPTION_MODE] = json!(settings.interception);
    let mesh = &*params.mesh;
    let mut mesh_config = serde_json::to_value(mesh).unwrap_or_default();
    mesh_config["trustDomain"] = json!(mesh.trust_domain());
    mesh_config["rootNamespace"] = json!(mesh.root_namespace());
    let inbound = mesh
        .inbound_traffic_policy
        .as_ref()
        .map(|policy| policy.mode);
    let inbound = match inbound {
        Some(InboundTrafficMode::Localhost) => "localhost",
        _ => "passthrough",
    };
    json!({
        "TypeMeta": {"kind": owner.kind, "apiVersion": owner.api_version},
        "DeploymentMeta": {"name": owner.name, "namespace": owner.namespace},
        "ObjectMeta": metadata,
        "Spec": pod["spec"],
        "ProxyConfig": proxy_config,
        "MeshConfig": mesh_config,
        "Values": params.config.all_values,
        "Revision": params.revision,
        "ProxyImage": crate::proxy_config::image(pod, &settings.proxy_config, &params.image),
        "ProxyUID": ports::PROXY_UID,
        "ProxyGID": ports::PROXY_UID,
        "InboundTrafficPolicyMode": inbound,
        "CompliancePolicy": "",
        "NativeSidecars": settings.native,
    })
}

/// What a proxy's configuration says where nobody says anything.
fn default_proxy_config() -> Value {
    json!({
        "configPath": "./etc/istio/proxy",
        "binaryPath": "/usr/local/bin/envoy",
        "serviceCluster": "istio-proxy",
        "drainDuration": "45s",
        "terminationDrainDuration": "5s",
        "discoveryAddress": crate::template::DISCOVERY,
        "proxyAdminPort": ports::ADMIN,
        "controlPlaneAuthPolicy": "MUTUAL_TLS",
        "statNameLength": 189,
        "statusPort": ports::AGENT_STATUS,
    })
}

#[cfg(test)]
mod tests;
