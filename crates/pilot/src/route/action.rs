//! What happens to a request that matched.

use lateen_api::networking::{
    ConsistentHashLb, HttpRedirect, HttpRetry, HttpRewrite, RedirectPort, StringMatch,
};
use lateen_xds::pack_any;
use lateen_xds::types::core::RuntimeFractionalPercent;
use lateen_xds::types::matcher::RegexMatchAndSubstitute;
use lateen_xds::types::route::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use lateen_xds::types::route::retry_policy::{
    RetryBackOff, RetryHostPredicate, retry_host_predicate,
};
use lateen_xds::types::route::route_action::{
    ClusterSpecifier, HashPolicy, HostRewriteSpecifier, RequestMirrorPolicy, hash_policy,
};
use lateen_xds::types::route::{Decorator, RedirectAction, RetryPolicy, RouteAction};
use lateen_xds::types::wkt::Duration;

use crate::policy::{Policy, Rule};
use crate::wire;

/// Conditions under which the request certainly or very likely was not processed.
const RETRY_ON: &str =
    "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
/// Tries after the first, where a rule does not say.
const RETRIES: u32 = 2;
/// How often another host is looked for, so that a retry does not meet the same one.
const HOST_ATTEMPTS: i64 = 5;

/// Forwards without a time limit; what limits there are belong to rules.
pub(super) fn to_cluster(name: String) -> RouteAction {
    let mut action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(name)),
        ..RouteAction::default()
    };
    limit(&mut action, wire::seconds(0));
    action
}

/// The time that a request may take; zero for no limit. The one that a gRPC client sends along counts
/// where it is shorter.
#[expect(
    deprecated,
    reason = "where the newer `max_stream_duration` is set, Envoy does not look at `timeout`"
)]
pub(super) fn limit(action: &mut RouteAction, timeout: Option<Duration>) {
    action.max_grpc_timeout = timeout;
    action.timeout = timeout;
}

/// The name of the operation in traces.
pub(super) fn decorator(host: &str, port: u16) -> Option<Decorator> {
    Some(Decorator {
        operation: format!("{host}:{port}/*"),
        ..Decorator::default()
    })
}

fn default_retries() -> RetryPolicy {
    RetryPolicy {
        retry_on: RETRY_ON.into(),
        num_retries: wire::number(RETRIES),
        retry_host_predicate: vec![previous_hosts()],
        host_selection_retry_max_attempts: HOST_ATTEMPTS,
        ..RetryPolicy::default()
    }
}

fn previous_hosts() -> RetryHostPredicate {
    use lateen_xds::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
    let config = pack_any(&PreviousHostsPredicate {});
    RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".into(),
        config_type: Some(retry_host_predicate::ConfigType::TypedConfig(config)),
    }
}

/// A hashed request is retried where its hash leads, also when it has been there before.
pub(super) fn keep_hashed_host(action: &mut RouteAction) {
    if let Some(retries) = action.retry_policy.as_mut()
        && !action.hash_policy.is_empty()
    {
        retries.retry_host_predicate.clear();
        retries.host_selection_retry_max_attempts = 0;
    }
}

/// Retries as asked for: unset means the default, zero attempts means none.
pub(super) fn retries(rule: Option<&HttpRetry>) -> Option<RetryPolicy> {
    let mut policy = default_retries();
    let Some(rule) = rule else {
        return Some(policy);
    };
    if rule.attempts <= 0 {
        return None;
    }
    policy.num_retries = wire::number(u32::try_from(rule.attempts).unwrap_or(RETRIES));
    policy.per_try_timeout = rule.per_try_timeout.map(wire::duration);
    if !rule.retry_on.is_empty() {
        let (on, codes) = retry_conditions(&rule.retry_on);
        policy.retry_on = on;
        policy.retriable_status_codes = codes;
    }
    if rule.retry_ignore_previous_hosts == Some(false) {
        policy.retry_host_predicate.clear();
        policy.host_selection_retry_max_attempts = 0;
    }
    if rule.retry_remote_localities == Some(true) {
        policy.retry_priority = Some(previous_priorities());
    }
    policy.retry_back_off = rule.backoff.map(|base| RetryBackOff {
        base_interval: Some(wire::duration(base)),
        ..RetryBackOff::default()
    });
    Some(policy)
}

