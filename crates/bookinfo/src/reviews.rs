//! The reviews service: what readers say, in version 2 with black and in version 3 with red stars.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::Settings;
use crate::forward::forwarded;
use crate::upstream::Upstream;

/// Readers of the sample and what they say. The names are the keys under which ratings has stars.
const REVIEWS: [(&str, &str); 2] = [
    (
        "Reviewer1",
        "Two pairs of twins, one afternoon, and not a single person in the right house. I have not laughed so much at a locked door in years.",
    ),
    (
        "Reviewer2",
        "Quick, loud and cleverly built. Do not look for deep thoughts between the beatings, but bring a friend who confuses names.",
    ),
];

struct Reviews {
    /// The colour of the stars; none if this version shows none.
    stars: Option<String>,
    ratings: String,
    pod: String,
    cluster: String,
    upstream: Upstream,
}

pub(crate) fn router(version: &str, settings: Settings) -> Router {
    let enabled = settings.ratings_enabled.unwrap_or(version != "v1");
    let color = settings
        .star_color
        .unwrap_or_else(|| if version == "v3" { "red" } else { "black" }.to_owned());
    let reviews = Reviews {
        stars: enabled.then_some(color),
        ratings: settings.ratings,
        pod: settings.pod,
        cluster: settings.cluster,
        upstream: Upstream::new(),
    };
    let router = Router::new()
        .route("/reviews/{id}", get(show))
        .with_state(Arc::new(reviews));
    crate::metrics::counted(router).route("/health", get(health))
}

async fn health() -> Json<Value> {
    Json(json!({ "status": "Reviews is healthy" }))
}

async fn show(
    State(reviews): State<Arc<Reviews>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let Ok(id) = id.parse::<u64>() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let ratings = match &reviews.stars {
        Some(color) => Some((color, reviews.ratings(id, color, &headers).await)),
        None => None,
    };
    let review = |(reviewer, text): (&str, &str)| {
        let mut review = json!({ "reviewer": reviewer, "text": text });
        if let Some((color, ratings)) = &ratings {
            review["rating"] = rating(ratings.as_ref(), reviewer, color);
        }
        review
    };
    Json(json!({
        "id": id.to_string(),
        "podname": reviews.pod,
        "clustername": reviews.cluster,
        "reviews": REVIEWS.map(review),
    }))
    .into_response()
}

fn rating(ratings: Option<&Value>, reviewer: &str, color: &str) -> Value {
    match ratings.and_then(|ratings| ratings["ratings"][reviewer].as_i64()) {
        Some(stars) => json!({ "stars": stars, "color": color }),
        None => json!({ "error": "Ratings service is currently unavailable" }),
    }
}

impl Reviews {
    async fn ratings(&self, id: u64, color: &str, headers: &HeaderMap) -> Option<Value> {
        let path = format!("/ratings/{id}");
        let answer = self
            .upstream
            .get(&self.ratings, &path, &forwarded(headers), time_limit(color))
            .await;
        answer
            .inspect_err(|error| tracing::warn!(%error, service = self.ratings, "no ratings"))
            .ok()
    }
}

/// How long to wait for ratings. The sample differs here on purpose: with a delay of seven seconds
/// before ratings, the page gives up on the version with black stars before that version gives up
/// on ratings, which is the fault to be found; the version with red stars has it mended.
fn time_limit(color: &str) -> Duration {
    Duration::from_millis(if color == "black" { 10_000 } else { 2_500 })
}
