//! The product page: what a person sees, and the same as JSON for programs.

mod page;
mod session;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use http::header::{REFERER, SET_COOKIE};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Settings;
use crate::forward::forwarded;
use crate::upstream::{Failure, Upstream};
use page::Pages;

/// How long each question to a neighbour may take.
const TIME_LIMIT: Duration = Duration::from_secs(3);
/// How often reviews is asked before the page goes without.
const REVIEWS_ATTEMPTS: usize = 2;

struct ProductPage {
    settings: Settings,
    upstream: Upstream,
    pages: Pages,
}

pub(crate) fn router(settings: Settings) -> Router {
    let state = Arc::new(ProductPage {
        settings,
        upstream: Upstream::new(),
        pages: Pages::new(),
    });
    let router = Router::new()
        .route("/", get(index))
        .route("/index.html", get(index))
        .route("/productpage", get(show))
        .route("/login", post(login))
        .route("/logout", get(logout))
        .route("/api/v1/products", get(list))
        .route("/api/v1/products/{id}", get(details_json))
        .route("/api/v1/products/{id}/reviews", get(reviews_json))
        .route("/api/v1/products/{id}/ratings", get(ratings_json))
        .with_state(state);
    crate::metrics::counted(router).route("/health", get(|| async { "Product page is healthy" }))
}

async fn index(State(state): State<Arc<ProductPage>>) -> Html<String> {
    Html(state.pages.index())
}

async fn show(State(state): State<Arc<ProductPage>>, headers: HeaderMap) -> Html<String> {
    let passed_on = headers_for(&headers);
    let details = state.details("0", &passed_on).await;
    let reviews = state.reviews("0", &passed_on).await;
    let user = session::user(&headers);
    Html(state.pages.product(&page::Product {
        book: &page::books()[0],
        details: details.as_ref().ok(),
        reviews: reviews.as_ref().ok(),
        user: user.as_deref(),
    }))
}

#[derive(Deserialize)]
struct Login {
    username: String,
}

async fn login(headers: HeaderMap, Form(login): Form<Login>) -> Response {
    back(&headers, &session::start(&login.username))
}

async fn logout(headers: HeaderMap) -> Response {
    back(&headers, session::END)
}

/// Sends the browser back to the page that it came from, with a cookie.
fn back(headers: &HeaderMap, cookie: &str) -> Response {
    // Only the path is used, so that nobody is sent to another site.
    let referer = headers
        .get(REFERER)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let path = referer
        .parse::<http::Uri>()
        .ok()
        .map(|uri| uri.path().to_owned());
    let path = path.filter(|path| path.starts_with('/') && !path.starts_with("//"));
    let target = path
        .filter(|path| path != "/")
        .unwrap_or_else(|| "/productpage".to_owned());
    let redirect = (StatusCode::FOUND, [(http::header::LOCATION, target)]);
    ([(SET_COOKIE, cookie.to_owned())], redirect).into_response()
}

async fn list() -> Json<Value> {
    Json(json!(page::books()))
}

async fn details_json(
    State(state): State<Arc<ProductPage>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    answer("details", state.details(&id, &headers_for(&headers)).await)
}

async fn reviews_json(
    State(state): State<Arc<ProductPage>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    answer("reviews", state.reviews(&id, &headers_for(&headers)).await)
}

async fn ratings_json(
    State(state): State<Arc<ProductPage>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    answer("ratings", state.ratings(&id, &headers_for(&headers)).await)
}

fn answer(what: &str, result: Result<Value, Failure>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(error) => {
            let text = format!("Sorry, product {what} are currently unavailable for this book.");
            (error.status(), Json(json!({ "error": text }))).into_response()
        }
    }
}

/// What goes along to the neighbours: traces, and the user who is signed in.
fn headers_for(incoming: &HeaderMap) -> HeaderMap {
    let mut headers = forwarded(incoming);
    if let Some(user) = session::user(incoming).and_then(|user| user.parse().ok()) {
        headers.insert("end-user", user);
    }
    headers
}

impl ProductPage {
    async fn details(&self, id: &str, headers: &HeaderMap) -> Result<Value, Failure> {
        self.ask(&self.settings.details, "details", id, headers)
            .await
    }

    async fn ratings(&self, id: &str, headers: &HeaderMap) -> Result<Value, Failure> {
        self.ask(&self.settings.ratings, "ratings", id, headers)
            .await
    }

    /// Asks reviews, and once more if it did not answer well.
    async fn reviews(&self, id: &str, headers: &HeaderMap) -> Result<Value, Failure> {
        let mut answer = self
            .ask(&self.settings.reviews, "reviews", id, headers)
            .await;
        for _ in 1..REVIEWS_ATTEMPTS {
            if answer.is_ok() {
                break;
            }
            answer = self
                .ask(&self.settings.reviews, "reviews", id, headers)
                .await;
        }
        answer
    }

    async fn ask(
        &self,
        service: &str,
        what: &str,
        id: &str,
        headers: &HeaderMap,
    ) -> Result<Value, Failure> {
        let path = format!("/{what}/{id}");
        let answer = self.upstream.get(service, &path, headers, TIME_LIMIT).await;
        answer.inspect_err(|error| tracing::warn!(%error, service, "no {what}"))
    }
}
