//! Keeps as many pods as each ReplicaSet asks for.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions, ResourceExt};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::watcher;
use serde_json::json;

use super::{Context, ignore_missing, owned, pods, retry};
use crate::Error;

const COMPONENT: &str = "replicaset-controller";

pub(super) async fn run(context: Arc<Context>) {
    let client = &context.client;
    Controller::new(
        Api::<ReplicaSet>::all(client.clone()),
        watcher::Config::default(),
    )
    .owns(Api::<Pod>::all(client.clone()), watcher::Config::default())
    .run(reconcile, retry, Arc::clone(&context))
    .for_each(|_| async {})
    .await;
}

async fn reconcile(set: Arc<ReplicaSet>, context: Arc<Context>) -> Result<Action, Error> {
    let namespace = set.namespace().unwrap_or_default();
    let api: Api<ReplicaSet> = Api::namespaced(context.client.clone(), &namespace);
    // The event may be old by now.
    let Some(set) = api.get_opt(&set.name_any()).await? else {
        return Ok(Action::await_change());
    };
    let pod_api: Api<Pod> = Api::namespaced(context.client.clone(), &namespace);
    let mut active = match set.metadata.deletion_timestamp {
        None => owned::claim(&pod_api, &set, &set.spec.selector).await?,
        Some(_) => owned::list(&pod_api, &set.uid().unwrap_or_default()).await?,
    };
    active.retain(pods::is_active);
    if set.metadata.deletion_timestamp.is_none() {
        scale(&context, &set, &pod_api, &mut active).await?;
    }
    let requeue = write_status(&api, &set, &active).await?;
    Ok(requeue.map_or_else(Action::await_change, Action::requeue))
}

async fn scale(
    context: &Context,
    set: &ReplicaSet,
    api: &Api<Pod>,
    active: &mut Vec<Pod>,
) -> Result<(), Error> {
    let spec = set.spec.clone();
    let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    let about = set.object_ref(&());
    while active.len() < wanted {
        let owner = set
            .controller_owner_ref(&())
            .expect("a stored object has a uid");
        let pod = pods::from_template(
            &spec.template.clone().unwrap_or_default(),
            owner,
            set.namespace(),
        );
        match api.create(&PostParams::default(), &pod).await {
            Ok(pod) => {
                context.events.normal(
                    COMPONENT,
                    &about,
                    "SuccessfulCreate",
                    format!("Created pod: {}", pod.name_any()),
                );
                active.push(pod);
            }
            Err(error) => {
                context.events.warning(
                    COMPONENT,
                    &about,
                    "FailedCreate",
                    format!("Error creating: {error}"),
                );
                return Err(error.into());
            }
        }
    }
    // The ones that serve least go first, and of equals the youngest.
    active.sort_by_key(|pod| {
        (
            pods::is_ready(pod),
            std::cmp::Reverse(pod.creation_timestamp()),
        )
    });
    let surplus = active.len().saturating_sub(wanted);
    for pod in active.drain(..surplus) {
        let uid = Preconditions {
            uid: pod.uid(),
            resource_version: None,
        };
        ignore_missing(
            api.delete(&pod.name_any(), &DeleteParams::default().preconditions(uid))
                .await,
        )?;
        context.events.normal(
            COMPONENT,
            &about,
            "SuccessfulDelete",
            format!("Deleted pod: {}", pod.name_any()),
        );
    }
    Ok(())
}

/// Writes the status if it changed; when it will change by the mere passing of time, after how long.
async fn write_status(
    api: &Api<ReplicaSet>,
    set: &ReplicaSet,
    active: &[Pod],
) -> Result<Option<Duration>, Error> {
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let min_ready = set.spec.min_ready_seconds.unwrap_or(0);
    let available: Vec<_> = active
        .iter()
        .map(|pod| pods::is_available(pod, min_ready))
        .collect();
    let ready = active.iter().filter(|pod| pods::is_ready(pod)).count();
    let status = ReplicaSetStatus {
        replicas: count(active.len()),
        fully_labeled_replicas: Some(count(active.len())),
        ready_replicas: Some(count(ready)),
        available_replicas: Some(count(
            available.iter().filter(|one| **one == Ok(true)).count(),
        )),
        observed_generation: set.metadata.generation,
        ..ReplicaSetStatus::default()
    };
    if set.status.as_ref() != Some(&status) {
        let patch = Patch::Merge(json!({"status": status}));
        ignore_missing(
            api.patch_status(&set.name_any(), &PatchParams::default(), &patch)
                .await,
        )?;
    }
    let lacks = available.iter().filter_map(|one| one.err()).min();
    Ok(lacks.map(Duration::from_secs))
}
