//! Writes what the control plane has to say of objects to their `status`.
//!
//! Any number of owners say what they want an object's status to be; the newest counts, so nothing
//! queues but names of objects. Workers bring what is stored to what is wanted: they read the
//! object, merge, and patch its status subresource if that makes a difference. So a status that
//! is right already is not written, and what others say in the same status stays.
//!
//! Invariants: only a leader writes, and a write in flight is dropped when leadership ends. A status
//! is never written to another generation of the spec than it was made for. Writes are paced, and
//! what fails comes again with back-off until it is written, replaced or without an object.

mod merge;
mod queue;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arcstr::ArcStr;
use jiff::Timestamp;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
};
use lateen_api::Kind;
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet};

use queue::Queue;

/// Who the API server notes as the writer.
const FIELD_MANAGER: &str = "istiod";
/// Writes at the same time: a slow API server must not hold back all for one.
const WORKERS: usize = 4;

/// A kind of objects that have a status, as paths of the API server name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StatusKind {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Version to write in.
    pub version: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Name in paths.
    pub plural: &'static str,
}

impl From<&Kind> for StatusKind {
    fn from(kind: &Kind) -> Self {
        StatusKind {
            group: kind.group,
            version: kind.versions[0],
            kind: kind.kind,
            plural: kind.plural,
        }
    }
}

/// An object whose status is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StatusTarget {
    /// Its kind.
    pub kind: StatusKind,
    /// Its namespace; empty for what is cluster wide.
    pub namespace: ArcStr,
    /// Its name.
    pub name: ArcStr,
}

impl StatusTarget {
    /// The object of this kind, namespace and name.
    pub fn new(
        kind: impl Into<StatusKind>,
        namespace: impl AsRef<str>,
        name: impl AsRef<str>,
    ) -> Self {
        StatusTarget {
            kind: kind.into(),
            namespace: ArcStr::from(namespace.as_ref()),
            name: ArcStr::from(name.as_ref()),
        }
    }
}

impl fmt::Display for StatusTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.kind, self.namespace, self.name)
    }
}

/// A part of the control plane that has something to say. What it may say is named once, so that
/// what it said before and does not say any more is taken away, also after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StatusOwner {
    /// Its name, for telling owners apart.
    pub name: &'static str,
    /// Types of the conditions of the object itself that are its own.
    pub conditions: &'static [&'static str],
    /// Which entries of `parents` and `ancestors` are its own: those of this `controllerName`.
    pub controller: &'static str,
}

/// What an owner wants a status to say.
///
/// Fields that are named are set, and removed where they are null. Some lists are merged:
///
/// - `conditions` of the object: those of the owner's types are replaced, others stay;
/// - `parents` and `ancestors`: entries of the owner's controller are replaced, others stay;
/// - conditions anywhere keep their `lastTransitionTime` while their status is the same. They need
///   none in here, and get the generation as `observedGeneration` where they have none.
#[derive(Clone, Debug, PartialEq)]
pub struct WantedStatus {
    /// Generation of the spec that it is about; 0 for any.
    pub generation: i64,
    /// The fields.
    pub status: Value,
}

/// How fast to write.
#[derive(Clone, Copy, Debug)]
pub struct StatusPace {
    /// Time per write in the long run.
    pub each: Duration,
    /// Writes that may come at once after a rest.
    pub burst: u32,
    /// Least time between two writes to one object.
    pub per_object: Duration,
    /// The first wait after a failure.
    pub retry_first: Duration,
    /// The longest wait after many.
    pub retry_most: Duration,
}

impl Default for StatusPace {
    /// Fifty writes a second, which an API server of a small cluster bears.
    fn default() -> Self {
        StatusPace {
            each: Duration::from_millis(20),
            burst: 100,
            per_object: Duration::from_millis(500),
            retry_first: Duration::from_millis(200),
            retry_most: Duration::from_secs(60),
        }
    }
}

/// How many writes ended how, for metrics.
#[derive(Debug, Default)]
pub struct StatusCounters {
    written: AtomicU64,
    unchanged: AtomicU64,
    outdated: AtomicU64,
    gone: AtomicU64,
    failed: AtomicU64,
}

impl StatusCounters {
    /// Statuses written.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// In Prometheus' text form.
    pub fn render(&self) -> String {
        let name = "lateen_status_writes_total";
        let mut text = format!(
            "# HELP {name} Statuses of objects, by how they ended\n# TYPE {name} counter\n"
        );
        for (result, counter) in [
            ("written", &self.written),
            ("unchanged", &self.unchanged),
            ("outdated", &self.outdated),
            ("gone", &self.gone),
            ("failed", &self.failed),
        ] {
            let value = counter.load(Ordering::Relaxed);
            text += &format!("{name}{{result=\"{result}\"}} {value}\n");
        }
        text
    }
}

/// Takes what is wanted. Cheap to clone; the workers end with the last clone.
#[derive(Clone, Debug)]
pub struct StatusWriter {
    queue: Arc<Queue>,
    counters: Arc<StatusCounters>,
    _workers: Arc<JoinSet<()>>,
}

impl StatusWriter {
    /// Starts the workers, on the current runtime. They write while `leading` is true.
    pub fn start(client: &Client, leading: &watch::Receiver<bool>, pace: StatusPace) -> Self {
        Self::counting(client, leading, pace, Arc::default())
    }

