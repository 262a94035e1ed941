//! The mutating webhook.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, State},
    http::StatusCode,
    routing::post,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use lateen_api::Maker;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    Owner, Params, kube_inject,
    values::{items, label, text},
};

/// How injection went.
#[derive(Debug, Default)]
pub struct Counters {
    requests: AtomicU64,
    injected: AtomicU64,
    skipped: AtomicU64,
    failed: AtomicU64,
}

impl Counters {
    /// All in Prometheus' text form.
    pub fn render(&self) -> String {
        let line = |name: &str, help: &str, value: &AtomicU64| {
            let value = value.load(Ordering::Relaxed);
            format!("# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}\n")
        };
        [
            line(
                "sidecar_injection_requests_total",
                "Total number of sidecar injection requests.",
                &self.requests,
            ),
            line(
                "sidecar_injection_success_total",
                "Total number of successful sidecar injection requests.",
                &self.injected,
            ),
            line(
                "sidecar_injection_skip_total",
                "Total number of skipped sidecar injection requests.",
                &self.skipped,
            ),
            line(
                "sidecar_injection_failure_total",
                "Total number of failed sidecar injection requests.",
                &self.failed,
            ),
        ]
        .concat()
    }
}

#[derive(Clone, Debug)]
struct Context {
    params: watch::Receiver<Arc<Params>>,
    counters: Arc<Counters>,
}

/// `POST /inject` and `POST /inject/key/value/…` with AdmissionReview v1. Parameters are read anew
/// for each request.
pub fn router(params: watch::Receiver<Arc<Params>>, counters: Arc<Counters>) -> Router {
    Router::new()
        .route("/inject", post(inject))
        .route("/inject/{*settings}", post(inject_with))
        .layer(DefaultBodyLimit::max(lateen_api::REVIEW_MAX))
        .with_state(Context { params, counters })
}

#[derive(Debug, Deserialize)]
struct Review {
    request: Option<Request>,
}

#[derive(Debug, Deserialize)]
struct Request {
    uid: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    object: Value,
}

type Answer = Result<Json<Value>, (StatusCode, String)>;

async fn inject(State(context): State<Context>, Json(review): Json<Review>) -> Answer {
    let params = context.params.borrow().clone();
    answer(&context, &params, review)
}

async fn inject_with(
    State(context): State<Context>,
    Path(settings): Path<String>,
    Json(review): Json<Review>,
) -> Answer {
    let params = context.params.borrow().with_path(&settings);
    answer(&context, &params, review)
}

fn answer(context: &Context, params: &Params, review: Review) -> Answer {
    let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
    count(&context.counters.requests);
    let Some(request) = review.request else {
        count(&context.counters.failed);
        return Err((
            StatusCode::BAD_REQUEST,
            "the AdmissionReview has no request".into(),
        ));
    };
    let mut response = json!({"uid": request.uid, "allowed": true});
    let mut pod = request.object.clone();
    let owner = owner(&pod, &request.namespace);
    match kube_inject::inject_pod(&mut pod, &owner, params) {
        Ok(true) => {
            count(&context.counters.injected);
            let patch = json_patch::diff(&request.object, &pod);
            if !patch.is_empty() {
                let patch = serde_json::to_vec(&patch).expect("a patch is plain JSON");
                response["patchType"] = json!("JSONPatch");
                response["patch"] = json!(STANDARD.encode(patch));
            }
        }
        Ok(false) => {
            count(&context.counters.skipped);
        }
        Err(message) => {
            count(&context.counters.failed);
            response["allowed"] = json!(false);
            response["status"] = json!({"status": "Failure", "code": 400, "message": message});
        }
    }
    Ok(Json(
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}),
    ))
}

/// What made the pod, as whoever wrote it knows it. A pod being made has no name
/// yet, only the prefix of one.
fn owner(pod: &Value, namespace: &str) -> Owner {
    let namespace = text(pod, &["metadata", "namespace"])
        .unwrap_or(namespace)
        .to_owned();
    let controller = items(&pod["metadata"], "ownerReferences")
        .iter()
        .find(|o| o["controller"] == true);
    let Some(controller) = controller else {
        let generated =
            text(pod, &["metadata", "generateName"]).map(|name| name.trim_end_matches('-'));
        let name = text(pod, &["metadata", "name"])
            .or(generated)
            .unwrap_or_default();
        return Owner {
            api_version: "v1".into(),
            kind: "Pod".into(),
            name: name.into(),
            namespace,
        };
    };
    let get = |key: &str| controller[key].as_str().unwrap_or_default();
    let controller = Maker {
        api_version: get("apiVersion"),
        kind: get("kind"),
        name: get("name"),
    };
    let maker = controller.behind(|key| label(pod, key));
    Owner {
        api_version: maker.api_version.into(),
        kind: maker.kind.into(),
        name: maker.name.into(),
        namespace,
    }
}

#[cfg(test)]
mod tests;
