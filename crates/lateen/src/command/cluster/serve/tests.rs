//! What is refused, and in which words. What is allowed makes clusters: see the end-to-end tests.

use axum::body::Body;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use super::*;

const HOST: &str = "127.0.0.1:8090";
const TOKEN: &str = "Bearer secret";

async fn ask(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let shared = Shared {
        address: HOST.parse().expect("an address"),
        token: "secret".to_owned(),
        jobs: Jobs::default(),
    };
    let mut request = axum::http::Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request
        .body(Body::from(body.to_owned()))
        .expect("a request");
    let answer = router(Arc::new(shared))
        .oneshot(request)
        .await
        .expect("an answer");
    let code = answer.status().as_u16();
    let body = answer
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    (code, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn others_are_refused() {
    let path = "/api/clusters";
    for (headers, code) in [
        // A name elsewhere that leads here, with and without the token.
        (
            &[("host", "evil.example:8090"), ("authorization", TOKEN)][..],
            421,
        ),
        (&[("host", "127.0.0.1:9999"), ("authorization", TOKEN)], 421),
        (&[("authorization", TOKEN)], 421),
        // Another page.
        (
            &[
                ("host", HOST),
                ("authorization", TOKEN),
                ("origin", "http://evil.example"),
            ],
            403,
        ),
        (
            &[("host", HOST), ("authorization", TOKEN), ("origin", "null")],
            403,
        ),
        (
            &[
                ("host", HOST),
                ("authorization", TOKEN),
                ("sec-fetch-site", "cross-site"),
            ],
            403,
        ),
        // No token, or not this one.
        (&[("host", HOST)], 401),
        (&[("host", HOST), ("authorization", "Bearer secre")], 401),
        (&[("host", HOST), ("authorization", "Bearer secrex")], 401),
        (&[("host", HOST), ("authorization", "Bearer ")], 401),
    ] {
        for method in ["GET", "POST"] {
            let (answered, body) = ask(method, path, headers, "{}").await;
            assert_eq!(answered, code, "{method} {headers:?}: {body}");
        }
        let (answered, _) = ask("GET", "/api/clusters/a/checks", headers, "").await;
        assert_eq!(answered, code, "{headers:?}");
        let (answered, _) = ask("DELETE", "/api/clusters/a", headers, "").await;
        assert_eq!(answered, code, "DELETE {headers:?}");
    }
    let (answered, _) = ask("GET", "/", &[("host", "evil.example")], "").await;
    assert_eq!(answered, 421);
}

#[tokio::test]
async fn what_cannot_be_created_is_said_at_its_field() {
    let headers = [
        ("host", "localhost:8090"),
        ("origin", "http://localhost:8090"),
        ("authorization", TOKEN),
        ("content-type", "application/json"),
    ];
    for (body, field, why) in [
        (
            json!({"name": "a", "istio": true, "vipPool": "10.0.0.1-10.0.0.2"}),
            "vipPool",
            "10.0.0.1-10.0.0.2 has 2 addresses, and a cluster with Istio needs at least 3: one each for",
        ),
        (
            json!({"name": "a", "vipPool": "x"}),
            "vipPool",
            "\"x\" is no IPv4 address",
        ),
        (
            json!({"name": "A/b", "vipPool": "10.0.0.1"}),
            "name",
            "lower-case letters, digits and dashes",
        ),
        (
            json!({"name": "--help", "vipPool": "10.0.0.1"}),
            "name",
            "lower-case letters",
        ),
    ] {
        let (code, answer) = ask("POST", "/api/clusters", &headers, &body.to_string()).await;
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!((code, &answer["field"]), (422, &json!(field)), "{answer}");
        let said = answer["error"].as_str().expect("a text");
        assert!(said.contains(why), "{said}");
    }
    let good =
        json!({"name": "nonesuch", "istio": true, "vipPool": "10.0.0.1-10.0.0.3", "dryRun": true});
    let (code, answer) = ask("POST", "/api/clusters", &headers, &good.to_string()).await;
    assert_eq!(code, 204, "{answer}");
    let (code, answer) = ask("POST", "/api/clusters", &headers, "{\"nam\": 1}").await;
    assert!(
        code == 422 && answer.contains("unknown field `nam`"),
        "{code} {answer}"
    );
    let plain = [headers[0], headers[2], ("content-type", "text/plain")];
    let (code, _) = ask("POST", "/api/clusters", &plain, &good.to_string()).await;
    assert_eq!(code, 415, "a form of another page can send plain text");
}

#[tokio::test]
async fn the_page_asks_nobody_else() {
    let (code, page) = ask("GET", "/", &[("host", HOST)], "").await;
    assert_eq!(code, 200);
    for foreign in ["http://", "https://", "//cdn", "@import", "url("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert!(!page.contains("{nonce}") && !page.contains("secret"));
}