    /// A writer of other objects than this one's, for what another replica may be the leader of. It
    /// has a queue and a pace of its own, and counts together with this one.
    pub fn beside(
        &self,
        client: &Client,
        leading: &watch::Receiver<bool>,
        pace: StatusPace,
    ) -> Self {
        Self::counting(client, leading, pace, Arc::clone(&self.counters))
    }

    fn counting(
        client: &Client,
        leading: &watch::Receiver<bool>,
        pace: StatusPace,
        counters: Arc<StatusCounters>,
    ) -> Self {
        let queue = Arc::new(Queue::new(pace));
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            let worker = Worker {
                client: client.clone(),
                queue: queue.clone(),
                counters: counters.clone(),
                leading: leading.clone(),
            };
            workers.spawn(worker.run());
        }
        workers.spawn(renew_with_leadership(queue.clone(), leading.clone()));
        StatusWriter {
            queue,
            counters,
            _workers: Arc::new(workers),
        }
    }

    /// From now on the status of an object shall say this. The same as before costs nothing.
    pub fn set(&self, owner: StatusOwner, target: StatusTarget, wanted: WantedStatus) {
        self.queue.set(owner, target, wanted);
    }

    /// Says no more of an object, which is gone or was made anew under its name. What is stored is
    /// left alone; to take it away, set a status without it.
    pub fn forget(&self, owner: StatusOwner, target: &StatusTarget) {
        self.queue.forget(owner, target);
    }

    /// How writes ended.
    pub fn counters(&self) -> &StatusCounters {
        &self.counters
    }
}

/// What another leader wrote may be another state than this one wants, so all is looked at again.
async fn renew_with_leadership(queue: Arc<Queue>, mut leading: watch::Receiver<bool>) {
    while leading.wait_for(|is| *is).await.is_ok() {
        queue.renew();
        if leading.wait_for(|is| !*is).await.is_err() {
            return;
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// What is stored is what is wanted; whether that took a write.
    Right { written: bool },
    /// The spec is of a later generation: whoever looks at that will say something new.
    Outdated,
    /// There is no such object.
    Gone,
}

struct Worker {
    client: Client,
    queue: Arc<Queue>,
    counters: Arc<StatusCounters>,
    leading: watch::Receiver<bool>,
}

impl Worker {
    async fn run(mut self) {
        while self.leading.wait_for(|is| *is).await.is_ok() {
            let mut leading = self.leading.clone();
            let lost = async move { leading.wait_for(|is| !*is).await.is_err() };
            tokio::select! {
                biased;
                is_end = lost => if is_end { return },
                () = self.one() => {}
            }
        }
    }

    /// Brings one object to what is wanted. Dropped at any point, it leaves the object as one that
    /// is still to be done.
    async fn one(&self) {
        let job = Queue::next(&self.queue).await;
        let outcome = self.write(&job).await;
        let counter = match &outcome {
            Ok(Outcome::Right { written: true }) => &self.counters.written,
            Ok(Outcome::Right { written: false }) => &self.counters.unchanged,
            Ok(Outcome::Outdated) => &self.counters.outdated,
            Ok(Outcome::Gone) => &self.counters.gone,
            Err(_) => &self.counters.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        match outcome {
            Ok(Outcome::Right { .. } | Outcome::Outdated) => job.done(),
            Ok(Outcome::Gone) => job.gone(),
            // Somebody else wrote in between: the next look finds what.
            Err(kube::Error::Api(status)) if status.code == 409 => job.failed(),
            Err(error) => {
                tracing::warn!(object = %job.target, %error, "status not written, trying again");
                job.failed();
            }
        }
    }

    async fn write(&self, job: &queue::Job) -> Result<Outcome, kube::Error> {
        let target = &job.target;
        let api = self.api(target);
        let Some(object) = api.get_opt(&target.name).await? else {
            return Ok(Outcome::Gone);
        };
        if object.metadata.deletion_timestamp.is_some() {
            return Ok(Outcome::Gone);
        }
        let stored = object.data.get("status").cloned().unwrap_or(Value::Null);
        let generation = object.metadata.generation.unwrap_or_default();
        let mut fresh = job.wanted.iter().filter(|(_, wanted)| {
            wanted.generation == 0 || generation == 0 || wanted.generation == generation
        });
        let mut status = stored.clone();
        let mut n_fresh = 0;
        for (owner, wanted) in fresh.by_ref() {
            n_fresh += 1;
            status = merge::merged(&status, owner, wanted, Timestamp::now());
        }
        if n_fresh == 0 {
            return Ok(Outcome::Outdated);
        }
        let Some(fields) = merge::difference(&stored, &status) else {
            return Ok(Outcome::Right { written: false });
        };
        // The version makes it a write to what was read, and to nothing later.
        let patch = json!({
            "metadata": {"resourceVersion": object.metadata.resource_version},
            "status": fields,
        });
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(patch);
        match api.patch_status(&target.name, &params, &patch).await {
            Ok(_) => Ok(Outcome::Right { written: true }),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Outcome::Gone),
            Err(error) => Err(error),
        }
    }

    fn api(&self, target: &StatusTarget) -> Api<DynamicObject> {
        let StatusKind {
            group,
            version,
            kind,
            plural,
        } = target.kind;
        let gvk = kube::core::GroupVersionKind::gvk(group, version, kind);
        let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
        if target.namespace.is_empty() {
            return Api::all_with(self.client.clone(), &resource);
        }
        Api::namespaced_with(self.client.clone(), &target.namespace, &resource)
    }
}

#[cfg(test)]
mod tests;
