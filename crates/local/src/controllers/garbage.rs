//! Deletes what is owned by nothing that exists, and carries out foreground and orphan deletions.
//!
//! It knows the kinds that own or are owned here; objects of other kinds are never collected.

mod graph;

use std::time::Duration;

use futures::StreamExt;
use futures::stream::select_all;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::discovery::ApiResource;
use kube::runtime::watcher::Event;
use serde_json::json;
use tracing::warn;

use super::ignore_missing;
use crate::Error;
use graph::{Action, Graph, Node};

/// The kinds watched: group, version, kind, plural.
const KINDS: [(&str, &str, &str, &str); 13] = [
    ("", "v1", "Pod", "pods"),
    ("", "v1", "Service", "services"),
    ("", "v1", "Endpoints", "endpoints"),
    ("", "v1", "ConfigMap", "configmaps"),
    ("", "v1", "Secret", "secrets"),
    ("", "v1", "ServiceAccount", "serviceaccounts"),
    ("apps", "v1", "Deployment", "deployments"),
    ("apps", "v1", "ReplicaSet", "replicasets"),
    ("batch", "v1", "Job", "jobs"),
    ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
    ("networking.k8s.io", "v1", "Ingress", "ingresses"),
    ("rbac.authorization.k8s.io", "v1", "Role", "roles"),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "RoleBinding",
        "rolebindings",
    ),
];

/// Pause before a step that failed is taken again.
const RETRY: Duration = Duration::from_millis(500);

fn resource(kind: usize) -> ApiResource {
    let (group, version, name, plural) = KINDS[kind];
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        },
        kind: name.to_owned(),
        plural: plural.to_owned(),
    }
}

pub(super) async fn run(client: kube::Client) {
    let streams = (0..KINDS.len()).map(|kind| {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource(kind));
        api_events(api).map(move |event| (kind, event))
    });
    let mut stream = select_all(streams.map(StreamExt::boxed));
    let mut graph = Graph::new(KINDS.len());
    while let Some((kind, event)) = stream.next().await {
        let mut actions = graph.take(kind, event_of(kind, event));
        while !actions.is_empty() {
            let mut failed = Vec::new();
            for action in actions {
                if let Err(error) = carry_out(&client, &action).await {
                    warn!(?action, %error, "garbage collection");
                    failed.push(action);
                }
            }
            actions = failed;
            if !actions.is_empty() {
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

fn api_events(api: Api<DynamicObject>) -> impl futures::Stream<Item = Event<DynamicObject>> + Send {
    use kube::runtime::{WatchStreamExt, watcher};
    // The kind of a dynamic object is only known with its resource, so the typed helper does not fit.
    let stream = watcher::watcher(api, watcher::Config::default()).default_backoff();
    stream.filter_map(|event| async {
        event
            .inspect_err(|error| warn!(%error, "a watch broke and is started again"))
            .ok()
    })
}

fn event_of(kind: usize, event: Event<DynamicObject>) -> Event<Node> {
    match event {
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
        Event::InitApply(object) => Event::InitApply(Node::new(kind, object.metadata)),
        Event::Apply(object) => Event::Apply(Node::new(kind, object.metadata)),
        Event::Delete(object) => Event::Delete(Node::new(kind, object.metadata)),
    }
}

async fn carry_out(client: &kube::Client, action: &Action) -> Result<(), Error> {
    let node = match action {
        Action::Delete { node, .. }
        | Action::Disown { node, .. }
        | Action::Release { node, .. } => node,
    };
    let resource = resource(node.kind);
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &node.namespace, &resource);
    match action {
        Action::Delete { foreground, .. } => {
            let params = if *foreground {
                DeleteParams::foreground()
            } else {
                DeleteParams::background()
            };
            let uid = Preconditions {
                uid: Some(node.uid.clone()),
                resource_version: None,
            };
            match api.delete(&node.name, &params.preconditions(uid)).await {
                // Another object has the name by now.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                other => {
                    ignore_missing(other)?;
                }
            }
        }
        Action::Disown { owner, .. } => {
            let left: Vec<_> = node
                .owners
                .iter()
                .filter(|reference| reference.uid != *owner)
                .collect();
            let patch = json!({"metadata": {"uid": node.uid, "ownerReferences": left}});
            ignore_missing(
                api.patch(&node.name, &PatchParams::default(), &Patch::Merge(patch))
                    .await,
            )?;
        }
        Action::Release { finalizer, .. } => {
            let left: Vec<_> = node
                .finalizers
                .iter()
                .filter(|one| one != finalizer)
                .collect();
            let patch = json!({"metadata": {"uid": node.uid, "finalizers": left}});
            ignore_missing(
                api.patch(&node.name, &PatchParams::default(), &Patch::Merge(patch))
                    .await,
            )?;
        }
    }
    Ok(())
}
