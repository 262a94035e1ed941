//! The ratings service: how many stars each reviewer gives, kept in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value, json};

/// How many books may have ratings of their own, so that nobody fills the memory with them.
const MAX_BOOKS: usize = 10_000;

/// Ratings that users posted, by book.
type Posted = Arc<Mutex<HashMap<u64, Map<String, Value>>>>;

pub(crate) fn router() -> Router {
    let router = Router::new().route("/ratings/{id}", get(show).post(post));
    crate::metrics::counted(router.with_state(Posted::default())).route("/health", get(health))
}

async fn health() -> Json<Value> {
    Json(json!({ "status": "Ratings is healthy" }))
}

async fn show(State(posted): State<Posted>, Path(id): Path<String>) -> Response {
    let Ok(id) = id.parse() else {
        return bad_request("please provide numeric product ID");
    };
    let posted = posted.lock().unwrap_or_else(PoisonError::into_inner);
    answer(id, posted.get(&id))
}

async fn post(State(posted): State<Posted>, Path(id): Path<String>, body: Bytes) -> Response {
    let Ok(id) = id.parse() else {
        return bad_request("please provide numeric product ID");
    };
    let Ok(ratings) = serde_json::from_slice::<Map<String, Value>>(&body) else {
        return bad_request("please provide valid ratings JSON");
    };
    let mut posted = posted.lock().unwrap_or_else(PoisonError::into_inner);
    if posted.len() >= MAX_BOOKS && !posted.contains_key(&id) {
        let error = json!({ "error": "there are ratings for too many books" });
        return (StatusCode::INSUFFICIENT_STORAGE, Json(error)).into_response();
    }
    posted.insert(id, ratings);
    answer(id, posted.get(&id))
}

fn answer(id: u64, posted: Option<&Map<String, Value>>) -> Response {
    let ratings = posted.map_or_else(
        || json!({ "Reviewer1": 5, "Reviewer2": 4 }),
        |map| json!(map),
    );
    Json(json!({ "id": id, "ratings": ratings })).into_response()
}

fn bad_request(error: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response()
}
