//! HTTPRoute: each match of each rule as a rule of a VirtualService, with its place among all others.

use lateen_api::{
    Duration, Object,
    gateway_api::HttpRoute as Route,
    gateway_api::{
        BackendRef, HttpBackendRef, HttpHeaderMatch, HttpPathMatch, HttpQueryParamMatch,
        HttpRouteFilter, HttpRouteMatch, HttpRouteRetry, HttpRouteRule, HttpRouteTimeouts,
        MatchType, PathMatchType,
    },
    networking::{
        FaultAbort, HttpDirectResponse, HttpFaultInjection, HttpMatchRequest, HttpRetry, HttpRoute,
        HttpRouteDestination, Percent, StringMatch,
    },
};

use crate::sources::Source;

use super::{
    Around,
    backend::End,
    conditions::Verdict,
    filters::{Filters, Place},
    routes::{Converted, Entry, Findings, Rank},
    sessions,
};

/// What a rule without a backend, or with none that can be used, answers.
const NO_BACKEND: u32 = 500;
/// Tries after the first where a route has a limit for each and says nothing of their number.
pub(super) const RETRIES: i32 = 2;
/// Conditions under which a request certainly was not processed.
const RETRY_ON: &str = "connect-failure,refused-stream,unavailable,cancelled";

/// Reads a route for a place.
pub(super) fn convert(around: Around<'_>, route: &Object<Route>, place: Place) -> Converted {
    let mut out = Converted::default();
    for (n, rule) in route.spec.rules.iter().enumerate() {
        let from = End::of("HTTPRoute", &route.meta.namespace);
        let filters = Filters::read(around, from, &rule.filters, &mut out.findings);
        let backends = backends(around, from, rule, &mut out.findings);
        let mut base = HttpRoute {
            name: format!("{}.{}.{n}", route.meta.namespace, route.meta.name),
            ..HttpRoute::default()
        };
        let source = Source {
            backends: backends.fields(n),
            ..Source::new("HTTPRoute", &route.meta, format!("spec.rules[{n}]"))
        };
        lead(&mut base, backends);
        limits(&mut base, rule, &mut out.findings);
        let persistence = rule.session_persistence.as_ref();
        let session = sessions::read(persistence, &base, &base.name, &mut out.findings);
        let all = [HttpRouteMatch::default()];
        let matches = match rule.matches.is_empty() {
            true => &all[..],
            false => &rule.matches[..],
        };
        for (m, of) in matches.iter().enumerate() {
            let (path, mut rank) = path(of.path.as_ref());
            rank.method = of.method.is_some();
            rank.headers = of.headers.len();
            rank.query = of.query_params.len();
            let request = HttpMatchRequest {
                uri: path,
                method: of.method.map(|m| StringMatch::Exact(m.as_str().into())),
                headers: headers(&of.headers),
                query_params: query(&of.query_params),
                ..HttpMatchRequest::default()
            };
            let rank = rank.of(&route.meta, (n, m));
            for route in filters.apply(&base, request, place) {
                out.http.push(Entry {
                    rank: rank.clone(),
                    source: source.clone().matching(&rule.matches, m),
                    session: session.clone(),
                    route,
                });
            }
        }
    }
    out
}

/// Where a path must begin or be, and how specific that is.
fn path(of: Option<&HttpPathMatch>) -> (Option<StringMatch>, Rank) {
    let value = of.and_then(|of| of.value.as_deref()).unwrap_or("/");
    match of.and_then(|of| of.r#type).unwrap_or_default() {
        PathMatchType::Exact => (
            Some(StringMatch::Exact(value.into())),
            Rank::path(3, value.len()),
        ),
        PathMatchType::RegularExpression => (
            Some(StringMatch::Regex(value.into())),
            Rank::path(1, value.len()),
        ),
        PathMatchType::PathPrefix => match value.trim_end_matches('/') {
            "" => (Some(StringMatch::Prefix("/".into())), Rank::path(0, 1)),
            value => (
                Some(StringMatch::Prefix(value.into())),
                Rank::path(2, value.len()),
            ),
        },
    }
}

fn compare(r#type: Option<MatchType>, value: &str) -> StringMatch {
    match r#type.unwrap_or_default() {
        MatchType::Exact => StringMatch::Exact(value.into()),
        MatchType::RegularExpression => StringMatch::Regex(value.into()),
    }
}

