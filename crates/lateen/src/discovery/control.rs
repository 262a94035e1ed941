//! ControlZ: what an operator may look at and change of the running process, under the paths of
//! Istio's port 9876. Of it there are the log's scopes, which `lateen admin log` sets.
//!
//! It is served on loopback alone, as whoever is in the pod's network could read the process's memory
//! as well; port-forward comes from there. A page of some web site that a browser was led to by a name
//! is refused, by the host that it asks for.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Path, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::get;
use axum::{Router, body::Bytes};
use lateen_telemetry::{Level, LogError, Scope};
use serde::Deserialize;
use serde_json::{Value, json};

const fn scope(name: &'static str, about: &'static str, targets: &'static [&'static str]) -> Scope {
    Scope {
        name,
        about,
        targets,
    }
}

/// Names are Istio's where it has a scope for the same.
#[rustfmt::skip]
pub(super) const SCOPES: &[Scope] = &[
    scope("ads", "streams of proxies, and what they are sent", &["lateen_pilot", "lateen_xds"]),
    scope("ca", "certificates of workloads", &["lateen_citadel"]),
    scope("controllers", "statuses, leader election, gateways that are deployed, roots, webhooks", &["lateen::discovery"]),
    scope("default", "everything that has no scope of its own", &[]),
    scope("injection", "sidecars that are added to pods", &["lateen_injector", "lateen::discovery::injection"]),
    scope("kube", "the client of the API server", &["kube_client", "kube_runtime"]),
    scope("serviceregistry", "services, endpoints and objects that are read", &["lateen_registry"]),
    scope("tls", "handshakes and certificates of the servers", &["lateen_tls", "rustls"]),
    scope("validation", "objects that are checked and analysed", &["lateen_galley"]),
];

/// As Istio's answers and questions have it.
#[derive(Deserialize)]
struct Change {
    output_level: Option<String>,
    stack_trace_level: Option<String>,
}

/// Why a change is refused.
struct Fault(StatusCode, String);

pub(super) fn router() -> Router {
    Router::new()
        .route("/", get(index))
        .route("/scopez", get(index))
        .route("/scopez/", get(index))
        .route("/scopej", get(list))
        .route("/scopej/", get(list))
        .route("/scopej/{name}", get(one).put(change))
        .route("/versionj", get(version))
        .route("/versionj/", get(version))
        .layer(middleware::from_fn(from_this_machine))
}

/// Lets through what asks for this machine by an address or name of its own.
async fn from_this_machine(request: Request, next: Next) -> Response {
    if is_own_host(request.headers()) {
        return next.run(request).await;
    }
    let why = "ask for localhost: other names are refused, as they may be those of a web site that \
               a browser was led to\n";
    (StatusCode::FORBIDDEN, why).into_response()
}

fn is_own_host(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|it| it.to_str().ok());
    let Some(host) = host else { return false };
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

async fn list() -> Json<Value> {
    let all = lateen_telemetry::levels(SCOPES);
    Json(
        all.iter()
            .map(|(scope, level)| told(scope, *level))
            .collect(),
    )
}

async fn one(Path(name): Path<String>) -> Response {
    let all = lateen_telemetry::levels(SCOPES);
    match all.iter().find(|(scope, _)| scope.name == name) {
        Some((scope, level)) => Json(told(scope, *level)).into_response(),
        None => {
            let why = lateen_telemetry::directives(&format!("{name}:info"), SCOPES);
            let why = why.err().map(|error| error.to_string()).unwrap_or_default();
            (StatusCode::NOT_FOUND, why + "\n").into_response()
        }
    }
}

/// The body is JSON whatever it says to be, as Istio's command sends it.
async fn change(Path(name): Path<String>, body: Bytes) -> Response {
    match apply(&name, &body) {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(Fault(code, why)) => (code, why + "\n").into_response(),
    }
}

