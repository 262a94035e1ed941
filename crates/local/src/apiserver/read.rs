//! `get` and `list`.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde_json::{Value, json};

use super::core::Core;
use super::error::ApiError;
use super::kinds::Resource;
use super::reply::{self, Reply};
use super::request::{Call, Form, Target};
use super::selector::Selectors;
use super::{strategy, table};
use crate::store::Object;

/// The object that a path names.
pub(super) fn object(core: &Core, target: &Target) -> Result<Arc<Object>, ApiError> {
    let key = Core::key(&target.resource, &target.namespace, &target.name);
    core.store
        .get(&key)
        .ok_or_else(|| ApiError::not_found(&target.resource, &target.name))
}

/// Answers `get`.
pub(super) fn get(core: &Core, call: &Call) -> Result<Reply, ApiError> {
    let target = &call.target;
    let object = object(core, target)?;
    let value = match target.subresource.as_str() {
        "" => present(call, &object.value),
        "status" if target.resource.status => present(call, &object.value),
        "scale" if target.resource.scale => strategy::scale::of(&target.resource, &object.value)?,
        _ => return Err(ApiError::no_such_path()),
    };
    Ok(reply::formed(StatusCode::OK, &value, call.form))
}

/// Answers `list`.
pub(super) fn list(core: &Core, call: &Call) -> Result<Reply, ApiError> {
    let target = &call.target;
    if target.resource.virtual_only {
        return Err(ApiError::method_not_allowed("list"));
    }
    let selectors = Selectors::parse(&call.query, &target.resource)?;
    let namespace = (!target.namespace.is_empty()).then_some(target.namespace.as_str());
    let (objects, now) = core.store.list(&target.resource.storage, namespace);
    let (after, revision) = match call.parameter("continue") {
        Some(token) => decode_continue(token)?,
        None => (None, now),
    };
    check_revision(call, now)?;
    let limit = call
        .parameter("limit")
        .and_then(|limit| limit.parse::<usize>().ok())
        .unwrap_or(0);
    let mut matching = objects
        .iter()
        .filter(|object| {
            after.as_ref().is_none_or(|after| {
                (&object.key.namespace, &object.key.name) > (&after.0, &after.1)
            })
        })
        .filter(|object| selectors.matches(&object.value));
    let page: Vec<_> = if limit == 0 {
        matching.by_ref().collect()
    } else {
        matching.by_ref().take(limit).collect()
    };
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    let remaining = matching.count();
    if let (true, Some(last)) = (remaining > 0, page.last()) {
        metadata["continue"] = encode_continue(last, revision).into();
        metadata["remainingItemCount"] = remaining.into();
    }
    let items: Vec<Value> = page
        .iter()
        .map(|object| converted(&target.resource, &object.value))
        .collect();
    Ok(reply::formed(
        StatusCode::OK,
        &collection(call, metadata, items),
        call.form,
    ))
}

fn collection(call: &Call, metadata: Value, items: Vec<Value>) -> Value {
    let resource = &call.target.resource;
    match call.form {
        Form::Metadata => json!({
            "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
            "items": items.iter().map(metadata_only).collect::<Vec<_>>(),
        }),
        Form::Table => table::render(call, metadata, &items, true),
        Form::Json | Form::Yaml => json!({
            "kind": resource.list_kind, "apiVersion": resource.api_version(), "metadata": metadata, "items": items,
        }),
    }
}

/// An object in the version and the form that were asked for.
pub(super) fn present(call: &Call, object: &Value) -> Value {
    present_with(call, object, true)
}

/// As [`present`]; a watch sends the columns of a table once only.
pub(super) fn present_with(call: &Call, object: &Value, with_columns: bool) -> Value {
    let object = converted(&call.target.resource, object);
    match call.form {
        Form::Metadata => metadata_only(&object),
        Form::Table if object["kind"] != "Status" => {
            let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
            table::render(call, metadata, &[object], with_columns)
        }
        Form::Json | Form::Yaml | Form::Table => object,
    }
}

/// An object in the version of the resource; versions of custom resources differ in name only.
pub(super) fn converted(resource: &Resource, object: &Value) -> Value {
    let mut object = object.clone();
    if resource.group == "events.k8s.io" {
        strategy::event::to_new_group(&mut object);
    }
    if object["apiVersion"] != resource.api_version().as_str() {
        object["apiVersion"] = resource.api_version().into();
    }
    object
}

fn metadata_only(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

/// Refuses a list at a revision that is not the present one, or in the future.
fn check_revision(call: &Call, now: u64) -> Result<(), ApiError> {
    let Some(text) = call.parameter("resourceVersion") else {
        return Ok(());
    };
    let asked: u64 = text.parse().map_err(|_| {
        ApiError::bad_request(format!(
            "resourceVersion: Invalid value: {text:?}: invalid resource version"
        ))
    })?;
    if call.parameter("resourceVersionMatch") == Some("Exact") && asked != now {
        return Err(ApiError::gone(format!(
            "The resourceVersion for the provided list is too old: {asked} ({now})"
        )));
    }
    if asked > now {
        let mut error = ApiError::new(
            StatusCode::GATEWAY_TIMEOUT,
            "Timeout",
            format!("Too large resource version: {asked}, current: {now}"),
        );
        error.details = Some(json!({"retryAfterSeconds": 1, "causes": [
            {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]}));
        return Err(error);
    }
    Ok(())
}

type Place = (String, String);

fn encode_continue(last: &Object, revision: u64) -> String {
    let token = json!({"rv": revision, "ns": last.key.namespace, "name": last.key.name});
    URL_SAFE_NO_PAD.encode(token.to_string())
}

fn decode_continue(token: &str) -> Result<(Option<Place>, u64), ApiError> {
    let read = || {
        let token: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let place = (
            token["ns"].as_str()?.to_owned(),
            token["name"].as_str()?.to_owned(),
        );
        Some((Some(place), token["rv"].as_u64()?))
    };
    read().ok_or_else(|| ApiError::bad_request("continue key is not valid"))
}
