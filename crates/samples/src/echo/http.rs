//! HTTP: the request as lines of text.

use std::fmt::Write as _;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http_body_util::BodyExt;

use super::Who;

/// Bodies beyond this are not kept.
const MAX_BODY: usize = 1 << 20;

pub(super) fn router(who: Who) -> Router {
    Router::new().fallback(answer).with_state(who)
}

async fn answer(State(who): State<Who>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = http_body_util::Limited::new(body, MAX_BODY).collect().await;
    let body: Bytes = match body {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            return (StatusCode::PAYLOAD_TOO_LARGE, error.to_string()).into_response();
        }
    };
    describe(&who, &head, &body).into_response()
}

/// One `name=value` a line, under the names that the mesh's own tests look for.
fn describe(who: &Who, head: &http::request::Parts, body: &[u8]) -> String {
    let mut text = String::new();
    let host = head.headers.get(http::header::HOST);
    let host = host.map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    let host = host.or_else(|| head.uri.authority().map(ToString::to_string));
    let fields = [
        ("ServiceVersion", who.version.clone()),
        ("Cluster", who.cluster.clone()),
        ("ServicePort", who.port.to_string()),
        ("Host", host.unwrap_or_default()),
        (
            "URL",
            head.uri
                .path_and_query()
                .map_or_else(String::new, ToString::to_string),
        ),
        ("Method", head.method.to_string()),
        ("Proto", format!("{:?}", head.version)),
    ];
    for (name, value) in fields {
        let _ = writeln!(text, "{name}={value}");
    }
    for (name, value) in &head.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let _ = writeln!(text, "RequestHeader={name}:{value}");
    }
    if !body.is_empty() {
        let _ = writeln!(text, "Body={}", String::from_utf8_lossy(body));
    }
    let _ = writeln!(text, "StatusCode=200\nHostname={}", who.hostname);
    text
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn the_request_comes_back_as_lines() {
        let who = Who {
            version: "v1".into(),
            cluster: "c".into(),
            hostname: "echo-1".into(),
            port: 8080,
        };
        let request = Request::post("/a?b=c")
            .header("host", "echo")
            .header("x-id", "7")
            .body(Body::from("hi"))
            .expect("valid");
        let response = router(who).oneshot(request).await.expect("answered");
        let body = response.into_body().collect().await.expect("whole");
        let text = String::from_utf8(body.to_bytes().to_vec()).expect("text");
        let expected = "ServiceVersion=v1\nCluster=c\nServicePort=8080\nHost=echo\nURL=/a?b=c\n\
                        Method=POST\nProto=HTTP/1.1\nRequestHeader=host:echo\nRequestHeader=x-id:7\n\
                        Body=hi\nStatusCode=200\nHostname=echo-1\n";
        assert_eq!(text, expected);
    }
}
