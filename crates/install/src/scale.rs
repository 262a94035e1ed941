//! How many pods there are, and how many of them may be missing.

use lateen_api::install::{Autoscaled, KubernetesResources, PilotValues};
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
        // Whoever asks for so many pods wants no fewer.
        let least = bounds.least.unwrap_or(1);
        let least = least.max(settings.replica_count.unwrap_or(1));
        beside.push(autoscaler(deployment, least, bounds, cpu, settings));
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

/// A number of pods that is left to the autoscaler, with what to say instead.
pub(crate) fn without_effect(values: &PilotValues) -> Option<String> {
    let least = values.autoscale_min.unwrap_or(1);
    let is_scaled = values.autoscale_enabled != Some(false);
    let asked = values
        .replica_count
        .filter(|asked| is_scaled && *asked > least)?;
    Some(format!(
        "spec.values.pilot.replicaCount={asked}: has no effect while load decides; say values.pilot.autoscaleMin={asked}, or turn values.pilot.autoscaleEnabled off"
    ))
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
    least: u32,
    bounds: &Bounds,
    cpu: &Autoscaled,
    settings: &KubernetesResources,
) -> Value {
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

#[cfg(test)]
mod tests {
    use crate::{Installation, Layers, manifests};

    #[test]
    fn as_many_pods_as_were_asked_for() {
        let of = |sets: &[&str]| {
            let installation = Installation::of(&Layers {
                sets: sets.iter().map(|set| (*set).to_owned()).collect(),
                ..Layers::default()
            });
            let installation = installation.expect("an installation");
            let all = manifests(&installation).expect("manifests");
            let is_own = |it: &&serde_json::Value| {
                it["kind"] == "HorizontalPodAutoscaler" && it["metadata"]["name"] == "istiod"
            };
            let scaler = all.iter().find(is_own).map(|it| it["spec"].clone());
            (scaler.unwrap_or_default(), installation.warnings().to_vec())
        };
        let (scaler, warnings) = of(&["components.pilot.k8s.replicaCount=7"]);
        assert_eq!(
            (&scaler["minReplicas"], &scaler["maxReplicas"]),
            (&7.into(), &7.into())
        );
        assert!(warnings.is_empty(), "{warnings:?}");
        let (scaler, warnings) = of(&["values.pilot.replicaCount=2"]);
        assert_eq!(scaler["minReplicas"], 1);
        assert!(
            warnings[0].contains("say values.pilot.autoscaleMin=2"),
            "{warnings:?}"
        );
        let off = [
            "values.pilot.replicaCount=2",
            "values.pilot.autoscaleEnabled=false",
        ];
        assert_eq!(of(&off), (serde_json::Value::Null, Vec::new()));
    }
}
