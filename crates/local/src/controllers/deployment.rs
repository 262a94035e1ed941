//! Deployments: one ReplicaSet for each pod template, and the passage from one to the next.

mod status;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, ResourceExt};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::watcher;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::rolling::{Limits, Set, step};
use super::{Context, ignore_missing, is_conflict, owned, pods, retry};
use crate::Error;
use status::status;

const COMPONENT: &str = "deployment-controller";
const HASH_LABEL: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";
/// Letters that a hash is written in: no vowels, so no words (as Kubernetes does).
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// How often pods are looked at that must end before others begin.
const RECHECK: Duration = Duration::from_millis(300);

pub(super) async fn run(context: Arc<Context>) {
    let client = &context.client;
    Controller::new(
        Api::<Deployment>::all(client.clone()),
        watcher::Config::default(),
    )
    .owns(
        Api::<ReplicaSet>::all(client.clone()),
        watcher::Config::default(),
    )
    .run(reconcile, retry, Arc::clone(&context))
    .for_each(|_| async {})
    .await;
}

/// How a rollout goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// By events of the sets.
    Tells,
    /// When pods have ended, of which the sets tell nothing.
    WaitsForPods,
}

/// A deployment with what it owns.
struct Rollout {
    context: Arc<Context>,
    deployment: Deployment,
    api: Api<Deployment>,
    sets: Api<ReplicaSet>,
}

async fn reconcile(deployment: Arc<Deployment>, context: Arc<Context>) -> Result<Action, Error> {
    let namespace = deployment.namespace().unwrap_or_default();
    let api: Api<Deployment> = Api::namespaced(context.client.clone(), &namespace);
    let Some(deployment) = api.get_opt(&deployment.name_any()).await? else {
        return Ok(Action::await_change());
    };
    if deployment.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let sets = Api::namespaced(context.client.clone(), &namespace);
    let deadline = deployment.spec.progress_deadline_seconds.unwrap_or(600);
    let rollout = Rollout {
        context,
        deployment,
        api,
        sets,
    };
    if rollout.advance().await? == Progress::WaitsForPods {
        return Ok(Action::requeue(RECHECK));
    }
    // A rollout that stands still brings no event: look again when its time is over.
    let deadline = u64::try_from(deadline).unwrap_or(600).max(1);
    Ok(Action::requeue(Duration::from_secs(deadline)))
}

impl Rollout {
    fn spec(&self) -> DeploymentSpec {
        self.deployment.spec.clone()
    }

    async fn advance(&self) -> Result<Progress, Error> {
        let mut progress = Progress::Tells;
        let spec = self.spec();
        let mut all = owned::claim(&self.sets, &self.deployment, &spec.selector).await?;
        let paused = spec.paused == Some(true);
        let position = all.iter().position(|set| same_template(set, &spec));
        let mut new = match position {
            Some(position) => Some(all.remove(position)),
            None if paused => None,
            None => Some(self.create_set(&spec, &all).await?),
        };
        let mut old = all;
        if let Some(new) = &mut new
            && !paused
        {
            self.mark_revision(new, &old).await?;
            match spec
                .strategy
                .as_ref()
                .and_then(|strategy| strategy.type_.as_deref())
            {
                Some("Recreate") => progress = self.recreate(&spec, new, &mut old).await?,
                _ => self.roll(&spec, new, &mut old).await?,
            }
        }
        self.write_status(&spec, new.as_ref(), &old).await?;
        self.forget_old(&spec, &old).await?;
        Ok(progress)
    }

