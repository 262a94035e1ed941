//! Watches of a Kubernetes API server, each a task that never gives up.

pub(crate) mod convert;
mod scope;

use std::{collections::BTreeSet, fmt::Debug, sync::Arc, time::Duration};

use futures::{FutureExt, Stream, StreamExt};
use k8s_openapi::api::{
    core::v1::{ConfigMap, Namespace, Node, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, DynamicObject},
    core::{GroupVersionKind, NamespaceResourceScope, PartialObjectMeta},
    runtime::{self, utils::StreamBackoff, watcher},
};
use lateen_api::Kind;
use lateen_core::Backoff;
use serde::de::DeserializeOwned;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    WATCHED_KINDS, revision,
    source::Source,
    state::{self, Update},
    store::{Event, Key},
};
use scope::Scope;

/// Shorter than kube's own default: the API server is near, and configuration must be live at once.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(2);

/// A definition that people have just applied is seen this soon.
const RETRY_ABSENT: Duration = Duration::from_secs(1);

/// The ConfigMap with the mesh's configuration, where the control plane has no revision of its own.
pub const MESH_CONFIG: &str = "istio";
/// The group of its kinds.
const GATEWAY_API: &str = "gateway.networking.k8s.io";
/// Updates that wait for the scope to be decided by them.
const DECIDING: usize = 64;

/// A kind as paths of the API server name it, in the version that is preferred.
pub fn resource(kind: &Kind) -> ApiResource {
    in_version(kind, kind.versions[0])
}

fn in_version(kind: &Kind, version: &str) -> ApiResource {
    let gvk = GroupVersionKind::gvk(kind.group, version, kind.kind);
    ApiResource::from_gvk_with_plural(&gvk, kind.plural)
}

/// A Kubernetes API server.
pub(crate) struct Kubernetes {
    pub(crate) client: Client,
    /// Where the ConfigMap of the mesh is.
    pub(crate) namespace: String,
    /// The name of that ConfigMap.
    pub(crate) mesh_config: String,
    /// The control plane's revision; empty where objects of all are read.
    pub(crate) revision: Arc<str>,
    /// Whether the mesh's own objects are watched there too.
    pub(crate) objects: bool,
    /// Whether those of the Gateway API are.
    pub(crate) gateway_api: bool,
}

impl Source for Kubernetes {
    fn start(self, tasks: &mut JoinSet<()>, updates_tx: mpsc::Sender<Update>) {
        let client = self.client.clone();
        let watch = Watch::of(&client, None, &updates_tx);
        // Of these and of namespaces the metadata are enough: nothing else leaves the API server.
        let nodes = Api::<PartialObjectMeta<Node>>::all(client.clone());
        let node = |object: PartialObjectMeta<Node>| convert::node(&object.metadata);
        watch.typed(tasks, nodes, state::NODE, node, Update::Node);
        for kind in self.kinds().filter(|kind| !kind.is_namespaced()) {
            tasks.spawn(watch.clone().objects(kind, self.reads(kind)));
        }
        // What these two say decides what else is watched.
        let (deciding_tx, deciding) = mpsc::channel(DECIDING);
        let watch = Watch::of(&client, None, &deciding_tx);
        let all = Api::<PartialObjectMeta<Namespace>>::all(client.clone());
        let namespace = |object: PartialObjectMeta<Namespace>| convert::namespace(&object.metadata);
        let wrap = Update::Namespace;
        watch.typed(tasks, all, state::NAMESPACE, namespace, wrap);
        let mesh = Api::<ConfigMap>::namespaced(client, &self.namespace);
        let named = format!("metadata.name={}", self.mesh_config);
        let only_mesh = watcher::Config::default().fields(&named);
        let source = (state::MESH, None);
        let events = watcher(mesh, only_mesh);
        let mesh = watch.pump(events, convert::mesh, Update::Mesh, source);
        tasks.spawn(mesh.map(drop));
        tasks.spawn(Scope::new(self, updates_tx).follow(deciding));
    }
}

