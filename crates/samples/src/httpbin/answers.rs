//! Answers that the path asks for.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::describe;
use crate::hostname;

/// The longest delay.
const MAX_DELAY: Duration = Duration::from_secs(10);
/// The longest body that is made up.
const MAX_BYTES: usize = 100 * 1024;
/// The longest stream, in lines.
const MAX_LINES: usize = 100;

type Pairs = Query<Vec<(String, String)>>;

pub(super) async fn index() -> Html<&'static str> {
    Html(
        "<!doctype html><title>httpbin</title><h1>httpbin</h1><p>Answers what it is asked for: \
         <a href=\"get\">get</a>, <a href=\"headers\">headers</a>, <a href=\"ip\">ip</a>, \
         <a href=\"status/418\">status/418</a>, <a href=\"delay/2\">delay/2</a>, \
         <a href=\"redirect/2\">redirect/2</a>, <a href=\"uuid\">uuid</a>.</p>",
    )
}

pub(super) async fn host() -> Json<Value> {
    Json(json!({"hostname": hostname()}))
}

fn bad(reason: impl Into<String>) -> Response {
    let error = json!({"status_code": 400, "error": "Bad Request", "detail": reason.into()});
    (StatusCode::BAD_REQUEST, Json(error)).into_response()
}

/// One code, or several with weights (`200:0.9,500:0.1`), of which one is chosen.
pub(super) async fn status(Path(codes): Path<String>) -> Response {
    let Some(choices) = codes.split(',').map(choice).collect::<Option<Vec<_>>>() else {
        return bad(format!("{codes:?} is no status code from 100 to 599"));
    };
    let mut rest = fastrand::f64() * choices.iter().map(|(_, weight)| weight).sum::<f64>();
    let chosen = choices.iter().find(|(_, weight)| {
        rest -= weight;
        rest < 0.0
    });
    match chosen.or(choices.last()) {
        Some((code, _)) => answer_with(*code),
        None => bad("no status code"),
    }
}

fn choice(text: &str) -> Option<(StatusCode, f64)> {
    let (code, weight) = text.split_once(':').unwrap_or((text, "1"));
    let code: u16 = code.trim().parse().ok().filter(|code| *code <= 599)?;
    let weight: f64 = weight.trim().parse().ok()?;
    let usable = weight >= 0.0 && weight.is_finite();
    usable.then_some((StatusCode::from_u16(code).ok()?, weight))
}

fn answer_with(code: StatusCode) -> Response {
    let (name, value) = match code {
        StatusCode::IM_A_TEAPOT => return (code, "I'm a teapot!").into_response(),
        StatusCode::UNAUTHORIZED => (header::WWW_AUTHENTICATE, "Basic realm=\"Fake Realm\""),
        code if code.is_redirection() && code != StatusCode::NOT_MODIFIED => {
            (header::LOCATION, "/redirect/1")
        }
        _ => return code.into_response(),
    };
    (code, [(name, value)]).into_response()
}

pub(super) async fn delay(Path(seconds): Path<String>, request: Request) -> Response {
    let wanted = seconds.parse().ok();
    let wanted = wanted.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let Some(wanted) = wanted else {
        return bad(format!("{seconds:?} is no number of seconds"));
    };
    tokio::time::sleep(wanted.min(MAX_DELAY)).await;
    describe::whole(request).await
}

pub(super) async fn bytes(Path(n): Path<usize>) -> Response {
    let made = std::iter::repeat_with(|| fastrand::u8(..)).take(n.min(MAX_BYTES));
    Bytes::from_iter(made).into_response()
}

/// One JSON document a line.
pub(super) async fn stream(Path(n): Path<usize>, request: Request) -> Response {
    let url = request.uri().to_string();
    let lines = (0..n.min(MAX_LINES)).map(move |id| {
        let line = json!({"id": id, "url": url});
        Ok::<_, Infallible>(format!("{line}\n"))
    });
    Body::from_stream(tokio_stream::iter(lines)).into_response()
}

pub(super) async fn redirect(Path(n): Path<u32>) -> Response {
    let next = match n {
        0 | 1 => "/get".to_owned(),
        n => format!("/redirect/{}", n - 1),
    };
    (StatusCode::FOUND, [(header::LOCATION, next)]).into_response()
}

