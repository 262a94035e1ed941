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

/// The answer to a preflight. Where everything is allowed, what was asked for is named, since a
/// browser that sends credentials takes `*` for a name; so does Envoy.
pub(crate) fn preflight(cors: &Cors, origin: &str, request: &RequestHead) -> Response {
    let mut response = Response::new(200, "");
    let head = &mut response.head;
    decorate(cors, origin, head);
    let allowed = |configured: &str, asked: &str| match configured {
        "*" => request.headers.get(asked).unwrap_or_default().to_owned(),
        _ => configured.to_owned(),
    };
    let methods = allowed(&cors.methods, "access-control-request-method");
    let headers = allowed(&cors.headers, "access-control-request-headers");
    for (name, value) in [
        ("access-control-allow-methods", &methods),
        ("access-control-allow-headers", &headers),
        ("access-control-max-age", &cors.max_age),
    ] {
        if !value.is_empty() {
            // A value that is no header text was configured: it is left out.
            let _ = head.headers.set(name, value);
        }
    }
    response
}

/// What is added to responses of all kinds.
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

#[cfg(test)]
mod tests {
    use lateen_http::Method;

    use super::*;

    /// The headers that Envoy 1.40 answered with.
    #[test]
    fn preflights_are_answered_as_envoy_does() {
        let check =
            |methods: &str, headers: &str, asked: &[(&str, &str)], expect: &[(&str, &str)]| {
                let cors = Cors {
                    enabled: true,
                    origins: Vec::new(),
                    methods: methods.into(),
                    headers: headers.into(),
                    expose: "x-3,x-4".into(),
                    max_age: "3600".into(),
                    credentials: true,
                    forward_unmatched: false,
                };
                let request = RequestHead::new(Method::OPTIONS, "a", "/");
                let mut request = request.expect("a head");
                for (name, value) in asked {
                    request.headers.set(*name, value).expect("a header");
                }
                let answer = preflight(&cors, "https://a", &request);
                for (name, value) in expect {
                    assert_eq!(
                        answer.head.headers.get(*name),
                        Some(*value),
                        "{name} for {methods}"
                    );
                }
            };
        let method = ("access-control-request-method", "PUT");
        let headers = ("access-control-request-headers", "x-1,x-2");
        let fixed = [
            ("access-control-allow-origin", "https://a"),
            ("access-control-allow-credentials", "true"),
            ("access-control-expose-headers", "x-3,x-4"),
            ("access-control-max-age", "3600"),
        ];
        check("GET,OPTIONS", "x-1", &[method, headers], &fixed);
        let own = [
            ("access-control-allow-methods", "GET,OPTIONS"),
            ("access-control-allow-headers", "x-1"),
        ];
        check("GET,OPTIONS", "x-1", &[method, headers], &own);
        let asked = [
            ("access-control-allow-methods", "PUT"),
            ("access-control-allow-headers", "x-1,x-2"),
        ];
        check("*", "*", &[method, headers], &asked);
    }
}
