//! What controllers ask of pods, and how they make them.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// The status of a condition.
pub(super) fn condition<'a>(
    pod: &'a Pod,
    kind: &str,
) -> Option<&'a k8s_openapi::api::core::v1::PodCondition> {
    pod.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|condition| condition.type_ == kind)
}

/// Whether its containers are ready.
pub(super) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

/// Whether it has been ready for long enough; otherwise, when it is ready, the seconds that lack.
pub(super) fn is_available(pod: &Pod, min_ready_seconds: i32) -> Result<bool, u64> {
    if !is_ready(pod) {
        return Ok(false);
    }
    let since =
        condition(pod, "Ready").and_then(|condition| condition.last_transition_time.as_ref());
    let Some(since) = since.filter(|_| min_ready_seconds > 0) else {
        return Ok(true);
    };
    let age = Timestamp::now().as_second() - since.0.as_second();
    match u64::try_from(i64::from(min_ready_seconds) - age) {
        Ok(lacks) if lacks > 0 => Err(lacks),
        _ => Ok(true),
    }
}

pub(super) fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending")
}

/// Whether it runs or will.
pub(super) fn is_active(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase(pod), "Succeeded" | "Failed")
}

/// A pod out of a template, owned by `owner`.
pub(super) fn from_template(
    template: &PodTemplateSpec,
    owner: OwnerReference,
    namespace: Option<String>,
) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", owner.name)),
            namespace,
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}
