//! Which responses count as failures of the host that gave them.

use std::borrow::Cow;

use lateen_route::HeaderTest;
use lateen_xds::envoy::config::common::matcher::v3 as matcher;
use lateen_xds::types::upstream::http::HttpProtocolOptions;

use crate::route::header_tests;
use crate::route::reads::HEADER_MATCHER;
use crate::unread::Kind::{In, Whole};
use crate::unread::Reads;
use crate::{DecodeError, Result};

/// The name by which a matcher asks for the status.
const STATUS: &str = ":status";

/// Tests of a response.
#[derive(Debug, Clone)]
pub enum ErrorMatch {
    /// All of them.
    All(Vec<ErrorMatch>),
    /// One of them.
    Any(Vec<ErrorMatch>),
    /// Not this one.
    Not(Box<ErrorMatch>),
    /// All of these headers.
    Headers(Vec<HeaderTest>),
}

impl ErrorMatch {
    /// Whether a response with this status and these headers is a failure.
    pub fn matches<'a>(
        &self,
        status: u16,
        header: &impl Fn(&str) -> Option<Cow<'a, [u8]>>,
    ) -> bool {
        match self {
            ErrorMatch::All(list) => list.iter().all(|item| item.matches(status, header)),
            ErrorMatch::Any(list) => list.iter().any(|item| item.matches(status, header)),
            ErrorMatch::Not(item) => !item.matches(status, header),
            ErrorMatch::Headers(tests) => tests.iter().all(|test| match test.name() {
                STATUS => test.test(Some(status.to_string().as_bytes())),
                name => test.test(header(name).as_deref()),
            }),
        }
    }
}

/// What a cluster says of it, if anything.
pub(super) fn of(options: Option<&HttpProtocolOptions>) -> Result<Option<ErrorMatch>> {
    let outliers = options.and_then(|options| options.outlier_detection.as_ref());
    let errors = outliers.and_then(|outliers| outliers.error_matcher.as_ref());
    errors.map(predicate).transpose()
}

fn predicate(spec: &matcher::MatchPredicate) -> Result<ErrorMatch> {
    use matcher::match_predicate::Rule;
    const FIELD: &str = "outlier_detection.error_matcher";
    let list = |set: &matcher::match_predicate::MatchSet| {
        let rules = set.rules.iter().map(predicate);
        rules.collect::<Result<Vec<_>>>()
    };
    Ok(match &spec.rule {
        Some(Rule::AndMatch(set)) => ErrorMatch::All(list(set)?),
        Some(Rule::OrMatch(set)) => ErrorMatch::Any(list(set)?),
        Some(Rule::NotMatch(rule)) => ErrorMatch::Not(Box::new(predicate(rule)?)),
        Some(Rule::AnyMatch(_)) => ErrorMatch::All(Vec::new()),
        Some(Rule::HttpResponseHeadersMatch(headers)) => {
            ErrorMatch::Headers(header_tests(&headers.headers)?)
        }
        Some(_) => {
            let what = "anything but the headers of responses";
            return Err(DecodeError::unsupported(FIELD, what));
        }
        None => return Err(DecodeError::new(FIELD, "has no rule")),
    })
}

pub(crate) static ERRORS: Reads = Reads::of(
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.OutlierDetection",
    &[(1, "error_matcher", In(&PREDICATE))],
);

pub(crate) static PREDICATE: Reads = Reads::of(
    "envoy.config.common.matcher.v3.MatchPredicate",
    // What holds no other one comes first: it answers whether anything is read.
    &[
        (4, "any_match", Whole),
        (1, "or_match", In(&MATCH_SET)),
        (2, "and_match", In(&MATCH_SET)),
        (3, "not_match", In(&PREDICATE)),
        (5, "http_request_headers_match", Whole),
        (6, "http_request_trailers_match", Whole),
        (7, "http_response_headers_match", In(&HEADERS_MATCH)),
        (8, "http_response_trailers_match", Whole),
        (9, "http_request_generic_body_match", Whole),
        (10, "http_response_generic_body_match", Whole),
    ],
);

pub(crate) static MATCH_SET: Reads = Reads::of(
    "envoy.config.common.matcher.v3.MatchPredicate.MatchSet",
    &[(1, "rules[]", In(&PREDICATE))],
);

pub(crate) static HEADERS_MATCH: Reads = Reads::of(
    "envoy.config.common.matcher.v3.HttpHeadersMatch",
    &[(1, "headers[]", In(&HEADER_MATCHER))],
);
