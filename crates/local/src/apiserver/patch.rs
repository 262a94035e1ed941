//! The four kinds of patch.

pub(super) mod apply;
mod fields;
pub(super) mod strategic;

use http::StatusCode;
use serde_json::{Value, json};

use super::error::ApiError;
use super::request::Call;

/// A patch document, read once and applied to each state that is tried.
#[derive(Debug)]
pub(super) enum Document {
    /// RFC 6902.
    Json(json_patch::Patch),
    /// RFC 7386.
    Merge(Value),
    /// Merge with Kubernetes' rules for lists.
    Strategic(Value),
    /// Server-side apply.
    Apply(Value),
}

impl Document {
    /// Reads the body by its media type.
    pub(super) fn read(call: &Call) -> Result<Self, ApiError> {
        match call.content_type.as_str() {
            "application/json-patch+json" => serde_json::from_slice(&call.body)
                .map(Self::Json)
                .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}"))),
            "application/merge-patch+json" => call.json_body().map(Self::Merge),
            "application/strategic-merge-patch+json" if call.target.resource.custom.is_some() => {
                Err(unsupported(
                    "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
                ))
            }
            "application/strategic-merge-patch+json" => call.json_body().map(Self::Strategic),
            "application/apply-patch+yaml" => call.json_body().map(Self::Apply),
            _ => Err(unsupported(
                "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml",
            )),
        }
    }

    /// Whether a patch of what is not there makes it.
    pub(super) fn creates(&self) -> bool {
        matches!(self, Self::Apply(_))
    }

    /// The object to create.
    pub(super) fn new_object(&self, call: &Call) -> Result<Value, ApiError> {
        let mut object = json!({
            "apiVersion": call.target.resource.api_version(), "kind": call.target.resource.kind,
            "metadata": {"name": call.target.name},
        });
        if call.target.resource.namespaced {
            object["metadata"]["namespace"] = call.target.namespace.clone().into();
        }
        self.apply(call, &object)
    }

    /// The state after the patch.
    pub(super) fn apply(&self, call: &Call, old: &Value) -> Result<Value, ApiError> {
        let mut new = old.clone();
        match self {
            Self::Json(patch) => json_patch::patch(&mut new, patch).map_err(|error| {
                ApiError::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "Invalid",
                    format!(
                        "the server rejected our request due to an error in our request: {error}"
                    ),
                )
            })?,
            Self::Merge(patch) => json_patch::merge(&mut new, patch),
            Self::Strategic(patch) => strategic::merge(&mut new, patch)?,
            Self::Apply(applied) => new = apply::apply(call, old, applied)?,
        }
        if !new.is_object() {
            return Err(ApiError::bad_request("the patched object is not an object"));
        }
        Ok(new)
    }
}

fn unsupported(accepted: &str) -> ApiError {
    ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "UnsupportedMediaType",
        format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted}"
        ),
    )
}
