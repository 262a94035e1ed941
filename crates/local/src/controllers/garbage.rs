//! Deletes what is owned by nothing that exists, and carries out foreground and orphan deletions.
//!
//! It knows the kinds that own or are owned here; objects of other kinds are never collected.

mod graph;

use std::time::Duration;

use futures::StreamExt;
use futures::stream::select_all;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, ResourceExt};
use kube::discovery::ApiResource;
use kube::runtime::watcher::{self, Event};
use serde_json::{Value, json};
use tracing::warn;

use super::ignore_missing;
use crate::Error;
use graph::{Action, Graph, Node};

/// The kinds watched: group, version, kind, plural.
const KINDS: [(&str, &str, &str, &str); 14] = [
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
    // Defined by whoever installs the Gateway API, and the owner of what gateways run on.
    ("gateway.networking.k8s.io", "v1", "Gateway", "gateways"),
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
    // What failed waits apart: one object that cannot go must not hold up the others.
    let mut failed: Vec<Action> = Vec::new();
    loop {
        let actions = tokio::select! {
            event = stream.next() => match event {
                Some((kind, event)) => graph.take(kind, event_of(kind, event)),
                None => return,
            },
            () = tokio::time::sleep(RETRY), if !failed.is_empty() => std::mem::take(&mut failed),
        };
        for action in actions {
            let done = match failed.iter().any(|before| holds_up(before, &action)) {
                true => false,
                false => match carry_out(&client, &action).await {
                    Ok(()) => true,
                    Err(error) => {
                        warn!(?action, %error, "garbage collection");
                        false
                    }
                },
            };
            if !done && !failed.contains(&action) {
                failed.push(action);
            }
        }
    }
}

/// Whether an action must not be done before another: an owner goes only when all are released from it.
fn holds_up(first: &Action, second: &Action) -> bool {
    match (first, second) {
        (Action::Disown { owner, .. }, Action::Release { node, .. }) => *owner == node.uid,
        _ => false,
    }
}

fn api_events(api: Api<DynamicObject>) -> impl futures::Stream<Item = Event<DynamicObject>> + Send {
    use kube::runtime::WatchStreamExt;
    // The kind of a dynamic object is only known with its resource, so the typed helper does not fit.
    let stream = watcher::watcher(api, watcher::Config::default()).default_backoff();
    let events = stream.map(|event| match event {
        Ok(event) => vec![event],
        // A kind that is not defined has no objects.
        Err(error) if is_undefined(&error) => vec![Event::Init, Event::InitDone],
        Err(error) => {
            warn!(%error, "a watch broke and is started again");
            Vec::new()
        }
    });
    events.flat_map(futures::stream::iter)
}

fn is_undefined(error: &watcher::Error) -> bool {
    use kube::Error::Api;
    match error {
        watcher::Error::InitialListFailed(Api(status))
        | watcher::Error::WatchStartFailed(Api(status)) => status.code == 404,
        _ => false,
    }
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
    match action {
        Action::Delete { node, foreground } => delete(client, node, *foreground).await,
        Action::Disown { node, owner } => {
            change(client, node, |meta| {
                let owners = meta.owner_references.get_or_insert_default();
                owners.retain(|reference| reference.uid != *owner);
                json!({"ownerReferences": owners})
            })
            .await
        }
        Action::Release { node, finalizer } => {
            change(client, node, |meta| {
                let finalizers = meta.finalizers.get_or_insert_default();
                finalizers.retain(|one| one != finalizer);
                json!({"finalizers": finalizers})
            })
            .await
        }
    }
}

fn api_of(client: &kube::Client, kind: usize, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &resource(kind))
}

/// Deletes an object whose owners have gone, if that is still so: each kind has its own watch, and
/// the news of a pod may come before that of its owner, or that of an owner's end before that of
/// the pod's release from it.
async fn delete(client: &kube::Client, node: &Node, foreground: bool) -> Result<(), Error> {
    let api = api_of(client, node.kind, &node.namespace);
    let Some(found) = api.get_opt(&node.name).await? else {
        return Ok(());
    };
    let owners = found.owner_references();
    let is_this = found.metadata.uid.as_ref() == Some(&node.uid);
    if !is_this || owners.is_empty() {
        return Ok(());
    }
    if !foreground && has_living_owner(client, &node.namespace, owners).await? {
        return Ok(());
    }
    let params = if foreground {
        DeleteParams::foreground()
    } else {
        DeleteParams::background()
    };
    let as_seen = Preconditions {
        uid: Some(node.uid.clone()),
        resource_version: found.metadata.resource_version,
    };
    ignore_missing(api.delete(&node.name, &params.preconditions(as_seen)).await).map(drop)
}

async fn has_living_owner(
    client: &kube::Client,
    namespace: &str,
    owners: &[OwnerReference],
) -> Result<bool, Error> {
    for owner in owners {
        let kind = KINDS.iter().position(|(group, version, kind, _)| {
            let api_version = match *group {
                "" => (*version).to_owned(),
                group => format!("{group}/{version}"),
            };
            *kind == owner.kind && api_version == owner.api_version
        });
        let Some(kind) = kind else { return Ok(true) };
        let found = api_of(client, kind, namespace).get_opt(&owner.name).await?;
        if found.is_some_and(|found| found.metadata.uid.as_ref() == Some(&owner.uid)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Changes the metadata of the object as it is now, and of no later one.
async fn change(
    client: &kube::Client,
    node: &Node,
    change: impl FnOnce(&mut ObjectMeta) -> Value,
) -> Result<(), Error> {
    let api = api_of(client, node.kind, &node.namespace);
    let found = api.get_opt(&node.name).await?;
    let Some(mut found) = found.filter(|found| found.metadata.uid.as_ref() == Some(&node.uid))
    else {
        return Ok(());
    };
    let mut metadata = change(&mut found.metadata);
    metadata["uid"] = node.uid.clone().into();
    metadata["resourceVersion"] = json!(found.metadata.resource_version);
    let patch = Patch::Merge(json!({"metadata": metadata}));
    ignore_missing(api.patch(&node.name, &PatchParams::default(), &patch).await).map(drop)
}
