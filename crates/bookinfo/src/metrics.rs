//! Counts of answers, at `/metrics`, for the merged metrics of a pod to have an application's part.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;

/// Answers by path pattern and status.
type Counts = Arc<Mutex<BTreeMap<(String, u16), u64>>>;

/// Adds counting, `/metrics` and a line in the log for each request to a service.
pub(crate) fn counted(router: Router) -> Router {
    let counts = Counts::default();
    let shown = Arc::clone(&counts);
    let show = move || async move {
        (
            [("content-type", "text/plain; version=0.0.4; charset=utf-8")],
            render(&shown),
        )
    };
    router
        .route_layer(from_fn_with_state(counts, count))
        .route("/metrics", get(show))
}

async fn count(State(counts): State<Counts>, request: Request, next: Next) -> Response {
    let pattern = request.extensions().get::<axum::extract::MatchedPath>();
    let pattern = pattern.map_or_else(String::new, |path| path.as_str().to_owned());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    let status = response.status().as_u16();
    tracing::info!(%method, path, status, "answered");
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    *counts.entry((pattern, status)).or_default() += 1;
    response
}

fn render(counts: &Counts) -> String {
    let counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    let mut text = String::from(
        "# HELP request_result_total Answers of this service.\n# TYPE request_result_total counter\n",
    );
    for ((path, status), count) in &*counts {
        let _ = writeln!(
            text,
            "request_result_total{{path=\"{path}\",response_code=\"{status}\"}} {count}"
        );
    }
    text
}
