//! The parts of a write that are the same for every kind: identity, metadata, generation.

use serde_json::Value;

use crate::apiserver::admission::warnings;
use crate::apiserver::core::Core;
use crate::apiserver::crd::schema;
use crate::apiserver::error::{ApiError, FieldError};
use crate::apiserver::kinds::Resource;
use crate::apiserver::meta;
use crate::apiserver::request::{Call, FieldValidation};
use crate::apiserver::types::decode;
use crate::store::Object;

/// Letters of generated names: no vowels, so no words.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Kubernetes cuts the prefix so that the name fits into a label.
const MAX_GENERATED_PREFIX: usize = 58;

/// A random suffix of five letters.
pub(in crate::apiserver) fn random_suffix() -> String {
    (0..5)
        .map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())]))
        .collect()
}

/// Checks that the body is of the kind and the place that the path says, and names it.
pub(super) fn identity(call: &Call, object: &mut Value) -> Result<(), ApiError> {
    let resource = &call.target.resource;
    check_type(resource, object)?;
    check_namespace(call, object)?;
    let given = meta::name(object).to_owned();
    if !call.target.name.is_empty() && given != call.target.name {
        return Err(wrong_name(call, &given));
    }
    if !given.is_empty() {
        return Ok(());
    }
    match meta::text(object, "/metadata/generateName") {
        Some(prefix) if !prefix.is_empty() => {
            let prefix: String = prefix.chars().take(MAX_GENERATED_PREFIX).collect();
            meta::metadata(object)
                .insert("name".into(), format!("{prefix}{}", random_suffix()).into());
            Ok(())
        }
        _ => {
            let error = FieldError::required("metadata.name", "name or generateName is required");
            Err(ApiError::invalid(resource, "", &[error]))
        }
    }
}

fn wrong_name(call: &Call, given: &str) -> ApiError {
    ApiError::bad_request(format!(
        "the name of the object ({given}) does not match the name on the URL ({})",
        call.target.name
    ))
}

/// Checks that the body is an object of the kind that the path says, and says so in it.
pub(super) fn check_type(resource: &Resource, object: &mut Value) -> Result<(), ApiError> {
    if !object.is_object() {
        return Err(ApiError::bad_request(
            "couldn't get version/kind; json parse error: the body is not an object",
        ));
    }
    let (given_version, given_kind) = (
        meta::text(object, "/apiVersion")
            .unwrap_or_default()
            .to_owned(),
        meta::text(object, "/kind").unwrap_or_default().to_owned(),
    );
    let expected = resource.api_version();
    if (!given_kind.is_empty() && resource.kind != given_kind)
        || (!given_version.is_empty() && given_version != expected)
    {
        let (group, version) = given_version
            .rsplit_once('/')
            .unwrap_or(("", &given_version));
        return Err(ApiError::bad_request(format!(
            "{given_kind} in version {version:?} of group {group:?} cannot be handled as a {}: the API version in the data ({given_version}) does not match the expected API version ({expected})",
            resource.kind
        )));
    }
    object["apiVersion"] = expected.into();
    object["kind"] = Value::String(resource.kind.to_string());
    Ok(())
}

fn check_namespace(call: &Call, object: &mut Value) -> Result<(), ApiError> {
    let given = meta::namespace(object).to_owned();
    if !call.target.resource.namespaced {
        meta::metadata(object).shift_remove("namespace");
        return Ok(());
    }
    if call.target.namespace.is_empty() {
        return Err(ApiError::bad_request(
            "an empty namespace may not be set during creation",
        ));
    }
    if !given.is_empty() && given != call.target.namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let namespace = call.target.namespace.clone();
    meta::metadata(object).insert("namespace".into(), namespace.into());
    Ok(())
}

/// Checks the types of a body and takes out what its kind does not know: refused, told or dropped,
/// as the client asks.
pub(in crate::apiserver) fn decode(call: &Call, object: &mut Value) -> Result<(), ApiError> {
    let resource = &call.target.resource;
    let (kind, version) = (&resource.kind, &resource.version);
    let refuse = |why: &str| {
        ApiError::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: {why}"
        ))
    };
    let mut unknown = decode::decode(resource, object).map_err(|error| refuse(&error))?;
    if let Some(schema) = resource
        .custom
        .as_ref()
        .and_then(|custom| custom.schema.as_ref())
    {
        unknown.extend(schema::prune(schema, object));
    }
    let validation = call.field_validation()?;
    if validation == FieldValidation::Ignore {
        return Ok(());
    }
    let duplicates = call
        .duplicates()
        .into_iter()
        .map(|path| format!("duplicate field {path:?}"));
    let unknown = unknown.iter().map(|path| format!("unknown field {path:?}"));
    let faults: Vec<String> = duplicates.chain(unknown).collect();
    if faults.is_empty() {
        return Ok(());
    }
    if validation == FieldValidation::Strict {
        return Err(refuse(&format!(
            "strict decoding error: {}",
            faults.join(", ")
        )));
    }
    warnings::say(faults);
    Ok(())
}

