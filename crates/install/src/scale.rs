//! How many pods there are, and how many of them may be missing.

use lateen_api::install::{Autoscaled, KubernetesResources};
use serde_json::{Value, json};

use crate::{Installation, merge::merge};

/// Load decides on the number of pods between these.
pub(crate) struct Bounds {
    pub(crate) is_on: Option<bool>,
    pub(crate) least: Option<u32>,
    pub(crate) most: Option<u32>,
    pub(crate) replicas: Option<u32>,
    pub(crate) behavior: Option<Value>,
}

impl Bounds {
    fn scales(&self) -> bool {
        self.is_on != Some(false)
    }
}

/// What a Deployment has beside it: an autoscaler and a budget. Its own number of pods is left to the
/// autoscaler where there is one, so that a second installation does not undo its work.
pub(crate) fn beside(
    deployment: &mut Value,
    bounds: &Bounds,
    cpu: &Autoscaled,
    settings: &KubernetesResources,
    installation: &Installation,
) -> Vec<Value> {
    let mut beside = Vec::new();
    if bounds.scales() {
        beside.push(autoscaler(deployment, bounds, cpu, settings));
    } else {
        let number = settings.replica_count.or(bounds.replicas).unwrap_or(1);
        deployment["spec"]["replicas"] = json!(number);
    }
    let global = &installation.values().global.default_pod_disruption_budget;
    if global.enabled != Some(false) || settings.pod_disruption_budget.is_some() {
        beside.push(budget(deployment, settings));
    }
    beside
}

fn named(deployment: &Value, api_version: &str, kind: &str, spec: Value) -> Value {
    let meta = &deployment["metadata"];
    json!({
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": meta["name"], "namespace": meta["namespace"], "labels": meta["labels"],
        },
        "spec": spec,
    })
}

fn autoscaler(
    deployment: &Value,
    bounds: &Bounds,
    cpu: &Autoscaled,
    settings: &KubernetesResources,
) -> Value {
    let least = bounds.least.unwrap_or(1);
    let target = cpu.target_average_utilization.unwrap_or(80);
    let utilization = json!({"type": "Utilization", "averageUtilization": target});
    let mut spec = json!({
        "minReplicas": least,
        "maxReplicas": bounds.most.unwrap_or(5).max(least),
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": utilization}}],
    });
    if let Some(behavior) = &bounds.behavior {
        spec["behavior"] = behavior.clone();
    }
    if let Some(own) = &settings.hpa_spec {
        merge(&mut spec, own);
    }
    // What is scaled is not for the file to say.
    let name = &deployment["metadata"]["name"];
    spec["scaleTargetRef"] = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": name});
    named(
        deployment,
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        spec,
    )
}

/// One pod at least stays while nodes are emptied.
fn budget(deployment: &Value, settings: &KubernetesResources) -> Value {
    let own = settings.pod_disruption_budget.clone();
    let mut spec = own.unwrap_or_else(|| json!({"minAvailable": 1}));
    if spec["selector"].is_null() {
        spec["selector"] = deployment["spec"]["selector"].clone();
    }
    named(deployment, "policy/v1", "PodDisruptionBudget", spec)
}
