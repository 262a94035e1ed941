//! WorkloadGroups and WorkloadEntries of an API server, for workloads that register themselves.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions},
};
use lateen_api::{Kind, Meta, kinds};
use lateen_pilot::{Entries, EntriesError, Registering};
use lateen_registry::resource;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Options, leader};

/// What registers workloads, where objects are the API server's.
pub(super) fn registering(
    client: &Client,
    options: &Options,
    leading: watch::Receiver<bool>,
) -> Option<Registering> {
    if options.config_dir.is_some() || !options.environment.registers {
        return None;
    }
    Some(Registering {
        entries: Arc::new(Stored(client.clone())),
        replica: leader::identity(),
        grace: options.environment.grace,
        leading,
    })
}

/// What an API server stores.
struct Stored(Client);

impl Stored {
    async fn get(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, EntriesError> {
        let resource = resource(kind);
        let api: Api<DynamicObject> = Api::namespaced_with(self.0.clone(), namespace, &resource);
        let found = api.get_opt(name).await.map_err(failed)?;
        found.map(|found| document(&found)).transpose()
    }

    fn entries(&self, namespace: &str) -> Api<DynamicObject> {
        let resource = resource(&kinds::WORKLOAD_ENTRY);
        Api::namespaced_with(self.0.clone(), namespace, &resource)
    }
}

impl Entries for Stored {
    fn group<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Value>, EntriesError>> {
        self.get(&kinds::WORKLOAD_GROUP, namespace, name).boxed()
    }

    fn entry<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Value>, EntriesError>> {
        self.get(&kinds::WORKLOAD_ENTRY, namespace, name).boxed()
    }

    fn metas(&self) -> BoxFuture<'_, Result<Vec<Meta>, EntriesError>> {
        async move {
            let resource = resource(&kinds::WORKLOAD_ENTRY);
            let api: Api<DynamicObject> = Api::all_with(self.0.clone(), &resource);
            let list = api.list_metadata(&ListParams::default()).await;
            let metas = list.map_err(failed)?.items.into_iter();
            metas.map(|of| read(json!(of.metadata))).collect()
        }
        .boxed()
    }

    fn create(&self, entry: Value) -> BoxFuture<'_, Result<(), EntriesError>> {
        async move {
            let entry = read::<DynamicObject>(entry)?;
            let api = self.entries(entry.metadata.namespace.as_deref().unwrap_or_default());
            let created = api.create(&PostParams::default(), &entry).await;
            created.map(drop).map_err(failed)
        }
        .boxed()
    }

    fn replace(&self, entry: Value) -> BoxFuture<'_, Result<(), EntriesError>> {
        async move {
            let entry = read::<DynamicObject>(entry)?;
            let api = self.entries(entry.metadata.namespace.as_deref().unwrap_or_default());
            let name = entry.metadata.name.clone().unwrap_or_default();
            let replaced = api.replace(&name, &PostParams::default(), &entry).await;
            replaced.map(drop).map_err(failed)
        }
        .boxed()
    }

    fn set_conditions<'a>(
        &'a self,
        entry: &'a Value,
        conditions: Value,
    ) -> BoxFuture<'a, Result<(), EntriesError>> {
        async move {
            let of = |field: &str| entry["metadata"][field].as_str().unwrap_or_default();
            // The version makes it a write to what was read, and to nothing later.
            let patch = Patch::Merge(json!({
                "metadata": {"resourceVersion": of("resourceVersion")},
                "status": {"conditions": conditions},
            }));
            let api = self.entries(of("namespace"));
            let params = PatchParams::default();
            let patched = api.patch_status(of("name"), &params, &patch).await;
            patched.map(drop).map_err(failed)
        }
        .boxed()
    }

    fn remove<'a>(&'a self, entry: &'a Value) -> BoxFuture<'a, Result<(), EntriesError>> {
        async move {
            let of = |field: &str| entry["metadata"][field].as_str().unwrap_or_default();
            let params = DeleteParams {
                preconditions: Some(Preconditions {
                    resource_version: Some(of("resourceVersion").to_owned()),
                    uid: Some(of("uid").to_owned()),
                }),
                ..DeleteParams::default()
            };
            let api = self.entries(of("namespace"));
            let removed = api.delete(of("name"), &params).await;
            removed.map(drop).map_err(failed)
        }
        .boxed()
    }
}

fn document(object: &DynamicObject) -> Result<Value, EntriesError> {
    serde_json::to_value(object).map_err(|error| EntriesError::Failed(error.to_string()))
}

fn read<T: DeserializeOwned>(document: Value) -> Result<T, EntriesError> {
    serde_json::from_value(document).map_err(|error| EntriesError::Failed(error.to_string()))
}

/// There already or of another version (409), or gone (404). Other faults of the request stay faults,
/// but for those that pass by themselves: a token that has run out, and too much at once.
fn failed(error: kube::Error) -> EntriesError {
    let code = match &error {
        kube::Error::Api(status) => status.code,
        _ => 0,
    };
    match code {
        404 | 409 => EntriesError::Changed,
        401 | 408 | 429 => EntriesError::Failed(error.to_string()),
        400..=499 => EntriesError::Refused(error.to_string()),
        _ => EntriesError::Failed(error.to_string()),
    }
}
