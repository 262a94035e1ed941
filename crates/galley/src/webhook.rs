//! The validating webhook: refuses what is wrong, warns of what may become right.
//!
//! Objects arrive in any order, so a reference to what is not there (a gateway, say) is a warning and
//! not a refusal; a fault within the object, or a clash with what another object holds, is a refusal.

mod cross;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    routing::post,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{ConfigSet, Fault, fault::describe, validate};

/// How many documents passed and failed.
#[derive(Debug, Default)]
pub struct Counters {
    passed: AtomicU64,
    failed: AtomicU64,
}

impl Counters {
    /// Documents accepted.
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// Documents refused.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Both in Prometheus' text form.
    pub fn render(&self) -> String {
        let line = |name: &str, help: &str, value: u64| {
            format!("# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}\n")
        };
        line(
            "galley_validation_passed",
            "Resource is valid",
            self.passed(),
        ) + &line(
            "galley_validation_failed",
            "Resource validation failed",
            self.failed(),
        )
    }
}

#[derive(Clone, Debug)]
struct Context {
    config: watch::Receiver<Arc<ConfigSet>>,
    counters: Arc<Counters>,
}

/// `POST /validate` with AdmissionReview v1. `config` is what is in force, for clashes.
pub fn router(config: watch::Receiver<Arc<ConfigSet>>, counters: Arc<Counters>) -> Router {
    let context = Context { config, counters };
    Router::new()
        .route("/validate", post(review))
        .route("/validate/{*rest}", post(review))
        .layer(DefaultBodyLimit::max(lateen_api::REVIEW_MAX))
        .with_state(context)
}

#[derive(Debug, Deserialize)]
struct Review {
    request: Option<Request>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    object: Value,
}

async fn review(
    State(context): State<Context>,
    Json(review): Json<Review>,
) -> Result<Json<Value>, (StatusCode, String)> {
    let Some(request) = review.request else {
        return Err((
            StatusCode::BAD_REQUEST,
            "the AdmissionReview has no request".into(),
        ));
    };
    let verdict = if request.operation == "DELETE" || request.object.is_null() {
        Verdict::default()
    } else {
        judge(&context, request.object, &request.namespace)
    };
    Ok(Json(answer(&request.uid, &verdict)))
}

#[derive(Debug, Default)]
struct Verdict {
    faults: Vec<Fault>,
    warnings: Vec<String>,
}

fn judge(context: &Context, mut object: Value, namespace: &str) -> Verdict {
    // A document posted into a namespace need not name it.
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.entry("namespace").or_insert_with(|| namespace.into());
    }
    let mut faults = validate(&object);
    let mut warnings = Vec::new();
    if faults.is_empty() {
        let config = context.config.borrow().clone();
        cross::check(&object, &config, &mut faults, &mut warnings);
    }
    let counter = if faults.is_empty() {
        &context.counters.passed
    } else {
        &context.counters.failed
    };
    counter.fetch_add(1, Ordering::Relaxed);
    Verdict { faults, warnings }
}

fn answer(uid: &str, verdict: &Verdict) -> Value {
    let mut response = json!({"uid": uid, "allowed": verdict.faults.is_empty()});
    if !verdict.faults.is_empty() {
        response["status"] = json!({
            "status": "Failure",
            "code": 400,
            "reason": "BadRequest",
            "message": format!("configuration is invalid: {}", describe(&verdict.faults)),
        });
    }
    if !verdict.warnings.is_empty() {
        response["warnings"] = json!(verdict.warnings);
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}

#[cfg(test)]
mod tests;
