//! Which fields of route configurations are read.

use super::action::{DIRECT_RESPONSE, REDIRECT, ROUTE_ACTION};
use super::retry::RETRY;
use crate::common::{HEADER_OPTION, REGEX, RUNTIME_FRACTION, STRING_MATCHER};
use crate::filter::{PER_ROUTE, ROUTE_CORS};
use crate::unread::Kind::{Harmless, In, Map, Off, Whole};
use crate::unread::Reads;

pub(crate) static ROUTE_CONFIGURATION: Reads = Reads::of(
    "envoy.config.route.v3.RouteConfiguration",
    &[
        (1, "name", Whole),
        (2, "virtual_hosts[]", In(&VIRTUAL_HOST)),
        (4, "response_headers_to_add[]", In(&HEADER_OPTION)),
        (5, "response_headers_to_remove[]", Whole),
        (6, "request_headers_to_add[]", In(&HEADER_OPTION)),
        (7, "validate_clusters", Off),
        (8, "request_headers_to_remove[]", Whole),
        (9, "vhds", Whole),
        (11, "max_direct_response_body_size_bytes", Harmless),
        (14, "ignore_port_in_host_matching", Whole),
        (17, "metadata", Harmless),
    ],
);

pub(crate) static VIRTUAL_HOST: Reads = Reads::of(
    "envoy.config.route.v3.VirtualHost",
    &[
        (1, "name", Whole),
        (2, "domains[]", Whole),
        (3, "routes[]", In(&ROUTE)),
        (4, "require_tls", Whole),
        (7, "request_headers_to_add[]", In(&HEADER_OPTION)),
        (8, "cors", In(&ROUTE_CORS)),
        (10, "response_headers_to_add[]", In(&HEADER_OPTION)),
        (11, "response_headers_to_remove[]", Whole),
        (13, "request_headers_to_remove[]", Whole),
        (14, "include_request_attempt_count", Whole),
        (15, "typed_per_filter_config", Map(PER_ROUTE)),
        (16, "retry_policy", In(&RETRY)),
        (21, "matcher", Whole),
        (24, "metadata", Harmless),
    ],
);

pub(crate) static ROUTE: Reads = Reads::of(
    "envoy.config.route.v3.Route",
    &[
        (1, "match", In(&ROUTE_MATCH)),
        (2, "route", In(&ROUTE_ACTION)),
        (3, "redirect", In(&REDIRECT)),
        (4, "metadata", Harmless),
        (5, "decorator", Harmless),
        (7, "direct_response", In(&DIRECT_RESPONSE)),
        (9, "request_headers_to_add[]", In(&HEADER_OPTION)),
        (10, "response_headers_to_add[]", In(&HEADER_OPTION)),
        (11, "response_headers_to_remove[]", Whole),
        (12, "request_headers_to_remove[]", Whole),
        (13, "typed_per_filter_config", Map(PER_ROUTE)),
        (14, "name", Whole),
        (17, "filter_action", Whole),
        (18, "non_forwarding_action", Whole),
        (19, "stat_prefix", Harmless),
    ],
);

pub(crate) static ROUTE_MATCH: Reads = Reads::of(
    "envoy.config.route.v3.RouteMatch",
    &[
        (1, "prefix", Whole),
        (2, "path", Whole),
        (4, "case_sensitive", Whole),
        (6, "headers[]", In(&HEADER_MATCHER)),
        (7, "query_parameters[]", In(&QUERY_MATCHER)),
        (8, "grpc", Whole),
        (9, "runtime_fraction", In(&RUNTIME_FRACTION)),
        (10, "safe_regex", In(&REGEX)),
        (11, "tls_context", Whole),
        (12, "connect_matcher", Whole),
        (13, "dynamic_metadata[]", Whole),
        (14, "path_separated_prefix", Whole),
        (15, "path_match_policy", Whole),
        (16, "filter_state[]", Whole),
        (17, "cookies[]", Whole),
    ],
);

pub(crate) static HEADER_MATCHER: Reads = Reads::of(
    "envoy.config.route.v3.HeaderMatcher",
    &[
        (1, "name", Whole),
        (4, "exact_match", Whole),
        (6, "range_match", Whole),
        (7, "present_match", Whole),
        (8, "invert_match", Whole),
        (9, "prefix_match", Whole),
        (10, "suffix_match", Whole),
        (11, "safe_regex_match", In(&REGEX)),
        (12, "contains_match", Whole),
        (13, "string_match", In(&STRING_MATCHER)),
        (14, "treat_missing_header_as_empty", Whole),
    ],
);

pub(crate) static QUERY_MATCHER: Reads = Reads::of(
    "envoy.config.route.v3.QueryParameterMatcher",
    &[
        (1, "name", Whole),
        (5, "string_match", In(&STRING_MATCHER)),
        (6, "present_match", Whole),
    ],
);