pub(super) async fn redirect_to(Query(pairs): Pairs) -> Response {
    let get = |wanted: &str| {
        pairs
            .iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, v)| v)
    };
    let Some(url) = get("url") else {
        return bad("which url?");
    };
    let code = get("status_code").map_or(Some(302), |code| code.parse().ok());
    match code.and_then(|code| StatusCode::from_u16(code).ok()) {
        Some(code) if code.is_redirection() => (code, [(header::LOCATION, url)]).into_response(),
        _ => bad("status_code is none of a redirect"),
    }
}

pub(super) async fn response_headers(Query(pairs): Pairs) -> Response {
    let mut response = Json(json!(pairs)).into_response();
    for (name, value) in &pairs {
        match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            (Ok(name), Ok(value)) => {
                response.headers_mut().append(name, value);
            }
            _ => return bad(format!("{name:?} with {value:?} is no header")),
        }
    }
    response
}

pub(super) async fn cookies(headers: HeaderMap) -> Json<Value> {
    let sent = headers.get_all(header::COOKIE).into_iter();
    let cookies: serde_json::Map<_, _> = sent
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect();
    Json(json!({"cookies": cookies}))
}

pub(super) async fn set_cookies(Query(pairs): Pairs) -> Response {
    to_cookies(
        pairs
            .iter()
            .map(|(name, value)| format!("{name}={value}; Path=/")),
    )
}

pub(super) async fn delete_cookies(Query(pairs): Pairs) -> Response {
    to_cookies(
        pairs
            .iter()
            .map(|(name, _)| format!("{name}=; Path=/; Max-Age=0")),
    )
}

fn to_cookies(cookies: impl Iterator<Item = String>) -> Response {
    let mut response = (StatusCode::FOUND, [(header::LOCATION, "/cookies")]).into_response();
    for cookie in cookies {
        let Ok(value) = HeaderValue::try_from(&cookie) else {
            return bad(format!("{cookie:?} is no cookie"));
        };
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    response
}

pub(super) async fn basic_auth(
    Path((user, password)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let expected = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    if credentials(&headers, "Basic").is_some_and(|sent| sent == expected) {
        let answer = json!({"authorized": true, "authenticated": true, "user": user});
        return Json(answer).into_response();
    }
    unauthorized("Basic realm=\"Fake Realm\"")
}

pub(super) async fn bearer(headers: HeaderMap) -> Response {
    match credentials(&headers, "Bearer") {
        Some(token) => Json(json!({"authenticated": true, "token": token})).into_response(),
        None => unauthorized("Bearer"),
    }
}

fn credentials<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (sent, credentials) = value.split_once(' ')?;
    sent.eq_ignore_ascii_case(scheme)
        .then(|| credentials.trim())
}

fn unauthorized(scheme: &'static str) -> Response {
    let answer = Json(json!({"authorized": false, "authenticated": false}));
    let headers = [(header::WWW_AUTHENTICATE, scheme)];
    (StatusCode::UNAUTHORIZED, headers, answer).into_response()
}

pub(super) async fn uuid() -> Json<Value> {
    Json(json!({"uuid": uuid::Uuid::new_v4()}))
}

pub(super) async fn base64(Path(value): Path<String>) -> Response {
    match base64::engine::general_purpose::URL_SAFE.decode(&value) {
        Ok(bytes) => bytes.into_response(),
        Err(error) => bad(format!("{value:?} is not base64: {error}")),
    }
}

pub(super) async fn json() -> Json<Value> {
    Json(json!({"lines": [{"of": "a ship", "rig": "lateen"}], "n_masts": 1}))
}

pub(super) async fn html() -> Html<&'static str> {
    Html("<!doctype html><html><body><h1>A page</h1><p>With some text.</p></body></html>")
}

pub(super) async fn xml() -> Response {
    let text = "<?xml version=\"1.0\"?>\n<ship rig=\"lateen\"><mast/></ship>\n";
    ([(header::CONTENT_TYPE, "application/xml")], text).into_response()
}

pub(super) async fn robots() -> &'static str {
    "User-agent: *\nDisallow: /deny\n"
}

pub(super) async fn deny() -> &'static str {
    "Robots shall not come here.\n"
}
