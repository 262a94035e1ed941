//! `create`, `update`, `patch`, `delete` and `deletecollection`.

mod delete;
mod prepare;

use std::sync::Arc;

use serde_json::Value;

use super::admission::{self, Operation};
use super::auth::escalation;
use super::core::{Core, DEFINITIONS};
use super::error::{ApiError, FieldError};
use super::kinds::Resource;
use super::request::Call;
use super::{crd, meta, patch, read, strategy};
use crate::store::{Expect, Object, StoreError};

pub(super) use delete::{delete, delete_collection, evict};
pub(super) use prepare::{decode, random_suffix};

/// Attempts of a patch that does not say which revision it is for.
const PATCH_ATTEMPTS: usize = 10;

/// Attempts to find a free generated name.
const NAME_ATTEMPTS: usize = 8;

/// Answers `create`.
pub(super) async fn create(core: &Arc<Core>, call: &Call) -> Result<Value, ApiError> {
    if call.target.resource.virtual_only || !call.target.subresource.is_empty() {
        return Err(ApiError::method_not_allowed("create"));
    }
    create_object(core, call, call.json_body()?).await
}

/// Creates an object from a decoded body; a create and an apply of what is not there end here.
async fn create_object(core: &Arc<Core>, call: &Call, mut body: Value) -> Result<Value, ApiError> {
    let resource = &call.target.resource;
    prepare::check_type(resource, &mut body)?;
    prepare::decode(call, &mut body)?;
    let generated = meta::text(&body, "/metadata/name").is_none_or(str::is_empty);
    for attempt in 1.. {
        let mut object = body.clone();
        prepare::identity(call, &mut object)?;
        prepare::namespace_accepts(core, call, &object)?;
        prepare::for_create(resource, &mut object);
        match store_new(core, call, object).await {
            Err(error)
                if error.reason == "AlreadyExists" && generated && attempt < NAME_ATTEMPTS => {}
            result => return result,
        }
    }
    unreachable!("the loop ends by returning")
}

async fn store_new(core: &Arc<Core>, call: &Call, mut object: Value) -> Result<Value, ApiError> {
    let resource = &call.target.resource;
    strategy::default(resource, &mut object);
    strategy::for_create(core, resource, &mut object)?;
    let operation = Operation {
        verb: "CREATE",
        old: None,
    };
    admission::mutate(core, call, operation, &mut object).await?;
    strategy::default(resource, &mut object);
    let _allocation = strategy::service::lock(core, resource).await;
    strategy::service::allocate(core, resource, &mut object, None)?;
    check(resource, &object, strategy::validate(resource, &object))?;
    escalation::check(core, call, None, &object)?;
    admission::pod_security::check(core, call, operation, &object)?;
    if resource.storage == DEFINITIONS {
        crd::establish(&mut object, None);
    }
    admission::validate(core, call, operation, Some(&object)).await?;
    track(call, None, &mut object);
    let key = Core::key(resource, meta::namespace(&object), meta::name(&object));
    if call.is_dry_run()? {
        if core.store.get(&key).is_some() {
            return Err(ApiError::already_exists(resource, &key.name));
        }
        return Ok(object);
    }
    let name = key.name.clone();
    let stored = core.store.put(key, object, Expect::Absent).await;
    let stored = stored.map_err(|error| ApiError::from_store(error, resource, &name))?;
    written(core, resource);
    Ok(stored.value.clone())
}

/// Answers `update`.
pub(super) async fn update(core: &Arc<Core>, call: &Call) -> Result<Value, ApiError> {
    check_subresource(call)?;
    let mut body = call.json_body()?;
    let is_scale = call.target.subresource == "scale";
    if !is_scale {
        prepare::check_type(&call.target.resource, &mut body)?;
        prepare::decode(call, &mut body)?;
    }
    let pinned =
        meta::text(&body, "/metadata/resourceVersion").is_some_and(|given| !given.is_empty());
    for attempt in 1.. {
        let old = read::object(core, &call.target)?;
        let new = match is_scale {
            true => strategy::scale::apply(&call.target.resource, &old.value, &body)?,
            false => body.clone(),
        };
        match replace(core, call, &old, new).await {
            // Who names no revision wants this state whatever was before.
            Err(Refused::Store(StoreError::Conflict)) if !pinned && attempt < PATCH_ATTEMPTS => {}
            result => return result.map_err(|refused| refused.error(call)),
        }
    }
    unreachable!("the loop ends by returning")
}

