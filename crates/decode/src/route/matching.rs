//! Which requests a route is for.

use lateen_route::{HeaderMatch, HeaderTest, PathMatch, QueryMatch, RouteMatch, StringMatch};
use lateen_xds::types::route as pb;

use crate::common::{fraction, string_match, string_test};
use crate::{DecodeError, Result};

/// Compiles the matcher of a route.
pub(super) fn route_match(spec: &pb::RouteMatch) -> Result<RouteMatch> {
    use pb::route_match::PathSpecifier;
    if !spec.cookies.is_empty() {
        return Err(DecodeError::unsupported(
            "match.cookies",
            "matching of cookies",
        ));
    }
    if !spec.dynamic_metadata.is_empty() || !spec.filter_state.is_empty() {
        return Err(DecodeError::unsupported(
            "match",
            "matching of metadata or filter state",
        ));
    }
    if spec.tls_context.is_some() {
        return Err(DecodeError::unsupported(
            "match.tls_context",
            "matching of the TLS context",
        ));
    }
    let path = match &spec.path_specifier {
        Some(PathSpecifier::Prefix(text)) => PathMatch::Prefix(text.clone()),
        Some(PathSpecifier::Path(text)) => PathMatch::Exact(text.clone()),
        Some(PathSpecifier::SafeRegex(regex)) => PathMatch::Regex(regex.regex.clone()),
        Some(PathSpecifier::PathSeparatedPrefix(text)) => PathMatch::SeparatedPrefix(text.clone()),
        Some(PathSpecifier::ConnectMatcher(_)) => PathMatch::Connect,
        Some(PathSpecifier::PathMatchPolicy(_)) => {
            return Err(DecodeError::unsupported(
                "match.path_match_policy",
                "a path policy",
            ));
        }
        None => return Err(DecodeError::new("match", "has no path")),
    };
    let share = spec.runtime_fraction.as_ref();
    Ok(RouteMatch {
        path,
        ignore_case: spec
            .case_sensitive
            .as_ref()
            .is_some_and(|sensitive| !sensitive.value),
        headers: spec
            .headers
            .iter()
            .map(header_test)
            .collect::<Result<_>>()?,
        query: spec
            .query_parameters
            .iter()
            .map(query_match)
            .collect::<Result<_>>()?,
        grpc: spec.grpc.is_some(),
        fraction: share.map(|share| fraction(share.default_value.as_ref())),
    })
}

pub(crate) fn header_test(spec: &pb::HeaderMatcher) -> Result<HeaderTest> {
    use pb::header_matcher::HeaderMatchSpecifier;
    let value = |test: StringMatch| HeaderMatch::Value {
        test,
        ignore_case: false,
    };
    let field = format!("headers[{}]", spec.name);
    #[allow(deprecated)]
    let test = match &spec.header_match_specifier {
        None => HeaderMatch::Present(true),
        Some(HeaderMatchSpecifier::PresentMatch(present)) => HeaderMatch::Present(*present),
        Some(HeaderMatchSpecifier::ExactMatch(text)) => value(StringMatch::Exact(text.clone())),
        Some(HeaderMatchSpecifier::PrefixMatch(text)) => value(StringMatch::Prefix(text.clone())),
        Some(HeaderMatchSpecifier::SuffixMatch(text)) => value(StringMatch::Suffix(text.clone())),
        Some(HeaderMatchSpecifier::ContainsMatch(text)) => {
            value(StringMatch::Contains(text.clone()))
        }
        Some(HeaderMatchSpecifier::SafeRegexMatch(regex)) => {
            value(StringMatch::Regex(regex.regex.clone()))
        }
        Some(HeaderMatchSpecifier::RangeMatch(range)) => HeaderMatch::Range(range.start, range.end),
        Some(HeaderMatchSpecifier::StringMatch(text)) => {
            let (test, ignore_case) = string_match(&field, text)?;
            HeaderMatch::Value { test, ignore_case }
        }
    };
    let test = HeaderTest::new(
        &spec.name,
        test,
        spec.invert_match,
        spec.treat_missing_header_as_empty,
    )?;
    Ok(test)
}

fn query_match(spec: &pb::QueryParameterMatcher) -> Result<QueryMatch> {
    use pb::query_parameter_matcher::QueryParameterMatchSpecifier;
    let field = format!("query_parameters[{}]", spec.name);
    let test = match &spec.query_parameter_match_specifier {
        Some(QueryParameterMatchSpecifier::StringMatch(text)) => Some(string_test(&field, text)?),
        Some(QueryParameterMatchSpecifier::PresentMatch(true)) | None => None,
        Some(QueryParameterMatchSpecifier::PresentMatch(false)) => {
            return Err(DecodeError::unsupported(field, "present_match: false"));
        }
    };
    Ok(QueryMatch {
        name: spec.name.clone(),
        test,
    })
}

/// The fault filter's settings share the header tests of routes.
pub(crate) fn header_tests(list: &[pb::HeaderMatcher]) -> Result<Vec<HeaderTest>> {
    list.iter().map(header_test).collect()
}
