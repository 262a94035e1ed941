//! Objects that a controller owns, adopts and lets go.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use kube::api::{Api, ListParams, ObjectMeta, Patch, PatchParams, ResourceExt};
use kube::core::{Selector, SelectorExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::Error;

/// The objects in the namespace of which `owner` is the controller, read from the API server and not from
/// a cache: a controller that acts on old news makes things twice.
pub(super) async fn list<K>(api: &Api<K>, owner: &str) -> Result<Vec<K>, Error>
where
    K: kube::Resource + Clone + DeserializeOwned + Debug,
{
    let mut all = api.list(&ListParams::default()).await?.items;
    all.retain(|object| controller_uid(object.meta()) == Some(owner));
    all.sort_by_key(|object| (object.creation_timestamp(), object.name_any()));
    Ok(all)
}

/// As [`list`]; objects that the selector matches and that no controller has are adopted, and those
/// that it no longer matches are let go.
pub(super) async fn claim<K, O>(
    api: &Api<K>,
    owner: &O,
    selector: &LabelSelector,
) -> Result<Vec<K>, Error>
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Serialize
        + Debug,
    O: kube::Resource<DynamicType = ()>,
{
    let reference = owner
        .controller_owner_ref(&())
        .expect("a stored object has a uid");
    let mut claimed = Vec::new();
    for object in api.list(&ListParams::default()).await?.items {
        match verdict(object.meta(), &reference, selector) {
            Verdict::Keep => claimed.push(object),
            Verdict::Adopt => claimed.extend(adopt(api, &object, &reference).await?),
            Verdict::Release => release(api, &object, &reference).await?,
            Verdict::Leave => {}
        }
    }
    claimed.sort_by_key(|object| (object.creation_timestamp(), object.name_any()));
    Ok(claimed)
}

/// What a controller does about an object.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Keep,
    Adopt,
    Release,
    Leave,
}

fn verdict(meta: &ObjectMeta, owner: &OwnerReference, selector: &LabelSelector) -> Verdict {
    let matches = is_selected(meta, selector);
    let is_deleting = meta.deletion_timestamp.is_some();
    match controller_uid(meta) {
        Some(uid) if uid != owner.uid => Verdict::Leave,
        Some(_) if matches || is_deleting => Verdict::Keep,
        Some(_) => Verdict::Release,
        None if matches && !is_deleting => Verdict::Adopt,
        None => Verdict::Leave,
    }
}

/// Whether the labels match; a selector that says nothing or cannot be read selects nothing.
fn is_selected(meta: &ObjectMeta, selector: &LabelSelector) -> bool {
    let labels = meta.labels.clone().unwrap_or_default();
    let says_something = selector.match_labels.iter().flatten().next().is_some()
        || selector.match_expressions.iter().flatten().next().is_some();
    says_something
        && Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(&labels))
}

/// Makes `owner` the controller; nothing comes back if somebody was faster.
async fn adopt<K>(api: &Api<K>, object: &K, owner: &OwnerReference) -> Result<Option<K>, Error>
where
    K: kube::Resource + Clone + DeserializeOwned + Debug,
{
    let mut owners = object.owner_references().to_vec();
    owners.push(owner.clone());
    write_owners(api, object, &owners).await
}

async fn release<K>(api: &Api<K>, object: &K, owner: &OwnerReference) -> Result<(), Error>
where
    K: kube::Resource + Clone + DeserializeOwned + Debug,
{
    let mut owners = object.owner_references().to_vec();
    owners.retain(|one| one.uid != owner.uid);
    write_owners(api, object, &owners).await.map(drop)
}

async fn write_owners<K>(
    api: &Api<K>,
    object: &K,
    owners: &[OwnerReference],
) -> Result<Option<K>, Error>
where
    K: kube::Resource + Clone + DeserializeOwned + Debug,
{
    let meta = object.meta();
    let patch = Patch::Merge(json!({"metadata": {
        "uid": meta.uid, "resourceVersion": meta.resource_version, "ownerReferences": owners,
    }}));
    match api
        .patch(&object.name_any(), &PatchParams::default(), &patch)
        .await
    {
        Ok(object) => Ok(Some(object)),
        // It changed or went meanwhile: there will be news of it.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Uid of the object's controller.
pub(super) fn controller_uid(meta: &ObjectMeta) -> Option<&str> {
    let owners = meta.owner_references.iter().flatten();
    owners
        .into_iter()
        .find(|owner| owner.controller == Some(true))
        .map(|owner| owner.uid.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_kept_adopted_and_let_go() {
        let owner: OwnerReference = serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "s", "uid": "me", "controller": true,
        }))
        .unwrap();
        let selector: LabelSelector = serde_json::from_value(json!({
            "matchLabels": {"a": "b"},
            "matchExpressions": [{"key": "c", "operator": "DoesNotExist"}],
        }))
        .unwrap();
        let check = |labels: serde_json::Value, uid: Option<&str>, expect: Verdict| {
            let mut meta: ObjectMeta = serde_json::from_value(json!({"labels": labels})).unwrap();
            meta.owner_references = uid.map(|uid| {
                vec![OwnerReference {
                    uid: uid.to_owned(),
                    ..owner.clone()
                }]
            });
            assert_eq!(
                verdict(&meta, &owner, &selector),
                expect,
                "{labels} {uid:?}"
            );
        };
        check(json!({"a": "b"}), Some("me"), Verdict::Keep);
        check(json!({"a": "b"}), None, Verdict::Adopt);
        check(json!({"a": "b"}), Some("other"), Verdict::Leave);
        check(json!({"a": "x"}), Some("me"), Verdict::Release);
        check(json!({"a": "b", "c": "d"}), Some("me"), Verdict::Release);
        check(json!({}), None, Verdict::Leave);
    }
}