/// Answers `patch`; the flag says whether the object is new.
pub(super) async fn patch(core: &Arc<Core>, call: &Call) -> Result<(Value, bool), ApiError> {
    check_subresource(call)?;
    let document = patch::Document::read(call)?;
    for attempt in 1.. {
        let old = match read::object(core, &call.target) {
            Ok(old) => old,
            Err(_) if document.creates() && call.target.subresource.is_empty() => {
                let object = document.new_object(call)?;
                return create_object(core, call, object)
                    .await
                    .map(|object| (object, true));
            }
            Err(error) => return Err(error),
        };
        let new = match call.target.subresource.as_str() {
            "scale" => {
                let scale = strategy::scale::of(&call.target.resource, &old.value)?;
                strategy::scale::apply(
                    &call.target.resource,
                    &old.value,
                    &document.apply(call, &scale)?,
                )?
            }
            _ => patched(call, &document, &old)?,
        };
        let pinned = meta::text(&new, "/metadata/resourceVersion")
            != Some(old.revision.to_string().as_str());
        match replace(core, call, &old, new).await {
            Ok(object) => return Ok((object, false)),
            Err(Refused::Store(StoreError::Conflict)) if !pinned && attempt < PATCH_ATTEMPTS => {}
            Err(refused) => return Err(refused.error(call)),
        }
    }
    unreachable!("the loop ends by returning")
}

fn patched(call: &Call, document: &patch::Document, old: &Object) -> Result<Value, ApiError> {
    let resource = &call.target.resource;
    let mut new = document.apply(call, &read::converted(resource, &old.value))?;
    prepare::check_type(resource, &mut new)?;
    prepare::decode(call, &mut new)?;
    Ok(new)
}

/// Refuses paths below an object that the kind does not have.
fn check_subresource(call: &Call) -> Result<(), ApiError> {
    let resource = &call.target.resource;
    let is_served = match call.target.subresource.as_str() {
        "" => true,
        "status" => resource.status,
        "scale" => resource.scale,
        "finalize" => resource.is("", "namespaces") && call.verb == "update",
        _ => false,
    };
    if is_served {
        Ok(())
    } else {
        Err(ApiError::no_such_path())
    }
}

/// Notes who set which fields; an apply has done so already.
fn track(call: &Call, old: Option<&Value>, new: &mut Value) {
    if call.content_type != "application/apply-patch+yaml" {
        patch::apply::track(call, old, new);
    }
}

/// A refusal by us or by the store, kept apart since a conflict in the store may be tried again.
enum Refused {
    Api(ApiError),
    Store(StoreError),
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl Refused {
    fn error(self, call: &Call) -> ApiError {
        match self {
            Self::Api(error) => error,
            Self::Store(error) => {
                ApiError::from_store(error, &call.target.resource, &call.target.name)
            }
        }
    }
}

/// Puts a new state in place of an old one.
async fn replace(
    core: &Arc<Core>,
    call: &Call,
    old: &Arc<Object>,
    mut new: Value,
) -> Result<Value, Refused> {
    let resource = &call.target.resource;
    prepare::identity_of_update(call, old, &mut new)?;
    prepare::carry_over(call, &old.value, &mut new);
    strategy::default(resource, &mut new);
    strategy::for_update(&call.target, &old.value, &mut new);
    let operation = Operation {
        verb: "UPDATE",
        old: Some(&old.value),
    };
    admission::mutate(core, call, operation, &mut new).await?;
    strategy::default(resource, &mut new);
    let _allocation = strategy::service::lock(core, resource).await;
    strategy::service::allocate(core, resource, &mut new, Some(&old.value))?;
    let mut errors = strategy::validate(resource, &new);
    errors.extend(strategy::validate_update(resource, &old.value, &new));
    check(resource, &new, errors)?;
    escalation::check(core, call, Some(&old.value), &new)?;
    admission::pod_security::check(core, call, operation, &new)?;
    if resource.storage == DEFINITIONS && call.target.subresource != "status" {
        crd::establish(&mut new, Some(&old.value));
    }
    prepare::bump_generation(resource, &old.value, &mut new);
    track(call, Some(&old.value), &mut new);
    admission::validate(core, call, operation, Some(&new)).await?;
    if new == old.value || call.is_dry_run()? {
        return Ok(new);
    }
    let stored = if delete::is_finished(resource, &new) {
        core.store.delete(old.key.clone(), Some(old.revision)).await
    } else {
        core.store
            .put(old.key.clone(), new, Expect::Revision(old.revision))
            .await
    };
    let stored = stored.map_err(Refused::Store)?;
    written(core, resource);
    Ok(stored.value.clone())
}

fn check(resource: &Resource, object: &Value, errors: Vec<FieldError>) -> Result<(), ApiError> {
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid(resource, meta::name(object), &errors))
    }
}

/// What must follow a write.
fn written(core: &Core, resource: &Resource) {
    if resource.storage == DEFINITIONS {
        core.reload_kinds();
    }
}
