//! Gives every namespace its default service account and the API server's certificate authority.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams, ResourceExt};
use kube::runtime::watcher::Event;
use serde_json::json;
use tracing::warn;

use super::Context;
use super::cache::events;
use crate::Error;

const ROOT_CA: &str = "kube-root-ca.crt";
const DEFAULT: &str = "default";

pub(super) async fn run(context: Context) {
    let mut namespaces = events(Api::<Namespace>::all(context.client.clone()));
    let mut accounts = events(Api::<ServiceAccount>::all(context.client.clone()));
    loop {
        let namespace = tokio::select! {
            Some(event) = namespaces.next() => match event {
                Event::Apply(namespace) | Event::InitApply(namespace) if is_active(&namespace) => namespace.name_any(),
                _ => continue,
            },
            Some(event) = accounts.next() => match event {
                Event::Delete(account) if account.name_any() == DEFAULT => account.namespace().unwrap_or_default(),
                _ => continue,
            },
            else => return,
        };
        for _ in 0..5 {
            match fill(&context, &namespace).await {
                Ok(()) => break,
                Err(error) => warn!(namespace, %error, "cannot fill the namespace"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

fn is_active(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_none()
}

async fn fill(context: &Context, namespace: &str) -> Result<(), Error> {
    let accounts: Api<ServiceAccount> = Api::namespaced(context.client.clone(), namespace);
    let account = ServiceAccount {
        metadata: meta(DEFAULT),
        ..ServiceAccount::default()
    };
    unless_there(accounts.create(&PostParams::default(), &account).await)?;
    let maps: Api<ConfigMap> = Api::namespaced(context.client.clone(), namespace);
    let data = BTreeMap::from([("ca.crt".to_owned(), context.api_ca.clone())]);
    match maps.get_opt(ROOT_CA).await? {
        Some(map) if map.data.as_ref() == Some(&data) => Ok(()),
        Some(_) => {
            let patch = Patch::Merge(json!({"data": data}));
            maps.patch(ROOT_CA, &PatchParams::default(), &patch).await?;
            Ok(())
        }
        None => {
            let map = ConfigMap {
                metadata: meta(ROOT_CA),
                data: Some(data),
                ..ConfigMap::default()
            };
            unless_there(maps.create(&PostParams::default(), &map).await)
        }
    }
}

fn meta(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}

/// Takes "it is there already", and "its namespace is going", for a success.
fn unless_there<T>(result: Result<T, kube::Error>) -> Result<(), Error> {
    match result {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404 | 409) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
