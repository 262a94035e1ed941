//! Route configurations.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use lateen_route::{
    Action, DirectResponse, Forward, HashPolicy, HeaderMatch, HeaderMutations, HeaderTest,
    HostRewrite, Mirror, PathMatch, PathRedirect, PathRewrite, QueryMatch, Redirect, RetryOn,
    RetryPolicy, RouteConfig, RouteMatch, RouteSpec, RouteTable, StringMatch, Target,
    VirtualHostSpec, Weighted, WeightedClusters,
};
use lateen_xds::Any;
use lateen_xds::types::{core, route as pb};

use super::common::{
    Data, duration, fraction, header_options, regex_rewrite, string_match, string_test,
};
use super::filter::RouteExtra;
use super::{DecodeError, Result, filter, typed};

/// Compiles a route configuration.
///
/// # Errors
/// On what is not supported, and on tables that contradict themselves.
pub fn route_configuration(config: &pb::RouteConfiguration) -> Result<Arc<RouteTable<RouteExtra>>> {
    if config.vhds.is_some() {
        return Err(DecodeError::unsupported(
            "vhds",
            "on-demand discovery of virtual hosts",
        ));
    }
    let hosts = config
        .virtual_hosts
        .iter()
        .map(host)
        .collect::<Result<_>>()?;
    let headers = mutations(
        &config.request_headers_to_add,
        &config.request_headers_to_remove,
        &config.response_headers_to_add,
        &config.response_headers_to_remove,
    )?;
    Ok(Arc::new(RouteTable::new(RouteConfig {
        name: config.name.clone(),
        hosts,
        ignore_port: config.ignore_port_in_host_matching,
        headers,
    })?))
}

fn host(host: &pb::VirtualHost) -> Result<VirtualHostSpec<RouteExtra>> {
    let at = |error: DecodeError| {
        DecodeError::new(
            format!("virtual_hosts[{}].{}", host.name, error.field),
            error.reason,
        )
    };
    if host.matcher.is_some() {
        return Err(at(DecodeError::unsupported("matcher", "a matcher tree")));
    }
    let default_retry = host
        .retry_policy
        .as_ref()
        .map(retry)
        .transpose()
        .map_err(at)?;
    let routes = host
        .routes
        .iter()
        .map(|spec| route(spec, default_retry.as_ref()).map_err(at))
        .collect::<Result<_>>()?;
    let headers = mutations(
        &host.request_headers_to_add,
        &host.request_headers_to_remove,
        &host.response_headers_to_add,
        &host.response_headers_to_remove,
    )
    .map_err(at)?;
    let mut extra = extra(&host.typed_per_filter_config).map_err(at)?;
    if extra.cors.is_none() {
        extra.cors = host
            .cors
            .as_ref()
            .map(filter::route_cors)
            .transpose()
            .map_err(at)?;
    }
    Ok(VirtualHostSpec {
        name: host.name.clone(),
        domains: host.domains.clone(),
        routes,
        headers,
        include_attempt_count: host.include_request_attempt_count,
        require_tls: host.require_tls == pb::virtual_host::TlsRequirementType::All as i32,
        extra,
    })
}

fn extra(per_filter: &HashMap<String, Any>) -> Result<RouteExtra> {
    let mut extra = RouteExtra::default();
    for (name, any) in per_filter {
        match filter::per_route(name, any)? {
            filter::PerRoute::Fault(fault) => extra.fault = Some(Arc::new(fault)),
            filter::PerRoute::Cors(cors) => extra.cors = Some(cors),
            filter::PerRoute::Ignored => {}
        }
    }
    Ok(extra)
}

fn route(spec: &pb::Route, default_retry: Option<&RetryPolicy>) -> Result<RouteSpec<RouteExtra>> {
    let matches = spec
        .r#match
        .as_ref()
        .ok_or_else(|| DecodeError::new("match", "is required"))?;
    let mut extra = extra(&spec.typed_per_filter_config)?;
    let action = match &spec.action {
        Some(pb::route::Action::Route(action)) => {
            if extra.cors.is_none() {
                extra.cors = action.cors.as_ref().map(filter::route_cors).transpose()?;
            }
            Action::Forward(Box::new(forward(&spec.name, action, default_retry)?))
        }
        Some(pb::route::Action::Redirect(action)) => Action::Redirect(Box::new(redirect(action)?)),
        Some(pb::route::Action::DirectResponse(action)) => Action::Direct(direct(action)?),
        Some(_) => return Err(DecodeError::unsupported("action", "this action")),
        None => return Err(DecodeError::new("action", "is required")),
    };
    Ok(RouteSpec {
        name: spec.name.clone(),
        matches: route_match(matches)?,
        action,
        headers: mutations(
            &spec.request_headers_to_add,
            &spec.request_headers_to_remove,
            &spec.response_headers_to_add,
            &spec.response_headers_to_remove,
        )?,
        extra,
    })
}