/// Of several conditions on one header, the first counts.
pub(super) fn headers(of: &[HttpHeaderMatch]) -> std::collections::BTreeMap<String, StringMatch> {
    let mut all = std::collections::BTreeMap::new();
    for header in of {
        all.entry(header.name.to_ascii_lowercase())
            .or_insert_with(|| compare(header.r#type, &header.value));
    }
    all
}

fn query(of: &[HttpQueryParamMatch]) -> std::collections::BTreeMap<String, StringMatch> {
    let mut all = std::collections::BTreeMap::new();
    for parameter in of {
        all.entry(parameter.name.clone())
            .or_insert_with(|| compare(parameter.r#type, &parameter.value));
    }
    all
}

/// Destinations with their shares, and the share of those that cannot be used.
#[derive(Clone, Debug, Default)]
pub(super) struct Backends {
    pub(super) good: Vec<HttpRouteDestination>,
    /// The places of the good ones among all.
    places: Vec<usize>,
    n_read: usize,
    pub(super) broken: u64,
}

impl Backends {
    /// Where the good ones are in a route, of whose rules this is one.
    pub(super) fn fields(&self, rule: usize) -> Vec<String> {
        let field = |at: &usize| format!("spec.rules[{rule}].backendRefs[{at}]");
        self.places.iter().map(field).collect()
    }

    pub(super) fn add(
        &mut self,
        around: Around<'_>,
        from: End<'_>,
        to: &BackendRef,
        filters: &[HttpRouteFilter],
        findings: &mut Findings,
    ) {
        let weight = to.weight.unwrap_or(1).max(0);
        let place = self.n_read;
        self.n_read += 1;
        let headers = Filters::headers_only(filters, findings);
        match findings.backend(around, from, to) {
            Err(verdict) => {
                findings.unresolved(verdict);
                self.broken += u64::from(weight.unsigned_abs());
            }
            Ok(_) if weight == 0 => {}
            Ok(destination) => {
                self.places.push(place);
                self.good.push(HttpRouteDestination {
                    destination: Some(destination),
                    weight,
                    headers,
                });
            }
        }
    }
}

fn backends(
    around: Around<'_>,
    from: End<'_>,
    rule: &HttpRouteRule,
    findings: &mut Findings,
) -> Backends {
    let mut all = Backends::default();
    for to in &rule.backend_refs {
        let reference = HttpBackendRef::backend(to);
        all.add(around, from, &reference, &to.filters, findings);
    }
    all
}

/// Sends requests to the backends; the share of broken ones is answered with an error at once.
pub(super) fn lead(route: &mut HttpRoute, backends: Backends) {
    let good: u64 = backends
        .good
        .iter()
        .map(|to| u64::from(to.weight.unsigned_abs()))
        .sum();
    if good == 0 {
        route.direct_response = Some(HttpDirectResponse {
            status: NO_BACKEND,
            body: None,
        });
        return;
    }
    if backends.broken > 0 {
        #[allow(clippy::cast_precision_loss, reason = "sums of a few small numbers")]
        let share = backends.broken as f64 * 100.0 / (backends.broken + good) as f64;
        route.fault = Some(HttpFaultInjection {
            abort: Some(FaultAbort {
                http_status: Some(NO_BACKEND.cast_signed()),
                percentage: Some(Percent { value: share }),
                ..FaultAbort::default()
            }),
            ..HttpFaultInjection::default()
        });
    }
    route.route = backends.good;
}

fn limits(route: &mut HttpRoute, rule: &HttpRouteRule, findings: &mut Findings) {
    let none = HttpRouteTimeouts::default();
    let timeouts = rule.timeouts.as_ref().unwrap_or(&none);
    let whole = duration(timeouts.request.as_deref(), "timeouts.request", findings);
    let each = duration(
        timeouts.backend_request.as_deref(),
        "timeouts.backendRequest",
        findings,
    );
    route.timeout = whole.filter(|limit| !limit.is_zero());
    let each = each.filter(|limit| !limit.is_zero());
    route.retries = match &rule.retry {
        Some(retry) => Some(retries(retry, each, findings)),
        None => each.map(|each| HttpRetry {
            attempts: RETRIES,
            per_try_timeout: Some(each),
            ..HttpRetry::default()
        }),
    };
}

fn retries(of: &HttpRouteRetry, each: Option<Duration>, findings: &mut Findings) -> HttpRetry {
    let codes: Vec<String> = of.codes.iter().map(i32::to_string).collect();
    HttpRetry {
        attempts: of.attempts.unwrap_or(RETRIES),
        per_try_timeout: each,
        retry_on: [RETRY_ON, &codes.join(",")]
            .join(",")
            .trim_end_matches(',')
            .into(),
        backoff: duration(of.backoff.as_deref(), "retry.backoff", findings),
        ..HttpRetry::default()
    }
}

fn duration(text: Option<&str>, field: &str, findings: &mut Findings) -> Option<Duration> {
    let parsed = text?.parse();
    if parsed.is_err() {
        let message = format!("{field}: {:?} is no duration", text.unwrap_or_default());
        findings.refused(Verdict::new("UnsupportedValue", message));
    }
    parsed.ok()
}
