//! The details service: facts about a book.

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use serde_json::json;

pub(crate) fn router() -> Router {
    let router = Router::new().route("/details/{id}", get(details));
    crate::metrics::counted(router).route("/health", get(health))
}

async fn health() -> Json<serde_json::Value> {
    Json(json!({ "status": "Details is healthy" }))
}

async fn details(Path(id): Path<String>) -> Response {
    let Ok(id) = id.parse::<u64>() else {
        let error = json!({ "error": "please provide numeric product id" });
        return (StatusCode::BAD_REQUEST, Json(error)).into_response();
    };
    let book = json!({
        "id": id,
        "author": "William Shakespeare",
        "year": 1595,
        "type": "paperback",
        "pages": 200,
        "publisher": "PublisherA",
        "language": "English",
        "ISBN-10": "1234567890",
        "ISBN-13": "123-1234567890",
    });
    Json(book).into_response()
}
