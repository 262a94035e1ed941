//! Conditions on requests.

use lateen_api::networking::{HttpMatchRequest, StringMatch};
use lateen_xds::types::matcher::{StringMatcher, string_matcher};
use lateen_xds::types::route::header_matcher::HeaderMatchSpecifier;
use lateen_xds::types::route::query_parameter_matcher::QueryParameterMatchSpecifier;
use lateen_xds::types::route::route_match::PathSpecifier;
use lateen_xds::types::route::{HeaderMatcher, QueryParameterMatcher, RouteMatch};

use crate::wire;

/// Whether a match lets every request through, so that what follows it is never reached.
pub(super) fn is_everything(of: &HttpMatchRequest) -> bool {
    let any_path = match &of.uri {
        None | Some(StringMatch::Present) => true,
        Some(StringMatch::Prefix(prefix)) => prefix == "/" || prefix.is_empty(),
        Some(StringMatch::Regex(pattern)) => pattern == ".*" || pattern == "*",
        Some(StringMatch::Exact(_)) => false,
    };
    any_path
        && of.scheme.is_none()
        && of.method.is_none()
        && of.authority.is_none()
        && of.headers.is_empty()
        && of.without_headers.is_empty()
        && of.query_params.is_empty()
}

/// The conditions of a match; `by_element` says that prefixes of paths end where an element does.
pub(super) fn route_match(of: &HttpMatchRequest, by_element: bool) -> RouteMatch {
    let pseudo = [
        (":scheme", &of.scheme),
        (":method", &of.method),
        (":authority", &of.authority),
    ];
    let pseudo = pseudo
        .into_iter()
        .filter_map(|(name, matches)| matches.as_ref().map(|m| header(name, m, false)));
    let with = of.headers.iter().map(|(name, m)| header(name, m, false));
    let without = of
        .without_headers
        .iter()
        .map(|(name, m)| header(name, m, true));
    let query = of.query_params.iter().map(|(name, m)| query(name, m));
    RouteMatch {
        path_specifier: Some(path(of.uri.as_ref(), by_element)),
        case_sensitive: of.ignore_uri_case.then(|| wire::boolean(false)).flatten(),
        headers: pseudo.chain(with).chain(without).collect(),
        query_parameters: query.collect(),
        ..RouteMatch::default()
    }
}

fn path(uri: Option<&StringMatch>, by_element: bool) -> PathSpecifier {
    match uri {
        // A prefix that ends in a slash ends an element as it is.
        Some(StringMatch::Prefix(prefix)) if by_element && !prefix.ends_with('/') => {
            PathSpecifier::PathSeparatedPrefix(prefix.clone())
        }
        None | Some(StringMatch::Present) => PathSpecifier::Prefix("/".into()),
        Some(StringMatch::Exact(path)) => PathSpecifier::Path(path.clone()),
        Some(StringMatch::Prefix(prefix)) => PathSpecifier::Prefix(prefix.clone()),
        Some(StringMatch::Regex(pattern)) => PathSpecifier::SafeRegex(wire::regex(pattern)),
    }
}

fn header(name: &str, of: &StringMatch, invert_match: bool) -> HeaderMatcher {
    let specifier = match wire::string_match(of) {
        None => HeaderMatchSpecifier::PresentMatch(true),
        Some(matcher) => HeaderMatchSpecifier::StringMatch(matcher),
    };
    HeaderMatcher {
        name: name.to_owned(),
        invert_match,
        // "Not this value" also holds where there is no value.
        treat_missing_header_as_empty: invert_match
            && matches!(specifier, HeaderMatchSpecifier::StringMatch(_)),
        header_match_specifier: Some(specifier),
    }
}

fn query(name: &str, of: &StringMatch) -> QueryParameterMatcher {
    let specifier = match (of, wire::string_match(of)) {
        (_, None) => QueryParameterMatchSpecifier::PresentMatch(true),
        // An exact empty value is a value like any other.
        (StringMatch::Exact(value), _) => {
            QueryParameterMatchSpecifier::StringMatch(StringMatcher {
                match_pattern: Some(string_matcher::MatchPattern::Exact(value.clone())),
                ..StringMatcher::default()
            })
        }
        (_, Some(matcher)) => QueryParameterMatchSpecifier::StringMatch(matcher),
    };
    QueryParameterMatcher {
        name: name.to_owned(),
        query_parameter_match_specifier: Some(specifier),
    }
}