impl Kubernetes {
    fn kinds(&self) -> impl Iterator<Item = &'static Kind> + use<> {
        let kinds = if self.objects { WATCHED_KINDS } else { &[] };
        kinds.iter()
    }

    /// The revision whose objects of a kind are read, if any are.
    fn reads(&self, kind: &Kind) -> Option<Arc<str>> {
        let is_read = self.gateway_api || kind.group != GATEWAY_API;
        is_read.then(|| self.revision.clone())
    }

    /// Watches what a namespace holds, or all of them, until the result is dropped.
    fn watch(&self, namespace: Option<&str>, updates_tx: &mpsc::Sender<Update>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let watch = Watch::of(&self.client, namespace, updates_tx);
        let (into, services) = (&mut tasks, watch.within::<Service>());
        watch.typed(
            into,
            services,
            state::SERVICE,
            convert::service,
            Update::Service,
        );
        let slices = watch.within::<EndpointSlice>();
        watch.typed(into, slices, state::SLICE, convert::slice, Update::Slice);
        let pods = watch.within::<Pod>();
        watch.typed(into, pods, state::POD, convert::workload, Update::Pod);
        for kind in self.kinds().filter(|kind| kind.is_namespaced()) {
            tasks.spawn(watch.clone().objects(kind, self.reads(kind)));
        }
        tasks
    }

    /// What tells the collections of [`Kubernetes::watch`] which namespaces they are of from now on.
    fn scoped(&self, namespaces: Option<&BTreeSet<String>>) -> Vec<Update> {
        let scope = || namespaces.cloned();
        let mut updates = vec![
            Update::Service(Event::Scope(scope())),
            Update::Slice(Event::Scope(scope())),
            Update::Pod(Event::Scope(scope())),
        ];
        let kinds = self.kinds().filter(|kind| kind.is_namespaced());
        updates.extend(kinds.map(|kind| Update::Object(kind, Event::Scope(scope()))));
        updates
    }
}

/// What watches have in common.
#[derive(Clone)]
struct Watch {
    client: Client,
    /// The one namespace that is watched.
    namespace: Option<String>,
    updates_tx: mpsc::Sender<Update>,
}

impl Watch {
    fn of(client: &Client, namespace: Option<&str>, updates_tx: &mpsc::Sender<Update>) -> Self {
        Self {
            client: client.clone(),
            namespace: namespace.map(str::to_owned),
            updates_tx: updates_tx.clone(),
        }
    }

    fn typed<K, T>(
        &self,
        tasks: &mut JoinSet<()>,
        api: Api<K>,
        name: &'static str,
        convert: fn(K) -> Option<T>,
        wrap: fn(Event<T>) -> Update,
    ) where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
        T: Send + 'static,
    {
        let events = watcher(api, watcher::Config::default());
        let watch = self.clone().pump(events, convert, wrap, (name, None));
        tasks.spawn(watch.map(drop));
    }

    /// The namespace's objects of a type, or all.
    fn within<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    /// The same of a kind without a type.
    fn dynamic(&self, resource: &ApiResource) -> Api<DynamicObject> {
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, resource),
            None => Api::all_with(self.client.clone(), resource),
        }
    }

    /// Watches the objects of a kind whose definition may be missing, come later, or serve only some
    /// of the versions. One that is not to be read has none; of others, what is not of revision `own`
    /// counts as not there.
    async fn objects(self, kind: &'static Kind, own: Option<Arc<str>>) {
        let Some(own) = own else {
            // Only a writer that is gone does not hear of it.
            let _ = self.updates_tx.send(Update::Absent(kind)).await;
            return;
        };
        loop {
            for version in kind.versions {
                let api = self.dynamic(&in_version(kind, version));
                let own = own.clone();
                let convert = move |object: DynamicObject| {
                    let is_read = revision::reads(&own, kind, object.labels());
                    is_read.then(|| convert::raw(kind, object)).flatten()
                };
                let wrap = move |event| Update::Object(kind, event);
                let events = watcher(api, watcher::Config::default());
                let watch = self
                    .clone()
                    .pump(events, convert, wrap, (kind.id(), Some(kind)));
                if watch.await == End::NobodyListens {
                    return;
                }
            }
            // A definition that is not installed (yet) is an empty collection.
            tracing::debug!(kind = kind.id(), "not installed");
            if self.updates_tx.send(Update::Absent(kind)).await.is_err() {
                return;
            }
            tokio::time::sleep(RETRY_ABSENT).await;
        }
    }

    /// Carries one watch's events to the writer, until the writer is gone. An object that `convert`
    /// has no use for counts as deleted, so that it also leaves when it turns useless.
    async fn pump<K, T>(
        self,
        events: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send,
        convert: impl Fn(K) -> Option<T> + Send + 'static,
        wrap: impl Fn(Event<T>) -> Update + Send + 'static,
        source: (&'static str, Option<&'static Kind>),
    ) -> End
    where
        K: Resource + Send + 'static,
        T: Send + 'static,
    {
        let backoff = Retry(Backoff::new(RETRY_FIRST, RETRY_MOST));
        let mut events = StreamBackoff::new(events, backoff).boxed();
        while let Some(event) = events.next().await {
            let update = match event {
                Ok(event) => {
                    let event = translate(event, &convert);
                    event.map(|event| wrap(event.within(self.namespace.as_deref())))
                }
                Err(error) if source.1.is_some() && is_unknown(&error) => {
                    return End::NotInstalled;
                }
                Err(error) => Some(failed(&error, source.0)),
            };
            if let Some(update) = update
                && self.updates_tx.send(update).await.is_err()
            {
                return End::NobodyListens;
            }
        }
        End::NobodyListens
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
