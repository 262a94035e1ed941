//! Refusals, in the words and numbers that Kubernetes clients look for.

use http::StatusCode;
use serde_json::{Value, json};

use super::kinds::Resource;
use crate::store::StoreError;

/// A refusal that becomes a `Status` object.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The HTTP status.
    pub code: StatusCode,
    /// The machine-readable reason.
    pub reason: &'static str,
    /// The sentence that `kubectl` prints.
    pub message: String,
    /// `name`, `kind`, `group`, `causes`, `retryAfterSeconds`.
    pub details: Option<Value>,
}

/// A field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldError {
    /// `FieldValueRequired` and so on.
    pub reason: &'static str,
    /// Where, as `spec.ports[0].port`.
    pub field: String,
    /// The text behind the field.
    pub detail: String,
}

impl FieldError {
    /// A field that must be set.
    pub(crate) fn required(field: impl Into<String>, detail: &str) -> Self {
        let detail = if detail.is_empty() {
            "Required value".into()
        } else {
            format!("Required value: {detail}")
        };
        Self {
            reason: "FieldValueRequired",
            field: field.into(),
            detail,
        }
    }

    /// A value that cannot be.
    pub(crate) fn invalid(
        field: impl Into<String>,
        value: &Value,
        detail: impl AsRef<str>,
    ) -> Self {
        Self {
            reason: "FieldValueInvalid",
            field: field.into(),
            detail: format!("Invalid value: {}: {}", shown(value), detail.as_ref()),
        }
    }

    /// A value outside of a fixed set.
    pub(crate) fn unsupported(field: impl Into<String>, value: &Value, supported: &[&str]) -> Self {
        let list = supported
            .iter()
            .map(|one| format!("{one:?}"))
            .collect::<Vec<_>>()
            .join(", ");
        Self {
            reason: "FieldValueNotSupported",
            field: field.into(),
            detail: format!(
                "Unsupported value: {}: supported values: {list}",
                shown(value)
            ),
        }
    }

    /// A value that occurs twice.
    pub(crate) fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self {
            reason: "FieldValueDuplicate",
            field: field.into(),
            detail: format!("Duplicate value: {}", shown(value)),
        }
    }

    /// A field that may not be set here.
    pub(crate) fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self {
            reason: "FieldValueForbidden",
            field: field.into(),
            detail: format!("Forbidden: {detail}"),
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "\"null\"".into(),
        other => other.to_string(),
    }
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.detail)
    }
}

impl ApiError {
    /// A refusal without details.
    pub(crate) fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: None,
        }
    }

    /// 400.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// 401. The first word is what Kubernetes says and all it says; the rest helps its owner.
    pub(crate) fn unauthorized(why: &str) -> Self {
        let message = format!("Unauthorized: {why}");
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", message)
    }

    /// 404 for a path that means nothing. It has no reason, as no part of Kubernetes has heard of it.
    pub(crate) fn no_such_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "", "404 page not found")
    }

    /// 404 for an object.
    pub(crate) fn not_found(resource: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} not found", resource.qualified());
        Self::about(resource, name, StatusCode::NOT_FOUND, "NotFound", message)
    }

    /// 405.
    pub(crate) fn method_not_allowed(what: &str) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            format!("{what} is not supported on resources of this kind"),
        )
    }

    /// 406.
    pub(crate) fn not_acceptable() -> Self {
        Self::new(
            StatusCode::NOT_ACCEPTABLE,
            "NotAcceptable",
            "only the following media types are accepted: application/json, application/yaml",
        )
    }

    /// 409 for a name that is taken.
    pub(crate) fn already_exists(resource: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", resource.qualified());
        Self::about(
            resource,
            name,
            StatusCode::CONFLICT,
            "AlreadyExists",
            message,
        )
    }

    /// 409 for a stale resourceVersion.
    pub(crate) fn conflict(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: {why}",
            resource.qualified()
        );
        Self::about(resource, name, StatusCode::CONFLICT, "Conflict", message)
    }

    /// 409 for a stale resourceVersion, in the usual words.
    pub(crate) fn modified(resource: &Resource, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 410.
    pub(crate) fn gone(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// 403.
    pub(crate) fn forbidden(resource: &Resource, name: &str, why: &str) -> Self {
        let subject = if name.is_empty() {
            String::new()
        } else {
            format!(" {name:?}")
        };
        let message = format!("{}{subject} is forbidden: {why}", resource.qualified());
        Self::about(resource, name, StatusCode::FORBIDDEN, "Forbidden", message)
    }

    /// 422 with what is wrong.
    pub(crate) fn invalid(resource: &Resource, name: &str, errors: &[FieldError]) -> Self {
        let list = match errors {
            [one] => one.to_string(),
            many => format!(
                "[{}]",
                many.iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        };
        let message = format!("{} {name:?} is invalid: {list}", resource.qualified_kind());
        let causes: Vec<_> = errors
            .iter()
            .map(|error| json!({"reason": error.reason, "message": error.detail, "field": error.field}))
            .collect();
        let details =
            json!({"name": name, "group": resource.group, "kind": resource.kind, "causes": causes});
        Self {
            code: StatusCode::UNPROCESSABLE_ENTITY,
            reason: "Invalid",
            message,
            details: Some(details),
        }
    }

    /// 500.
    pub(crate) fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            format!("Internal error occurred: {message}"),
        )
    }

    fn about(
        resource: &Resource,
        name: &str,
        code: StatusCode,
        reason: &'static str,
        message: String,
    ) -> Self {
        let details = json!({"name": name, "group": resource.group, "kind": resource.plural});
        Self {
            code,
            reason,
            message,
            details: Some(details),
        }
    }

    /// What the store's refusal means for one object.
    pub(crate) fn from_store(error: StoreError, resource: &Resource, name: &str) -> Self {
        match error {
            StoreError::Exists => Self::already_exists(resource, name),
            StoreError::NotFound => Self::not_found(resource, name),
            StoreError::Conflict => Self::modified(resource, name),
            StoreError::Gone { .. } => Self::gone(error.to_string()),
            StoreError::Full(_) => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "InsufficientStorage",
                error.to_string(),
            ),
            StoreError::Storage(_) | StoreError::Closed => Self::internal(error),
        }
    }

    /// The `Status` object.
    #[must_use]
    pub(crate) fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code.as_u16(),
        });
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status
    }
}