/// Refuses new objects in a namespace that is not there or is going away.
pub(super) fn namespace_accepts(core: &Core, call: &Call, object: &Value) -> Result<(), ApiError> {
    let resource = &call.target.resource;
    if !resource.namespaced {
        return Ok(());
    }
    let name = &call.target.namespace;
    let Some(namespace) = core.get("namespaces", "", name) else {
        let kinds = core.kinds();
        let namespaces = kinds.find("", "v1", "namespaces").expect("builtin");
        return Err(ApiError::not_found(&namespaces, name));
    };
    if meta::is_deleting(&namespace.value) {
        let why = format!(
            "unable to create new content in namespace {name} because it is being terminated"
        );
        let mut error = ApiError::forbidden(resource, meta::name(object), &why);
        if let Some(details) = &mut error.details {
            details["causes"] = serde_json::json!([{
                "reason": "NamespaceTerminating", "message": format!("namespace {name} is being terminated"),
                "field": "metadata.namespace",
            }]);
        }
        return Err(error);
    }
    Ok(())
}

/// Sets what the server alone decides.
pub(super) fn for_create(resource: &Resource, object: &mut Value) {
    let has_generation = counts_generations(resource);
    let metadata = meta::metadata(object);
    for key in [
        "resourceVersion",
        "selfLink",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
    ] {
        metadata.shift_remove(key);
    }
    metadata.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
    metadata.insert("creationTimestamp".into(), meta::now().into());
    if has_generation {
        metadata.insert("generation".into(), 1.into());
    }
    metadata.retain(|_, value| !value.is_null());
    if resource.status
        && let Some(members) = object.as_object_mut()
    {
        members.shift_remove("status");
    }
}

/// Kinds without a spec have no generation, nor do these.
fn counts_generations(resource: &Resource) -> bool {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => true,
        ("", _) | ("rbac.authorization.k8s.io" | "coordination.k8s.io" | "events.k8s.io", _) => {
            false
        }
        _ => true,
    }
}

/// Checks that an update is for this object at this revision.
pub(super) fn identity_of_update(
    call: &Call,
    old: &Object,
    new: &mut Value,
) -> Result<(), ApiError> {
    let resource = &call.target.resource;
    check_type(resource, new)?;
    check_namespace(call, new)?;
    let given = meta::name(new).to_owned();
    if given.is_empty() {
        let name = call.target.name.clone();
        meta::metadata(new).insert("name".into(), name.into());
    } else if given != call.target.name {
        return Err(wrong_name(call, &given));
    }
    if let Some(asked) =
        meta::text(new, "/metadata/resourceVersion").filter(|asked| !asked.is_empty())
        && asked != old.revision.to_string()
    {
        return Err(ApiError::modified(resource, &call.target.name));
    }
    let (uid, old_uid) = (
        meta::text(new, "/metadata/uid"),
        meta::text(&old.value, "/metadata/uid"),
    );
    if uid.is_some_and(|uid| !uid.is_empty()) && uid != old_uid {
        let why = format!(
            "Precondition failed: UID in precondition: {}, UID in object meta: {}",
            uid.unwrap_or_default(),
            old_uid.unwrap_or_default()
        );
        return Err(ApiError::conflict(resource, &call.target.name, &why));
    }
    Ok(())
}

/// Keeps what an update cannot change: system metadata, and the status or all but the status.
pub(super) fn carry_over(call: &Call, old: &Value, new: &mut Value) {
    let resource = &call.target.resource;
    // Objects are stored in one version; only its name differs from the others'.
    new["apiVersion"] =
        super::super::kinds::api_version(&resource.group, &resource.storage_version).into();
    if resource.group == "events.k8s.io" {
        crate::apiserver::strategy::event::to_core_group(new);
    }
    if resource.status || call.target.subresource == "status" {
        keep_other_half(call, old, new);
    }
    let metadata = meta::metadata(new);
    for key in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
        "generateName",
        "selfLink",
    ] {
        match old["metadata"].get(key) {
            Some(value) => metadata.insert(key.into(), value.clone()),
            None => metadata.shift_remove(key),
        };
    }
    metadata.retain(|_, value| !value.is_null());
}

fn keep_other_half(call: &Call, old: &Value, new: &mut Value) {
    if call.target.subresource == "status" {
        let status = new.get("status").cloned();
        let mut metadata = new["metadata"].clone();
        if call.target.resource.custom.is_some() {
            metadata = old["metadata"].clone();
        }
        metadata["ownerReferences"] = old["metadata"]["ownerReferences"].clone();
        metadata["finalizers"] = old["metadata"]["finalizers"].clone();
        *new = old.clone();
        new["metadata"] = metadata;
        set_or_remove(new, "status", status);
    } else {
        set_or_remove(new, "status", old.get("status").cloned());
    }
}

fn set_or_remove(object: &mut Value, key: &str, value: Option<Value>) {
    match value {
        Some(value) => object[key] = value,
        None => {
            object
                .as_object_mut()
                .expect("checked to be an object")
                .shift_remove(key);
        }
    }
}

/// Counts a change to anything but metadata and status.
pub(super) fn bump_generation(resource: &Resource, old: &Value, new: &mut Value) {
    if !counts_generations(resource) {
        return;
    }
    let keeps_status = resource.status || resource.custom.is_none();
    let desired = |object: &Value| {
        let mut object = object.as_object().cloned().unwrap_or_default();
        object.shift_remove("metadata");
        if keeps_status {
            object.shift_remove("status");
        }
        object
    };
    let generation = old
        .pointer("/metadata/generation")
        .and_then(Value::as_i64)
        .unwrap_or(1);
    let began_deletion = meta::is_deleting(new) && !meta::is_deleting(old);
    let next = if desired(old) == desired(new) && !began_deletion {
        generation
    } else {
        generation + 1
    };
    meta::metadata(new).insert("generation".into(), next.into());
}
