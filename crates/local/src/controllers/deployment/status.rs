//! What a deployment's status says. Pure.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus, ReplicaSet, ReplicaSetStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use crate::controllers::rolling::Limits;

/// The status that follows from the sets; times of what did not change are those of `before`.
pub(super) fn status(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    before: &DeploymentStatus,
    new: Option<&ReplicaSet>,
    old: &[ReplicaSet],
) -> DeploymentStatus {
    let sum = |field: fn(&ReplicaSetStatus) -> i32| -> i32 {
        old.iter()
            .chain(new)
            .filter_map(|set| set.status.as_ref())
            .map(field)
            .sum()
    };
    let replicas = sum(|status| status.replicas);
    let available = sum(|status| status.available_replicas.unwrap_or(0));
    let updated = new
        .and_then(|set| set.status.as_ref())
        .map_or(0, |status| status.replicas);
    let wanted = spec.replicas.unwrap_or(1);
    let limits_met = available >= wanted - Limits::of(spec).max_unavailable();
    let complete = updated == wanted && replicas == wanted && available == wanted;
    let name = new.map(ResourceExt::name_any).unwrap_or_default();
    let availability = if limits_met {
        (
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.".to_owned(),
        )
    } else {
        (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.".to_owned(),
        )
    };
    let progress = match (complete, new) {
        (true, _) => (
            "True",
            "NewReplicaSetAvailable",
            format!("ReplicaSet \"{name}\" has successfully progressed."),
        ),
        (_, None) => (
            "Unknown",
            "DeploymentPaused",
            "Deployment is paused".to_owned(),
        ),
        _ if is_overdue(spec, before, updated, available) => (
            "False",
            "ProgressDeadlineExceeded",
            format!("ReplicaSet \"{name}\" has timed out progressing."),
        ),
        _ => (
            "True",
            "ReplicaSetUpdated",
            format!("ReplicaSet \"{name}\" is progressing."),
        ),
    };
    DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: Some(replicas),
        updated_replicas: Some(updated),
        ready_replicas: Some(sum(|status| status.ready_replicas.unwrap_or(0))),
        available_replicas: Some(available),
        unavailable_replicas: Some((wanted.max(replicas) - available).max(0)),
        conditions: Some(vec![
            condition("Available", availability, before),
            condition("Progressing", progress, before),
        ]),
        ..DeploymentStatus::default()
    }
}

/// Whether nothing has moved for as long as the deployment allows.
fn is_overdue(
    spec: &DeploymentSpec,
    before: &DeploymentStatus,
    updated: i32,
    available: i32,
) -> bool {
    let moved =
        before.updated_replicas != Some(updated) || before.available_replicas != Some(available);
    let conditions = before.conditions.iter().flatten();
    let mut progress = conditions.filter(|one| one.type_.as_deref() == Some("Progressing"));
    let Some(progress) = progress.next().filter(|_| !moved) else {
        return false;
    };
    match progress.reason.as_deref() {
        Some("ProgressDeadlineExceeded") => true,
        Some("ReplicaSetUpdated") => {
            let since = progress
                .last_update_time
                .as_ref()
                .map_or(0, |time| time.0.as_second());
            let allowed = i64::from(spec.progress_deadline_seconds.unwrap_or(600));
            since > 0 && Timestamp::now().as_second() - since >= allowed
        }
        _ => false,
    }
}

fn condition(
    kind: &str,
    (status, reason, message): (&str, &str, String),
    before: &DeploymentStatus,
) -> DeploymentCondition {
    let earlier = before
        .conditions
        .iter()
        .flatten()
        .find(|one| one.type_.as_deref() == Some(kind));
    let same_status = earlier.filter(|one| one.status.as_deref() == Some(status));
    let same = same_status.filter(|one| {
        one.reason.as_deref() == Some(reason) && one.message.as_ref() == Some(&message)
    });
    let now = Some(Time(Timestamp::now()));
    DeploymentCondition {
        type_: Some(kind.to_owned()),
        status: Some(status.to_owned()),
        reason: Some(reason.to_owned()),
        last_transition_time: same_status
            .map_or_else(|| now.clone(), |one| one.last_transition_time.clone()),
        last_update_time: same.map_or(now, |one| one.last_update_time.clone()),
        message: Some(message),
    }
}
