//! Everything that analysis looks at, followed by watches.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::StreamExt;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, TypeMeta},
    runtime::watcher::{self, Event, watcher},
};
use lateen_api::kinds;
use lateen_core::{Backoff, ObjectRef};
use lateen_galley::analyze::without_secrets;
use lateen_registry::Written;
use serde_json::Value;
use tokio::{sync::watch, task::JoinSet};
use tracing::{debug, error, warn};

use crate::command::analyze;

/// What `kubectl apply` notes of a document is the document once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Secrets of Kubernetes' own types that no server has its certificate from, and Helm's, which are
/// large: they never leave the API server.
const NO_SECRETS: &str = "type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token,\
                          type!=bootstrap.kubernetes.io/token,type!=kubernetes.io/dockercfg,\
                          type!=kubernetes.io/dockerconfigjson,type!=kubernetes.io/basic-auth,\
                          type!=kubernetes.io/ssh-auth";
/// How soon a kind is asked for again that cannot be read, at first and in the end.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// An object, without what only the API server needs.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) written: Written,
    /// What it is called, where it is of one of the mesh's kinds.
    pub(super) object: Option<ObjectRef>,
    pub(super) generation: i64,
    /// Whether its status has messages.
    pub(super) was_told: bool,
}

/// Namespace and name.
type Key = (String, String);
type Kept = BTreeMap<Key, Arc<Held>>;

/// All objects. Dropped, they are followed no more.
pub(super) struct Objects {
    /// By kind.
    held: Arc<Mutex<Vec<Kept>>>,
    changed_tx: Arc<watch::Sender<()>>,
    /// How many kinds are not known yet.
    missing: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

impl Objects {
    /// Starts to follow them; `namespace` is the control plane's.
    pub(super) fn follow(client: &Client, namespace: &str) -> Self {
        let resources: Vec<ApiResource> = analyze::kinds().collect();
        let held = Arc::new(Mutex::new(vec![Kept::new(); resources.len()]));
        let changed_tx = Arc::new(watch::Sender::new(()));
        let (missing_tx, missing) = watch::channel(resources.len());
        let missing_tx = Arc::new(missing_tx);
        let mut tasks = JoinSet::new();
        for (at, resource) in resources.into_iter().enumerate() {
            let follower = Follower {
                api: analyze::api(client.clone(), &resource, namespace),
                resource,
                at,
                held: held.clone(),
                changed_tx: changed_tx.clone(),
                missing_tx: missing_tx.clone(),
                is_known: false,
            };
            tasks.spawn(follower.run());
        }
        Objects {
            held,
            changed_tx,
            missing,
            _tasks: tasks,
        }
    }

    /// Tells of changes.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed_tx.subscribe()
    }

    /// Waits until every kind was listed once: what is not known yet must not be taken for what is
    /// not there.
    pub(super) async fn known(&self) {
        // Whoever counts ends with this.
        let _ = self.missing.clone().wait_for(|missing| *missing == 0).await;
    }

    pub(super) fn all(&self) -> Vec<Arc<Held>> {
        let held = lock(&self.held);
        held.iter()
            .flat_map(|kept| kept.values().cloned())
            .collect()
    }
}

/// Nothing under the lock can panic half way.
fn lock(held: &Mutex<Vec<Kept>>) -> MutexGuard<'_, Vec<Kept>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Follows the objects of one kind.
struct Follower {
    api: Api<DynamicObject>,
    resource: ApiResource,
    /// Where they are kept.
    at: usize,
    held: Arc<Mutex<Vec<Kept>>>,
    changed_tx: Arc<watch::Sender<()>>,
    missing_tx: Arc<watch::Sender<usize>>,
    is_known: bool,
}

