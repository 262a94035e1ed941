use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::{StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::router;

async fn ask(request: http::request::Builder, body: &'static str) -> Response {
    let request: Request = request.body(Body::from(body)).expect("valid");
    router().oneshot(request).await.expect("answered")
}

async fn body(response: Response) -> Value {
    let body = response.into_body().collect().await.expect("whole");
    serde_json::from_slice(&body.to_bytes()).expect("JSON")
}

#[tokio::test]
async fn a_request_is_described() {
    let request = Request::get("/get?a=1&a=2&b=x%20y")
        .header("host", "httpbin:8000")
        .header("x-forwarded-for", "10.0.0.9, 10.0.0.1");
    let answer = body(ask(request, "").await).await;
    let expected = json!({
        "args": {"a": ["1", "2"], "b": ["x y"]},
        "headers": {"Host": ["httpbin:8000"], "X-Forwarded-For": ["10.0.0.9, 10.0.0.1"]},
        "method": "GET",
        "origin": "10.0.0.9",
        "url": "http://httpbin:8000/get?a=1&a=2&b=x%20y",
    });
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn a_body_is_text_form_or_json() {
    let form = Request::post("/post").header("content-type", "application/x-www-form-urlencoded");
    let answer = body(ask(form, "a=1&b=2").await).await;
    assert_eq!(answer["form"], json!({"a": ["1"], "b": ["2"]}));
    assert_eq!(answer["data"], "");
    let answer = body(ask(Request::put("/put"), "{\"a\": 1}").await).await;
    assert_eq!(answer["json"], json!({"a": 1}));
    assert_eq!(answer["data"], "{\"a\": 1}");
}

#[tokio::test]
async fn status_codes_are_answered() {
    for (path, code) in [
        ("/status/418", 418),
        ("/status/503", 503),
        ("/status/200:0,404:1", 404),
        ("/status/600", 400),
        ("/status/200:-1", 400),
        ("/status/word", 400),
    ] {
        assert_eq!(ask(Request::get(path), "").await.status(), code, "{path}");
    }
    let moved = ask(Request::get("/status/302"), "").await;
    assert_eq!(moved.headers()[header::LOCATION], "/redirect/1");
}

#[tokio::test]
async fn redirects_end() {
    for (path, next) in [
        ("/redirect/2", "/redirect/1"),
        ("/redirect/1", "/get"),
        ("/redirect-to?url=http://a/b", "http://a/b"),
    ] {
        let response = ask(Request::get(path), "").await;
        assert_eq!(response.status(), StatusCode::FOUND, "{path}");
        assert_eq!(response.headers()[header::LOCATION], next, "{path}");
    }
    let no_redirect = "/redirect-to?url=/&status_code=200";
    assert_eq!(ask(Request::get(no_redirect), "").await.status(), 400);
}

#[tokio::test]
async fn credentials_are_asked_for() {
    let path = "/basic-auth/me/secret";
    let refused = ask(Request::get(path), "").await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    let right = Request::get(path).header("authorization", "Basic bWU6c2VjcmV0");
    assert_eq!(ask(right, "").await.status(), StatusCode::OK);
    let token = Request::get("/bearer").header("authorization", "Bearer t");
    assert_eq!(body(ask(token, "").await).await["token"], "t");
}

#[tokio::test]
async fn cookies_are_set_and_seen() {
    let set = ask(Request::get("/cookies/set?a=1&b=2"), "").await;
    let cookies: Vec<_> = set.headers().get_all(header::SET_COOKIE).iter().collect();
    assert_eq!(cookies, ["a=1; Path=/", "b=2; Path=/"]);
    let seen = Request::get("/cookies").header("cookie", "a=1; b=2");
    let seen = body(ask(seen, "").await).await;
    assert_eq!(seen, json!({"cookies": {"a": "1", "b": "2"}}));
}

#[tokio::test]
async fn streams_and_bytes_are_as_long_as_asked_for() {
    for (path, length) in [("/bytes/17", 17), ("/bytes/999999999", 100 * 1024)] {
        let body = ask(Request::get(path), "").await.into_body();
        let bytes = body.collect().await.expect("whole").to_bytes();
        assert_eq!(bytes.len(), length, "{path}");
    }
    let body = ask(Request::get("/stream/3"), "").await.into_body();
    let text = body.collect().await.expect("whole").to_bytes();
    assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 3);
}