fn previous_priorities() -> lateen_xds::types::route::retry_policy::RetryPriority {
    use lateen_xds::envoy::extensions::retry::priority::previous_priorities::v3 as previous;
    use lateen_xds::types::route::retry_policy::{RetryPriority, retry_priority};
    let config = pack_any(&previous::PreviousPrioritiesConfig {
        update_frequency: 2,
    });
    RetryPriority {
        name: "envoy.retry_priorities.previous_priorities".into(),
        config_type: Some(retry_priority::ConfigType::TypedConfig(config)),
    }
}

/// Splits conditions from status codes, which users write in one list.
fn retry_conditions(text: &str) -> (String, Vec<u32>) {
    let parts = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    let (mut conditions, mut codes) = (Vec::new(), Vec::new());
    for part in parts {
        match part.parse() {
            Ok(code) => codes.push(code),
            Err(_) => conditions.push(part),
        }
    }
    if !codes.is_empty() && !conditions.contains(&"retriable-status-codes") {
        conditions.push("retriable-status-codes");
    }
    (conditions.join(","), codes)
}

pub(super) fn rewrite(action: &mut RouteAction, rewrite: &HttpRewrite, path: &StringMatch) {
    if !rewrite.authority.is_empty() {
        action.host_rewrite_specifier = Some(HostRewriteSpecifier::HostRewriteLiteral(
            rewrite.authority.clone(),
        ));
    }
    if let Some(by_regex) = &rewrite.uri_regex_rewrite {
        action.regex_rewrite = Some(substitute(&by_regex.r#match, &by_regex.rewrite));
    } else if !rewrite.uri.is_empty() {
        match path {
            StringMatch::Regex(pattern) => {
                action.regex_rewrite = Some(substitute(pattern, &rewrite.uri));
            }
            _ => action.prefix_rewrite.clone_from(&rewrite.uri),
        }
    }
}

fn substitute(pattern: &str, by: &str) -> RegexMatchAndSubstitute {
    RegexMatchAndSubstitute {
        pattern: Some(wire::regex(pattern)),
        substitution: by.to_owned(),
    }
}

pub(super) fn redirect(redirect: &HttpRedirect, asked_port: u16) -> RedirectAction {
    let code = match redirect.redirect_code {
        Some(302) => RedirectResponseCode::Found,
        Some(303) => RedirectResponseCode::SeeOther,
        Some(307) => RedirectResponseCode::TemporaryRedirect,
        Some(308) => RedirectResponseCode::PermanentRedirect,
        _ => RedirectResponseCode::MovedPermanently,
    };
    let path = match &redirect.prefix_rewrite {
        Some(prefix) => Some(PathRewriteSpecifier::PrefixRewrite(prefix.clone())),
        None if redirect.uri.is_empty() => None,
        None => match redirect.uri.strip_prefix("%PREFIX()%") {
            Some(prefix) => Some(PathRewriteSpecifier::PrefixRewrite(prefix.to_owned())),
            None => Some(PathRewriteSpecifier::PathRedirect(redirect.uri.clone())),
        },
    };
    let port = match redirect.derive_port {
        Some(RedirectPort::FromRequestPort) => u32::from(asked_port),
        Some(RedirectPort::FromProtocolDefault) | None => redirect.port.unwrap_or(0),
    };
    let scheme = &redirect.scheme;
    RedirectAction {
        host_redirect: redirect.authority.clone(),
        port_redirect: port,
        response_code: code.into(),
        scheme_rewrite_specifier: (!scheme.is_empty())
            .then(|| SchemeRewriteSpecifier::SchemeRedirect(scheme.clone())),
        path_rewrite_specifier: path,
        ..RedirectAction::default()
    }
}

pub(super) fn mirror(cluster: String, percent: Option<f64>) -> RequestMirrorPolicy {
    RequestMirrorPolicy {
        cluster,
        runtime_fraction: Some(RuntimeFractionalPercent {
            default_value: Some(wire::percent(percent.unwrap_or(100.0))),
            ..RuntimeFractionalPercent::default()
        }),
        trace_sampled: wire::boolean(false),
        ..RequestMirrorPolicy::default()
    }
}

/// What requests are hashed by, where the destination's rules ask for it.
pub(super) fn hash_policy(rules: &[Rule], port: u16, subset: &str) -> Vec<HashPolicy> {
    let policy = Policy::of(rules, port, subset);
    let hash = policy
        .load_balancer
        .and_then(|lb| lb.consistent_hash.as_ref());
    let specifier = hash.and_then(hash_by);
    specifier
        .map(|specifier| HashPolicy {
            policy_specifier: Some(specifier),
            ..HashPolicy::default()
        })
        .into_iter()
        .collect()
}

fn hash_by(hash: &ConsistentHashLb) -> Option<hash_policy::PolicySpecifier> {
    use hash_policy::PolicySpecifier;
    if let Some(name) = &hash.http_header_name {
        return Some(PolicySpecifier::Header(hash_policy::Header {
            header_name: name.clone(),
            ..hash_policy::Header::default()
        }));
    }
    if let Some(cookie) = &hash.http_cookie {
        let attribute =
            |a: &lateen_api::networking::HttpCookieAttribute| hash_policy::CookieAttribute {
                name: a.name.clone(),
                value: a.value.clone(),
            };
        return Some(PolicySpecifier::Cookie(hash_policy::Cookie {
            name: cookie.name.clone(),
            ttl: cookie.ttl.map(wire::duration),
            path: cookie.path.clone(),
            attributes: cookie.attributes.iter().map(attribute).collect(),
        }));
    }
    if let Some(name) = &hash.http_query_parameter_name {
        return Some(PolicySpecifier::QueryParameter(
            hash_policy::QueryParameter { name: name.clone() },
        ));
    }
    let by_source = hash_policy::ConnectionProperties { source_ip: true };
    (hash.use_source_ip == Some(true)).then_some(PolicySpecifier::ConnectionProperties(by_source))
}

/// Standard base64; what is not is left out rather than refused (validation has refused it).
pub(super) fn from_base64(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    };
    let digits: Vec<u8> = text.bytes().filter_map(digit).collect();
    let mut out = Vec::with_capacity(digits.len() * 3 / 4);
    for group in digits.chunks(4) {
        let bits = group.iter().fold(0u32, |bits, d| bits << 6 | u32::from(*d));
        let bits = bits << (6 * (4 - group.len()));
        out.extend(&bits.to_be_bytes()[1..group.len()]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_conditions_and_codes_are_told_apart() {
        let check = |text, on: &str, codes: &[u32]| {
            assert_eq!(retry_conditions(text), (on.to_owned(), codes.to_vec()));
        };
        check("5xx,reset", "5xx,reset", &[]);
        check(
            "gateway-error, 503",
            "gateway-error,retriable-status-codes",
            &[503],
        );
    }

    #[test]
    fn zero_attempts_turn_retries_off() {
        let attempts = |attempts| HttpRetry {
            attempts,
            ..HttpRetry::default()
        };
        assert_eq!(retries(Some(&attempts(0))), None);
        let three = retries(Some(&attempts(3))).expect("on");
        assert_eq!(three.num_retries, wire::number(3));
        assert_eq!(retries(None), Some(default_retries()));
    }

    #[test]
    fn base64() {
        assert_eq!(from_base64("aGVsbG8="), b"hello");
        assert_eq!(from_base64("aGk="), b"hi");
        assert_eq!(from_base64(""), b"");
    }
}
