//! What an HTTP route does beside forwarding: faults, retries, redirects, rewrites, mirrors, CORS.

use lateen_api::networking::{
    CorsPolicy, Destination, FaultAbort, FaultDelay, HttpDirectResponse, HttpRedirect, HttpRetry,
    HttpRewrite, HttpRoute, Percent, grpc_status,
};

use super::super::common;
use crate::fault::{Faults, Path};

pub(super) fn check(route: &HttpRoute, at: &Path<'_>, faults: &mut Faults) {
    if let Some(fault) = &route.fault {
        let at = at.field("fault");
        if fault.delay.is_none() && fault.abort.is_none() {
            faults.add(
                &at,
                "fault has neither delay nor abort",
                "set one, or remove fault",
            );
        }
        if let Some(delay) = &fault.delay {
            check_delay(delay, &at.field("delay"), faults);
        }
        if let Some(abort) = &fault.abort {
            check_abort(abort, &at.field("abort"), faults);
        }
    }
    if let Some(retries) = &route.retries {
        check_retries(retries, &at.field("retries"), faults);
    }
    if let Some(redirect) = &route.redirect {
        check_redirect(redirect, &at.field("redirect"), faults);
    }
    if let Some(rewrite) = &route.rewrite {
        check_rewrite(rewrite, &at.field("rewrite"), faults);
    }
    if let Some(response) = &route.direct_response {
        check_response(response, &at.field("directResponse"), faults);
    }
    if let Some(cors) = &route.cors_policy {
        check_cors(cors, &at.field("corsPolicy"), faults);
    }
    check_mirrors(route, at, faults);
}

fn check_delay(delay: &FaultDelay, at: &Path<'_>, faults: &mut Faults) {
    check_share(delay.percent, delay.percentage.as_ref(), at, faults);
    match (delay.fixed_delay, delay.exponential_delay) {
        (Some(_), None) => common::positive(delay.fixed_delay, &at.field("fixedDelay"), faults),
        (None, None) => faults.add(&at.field("fixedDelay"), "Required value", "say how long"),
        _ => faults.add(
            &at.field("exponentialDelay"),
            "exponentialDelay is not supported",
            "use fixedDelay",
        ),
    }
}

fn check_abort(abort: &FaultAbort, at: &Path<'_>, faults: &mut Faults) {
    check_share(abort.percent, abort.percentage.as_ref(), at, faults);
    if abort.http2_error.is_some() {
        faults.add(
            &at.field("http2Error"),
            "http2Error is not supported",
            "use httpStatus",
        );
    }
    match (abort.http_status, &abort.grpc_status) {
        (Some(status), None) if !(200..600).contains(&status) => {
            faults.add(
                &at.field("httpStatus"),
                format!("{status} is not an HTTP status"),
                "write 200 to 599",
            );
        }
        (None, Some(status)) if grpc_status(status).is_none() => faults.add(
            &at.field("grpcStatus"),
            format!("{status:?} is not a gRPC status"),
            "write a name such as UNAVAILABLE",
        ),
        (None, None) if abort.http2_error.is_none() => {
            faults.add(at, "abort has no status", "set httpStatus or grpcStatus");
        }
        (Some(_), Some(_)) => {
            faults.add(
                at,
                "abort cannot have httpStatus and grpcStatus together",
                "keep one",
            );
        }
        _ => {}
    }
}

fn check_share(
    percent: Option<f64>,
    percentage: Option<&Percent>,
    at: &Path<'_>,
    faults: &mut Faults,
) {
    if let Some(percent) = percent {
        common::percent(percent, &at.field("percent"), faults);
    }
    if let Some(percentage) = percentage {
        common::percent(
            percentage.value,
            &at.field("percentage").field("value"),
            faults,
        );
    }
}

const RETRY_CONDITIONS: [&str; 17] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "refused-stream",
    "retriable-4xx",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
    "unspecified",
];

fn check_retries(retries: &HttpRetry, at: &Path<'_>, faults: &mut Faults) {
    if retries.attempts < 0 {
        faults.add(
            &at.field("attempts"),
            "attempts must not be negative",
            "write zero or more",
        );
    }
    let configured = retries.per_try_timeout.is_some() || !retries.retry_on.is_empty();
    if retries.attempts == 0 && configured {
        faults.add(
            &at.field("attempts"),
            "attempts is 0, so that the rest of retries has no effect",
            "write 1 or more, or remove the rest",
        );
    }
    if retries.per_try_timeout.is_some_and(|t| !t.is_zero()) {
        common::positive(retries.per_try_timeout, &at.field("perTryTimeout"), faults);
    }
    common::positive(retries.backoff, &at.field("backoff"), faults);
    for condition in retries
        .retry_on
        .split(',')
        .map(str::trim)
        .filter(|c| !c.is_empty())
    {
        let status = condition
            .parse::<u16>()
            .is_ok_and(|code| (100..600).contains(&code));
        if !status && !RETRY_CONDITIONS.contains(&condition) {
            faults.add(
                &at.field("retryOn"),
                format!("{condition:?} is not a retry condition"),
                format!(
                    "use a status code or one of {}",
                    RETRY_CONDITIONS.join(", ")
                ),
            );
        }
    }
}

