//! Runs pods until so many have succeeded.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, ResourceExt};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::watcher;
use serde_json::json;

use super::{Context, ignore_missing, owned, pods, retry};
use crate::Error;

const COMPONENT: &str = "job-controller";
/// Delay before the second pod of a job that failed; it doubles from there (up to six minutes).
const BACKOFF: u64 = 10;

pub(super) async fn run(context: Arc<Context>) {
    let client = &context.client;
    Controller::new(Api::<Job>::all(client.clone()), watcher::Config::default())
        .owns(Api::<Pod>::all(client.clone()), watcher::Config::default())
        .run(reconcile, retry, Arc::clone(&context))
        .for_each(|_| async {})
        .await;
}

/// A job's pods by what became of them.
#[derive(Debug, Default)]
struct Tally {
    active: Vec<Pod>,
    ready: i32,
    succeeded: i32,
    failed: i32,
    last_failure: Option<Timestamp>,
    /// Of containers that are started again in their pods.
    restarts: i32,
}

impl Tally {
    fn of(pods_: Vec<Pod>) -> Self {
        let mut tally = Self::default();
        for pod in pods_ {
            match pods::phase(&pod) {
                "Succeeded" => tally.succeeded += 1,
                "Failed" => {
                    tally.failed += 1;
                    let since = pods::condition(&pod, "Ready")
                        .and_then(|one| one.last_transition_time.clone());
                    tally.last_failure = tally.last_failure.max(since.map(|time| time.0));
                }
                _ if pod.metadata.deletion_timestamp.is_some() => {}
                _ => {
                    tally.ready += i32::from(pods::is_ready(&pod));
                    tally.restarts += restarts(&pod);
                    tally.active.push(pod);
                }
            }
        }
        tally
    }
}

/// How often the pod's containers were started again.
fn restarts(pod: &Pod) -> i32 {
    let status = pod.status.clone().unwrap_or_default();
    let all = [status.init_container_statuses, status.container_statuses];
    let counts = all
        .into_iter()
        .flatten()
        .flatten()
        .map(|one| one.restart_count);
    counts.sum()
}

async fn reconcile(job: Arc<Job>, context: Arc<Context>) -> Result<Action, Error> {
    let namespace = job.namespace().unwrap_or_default();
    let api: Api<Job> = Api::namespaced(context.client.clone(), &namespace);
    let Some(job) = api.get_opt(&job.name_any()).await? else {
        return Ok(Action::await_change());
    };
    if job.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    if let Some(finished) = finished_at(&job) {
        return expire(&api, &job, finished).await;
    }
    let pod_api: Api<Pod> = Api::namespaced(context.client.clone(), &namespace);
    let mut tally = Tally::of(owned::list(&pod_api, &job.uid().unwrap_or_default()).await?);
    let spec = job.spec.clone().unwrap_or_default();
    let outcome = outcome(&spec, &job, &tally);
    let mut action = Action::await_change();
    let surplus = match outcome {
        Some(_) => tally.active.len(),
        None => tally.active.len().saturating_sub(wanted(&spec, &tally)),
    };
    // The youngest go first: they have done least.
    let kept = tally.active.len() - surplus;
    for pod in tally.active.drain(kept..) {
        let params = DeleteParams::default();
        ignore_missing(pod_api.delete(&pod.name_any(), &params).await)?;
    }
    if outcome.is_none() && spec.suspend != Some(true) {
        action = start_pods(&context, &job, &spec, &pod_api, &mut tally).await?;
    }
    write_status(&context, &api, &job, &tally, outcome).await?;
    Ok(action)
}

fn finished_at(job: &Job) -> Option<Timestamp> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let done = conditions
        .iter()
        .find(|one| matches!(one.type_.as_str(), "Complete" | "Failed") && one.status == "True")?;
    Some(
        done.last_transition_time
            .as_ref()
            .map_or_else(Timestamp::now, |time| time.0),
    )
}

/// Removes a finished job when its time is over.
async fn expire(api: &Api<Job>, job: &Job, finished: Timestamp) -> Result<Action, Error> {
    let Some(ttl) = job
        .spec
        .as_ref()
        .and_then(|spec| spec.ttl_seconds_after_finished)
    else {
        return Ok(Action::await_change());
    };
    let left = finished.as_second() + i64::from(ttl) - Timestamp::now().as_second();
    if let Ok(left @ 1..) = u64::try_from(left) {
        return Ok(Action::requeue(Duration::from_secs(left)));
    }
    ignore_missing(
        api.delete(&job.name_any(), &DeleteParams::background())
            .await,
    )?;
    Ok(Action::await_change())
}