impl Follower {
    async fn run(mut self) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut listed = Kept::new();
        let events = watcher(self.api.clone(), which(&self.resource));
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(object)) => listed.extend(self.read(object)),
                Ok(Event::InitDone) => {
                    self.replace(std::mem::take(&mut listed));
                    backoff.reset();
                }
                Ok(Event::Apply(object)) => self.apply(object),
                Ok(Event::Delete(object)) => self.delete(&object),
                Err(error) => {
                    self.judge(&error);
                    tokio::time::sleep(backoff.next_delay()).await;
                }
            }
        }
    }

    /// A kind that is not there has no objects. One that may not be read keeps analysis from
    /// beginning, as what refers to it could not be judged.
    fn judge(&mut self, error: &watcher::Error) {
        let kind = &self.resource.kind;
        let code = match error {
            watcher::Error::InitialListFailed(kube::Error::Api(status))
            | watcher::Error::WatchStartFailed(kube::Error::Api(status))
            | watcher::Error::WatchFailed(kube::Error::Api(status)) => status.code,
            _ => 0,
        };
        match code {
            404 => {
                debug!(kind, "the cluster does not have it");
                self.replace(Kept::new());
            }
            401 | 403 => error!(
                kind,
                %error,
                "analysis may not read it, and does not begin; values.global.istiod.enableAnalysis \
                 gives the right to"
            ),
            _ => warn!(kind, %error, "a watch of analysis broke; it starts again"),
        }
    }

    fn read(&self, mut object: DynamicObject) -> Option<(Key, Arc<Held>)> {
        object.types = Some(TypeMeta {
            api_version: self.resource.api_version.clone(),
            kind: self.resource.kind.clone(),
        });
        let key = key(&object);
        let held = held(object).map_err(|error| {
            let kind = &self.resource.kind;
            warn!(kind, name = ?key, %error, "left out of analysis");
        });
        Some((key, Arc::new(held.ok()?)))
    }

    fn apply(&self, object: DynamicObject) {
        let Some((key, new)) = self.read(object) else {
            return;
        };
        let mut held = lock(&self.held);
        let before = held[self.at].insert(key, new.clone());
        drop(held);
        if before.is_none_or(|before| before.written.value != new.written.value) {
            self.changed_tx.send_replace(());
        }
    }

    fn delete(&self, object: &DynamicObject) {
        let removed = lock(&self.held)[self.at].remove(&key(object));
        if removed.is_some() {
            self.changed_tx.send_replace(());
        }
    }

    fn replace(&mut self, new: Kept) {
        let before = std::mem::replace(&mut lock(&self.held)[self.at], new.clone());
        if !values(&before).eq(values(&new)) {
            self.changed_tx.send_replace(());
        }
        if !std::mem::replace(&mut self.is_known, true) {
            self.missing_tx.send_modify(|missing| *missing -= 1);
        }
    }
}

fn which(resource: &ApiResource) -> watcher::Config {
    let all = watcher::Config::default();
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Secret") => all.fields(NO_SECRETS),
        _ => all,
    }
}

/// Whether an object's status has messages of analysis or of the mesh.
pub(super) fn has_messages(object: &DynamicObject) -> bool {
    let messages = &object.data["status"]["validationMessages"];
    messages.as_array().is_some_and(|all| !all.is_empty())
}

fn values(kept: &Kept) -> impl Iterator<Item = &Value> {
    kept.values().map(|held| &held.written.value)
}

fn key(object: &DynamicObject) -> Key {
    let meta = &object.metadata;
    (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}

/// Of objects of the mesh's own kinds, statuses are what is told and not what is looked at.
fn held(mut object: DynamicObject) -> serde_json::Result<Held> {
    let meta = &mut object.metadata;
    meta.managed_fields = None;
    meta.resource_version = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove(LAST_APPLIED);
    }
    let generation = meta.generation.unwrap_or_default();
    let types = object.types.clone().unwrap_or_default();
    let kind = kinds::find(&types.api_version, &types.kind);
    let (namespace, name) = key(&object);
    let was_told = kind.is_some() && has_messages(&object);
    let mut value = serde_json::to_value(&object)?;
    without_secrets(&mut value);
    if kind.is_some()
        && let Some(fields) = value.as_object_mut()
    {
        fields.remove("status");
    }
    Ok(Held {
        written: Written::stored(value),
        object: kind.map(|kind| ObjectRef::new(kind.id(), namespace, name)),
        generation,
        was_told,
    })
}
