//! Admission webhooks: those that change an object, and then those that may only refuse it; and what the
//! server itself refuses by the labels of a namespace.

mod call;
pub(super) mod pod_security;
mod select;
pub(super) mod warnings;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde_json::{Value, json};

use super::core::Core;
use super::error::ApiError;
use super::kinds::Resource;
use super::request::Call;
use super::types::decode;
use super::{meta, read};

const MUTATING: &str = "mutatingwebhookconfigurations.admissionregistration.k8s.io";
const VALIDATING: &str = "validatingwebhookconfigurations.admissionregistration.k8s.io";

/// What is being done to an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation<'a> {
    /// `CREATE`, `UPDATE` or `DELETE`.
    pub(super) verb: &'static str,
    /// The object before.
    pub(super) old: Option<&'a Value>,
}

/// Lets the mutating webhooks change an object.
pub(super) async fn mutate(
    core: &Arc<Core>,
    call: &Call,
    operation: Operation<'_>,
    object: &mut Value,
) -> Result<(), ApiError> {
    let webhooks = webhooks(core, call, MUTATING);
    // The object as each webhook left it; nothing for those that were not asked.
    let mut left: Vec<Option<Value>> = Vec::new();
    for webhook in &webhooks {
        let asked = ask_to_change(core, call, webhook, operation, object).await?;
        left.push(asked.then(|| object.clone()));
    }
    // Those that want to see what others changed after them are asked once more, and no further.
    for (webhook, left) in webhooks.iter().zip(left) {
        let again = webhook["reinvocationPolicy"] == "IfNeeded";
        if again && left.is_some_and(|left| left != *object) {
            ask_to_change(core, call, webhook, operation, object).await?;
        }
    }
    Ok(())
}

/// Whether the webhook was concerned; its changes are made.
async fn ask_to_change(
    core: &Arc<Core>,
    call: &Call,
    webhook: &Value,
    operation: Operation<'_>,
    object: &mut Value,
) -> Result<bool, ApiError> {
    let Some(resource) = select::matches(core, call, webhook, operation, Some(object)) else {
        return Ok(false);
    };
    let response = review(core, call, webhook, &resource, operation, Some(object)).await?;
    if let Some(response) = response {
        apply_patch(webhook, &response, object)?;
        fits_its_kind(call, webhook, object)?;
    }
    Ok(true)
}

/// Asks the validating webhooks, all at once.
pub(super) async fn validate(
    core: &Arc<Core>,
    call: &Call,
    operation: Operation<'_>,
    object: Option<&Value>,
) -> Result<(), ApiError> {
    let webhooks = webhooks(core, call, VALIDATING);
    let reviews = webhooks.iter().filter_map(|webhook| {
        let resource = select::matches(core, call, webhook, operation, object)?;
        Some(async move { review(core, call, webhook, &resource, operation, object).await })
    });
    futures::future::try_join_all(reviews).await.map(drop)
}

/// The webhooks of all configurations in order; none for the configurations themselves.
fn webhooks(core: &Core, call: &Call, storage: &str) -> Vec<Value> {
    if call.target.resource.group == "admissionregistration.k8s.io" {
        return Vec::new();
    }
    let (configurations, _) = core.store.list(storage, None);
    configurations
        .iter()
        .flat_map(|one| meta::list(&one.value, "/webhooks").to_vec())
        .collect()
}

/// Asks one webhook. Nothing comes back if it failed and may fail.
async fn review(
    core: &Arc<Core>,
    call: &Call,
    webhook: &Value,
    resource: &Resource,
    operation: Operation<'_>,
    object: Option<&Value>,
) -> Result<Option<Value>, ApiError> {
    let name = meta::text(webhook, "/name").unwrap_or_default();
    let body = request_body(call, resource, operation, object);
    let seconds = webhook["timeoutSeconds"]
        .as_u64()
        .unwrap_or(10)
        .clamp(1, 30);
    let answer = tokio::time::timeout(
        Duration::from_secs(seconds),
        call::post(core, &webhook["clientConfig"], &body),
    );
    let answer = match answer.await {
        Ok(answer) => answer,
        Err(_) => Err(format!(
            "failed to call webhook: context deadline exceeded after {seconds}s"
        )),
    };
    let response = answer.and_then(|answer| match answer.get("response") {
        Some(response) if response["uid"] == body["request"]["uid"] => Ok(response.clone()),
        _ => Err(
            "received invalid webhook response: no response with the uid of the request".to_owned(),
        ),
    });
    if let Ok(response) = &response {
        warnings::note(response);
    }
    match response {
        Ok(response) if response["allowed"] == true => Ok(Some(response)),
        Ok(response) => Err(denied(name, &response)),
        Err(error) if webhook["failurePolicy"] == "Ignore" => {
            tracing::warn!(webhook = name, error, "a webhook failed and is ignored");
            Ok(None)
        }
        Err(error) => Err(ApiError::internal(format!(
            "failed calling webhook {name:?}: {error}"
        ))),
    }
}