    async fn create_set(
        &self,
        spec: &DeploymentSpec,
        old: &[ReplicaSet],
    ) -> Result<ReplicaSet, Error> {
        let mut template = spec.template.clone();
        let hash = hash(&template);
        let mut labels = template
            .metadata
            .clone()
            .unwrap_or_default()
            .labels
            .unwrap_or_default();
        labels.insert(HASH_LABEL.into(), hash.clone());
        template.metadata.get_or_insert_default().labels = Some(labels.clone());
        let mut selector = spec.selector.clone();
        selector
            .match_labels
            .get_or_insert_default()
            .insert(HASH_LABEL.into(), hash.clone());
        let mut annotations = own_annotations(&self.deployment);
        annotations.insert(REVISION.into(), (max_revision(old) + 1).to_string());
        let owner = self
            .deployment
            .controller_owner_ref(&())
            .expect("a stored object has a uid");
        let set = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(format!("{}-{hash}", self.deployment.name_any())),
                namespace: self.deployment.namespace(),
                labels: Some(labels),
                annotations: Some(annotations),
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            },
            spec: ReplicaSetSpec {
                // A first set starts whole; a later one grows as the limits allow.
                replicas: Some(if old.is_empty() {
                    spec.replicas.unwrap_or(1)
                } else {
                    0
                }),
                min_ready_seconds: spec.min_ready_seconds,
                selector,
                template: Some(template),
            },
            status: None,
        };
        let created = self.sets.create(&PostParams::default(), &set).await;
        match created {
            Ok(created) => {
                if old.is_empty() {
                    self.scaled("up", &created, 0, spec.replicas.unwrap_or(1));
                }
                Ok(created)
            }
            Err(error) => {
                if !is_conflict(&error) {
                    let message = format!("Failed to create new replica set: {error}");
                    self.context.events.warning(
                        COMPONENT,
                        &self.deployment.object_ref(&()),
                        "ReplicaSetCreateError",
                        message,
                    );
                }
                Err(error.into())
            }
        }
    }

    /// The newest template has the highest revision, also when it comes back after a rollback.
    async fn mark_revision(&self, new: &mut ReplicaSet, old: &[ReplicaSet]) -> Result<(), Error> {
        let wanted = revision(new).max(max_revision(old) + 1);
        let mut annotations = own_annotations(&self.deployment);
        annotations.insert(REVISION.into(), wanted.to_string());
        let given = new.annotations();
        if annotations
            .iter()
            .any(|(key, value)| given.get(key) != Some(value))
        {
            let patch = json!({"metadata": {"annotations": annotations}});
            *new = self
                .sets
                .patch(
                    &new.name_any(),
                    &PatchParams::default(),
                    &Patch::Merge(patch),
                )
                .await?;
        }
        if self.deployment.annotations().get(REVISION) != Some(&wanted.to_string()) {
            let patch = json!({"metadata": {"annotations": {REVISION: wanted.to_string()}}});
            let (name, patch) = (self.deployment.name_any(), Patch::Merge(patch));
            ignore_missing(self.api.patch(&name, &PatchParams::default(), &patch).await)?;
        }
        Ok(())
    }

    async fn roll(
        &self,
        spec: &DeploymentSpec,
        new: &mut ReplicaSet,
        old: &mut [ReplicaSet],
    ) -> Result<(), Error> {
        let sets: Vec<Set> = old.iter().map(size).collect();
        let sizes = step(
            spec.replicas.unwrap_or(1),
            Limits::of(spec),
            size(new),
            &sets,
        );
        self.scale(new, sizes.new).await?;
        for (set, wanted) in old.iter_mut().zip(sizes.old) {
            self.scale(set, wanted).await?;
        }
        Ok(())
    }

    async fn recreate(
        &self,
        spec: &DeploymentSpec,
        new: &mut ReplicaSet,
        old: &mut [ReplicaSet],
    ) -> Result<Progress, Error> {
        for set in old.iter_mut() {
            self.scale(set, 0).await?;
        }
        if self.any_runs(old).await? {
            return Ok(Progress::WaitsForPods);
        }
        self.scale(new, spec.replicas.unwrap_or(1)).await?;
        Ok(Progress::Tells)
    }

    /// Whether pods of these sets are still there; those that are ending run too, and a set no
    /// longer counts them.
    async fn any_runs(&self, sets: &[ReplicaSet]) -> Result<bool, Error> {
        let namespace = self.deployment.namespace().unwrap_or_default();
        let pods: Api<Pod> = Api::namespaced(self.context.client.clone(), &namespace);
        let uids: Vec<String> = sets.iter().filter_map(ResourceExt::uid).collect();
        let all = pods.list(&Default::default()).await?.items;
        Ok(all.iter().any(|pod| {
            let of = owned::controller_uid(&pod.metadata);
            let is_theirs = of.is_some_and(|uid| uids.iter().any(|one| one == uid));
            is_theirs && !matches!(pods::phase(pod), "Succeeded" | "Failed")
        }))
    }

    async fn scale(&self, set: &mut ReplicaSet, wanted: i32) -> Result<(), Error> {
        let now = size(set).wanted;
        if now == wanted {
            return Ok(());
        }
        let patch = json!({"spec": {"replicas": wanted}});
        *set = self
            .sets
            .patch(
                &set.name_any(),
                &PatchParams::default(),
                &Patch::Merge(patch),
            )
            .await?;
        self.scaled(if wanted > now { "up" } else { "down" }, set, now, wanted);
        Ok(())
    }

    fn scaled(&self, direction: &str, set: &ReplicaSet, from: i32, to: i32) {
        let message = format!(
            "Scaled {direction} replica set {} from {from} to {to}",
            set.name_any()
        );
        self.context.events.normal(
            COMPONENT,
            &self.deployment.object_ref(&()),
            "ScalingReplicaSet",
            message,
        );
    }

    async fn forget_old(&self, spec: &DeploymentSpec, old: &[ReplicaSet]) -> Result<(), Error> {
        let limit = usize::try_from(spec.revision_history_limit.unwrap_or(10)).unwrap_or(10);
        let mut idle: Vec<&ReplicaSet> = old
            .iter()
            .filter(|set| {
                size(set).wanted == 0
                    && set
                        .status
                        .as_ref()
                        .is_none_or(|status| status.replicas == 0)
            })
            .collect();
        idle.sort_by_key(|set| revision(set));
        for set in idle.iter().take(idle.len().saturating_sub(limit)) {
            ignore_missing(
                self.sets
                    .delete(&set.name_any(), &DeleteParams::background())
                    .await,
            )?;
        }
        Ok(())
    }

    async fn write_status(
        &self,
        spec: &DeploymentSpec,
        new: Option<&ReplicaSet>,
        old: &[ReplicaSet],
    ) -> Result<(), Error> {
        let before = self.deployment.status.clone().unwrap_or_default();
        let status = status(&self.deployment, spec, &before, new, old);
        if status == before {
            return Ok(());
        }
        let patch = Patch::Merge(json!({"status": status}));
        ignore_missing(
            self.api
                .patch_status(&self.deployment.name_any(), &PatchParams::default(), &patch)
                .await,
        )?;
        Ok(())
    }
}