type Outcome = Option<(&'static str, &'static str, String)>;

fn outcome(spec: &JobSpec, job: &Job, tally: &Tally) -> Outcome {
    if spec.completion_mode.as_deref() == Some("Indexed") {
        let message = "completionMode Indexed is not supported by this platform";
        return Some(("Failed", "NotSupported", message.to_owned()));
    }
    let enough = match spec.completions {
        Some(completions) => tally.succeeded >= completions,
        // A work queue is done when one pod says so and no other runs.
        None => tally.succeeded > 0 && tally.active.is_empty(),
    };
    if enough {
        return Some((
            "Complete",
            "CompletionsReached",
            "Reached expected number of succeeded pods".to_owned(),
        ));
    }
    let limit = spec.backoff_limit.unwrap_or(6);
    let pod = spec.template.spec.as_ref();
    // Pods that start their containers again never fail themselves.
    let restarts_fail = pod.and_then(|pod| pod.restart_policy.as_deref()) == Some("OnFailure")
        && tally.restarts > 0
        && tally.restarts >= limit;
    if tally.failed > limit || restarts_fail {
        let message = "Job has reached the specified backoff limit";
        return Some(("Failed", "BackoffLimitExceeded", message.to_owned()));
    }
    let started = job
        .status
        .as_ref()
        .and_then(|status| status.start_time.clone());
    let age = started.map(|started| Timestamp::now().as_second() - started.0.as_second());
    if spec
        .active_deadline_seconds
        .zip(age)
        .is_some_and(|(deadline, age)| age >= deadline)
    {
        let message = "Job was active longer than specified deadline";
        return Some(("Failed", "DeadlineExceeded", message.to_owned()));
    }
    None
}

/// How many pods are to run at this moment.
fn wanted(spec: &JobSpec, tally: &Tally) -> usize {
    let parallelism = spec.parallelism.unwrap_or(1);
    let wanted = match spec.completions {
        _ if spec.suspend == Some(true) => 0,
        Some(completions) => parallelism.min(completions - tally.succeeded),
        // A work queue: those that run see to the rest.
        None if tally.succeeded > 0 => {
            parallelism.min(i32::try_from(tally.active.len()).unwrap_or(0))
        }
        None => parallelism,
    };
    usize::try_from(wanted).unwrap_or(0)
}

