//! Keeps Deployments within the bounds of their autoscalers. Nobody measures load here, which the
//! autoscaler's status says, as it would in any cluster without metrics.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, Patch, PatchParams, ResourceExt};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::watcher;
use serde_json::json;

use super::{Context, ignore_missing, retry};
use crate::Error;

/// How often a target is looked at, as in Kubernetes.
const PERIOD: Duration = Duration::from_secs(15);

pub(super) async fn run(context: Arc<Context>) {
    let all = Api::<HorizontalPodAutoscaler>::all(context.client.clone());
    Controller::new(all, watcher::Config::default())
        .run(reconcile, retry, context)
        .for_each(|_| async {})
        .await;
}

async fn reconcile(
    scaler: Arc<HorizontalPodAutoscaler>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    let namespace = scaler.namespace().unwrap_or_default();
    let target = &scaler.spec.scale_target_ref;
    let deployments: Api<Deployment> = Api::namespaced(context.client.clone(), &namespace);
    let found = match target.kind.as_str() {
        "Deployment" => deployments.get_opt(&target.name).await?,
        _ => None,
    };
    let status = match found {
        Some(deployment) => {
            let current = deployment.spec.replicas.unwrap_or(1);
            let wanted = within(current, &scaler);
            if wanted != current {
                let patch = Patch::Merge(json!({"spec": {"replicas": wanted}}));
                let params = PatchParams::default();
                ignore_missing(deployments.patch(&target.name, &params, &patch).await)?;
            }
            status(&scaler, Some((current, wanted)))
        }
        None => status(&scaler, None),
    };
    if scaler.status.as_ref() != Some(&status) {
        let api: Api<HorizontalPodAutoscaler> = Api::namespaced(context.client.clone(), &namespace);
        let patch = Patch::Merge(json!({"status": status}));
        let (name, params) = (scaler.name_any(), PatchParams::default());
        ignore_missing(api.patch_status(&name, &params, &patch).await)?;
    }
    Ok(Action::requeue(PERIOD))
}

/// The number of pods that the bounds allow; somebody who wants none turns scaling off.
fn within(current: i32, scaler: &HorizontalPodAutoscaler) -> i32 {
    if current == 0 {
        return 0;
    }
    let least = scaler.spec.min_replicas.unwrap_or(1);
    current.clamp(least, scaler.spec.max_replicas.max(least))
}

/// What there is and what is wanted, or that there is nothing to scale.
fn status(
    scaler: &HorizontalPodAutoscaler,
    target: Option<(i32, i32)>,
) -> HorizontalPodAutoscalerStatus {
    let able = match target {
        Some(_) => (
            "True",
            "SucceededGetScale",
            "the target was found".to_owned(),
        ),
        None => {
            let of = &scaler.spec.scale_target_ref;
            let message = format!("there is no {} {} that can be scaled", of.kind, of.name);
            ("False", "FailedGetScale", message)
        }
    };
    let measured = "the platform measures no load; the number of pods is kept within its bounds";
    let active = ("False", "FailedGetResourceMetric", measured.to_owned());
    let held = scaler.status.as_ref();
    let condition = |kind: &str, (status, reason, message): (&str, &str, String)| {
        let mut before = held
            .iter()
            .flat_map(|held| held.conditions.iter().flatten());
        let before = before.find(|one| one.type_ == kind && one.status == status);
        let since = before.and_then(|one| one.last_transition_time.clone());
        HorizontalPodAutoscalerCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            observed_generation: None,
            last_transition_time: since.or_else(|| Some(Time(Timestamp::now()))),
        }
    };
    let (current, wanted) = target.unwrap_or_default();
    HorizontalPodAutoscalerStatus {
        conditions: Some(vec![
            condition("AbleToScale", able),
            condition("ScalingActive", active),
        ]),
        current_replicas: Some(current),
        desired_replicas: wanted,
        observed_generation: scaler.metadata.generation,
        ..HorizontalPodAutoscalerStatus::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaler(least: Option<i32>, most: i32) -> HorizontalPodAutoscaler {
        let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"});
        let spec = json!({"minReplicas": least, "maxReplicas": most, "scaleTargetRef": target});
        let object = json!({"metadata": {"name": "a", "generation": 2}, "spec": spec});
        serde_json::from_value(object).expect("an autoscaler")
    }

    #[test]
    fn the_number_of_pods_stays_within_bounds() {
        for (current, least, most, want) in [
            (1, Some(2), 5, 2),
            (9, Some(2), 5, 5),
            (3, Some(2), 5, 3),
            (1, None, 5, 1),
            (0, Some(2), 5, 0),
        ] {
            assert_eq!(within(current, &scaler(least, most)), want, "{current}");
        }
    }

    #[test]
    fn what_is_not_measured_is_said_once() {
        let mut scaler = scaler(None, 5);
        let first = status(&scaler, Some((1, 1)));
        let conditions = first.conditions.clone().unwrap_or_default();
        assert_eq!(
            conditions[1].reason.as_deref(),
            Some("FailedGetResourceMetric")
        );
        scaler.status = Some(first.clone());
        assert_eq!(
            status(&scaler, Some((1, 1))),
            first,
            "and not written again"
        );
        let lost = status(&scaler, None).conditions.unwrap_or_default();
        assert_eq!(lost[0].status, "False");
    }
}