fn request_body(
    call: &Call,
    resource: &Resource,
    operation: Operation<'_>,
    object: Option<&Value>,
) -> Value {
    let kind = |resource: &Resource| json!({"group": resource.group, "version": resource.version, "kind": resource.kind});
    let path = |resource: &Resource| json!({"group": resource.group, "version": resource.version, "resource": resource.plural});
    let shown = |object: Option<&Value>| {
        object.map_or(Value::Null, |object| read::converted(resource, object))
    };
    let own = &call.target.resource;
    let name = object.or(operation.old).map(meta::name).unwrap_or_default();
    let mut request = json!({
        "uid": uuid::Uuid::new_v4().to_string(),
        "kind": kind(resource), "resource": path(resource),
        "requestKind": kind(own), "requestResource": path(own),
        "name": name, "operation": operation.verb,
        "userInfo": call.user.to_json(),
        "object": shown(object), "oldObject": shown(operation.old),
        "dryRun": call.is_dry_run().unwrap_or(false),
        "options": Value::Null,
    });
    if !call.target.namespace.is_empty() {
        request["namespace"] = call.target.namespace.clone().into();
    } else if own.is("", "namespaces") {
        request["namespace"] = name.into();
    }
    if !call.target.subresource.is_empty() {
        request["subResource"] = call.target.subresource.clone().into();
        request["requestSubResource"] = call.target.subresource.clone().into();
    }
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request})
}

fn denied(webhook: &str, response: &Value) -> ApiError {
    let status = &response["status"];
    let why = match (
        meta::text(status, "/message"),
        meta::text(status, "/reason"),
    ) {
        (Some(message), _) if !message.is_empty() => format!(": {message}"),
        (_, Some(reason)) if !reason.is_empty() => format!(": {reason}"),
        _ => " without explanation".into(),
    };
    let code = status["code"]
        .as_u64()
        .and_then(|code| u16::try_from(code).ok());
    let code = code
        .and_then(|code| StatusCode::from_u16(code).ok())
        .filter(|code| code.as_u16() >= 400);
    let code = code.unwrap_or(StatusCode::FORBIDDEN);
    let reason = match code {
        StatusCode::BAD_REQUEST => "BadRequest",
        StatusCode::CONFLICT => "Conflict",
        StatusCode::UNPROCESSABLE_ENTITY => "Invalid",
        StatusCode::INTERNAL_SERVER_ERROR => "InternalError",
        _ => "Forbidden",
    };
    ApiError::new(
        code,
        reason,
        format!("admission webhook {webhook:?} denied the request{why}"),
    )
}

/// What a webhook made of an object must still be one of its kind, under its name.
fn fits_its_kind(call: &Call, webhook: &Value, object: &mut Value) -> Result<(), ApiError> {
    let resource = &call.target.resource;
    let bad = |error: String| {
        ApiError::internal(format!("webhook {}: bad patch: {error}", webhook["name"]))
    };
    // Events are in the core group's form here, whichever group was asked.
    if resource.group != "events.k8s.io" {
        decode::decode(resource, object).map_err(bad)?;
    }
    if resource.namespaced && meta::namespace(object) != call.target.namespace {
        return Err(bad("it moves the object to another namespace".into()));
    }
    Ok(())
}

fn apply_patch(webhook: &Value, response: &Value, object: &mut Value) -> Result<(), ApiError> {
    let Some(patch) = meta::text(response, "/patch").filter(|patch| !patch.is_empty()) else {
        return Ok(());
    };
    let bad = |error: String| {
        ApiError::internal(format!("webhook {}: bad patch: {error}", webhook["name"]))
    };
    let bytes = STANDARD
        .decode(patch)
        .map_err(|error| bad(error.to_string()))?;
    let patch: json_patch::Patch =
        serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    json_patch::patch(object, &patch).map_err(|error| bad(error.to_string()))
}