async fn start_pods(
    context: &Context,
    job: &Job,
    spec: &JobSpec,
    api: &Api<Pod>,
    tally: &mut Tally,
) -> Result<Action, Error> {
    let lacking = wanted(spec, tally).saturating_sub(tally.active.len());
    let deadline = spec
        .active_deadline_seconds
        .and_then(|seconds| u64::try_from(seconds).ok());
    let idle = deadline.map_or_else(Action::await_change, |seconds| {
        Action::requeue(Duration::from_secs(seconds.min(60)))
    });
    if lacking == 0 {
        return Ok(idle);
    }
    if let Some(wait) = backoff(tally, Timestamp::now()) {
        return Ok(Action::requeue(wait));
    }
    let about = job.object_ref(&());
    for _ in 0..lacking {
        let owner = job
            .controller_owner_ref(&())
            .expect("a stored object has a uid");
        let pod = pods::from_template(&spec.template, owner, job.namespace());
        match api.create(&PostParams::default(), &pod).await {
            Ok(pod) => {
                context.events.normal(
                    COMPONENT,
                    &about,
                    "SuccessfulCreate",
                    format!("Created pod: {}", pod.name_any()),
                );
                tally.active.push(pod);
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
    Ok(idle)
}

/// How long a job that failed waits for its next pod.
fn backoff(tally: &Tally, now: Timestamp) -> Option<Duration> {
    let last = tally.last_failure?;
    let exponent = u32::try_from(tally.failed - 1).unwrap_or(0).min(5);
    let until = last.as_second() + i64::try_from(BACKOFF << exponent).unwrap_or(i64::MAX);
    u64::try_from(until - now.as_second())
        .ok()
        .filter(|left| *left > 0)
        .map(Duration::from_secs)
}

async fn write_status(
    context: &Context,
    api: &Api<Job>,
    job: &Job,
    tally: &Tally,
    outcome: Outcome,
) -> Result<(), Error> {
    let before = job.status.clone().unwrap_or_default();
    let now = Some(Time(Timestamp::now()));
    let mut status = JobStatus {
        active: i32::try_from(tally.active.len()).ok().filter(|n| *n > 0),
        ready: Some(tally.ready),
        succeeded: Some(tally.succeeded).filter(|n| *n > 0),
        failed: Some(tally.failed).filter(|n| *n > 0),
        start_time: before.start_time.clone().or_else(|| now.clone()),
        ..before.clone()
    };
    if let Some((kind, reason, message)) = outcome {
        if kind == "Complete" {
            status.completion_time.clone_from(&now);
            context.events.normal(
                COMPONENT,
                &job.object_ref(&()),
                "Completed",
                "Job completed",
            );
        } else {
            context
                .events
                .warning(COMPONENT, &job.object_ref(&()), reason, message.clone());
        }
        status
            .conditions
            .get_or_insert_default()
            .push(JobCondition {
                type_: kind.to_owned(),
                status: "True".to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message),
                last_probe_time: now.clone(),
                last_transition_time: now,
            });
    }
    if status != before {
        // What is not there must be said, or the merge keeps it.
        let mut value = json!(status);
        for field in ["active", "succeeded", "failed"] {
            value
                .as_object_mut()
                .map(|map| map.entry(field).or_insert(serde_json::Value::Null));
        }
        let patch = Patch::Merge(json!({"status": value}));
        ignore_missing(
            api.patch_status(&job.name_any(), &PatchParams::default(), &patch)
                .await,
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(succeeded: i32, failed: i32) -> Tally {
        Tally {
            succeeded,
            failed,
            ..Tally::default()
        }
    }

    #[test]
    fn outcomes() {
        let spec = JobSpec {
            completions: Some(2),
            backoff_limit: Some(1),
            ..JobSpec::default()
        };
        let check =
            |tally: Tally| outcome(&spec, &Job::default(), &tally).map(|(_, reason, _)| reason);
        assert_eq!(check(tally(1, 1)), None);
        assert_eq!(check(tally(2, 1)), Some("CompletionsReached"));
        assert_eq!(check(tally(0, 2)), Some("BackoffLimitExceeded"));
    }

    #[test]
    fn restarts_within_pods_count_against_the_limit() {
        let spec = |policy: &str| JobSpec {
            completions: Some(1),
            backoff_limit: Some(2),
            template: serde_json::from_value(
                json!({"spec": {"restartPolicy": policy, "containers": []}}),
            )
            .unwrap(),
            ..JobSpec::default()
        };
        let check = |policy: &str, restarts| {
            let tally = Tally {
                restarts,
                ..Tally::default()
            };
            outcome(&spec(policy), &Job::default(), &tally).map(|(_, reason, _)| reason)
        };
        assert_eq!(check("OnFailure", 1), None);
        assert_eq!(check("OnFailure", 2), Some("BackoffLimitExceeded"));
        assert_eq!(check("Never", 2), None);
    }

    #[test]
    fn so_many_pods_run_as_are_asked_for() {
        let check = |spec: JobSpec, succeeded, active, expect| {
            let tally = Tally {
                active: vec![Pod::default(); active],
                ..tally(succeeded, 0)
            };
            assert_eq!(wanted(&spec, &tally), expect, "{spec:?}");
        };
        let spec = |completions, parallelism| JobSpec {
            completions,
            parallelism: Some(parallelism),
            ..JobSpec::default()
        };
        check(spec(Some(5), 2), 0, 0, 2);
        check(spec(Some(5), 2), 4, 1, 1);
        check(spec(None, 3), 0, 1, 3);
        check(spec(None, 3), 1, 2, 2);
        let suspended = JobSpec {
            suspend: Some(true),
            ..spec(Some(5), 2)
        };
        check(suspended, 0, 2, 0);
    }

    #[test]
    fn failures_are_spaced() {
        let now = Timestamp::from_second(1000).unwrap();
        let failed = |failed, ago: i64| Tally {
            failed,
            last_failure: Some(Timestamp::from_second(1000 - ago).unwrap()),
            ..Tally::default()
        };
        assert_eq!(backoff(&failed(1, 3), now), Some(Duration::from_secs(7)));
        assert_eq!(backoff(&failed(2, 3), now), Some(Duration::from_secs(17)));
        assert_eq!(backoff(&failed(1, 11), now), None);
        assert_eq!(backoff(&Tally::default(), now), None);
    }
}
