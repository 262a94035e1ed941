//! Empties a namespace that is being deleted, and lets it go.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, PostParams, ResourceExt};
use kube::discovery::{ApiResource, Discovery, Scope, verbs};
use kube::runtime::watcher::Event;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::cache::events;
use super::ignore_missing;
use crate::Error;

/// Pause between two looks at what is left.
const PAUSE: Duration = Duration::from_millis(200);

pub(super) async fn run(client: kube::Client) {
    let mut namespaces = events(Api::<Namespace>::all(client.clone()));
    let mut busy: BTreeSet<String> = BTreeSet::new();
    let mut tasks: JoinSet<String> = JoinSet::new();
    loop {
        tokio::select! {
            event = namespaces.next() => match event {
                Some(Event::Apply(namespace) | Event::InitApply(namespace))
                    if namespace.metadata.deletion_timestamp.is_some() =>
                {
                    if busy.insert(namespace.name_any()) {
                        tasks.spawn(remove(client.clone(), namespace.name_any()));
                    }
                }
                Some(_) => {}
                None => return,
            },
            Some(Ok(done)) = tasks.join_next(), if !tasks.is_empty() => {
                busy.remove(&done);
            }
        }
    }
}

async fn remove(client: kube::Client, name: String) -> String {
    loop {
        match empty(&client, &name).await {
            Ok(0) => match finalize(&client, &name).await {
                Ok(()) => {
                    info!(namespace = name, "removed");
                    return name;
                }
                Err(error) => warn!(namespace = name, %error, "cannot finalize the namespace"),
            },
            Ok(_) => {}
            Err(error) => warn!(namespace = name, %error, "cannot empty the namespace"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Deletes all that is in the namespace; how much is left.
async fn empty(client: &kube::Client, namespace: &str) -> Result<usize, Error> {
    let discovery = Discovery::new(client.clone()).run().await?;
    let mut left = 0;
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            let can = |verb| capabilities.supports_operation(verb);
            // Events about the end are written until the end, and go with the rest.
            if capabilities.scope == Scope::Namespaced && can(verbs::LIST) && can(verbs::DELETE) {
                left += delete_all(client, namespace, &resource).await?;
            }
        }
    }
    Ok(left)
}

async fn delete_all(
    client: &kube::Client,
    namespace: &str,
    resource: &ApiResource,
) -> Result<usize, Error> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, resource);
    let objects = api.list(&ListParams::default()).await?.items;
    for object in objects
        .iter()
        .filter(|object| object.metadata.deletion_timestamp.is_none())
    {
        ignore_missing(
            api.delete(&object.name_any(), &DeleteParams::background())
                .await,
        )?;
    }
    Ok(objects.len())
}

async fn finalize(client: &kube::Client, name: &str) -> Result<(), Error> {
    let api: Api<Namespace> = Api::all(client.clone());
    let Some(mut namespace) = api.get_opt(name).await? else {
        return Ok(());
    };
    namespace.spec.get_or_insert_default().finalizers = Some(Vec::new());
    let put: Result<Namespace, kube::Error> = api
        .replace_subresource("finalize", name, &PostParams::default(), &namespace)
        .await;
    ignore_missing(put)?;
    Ok(())
}