fn mutations(
    request_add: &[core::HeaderValueOption],
    request_remove: &[String],
    response_add: &[core::HeaderValueOption],
    response_remove: &[String],
) -> Result<HeaderMutations> {
    let lower = |names: &[String]| names.iter().map(|name| name.to_ascii_lowercase()).collect();
    Ok(HeaderMutations {
        request_add: header_options("request_headers_to_add", request_add)?,
        request_remove: lower(request_remove),
        response_add: header_options("response_headers_to_add", response_add)?,
        response_remove: lower(response_remove),
    })
}

fn route_match(spec: &pb::RouteMatch) -> Result<RouteMatch> {
    use pb::route_match::PathSpecifier;
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

pub(super) fn header_test(spec: &pb::HeaderMatcher) -> Result<HeaderTest> {
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

fn forward(
    name: &str,
    action: &pb::RouteAction,
    default_retry: Option<&RetryPolicy>,
) -> Result<Forward> {
    let retry = match &action.retry_policy {
        Some(policy) => Some(retry(policy)?),
        None => default_retry.cloned(),
    };
    let max = action.max_stream_duration.as_ref();
    #[allow(deprecated)]
    let legacy_max = duration(action.max_grpc_timeout.as_ref());
    // Envoy's default is 15 s where the field is absent.
    let timeout = duration(action.timeout.as_ref()).unwrap_or(Duration::from_secs(15));
    Ok(Forward {
        target: target(name, action)?,
        path: path_rewrite(action)?,
        host: host_rewrite(action)?,
        timeout,
        idle_timeout: duration(action.idle_timeout.as_ref()),
        grpc_timeout_max: max
            .and_then(|max| duration(max.grpc_timeout_header_max.as_ref()))
            .or(legacy_max),
        retry: retry.filter(|policy| policy.attempts > 0),
        mirrors: action
            .request_mirror_policies
            .iter()
            .map(mirror)
            .collect::<Result<_>>()?,
        hash: action.hash_policy.iter().map(hash).collect::<Result<_>>()?,
        upgrades: action
            .upgrade_configs
            .iter()
            .map(|upgrade| {
                let enabled = upgrade.enabled.as_ref().is_none_or(|enabled| enabled.value);
                (upgrade.upgrade_type.to_ascii_lowercase(), enabled)
            })
            .collect(),
    })
}

fn target(name: &str, action: &pb::RouteAction) -> Result<Target> {
    use pb::route_action::ClusterSpecifier;
    match &action.cluster_specifier {
        Some(ClusterSpecifier::Cluster(cluster)) => Ok(Target::Cluster(cluster.into())),
        Some(ClusterSpecifier::ClusterHeader(header)) => {
            Ok(Target::Header(header.to_ascii_lowercase()))
        }
        Some(ClusterSpecifier::WeightedClusters(list)) => {
            let clusters = list.clusters.iter().map(weighted).collect::<Result<_>>()?;
            Ok(Target::Weighted(WeightedClusters::new(name, clusters)?))
        }
        Some(_) => Err(DecodeError::unsupported("cluster_specifier", "a plugin")),
        None => Err(DecodeError::new("cluster_specifier", "is required")),
    }
}

fn weighted(spec: &pb::weighted_cluster::ClusterWeight) -> Result<Weighted> {
    use pb::weighted_cluster::cluster_weight::HostRewriteSpecifier;
    if !spec.cluster_header.is_empty() {
        return Err(DecodeError::unsupported(
            "weighted_clusters",
            "cluster_header",
        ));
    }
    Ok(Weighted {
        cluster: spec.name.as_str().into(),
        weight: spec.weight.as_ref().map_or(0, |weight| weight.value),
        headers: mutations(
            &spec.request_headers_to_add,
            &spec.request_headers_to_remove,
            &spec.response_headers_to_add,
            &spec.response_headers_to_remove,
        )?,
        host: spec
            .host_rewrite_specifier
            .as_ref()
            .map(|rewrite| match rewrite {
                HostRewriteSpecifier::HostRewriteLiteral(host) => host.clone(),
            }),
    })
}

fn path_rewrite(action: &pb::RouteAction) -> Result<Option<PathRewrite>> {
    if action.path_rewrite_policy.is_some() || !action.path_rewrite.is_empty() {
        return Err(DecodeError::unsupported(
            "path_rewrite",
            "this kind of rewrite",
        ));
    }
    if let Some(regex) = &action.regex_rewrite {
        return Ok(Some(PathRewrite::Regex(regex_rewrite(
            "regex_rewrite",
            regex,
        )?)));
    }
    if action.prefix_rewrite.is_empty() {
        return Ok(None);
    }
    Ok(Some(PathRewrite::Prefix(action.prefix_rewrite.clone())))
}

fn host_rewrite(action: &pb::RouteAction) -> Result<Option<HostRewrite>> {
    use pb::route_action::HostRewriteSpecifier;
    Ok(match &action.host_rewrite_specifier {
        None => None,
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => {
            Some(HostRewrite::Literal(host.clone()))
        }
        Some(HostRewriteSpecifier::AutoHostRewrite(auto)) => {
            auto.value.then_some(HostRewrite::Auto)
        }
        Some(HostRewriteSpecifier::HostRewriteHeader(header)) => {
            Some(HostRewrite::Header(header.to_ascii_lowercase()))
        }
        Some(HostRewriteSpecifier::HostRewritePathRegex(regex)) => Some(HostRewrite::PathRegex(
            regex_rewrite("host_rewrite_path_regex", regex)?,
        )),
        Some(_) => return Err(DecodeError::unsupported("host_rewrite", "a format string")),
    })
}

fn mirror(spec: &pb::route_action::RequestMirrorPolicy) -> Result<Mirror> {
    if !spec.cluster_header.is_empty() {
        return Err(DecodeError::unsupported(
            "request_mirror_policies",
            "cluster_header",
        ));
    }
    let share = match &spec.runtime_fraction {
        Some(share) => fraction(share.default_value.as_ref()),
        None => lateen_route::Fraction::ALL,
    };
    Ok(Mirror {
        cluster: spec.cluster.as_str().into(),
        millionths: share.millionths,
    })
}

fn hash(spec: &pb::route_action::HashPolicy) -> Result<HashPolicy> {
    use pb::route_action::hash_policy::PolicySpecifier;
    if spec.terminal {
        return Err(DecodeError::unsupported("hash_policy", "terminal"));
    }
    Ok(match &spec.policy_specifier {
        Some(PolicySpecifier::Header(header)) => {
            HashPolicy::Header(header.header_name.to_ascii_lowercase())
        }
        Some(PolicySpecifier::Cookie(cookie)) => HashPolicy::Cookie {
            name: cookie.name.clone(),
            ttl: duration(cookie.ttl.as_ref()),
            path: cookie.path.clone(),
            attributes: {
                let pairs = cookie.attributes.iter();
                pairs
                    .map(|pair| (pair.name.clone(), pair.value.clone()))
                    .collect()
            },
        },
        Some(PolicySpecifier::ConnectionProperties(_)) => HashPolicy::SourceIp,
        Some(PolicySpecifier::QueryParameter(query)) => HashPolicy::Query(query.name.clone()),
        _ => return Err(DecodeError::unsupported("hash_policy", "this policy")),
    })
}

pub(super) fn retry(spec: &pb::RetryPolicy) -> Result<RetryPolicy> {
    let defaults = RetryPolicy::default();
    let (on, mut status_codes) = RetryOn::parse(&spec.retry_on);
    for code in &spec.retriable_status_codes {
        let code = u16::try_from(*code);
        status_codes.push(code.map_err(|_| {
            DecodeError::new("retry_policy.retriable_status_codes", "is no HTTP status")
        })?);
    }
    let back_off = spec.retry_back_off.as_ref();
    let base = back_off.and_then(|back_off| duration(back_off.base_interval.as_ref()));
    let base = base.unwrap_or(defaults.base_interval);
    let max = back_off.and_then(|back_off| duration(back_off.max_interval.as_ref()));
    let hosts = u32::try_from(spec.host_selection_retry_max_attempts).unwrap_or(1);
    Ok(RetryPolicy {
        on,
        attempts: spec
            .num_retries
            .as_ref()
            .map_or(defaults.attempts, |number| number.value),
        per_try_timeout: duration(spec.per_try_timeout.as_ref()).unwrap_or_default(),
        base_interval: base,
        max_interval: max.unwrap_or(base * 10),
        status_codes,
        headers: spec
            .retriable_headers
            .iter()
            .map(header_test)
            .collect::<Result<_>>()?,
        avoid_previous_hosts: spec
            .retry_host_predicate
            .iter()
            .any(|predicate| predicate.name.ends_with("previous_hosts")),
        host_attempts: hosts.max(1),
        leave_priorities_after: retry_priority(spec.retry_priority.as_ref())?,
    })
}

/// After how many tries their priorities are passed over.
fn retry_priority(spec: Option<&pb::retry_policy::RetryPriority>) -> Result<u32> {
    use lateen_xds::envoy::extensions::retry::priority::previous_priorities::v3 as previous;
    use pb::retry_policy::retry_priority::ConfigType;
    let Some(spec) = spec else {
        return Ok(0);
    };
    let field = "retry_policy.retry_priority";
    if !spec.name.ends_with("previous_priorities") {
        return Err(DecodeError::unsupported(field, format!("{:?}", spec.name)));
    }
    let Some(ConfigType::TypedConfig(any)) = &spec.config_type else {
        return Err(DecodeError::new(field, "has no configuration"));
    };
    let config: previous::PreviousPrioritiesConfig = typed(field, any)?;
    match u32::try_from(config.update_frequency) {
        Ok(after) if after > 0 => Ok(after),
        _ => Err(DecodeError::new(field, "update_frequency is not above 0")),
    }
}

fn redirect(spec: &pb::RedirectAction) -> Result<Redirect> {
    use pb::redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Ok(Redirect {
        scheme: match &spec.scheme_rewrite_specifier {
            Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some("https".to_owned()),
            Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => text(scheme),
            _ => None,
        },
        host: text(&spec.host_redirect),
        port: (spec.port_redirect != 0).then_some(spec.port_redirect),
        path: match &spec.path_rewrite_specifier {
            None => None,
            Some(PathRewriteSpecifier::PathRedirect(path)) => text(path).map(PathRedirect::Full),
            Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => {
                Some(PathRedirect::Rewrite(PathRewrite::Prefix(prefix.clone())))
            }
            Some(PathRewriteSpecifier::RegexRewrite(regex)) => {
                let regex = regex_rewrite("redirect.regex_rewrite", regex)?;
                Some(PathRedirect::Rewrite(PathRewrite::Regex(regex)))
            }
            Some(_) => return Err(DecodeError::unsupported("redirect", "this path rewrite")),
        },
        status: match spec.response_code() {
            RedirectResponseCode::MovedPermanently => 301,
            RedirectResponseCode::Found => 302,
            RedirectResponseCode::SeeOther => 303,
            RedirectResponseCode::TemporaryRedirect => 307,
            RedirectResponseCode::PermanentRedirect => 308,
        },
        strip_query: spec.strip_query,
    })
}

fn direct(spec: &pb::DirectResponseAction) -> Result<DirectResponse> {
    let status = u16::try_from(spec.status)
        .ok()
        .filter(|status| (200..600).contains(status));
    let body = match &spec.body {
        Some(source) => Data::of("direct_response.body", source)?.read("direct_response.body")?,
        None => Vec::new(),
    };
    Ok(DirectResponse {
        status: status.ok_or_else(|| {
            DecodeError::new(
                "direct_response.status",
                format!("{} is no status", spec.status),
            )
        })?,
        body: body.into(),
    })
}

/// The fault filter's settings share the header tests of routes.
pub(super) fn header_tests(list: &[pb::HeaderMatcher]) -> Result<Vec<HeaderTest>> {
    list.iter().map(header_test).collect()
}
