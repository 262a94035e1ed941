//! Watches of a Kubernetes API server, each a task that never gives up.

mod convert;

pub(crate) use convert::label_locality;

use std::{fmt::Debug, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt};
use k8s_openapi::api::{
    core::v1::{ConfigMap, Namespace, Node, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, DynamicObject},
    core::GroupVersionKind,
    runtime::{self, utils::StreamBackoff, watcher},
};
use lateen_api::Kind;
use lateen_core::Backoff;
use serde::de::DeserializeOwned;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    WATCHED_KINDS,
    source::Source,
    state::{self, Update},
    store::{Event, Key},
};

/// Shorter than kube's own default: the API server is near, and configuration must be live at once.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(2);

/// A definition that people have just applied is seen this soon.
const RETRY_ABSENT: Duration = Duration::from_secs(1);

/// A Kubernetes API server.
pub(crate) struct Kubernetes {
    pub(crate) client: Client,
    /// Where ConfigMap `istio` is.
    pub(crate) namespace: String,
    /// Whether the mesh's own objects are watched there too.
    pub(crate) objects: bool,
}

impl Source for Kubernetes {
    fn start(self, tasks: &mut JoinSet<()>, updates_tx: mpsc::Sender<Update>) {
        let (client, namespace) = (&self.client, &self.namespace);
        let spawn_ctx = (client, &updates_tx);
        typed::<Service, _>(
            tasks,
            spawn_ctx,
            state::SERVICE,
            convert::service,
            Update::Service,
        );
        typed::<EndpointSlice, _>(
            tasks,
            spawn_ctx,
            state::SLICE,
            convert::slice,
            Update::Slice,
        );
        typed::<Pod, _>(tasks, spawn_ctx, state::POD, convert::workload, Update::Pod);
        typed::<Node, _>(tasks, spawn_ctx, state::NODE, convert::node, Update::Node);
        typed::<Namespace, _>(
            tasks,
            spawn_ctx,
            state::NAMESPACE,
            convert::namespace,
            Update::Namespace,
        );
        let mesh = Api::<ConfigMap>::namespaced(client.clone(), namespace);
        let only_mesh = watcher::Config::default().fields("metadata.name=istio");
        let mesh = pump(
            mesh,
            only_mesh,
            updates_tx.clone(),
            convert::mesh,
            Update::Mesh,
            (state::MESH, None),
        );
        tasks.spawn(mesh.map(drop));
        let kinds = if self.objects { WATCHED_KINDS } else { &[] };
        for kind in kinds {
            tasks.spawn(objects(client.clone(), kind, updates_tx.clone()));
        }
    }
}

/// Watches the objects of a kind whose definition may be missing, come later, or serve only some of
/// the versions.
async fn objects(client: Client, kind: &'static Kind, updates_tx: mpsc::Sender<Update>) {
    loop {
        for version in kind.versions {
            let gvk = GroupVersionKind::gvk(kind.group, version, kind.kind);
            let resource = ApiResource::from_gvk_with_plural(&gvk, kind.plural);
            let api = Api::<DynamicObject>::all_with(client.clone(), &resource);
            let convert = move |object| convert::raw(kind, object);
            let wrap = move |event| Update::Object(kind, event);
            let config = watcher::Config::default();
            let tx = updates_tx.clone();
            let source = (kind.id(), Some(kind));
            if pump(api, config, tx, convert, wrap, source).await == End::NobodyListens {
                return;
            }
        }
        // A definition that is not installed (yet) is an empty collection.
        tracing::debug!(kind = kind.id(), "not installed");
        if updates_tx.send(Update::Absent(kind)).await.is_err() {
            return;
        }
        tokio::time::sleep(RETRY_ABSENT).await;
    }
}

/// Why a watch ended.
#[derive(PartialEq, Eq)]
enum End {
    /// The writer is gone.
    NobodyListens,
    /// The API server does not know the kind, or not in this version.
    NotInstalled,
}

fn typed<K, T>(
    tasks: &mut JoinSet<()>,
    (client, updates_tx): (&Client, &mpsc::Sender<Update>),
    name: &'static str,
    convert: fn(K) -> Option<T>,
    wrap: fn(Event<T>) -> Update,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    T: Send + 'static,
{
    let api = Api::<K>::all(client.clone());
    let watch = pump(
        api,
        watcher::Config::default(),
        updates_tx.clone(),
        convert,
        wrap,
        (name, None),
    );
    tasks.spawn(watch.map(drop));
}

/// Carries one watch's events to the writer, until the writer is gone. An object that `convert` has
/// no use for counts as deleted, so that it also leaves when it turns useless.
async fn pump<K, T>(
    api: Api<K>,
    config: watcher::Config,
    updates_tx: mpsc::Sender<Update>,
    convert: impl Fn(K) -> Option<T> + Send + 'static,
    wrap: impl Fn(Event<T>) -> Update + Send + 'static,
    source: (&'static str, Option<&'static Kind>),
) -> End
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    T: Send + 'static,
{
    let backoff = Retry(Backoff::new(RETRY_FIRST, RETRY_MOST));
    let mut events = StreamBackoff::new(watcher(api, config), backoff).boxed();
    while let Some(event) = events.next().await {
        let update = match event {
            Ok(event) => translate(event, &convert).map(&wrap),
            Err(error) if source.1.is_some() && is_unknown(&error) => return End::NotInstalled,
            Err(error) => Some(failed(&error, source.0)),
        };
        if let Some(update) = update
            && updates_tx.send(update).await.is_err()
        {
            return End::NobodyListens;
        }
    }
    End::NobodyListens
}

fn translate<K: Resource, T>(
    event: watcher::Event<K>,
    convert: &impl Fn(K) -> Option<T>,
) -> Option<Event<T>> {
    let key = |object: &K| -> Key { (object.namespace().unwrap_or_default(), object.name_any()) };
    Some(match event {
        watcher::Event::Apply(object) => {
            let key = key(&object);
            match convert(object) {
                Some(item) => Event::Apply(key, item),
                None => Event::Delete(key),
            }
        }
        watcher::Event::Delete(object) => Event::Delete(key(&object)),
        watcher::Event::Init => Event::Init,
        watcher::Event::InitApply(object) => {
            let key = key(&object);
            Event::InitApply(key, convert(object)?)
        }
        watcher::Event::InitDone => Event::InitDone,
    })
}

/// The house's back-off, for kube.
struct Retry(Backoff);

impl Iterator for Retry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.0.next_delay())
    }
}

impl runtime::utils::Backoff for Retry {
    fn reset(&mut self) {
        self.0.reset();
    }
}

/// What the API server answered, where it is that which made a watch fail.
fn answer(error: &watcher::Error) -> Option<&kube::core::Status> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => Some(status),
        _ => None,
    }
}

fn is_unknown(error: &watcher::Error) -> bool {
    answer(error).is_some_and(|status| status.code == 404)
}

fn failed(error: &watcher::Error, name: &'static str) -> Update {
    match answer(error) {
        Some(_) => tracing::warn!(source = name, %error, "watch refused, trying again"),
        None => tracing::warn!(source = name, %error, "watch failed, trying again"),
    }
    Update::Failed(name, error.to_string())
}

/// Kept here so that the writer's tests need no Kubernetes types.
pub(crate) type Document = Arc<serde_json::Value>;
