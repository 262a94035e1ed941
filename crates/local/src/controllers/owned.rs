//! Objects that a controller owns.

use kube::api::{Api, ListParams, ObjectMeta, ResourceExt};
use serde::de::DeserializeOwned;

use crate::Error;

/// The objects in the namespace of which `owner` is the controller, read from the API server and not from
/// a cache: a controller that acts on old news makes things twice.
pub(super) async fn list<K>(api: &Api<K>, owner: &str) -> Result<Vec<K>, Error>
where
    K: kube::Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut all = api.list(&ListParams::default()).await?.items;
    all.retain(|object| controller_uid(object.meta()) == Some(owner));
    all.sort_by_key(|object| (object.creation_timestamp(), object.name_any()));
    Ok(all)
}

/// Uid of the object's controller.
pub(super) fn controller_uid(meta: &ObjectMeta) -> Option<&str> {
    let owners = meta.owner_references.iter().flatten();
    owners
        .into_iter()
        .find(|owner| owner.controller == Some(true))
        .map(|owner| owner.uid.as_str())
}
