//! The request itself, as JSON.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Query, Request};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

/// Bodies beyond this are refused.
const MAX_BODY: usize = 1 << 20;

/// Every value of every name.
type Values = BTreeMap<String, Vec<String>>;

pub(super) async fn query(request: Request) -> Json<Value> {
    let (head, _) = request.into_parts();
    Json(common(&head))
}

/// With the body: as text, and as form or JSON where it is one.
pub(super) async fn whole(request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = match http_body_util::Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return (StatusCode::PAYLOAD_TOO_LARGE, error.to_string()).into_response(),
    };
    let text = std::str::from_utf8(&body).ok();
    let is_form =
        text_of(&head.headers, "content-type").starts_with("application/x-www-form-urlencoded");
    let form = match text {
        Some(text) if is_form => values(text),
        _ => Values::new(),
    };
    let data = match text {
        Some(_) if is_form => String::new(),
        Some(text) => text.to_owned(),
        None => {
            let bytes = base64::engine::general_purpose::STANDARD.encode(&body);
            format!("data:application/octet-stream;base64,{bytes}")
        }
    };
    let mut answer = common(&head);
    answer["data"] = json!(data);
    answer["files"] = json!({});
    answer["form"] = json!(form);
    answer["json"] = text
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or(Value::Null);
    Json(answer).into_response()
}

pub(super) async fn headers(headers: HeaderMap) -> Json<Value> {
    Json(json!({"headers": list(&headers)}))
}

pub(super) async fn ip(headers: HeaderMap) -> Json<Value> {
    Json(json!({"origin": origin(&headers)}))
}

pub(super) async fn user_agent(headers: HeaderMap) -> Json<Value> {
    Json(json!({"user-agent": text_of(&headers, "user-agent")}))
}

fn common(head: &Parts) -> Value {
    let host = text_of(&head.headers, "host");
    let scheme = match text_of(&head.headers, "x-forwarded-proto").as_str() {
        "" => "http".to_owned(),
        scheme => scheme.to_owned(),
    };
    json!({
        "args": values(head.uri.query().unwrap_or_default()),
        "headers": list(&head.headers),
        "method": head.method.as_str(),
        "origin": origin(&head.headers),
        "url": format!("{scheme}://{host}{}", head.uri),
    })
}

/// Who asked, as the first proxy saw it: a server behind a sidecar sees nobody else.
fn origin(headers: &HeaderMap) -> String {
    let forwarded = text_of(headers, "x-forwarded-for");
    let first = forwarded.split(',').next().unwrap_or_default();
    first.trim().to_owned()
}

fn text_of(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name);
    value.map_or_else(String::new, |value| {
        String::from_utf8_lossy(value.as_bytes()).into_owned()
    })
}

/// Names are written as people write them: `X-Request-Id`.
fn list(headers: &HeaderMap) -> Values {
    let mut list = Values::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        list.entry(capitalized(name.as_str()))
            .or_default()
            .push(value);
    }
    list
}

fn capitalized(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_uppercase() + rest
    });
    words.collect::<Vec<_>>().join("-")
}

/// The pairs of a query or a form; nothing where it is neither.
fn values(encoded: &str) -> Values {
    let pairs = format!("/?{encoded}")
        .parse()
        .ok()
        .and_then(|uri| Query::<Vec<(String, String)>>::try_from_uri(&uri).ok());
    let mut all = Values::new();
    for (name, value) in pairs.map(|Query(pairs)| pairs).unwrap_or_default() {
        all.entry(name).or_default().push(value);
    }
    all
}
