//! Cross-origin resource sharing.

use lateen_http::{RequestHead, Response, ResponseHead};

use lateen_decode::Cors;

/// The origin of a request, where the policy allows it.
pub(crate) fn allowed_origin(cors: &Cors, head: &RequestHead) -> Option<String> {
    let origin = head.headers.get("origin").filter(|_| cors.enabled)?;
    cors.origins
        .iter()
        .any(|test| test.test(origin.as_bytes()))
        .then(|| origin.to_owned())
}

/// True for a preflight, which asks before the request itself is sent.
pub(crate) fn is_preflight(head: &RequestHead) -> bool {
    head.method.as_str() == "OPTIONS"
        && head.headers.contains("origin")
        && head.headers.contains("access-control-request-method")
}

/// The answer to a preflight.
pub(crate) fn preflight(cors: &Cors, origin: &str) -> Response {
    let mut response = Response::new(200, "");
    let head = &mut response.head;
    allow(cors, origin, head);
    for (name, value) in [
        ("access-control-allow-methods", &cors.methods),
        ("access-control-allow-headers", &cors.headers),
        ("access-control-max-age", &cors.max_age),
    ] {
        if !value.is_empty() {
            // A value that is no header text was configured: it is left out.
            let _ = head.headers.set(name, value);
        }
    }
    response
}

/// What is added to other responses.
pub(crate) fn decorate(cors: &Cors, origin: &str, head: &mut ResponseHead) {
    allow(cors, origin, head);
    if !cors.expose.is_empty() {
        let _ = head
            .headers
            .set("access-control-expose-headers", &cors.expose);
    }
}

fn allow(cors: &Cors, origin: &str, head: &mut ResponseHead) {
    let _ = head.headers.set("access-control-allow-origin", origin);
    if cors.credentials {
        let _ = head.headers.set("access-control-allow-credentials", "true");
    }
}