fn check_redirect(redirect: &HttpRedirect, at: &Path<'_>, faults: &mut Faults) {
    let HttpRedirect {
        uri,
        authority,
        port,
        derive_port,
        scheme,
        redirect_code,
        prefix_rewrite,
    } = redirect;
    let empty = uri.is_empty()
        && authority.is_empty()
        && scheme.is_empty()
        && port.is_none()
        && derive_port.is_none()
        && redirect_code.is_none()
        && prefix_rewrite.is_none();
    if empty {
        faults.add(
            at,
            "redirect changes nothing",
            "set uri, authority, scheme or port",
        );
    }
    if let Some(code) = redirect_code
        && !matches!(code, 301 | 302 | 303 | 307 | 308)
    {
        faults.add(
            &at.field("redirectCode"),
            format!("{code} is not a redirect"),
            "use 301, 302, 303, 307 or 308",
        );
    }
    if !scheme.is_empty() && scheme != "http" && scheme != "https" {
        faults.add(
            &at.field("scheme"),
            format!("scheme {scheme:?} is unknown"),
            "use http or https",
        );
    }
    if let Some(port) = port {
        common::port(*port, &at.field("port"), faults);
    }
    if port.is_some() && derive_port.is_some() {
        faults.add(
            at,
            "redirect cannot have port and derivePort together",
            "keep one",
        );
    }
    if !uri.is_empty() && prefix_rewrite.is_some() {
        faults.add(
            at,
            "redirect cannot have uri and prefixRewrite together",
            "keep one",
        );
    }
}

fn check_rewrite(rewrite: &HttpRewrite, at: &Path<'_>, faults: &mut Faults) {
    let HttpRewrite {
        uri,
        authority,
        uri_regex_rewrite,
    } = rewrite;
    if uri.is_empty() && authority.is_empty() && uri_regex_rewrite.is_none() {
        faults.add(
            at,
            "rewrite changes nothing",
            "set uri, authority or uriRegexRewrite",
        );
    }
    let Some(substitution) = uri_regex_rewrite else {
        return;
    };
    let at = at.field("uriRegexRewrite");
    if !uri.is_empty() {
        faults.add(
            &at,
            "rewrite cannot have uri and uriRegexRewrite together",
            "keep one",
        );
    }
    common::regex(&substitution.r#match, &at.field("match"), faults);
    if substitution.rewrite.is_empty() {
        faults.add(
            &at.field("rewrite"),
            "Required value",
            "say what replaces the match",
        );
    }
}

/// The data plane holds fixed bodies in memory; the limit is Istio's.
const MOST_BODY: usize = 1024 * 1024;

fn check_response(response: &HttpDirectResponse, at: &Path<'_>, faults: &mut Faults) {
    if !(200..600).contains(&response.status) {
        let reason = format!("{} is not an HTTP status", response.status);
        faults.add(&at.field("status"), reason, "write 200 to 599");
    }
    let Some(body) = &response.body else { return };
    let at = at.field("body");
    let size = body
        .string
        .as_ref()
        .or(body.bytes.as_ref())
        .map_or(0, String::len);
    if size > MOST_BODY {
        faults.add(
            &at,
            "the body is larger than 1 MB",
            "serve it from a service",
        );
    }
    if body.string.is_some() == body.bytes.is_some() {
        faults.add(&at, "body needs exactly one of string and bytes", "set one");
    }
    if let Some(bytes) = &body.bytes {
        use base64::Engine as _;
        if base64::engine::general_purpose::STANDARD
            .decode(bytes)
            .is_err()
        {
            faults.add(&at.field("bytes"), "is not base64", "encode the body");
        }
    }
}

fn check_cors(cors: &CorsPolicy, at: &Path<'_>, faults: &mut Faults) {
    let list = at.field("allowOrigins");
    for (n, origin) in cors.allow_origins.iter().enumerate() {
        common::string_match(origin, &list.index(n), faults);
    }
    let list = at.field("allowMethods");
    for (n, method) in cors.allow_methods.iter().enumerate() {
        let known = [
            "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "*",
        ];
        if !known.contains(&method.as_str()) {
            faults.add(
                &list.index(n),
                format!("{method:?} is not an HTTP method"),
                "write it in capitals",
            );
        }
    }
    for (field, names) in [
        ("allowHeaders", &cors.allow_headers),
        ("exposeHeaders", &cors.expose_headers),
    ] {
        let list = at.field(field);
        for (n, name) in names.iter().enumerate() {
            common::header_name(name, &list.index(n), faults);
        }
    }
    common::not_negative(cors.max_age, &at.field("maxAge"), faults);
}

fn check_mirrors(route: &HttpRoute, at: &Path<'_>, faults: &mut Faults) {
    if route.mirror.is_some() && !route.mirrors.is_empty() {
        faults.add(
            &at.field("mirrors"),
            "HTTP route cannot have mirror and mirrors together",
            "keep one",
        );
    }
    if let Some(mirror) = &route.mirror {
        check_mirror(Some(mirror), &at.field("mirror"), faults);
    }
    if let Some(percent) = route.mirror_percent {
        common::percent(f64::from(percent), &at.field("mirrorPercent"), faults);
    }
    if let Some(percentage) = &route.mirror_percentage {
        common::percent(
            percentage.value,
            &at.field("mirrorPercentage").field("value"),
            faults,
        );
    }
    let list = at.field("mirrors");
    for (n, mirror) in route.mirrors.iter().enumerate() {
        let at = list.index(n);
        check_mirror(
            mirror.destination.as_ref(),
            &at.field("destination"),
            faults,
        );
        if let Some(percentage) = &mirror.percentage {
            common::percent(
                percentage.value,
                &at.field("percentage").field("value"),
                faults,
            );
        }
    }
}

fn check_mirror(value: Option<&Destination>, at: &Path<'_>, faults: &mut Faults) {
    match value {
        None => faults.add(at, "Required value", "name the destination's host"),
        Some(value) => {
            common::destination_host(&value.host, &at.field("host"), faults);
            if let Some(port) = &value.port {
                common::port(port.number, &at.field("port").field("number"), faults);
            }
        }
    }
}