/// What a set shows of its deployment, the cause of a change among it.
fn own_annotations(deployment: &Deployment) -> BTreeMap<String, String> {
    let mut annotations = deployment.annotations().clone();
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    annotations.remove(REVISION);
    annotations
}

fn size(set: &ReplicaSet) -> Set {
    Set {
        wanted: set.spec.replicas.unwrap_or(0),
        available: set
            .status
            .as_ref()
            .and_then(|status| status.available_replicas)
            .unwrap_or(0),
    }
}

fn revision(set: &ReplicaSet) -> i64 {
    set.annotations()
        .get(REVISION)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

fn max_revision(sets: &[ReplicaSet]) -> i64 {
    sets.iter().map(revision).max().unwrap_or(0)
}

/// Whether the set was made from the deployment's present template.
fn same_template(set: &ReplicaSet, spec: &DeploymentSpec) -> bool {
    let mut template = set.spec.template.clone().unwrap_or_default();
    if let Some(labels) = template
        .metadata
        .as_mut()
        .and_then(|meta| meta.labels.as_mut())
    {
        labels.remove(HASH_LABEL);
    }
    canonical(&template) == canonical(&spec.template)
}

/// The template without what is only a different way to say nothing.
fn canonical(template: &PodTemplateSpec) -> serde_json::Value {
    let empty = |map: &Option<BTreeMap<String, String>>| map.clone().unwrap_or_default();
    let meta = template.metadata.clone().unwrap_or_default();
    json!({"labels": empty(&meta.labels), "annotations": empty(&meta.annotations), "spec": template.spec})
}

/// A short name of a template's content.
fn hash(template: &PodTemplateSpec) -> String {
    let digest = Sha256::digest(canonical(template).to_string());
    digest
        .iter()
        .take(10)
        .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::DeploymentStatus;

    fn deployment(image: &str) -> DeploymentSpec {
        serde_json::from_value(json!({
            "replicas": 1, "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": image}]}},
        }))
        .unwrap()
    }

    #[test]
    fn a_set_is_recognised_by_its_template() {
        let one = deployment("x:1");
        let mut template = one.template.clone();
        let labels = template.metadata.as_mut().unwrap().labels.as_mut().unwrap();
        labels.insert(HASH_LABEL.into(), "h".into());
        let set = ReplicaSet {
            spec: ReplicaSetSpec {
                template: Some(template),
                ..ReplicaSetSpec::default()
            },
            ..ReplicaSet::default()
        };
        assert!(same_template(&set, &one));
        assert!(!same_template(&set, &deployment("x:2")));
        let (a, b) = (hash(&one.template), hash(&deployment("x:2").template));
        assert!(a != b && a.len() == 10);
    }

    #[test]
    fn an_unchanged_rollout_has_an_unchanged_status() {
        let spec = deployment("x:1");
        let set: ReplicaSet = serde_json::from_value(json!({
            "metadata": {"name": "d-h"}, "spec": {"replicas": 1, "selector": {}},
            "status": {"replicas": 1, "readyReplicas": 1, "availableReplicas": 1},
        }))
        .unwrap();
        let first = status(
            &Deployment::default(),
            &spec,
            &DeploymentStatus::default(),
            Some(&set),
            &[],
        );
        let again = status(&Deployment::default(), &spec, &first, Some(&set), &[]);
        assert_eq!(first, again);
        assert_eq!(
            first.conditions.unwrap()[1].reason.as_deref(),
            Some("NewReplicaSetAvailable")
        );
    }
}