fn apply(name: &str, body: &[u8]) -> Result<(), Fault> {
    let bad = |why: String| Fault(StatusCode::BAD_REQUEST, why);
    let Change {
        output_level,
        stack_trace_level,
    } = serde_json::from_slice(body).map_err(|error| bad(format!("the body: {error}")))?;
    if stack_trace_level.is_some_and(|level| !level.is_empty() && level != "none") {
        let why = "stack_trace_level: stack traces are not written here, at no level";
        return Err(Fault(StatusCode::NOT_IMPLEMENTED, why.to_owned()));
    }
    let level = output_level.ok_or_else(|| bad("output_level is missing".to_owned()))?;
    let level = Level::parse(&level).map_err(|error| bad(format!("output_level: {error}")))?;
    let set = lateen_telemetry::set_levels(SCOPES, None, &[(name, level)]);
    set.map_err(|error| match error {
        LogError::Scope(..) => Fault(StatusCode::NOT_FOUND, error.to_string()),
        error => bad(error.to_string()),
    })?;
    tracing::info!(
        scope = name,
        level = level.as_str(),
        "the log's level was changed"
    );
    Ok(())
}

fn told(scope: &Scope, level: Level) -> Value {
    let level = match level {
        Level::Off => "none",
        level => level.as_str(),
    };
    json!({
        "name": scope.name,
        "description": scope.about,
        "output_level": level,
        "stack_trace_level": "none",
        "log_callers": false,
    })
}

async fn version() -> Json<Value> {
    Json(json!({ "version": env!("CARGO_PKG_VERSION") }))
}

async fn index() -> Html<String> {
    let mut html = "<!doctype html><title>istiod</title><h1>ControlZ</h1>\
                    <p>Levels are set by <code>lateen admin log --level SCOPE:LEVEL</code>.\
                    <table><tr><th>Scope<th>Logs<th>Level\n"
        .to_owned();
    for (scope, level) in lateen_telemetry::levels(SCOPES) {
        let Scope { name, about, .. } = scope;
        let level = level.as_str();
        html += &format!("<tr><td>{name}<td>{about}<td>{level}\n");
    }
    Html(html + "</table>\n")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn ask(method: &str, host: &str, path: &str, body: &'static str) -> (u16, String) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, host)
            .body(Body::from(body))
            .expect("a request");
        let answer = router().oneshot(request).await.expect("infallible");
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.expect("a body");
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        (status, text)
    }

    /// One test, as the log is one for the process.
    #[tokio::test]
    async fn levels_are_listed_and_set() {
        lateen_telemetry::init("info", false).expect("nothing else logs here");
        let (status, text) = ask("GET", "localhost:9876", "/scopej/", "").await;
        let all: Vec<Value> = serde_json::from_str(&text).expect("JSON");
        assert_eq!((status, all.len()), (200, SCOPES.len()));
        assert!(
            all.iter().all(|scope| scope["output_level"] == "info"),
            "{text}"
        );

        let debug = r#"{"name": "ads", "output_level": "debug", "stack_trace_level": "none"}"#;
        let (status, _) = ask("PUT", "127.0.0.1:9876", "/scopej/ads", debug).await;
        assert_eq!(status, 202);
        let (_, text) = ask("GET", "[::1]:9876", "/scopej/ads", "").await;
        assert!(text.contains(r#""output_level":"debug""#), "{text}");
        let (_, text) = ask("GET", "localhost", "/scopej/ca", "").await;
        assert!(text.contains(r#""output_level":"info""#), "{text}");

        for (path, body, expect, named) in [
            ("/scopej/nothing", debug, 404, "there are: ads, ca"),
            (
                "/scopej/ads",
                r#"{"output_level": "loud"}"#,
                400,
                "not a log level: loud",
            ),
            (
                "/scopej/ads",
                r#"{"output_level": "info", "stack_trace_level": "error"}"#,
                501,
                "stack",
            ),
            ("/scopej/ads", "{}", 400, "output_level is missing"),
            ("/scopej/ads", "", 400, "the body"),
        ] {
            let (status, text) = ask("PUT", "localhost", path, body).await;
            assert_eq!(status, expect, "{path} {body} {text}");
            assert!(text.contains(named), "{text}");
        }
        for host in [
            "attacker.example:9876",
            "10.0.0.1:9876",
            "localhost.example",
        ] {
            let (status, _) = ask("PUT", host, "/scopej/ads", debug).await;
            assert_eq!(status, 403, "{host}");
        }
    }
}
