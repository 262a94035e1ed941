//! Headers that a service passes on from the request it got to the requests it makes.
//!
//! A mesh can join the spans of a trace, and route by user, only if applications do this.

use http::{HeaderMap, HeaderName};

/// Identity of the request, every trace format in use, and what tells users apart.
const PASSED_ON: [&str; 22] = [
    "x-request-id",
    "x-ot-span-context",
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "traceparent",
    "tracestate",
    "baggage",
    "x-cloud-trace-context",
    "grpc-trace-bin",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "b3",
    "sw8",
    "end-user",
    "user-agent",
    "cookie",
    "authorization",
    "jwt",
];

/// The headers of `incoming` that belong on the requests made for it.
pub(crate) fn forwarded(incoming: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for name in PASSED_ON.map(HeaderName::from_static) {
        for value in incoming.get_all(&name) {
            headers.append(&name, value.clone());
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn traces_and_users_go_on_and_the_rest_stays() {
        let mut incoming = HeaderMap::new();
        for name in [
            "x-request-id",
            "traceparent",
            "end-user",
            "accept",
            "host",
            "connection",
        ] {
            incoming.insert(name, HeaderValue::from_static("1"));
        }
        let mut names: Vec<_> = forwarded(&incoming)
            .keys()
            .map(ToString::to_string)
            .collect();
        names.sort();
        assert_eq!(names, ["end-user", "traceparent", "x-request-id"]);
    }
}
