//! What `k8s` of a component asks of its Deployment and its Service.

use std::collections::BTreeMap;

use lateen_api::install::KubernetesResources;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{Installation, merge::merge};

/// Asks it of the Deployment, whose first container is the component's.
pub(crate) fn of_deployment(
    deployment: &mut Value,
    settings: &KubernetesResources,
    installation: &Installation,
) {
    let spec = &mut deployment["spec"];
    if let Some(strategy) = &settings.strategy {
        spec["strategy"] = strategy.clone();
    }
    let pod = &mut spec["template"];
    add(
        &mut pod["metadata"],
        "annotations",
        &settings.pod_annotations,
    );
    add(&mut pod["metadata"], "labels", &settings.pod_labels);
    let pod = &mut pod["spec"];
    let global = &installation.values().global;
    add(pod, "nodeSelector", &settings.node_selector);
    // What holds for the whole mesh gives way to what is said of the part.
    for (key, value) in &global.default_node_selector {
        if pod["nodeSelector"][key].is_null() {
            add(pod, "nodeSelector", [(key, value)]);
        }
    }
    replace(pod, "affinity", settings.affinity.as_ref());
    let priority = settings.priority_class_name.as_ref();
    let priority = priority.or(global.priority_class_name.as_ref());
    replace(
        pod,
        "priorityClassName",
        priority.filter(|name| !name.is_empty()),
    );
    let mut tolerations = Some(&settings.tolerations).filter(|list| !list.is_empty());
    if pod["tolerations"].is_null() {
        tolerations = tolerations.or(Some(&global.default_tolerations));
    }
    replace(
        pod,
        "tolerations",
        tolerations.filter(|list| !list.is_empty()),
    );
    let spread = Some(&settings.topology_spread_constraints);
    replace(
        pod,
        "topologySpreadConstraints",
        spread.filter(|list| !list.is_empty()),
    );
    if let Some(context) = &settings.security_context {
        merge(&mut pod["securityContext"], context);
    }
    let secrets = global.image_pull_secrets.iter();
    let secrets: Vec<Value> = secrets.map(|name| json!({"name": name})).collect();
    replace(
        pod,
        "imagePullSecrets",
        Some(&secrets).filter(|list| !list.is_empty()),
    );
    if !settings.volumes.is_empty() {
        merge(pod, &json!({"volumes": settings.volumes}));
    }
    of_container(&mut pod["containers"][0], settings, installation);
}

fn of_container(
    container: &mut Value,
    settings: &KubernetesResources,
    installation: &Installation,
) {
    let global = &installation.values().global;
    let policy = settings.image_pull_policy.as_ref();
    let policy = policy.or(global.image_pull_policy.as_ref());
    replace(
        container,
        "imagePullPolicy",
        policy.filter(|it| !it.is_empty()),
    );
    if let Some(resources) = &settings.resources {
        merge(&mut container["resources"], resources);
    }
    if let Some(probe) = &settings.readiness_probe {
        merge(&mut container["readinessProbe"], probe);
    }
    for (list, items) in [
        ("env", &settings.env),
        ("volumeMounts", &settings.volume_mounts),
    ] {
        if !items.is_empty() {
            merge(container, &json!({list: items}));
        }
    }
}

/// Asks it of the Service. Ports replace the usual ones.
pub(crate) fn of_service(service: &mut Value, settings: &KubernetesResources) {
    add(
        &mut service["metadata"],
        "annotations",
        &settings.service_annotations,
    );
    if let Some(own) = &settings.service {
        merge(&mut service["spec"], own);
    }
}

/// Sets variables of a container's environment, which may be there already.
pub(crate) fn set_env(env: &mut Vec<Value>, own: &BTreeMap<String, Value>) {
    for (name, value) in own {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        let variable = json!({"name": name, "value": text});
        match env.iter_mut().find(|held| held["name"] == *name) {
            Some(held) => *held = variable,
            None => env.push(variable),
        }
    }
}

/// Adds to a map, which is made where there is something to add.
pub(crate) fn add<'a, V: Serialize + 'a>(
    object: &mut Value,
    field: &str,
    more: impl IntoIterator<Item = (&'a String, &'a V)>,
) {
    for (name, value) in more {
        let map = &mut object[field];
        if !map.is_object() {
            *map = json!({});
        }
        map[name] = json!(value);
    }
}

/// Puts a value in a field, if there is one.
pub(crate) fn replace<V: Serialize>(object: &mut Value, field: &str, value: Option<V>) {
    if let Some(value) = value {
        object[field] = json!(value);
    }
}
