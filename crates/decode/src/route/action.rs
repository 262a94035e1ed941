//! What becomes of the requests of a route.

use std::time::Duration;

use lateen_route::{
    DirectResponse, Forward, HashPolicy, HostRewrite, Mirror, PathRedirect, PathRewrite, Redirect,
    RetryPolicy, Target, Weighted, WeightedClusters,
};
use lateen_xds::types::core::RoutingPriority;
use lateen_xds::types::route as pb;

use super::mutations;
use super::retry::{RETRY, retry};
use crate::common::{
    DATA_SOURCE, Data, HEADER_OPTION, REGEX_REWRITE, RUNTIME_FRACTION, duration, fraction,
    regex_rewrite,
};
use crate::filter::ROUTE_CORS;
use crate::unread::Kind::{Harmless, In, Off, Whole};
use crate::unread::Reads;
use crate::{DecodeError, Result};

/// Compiles an action that sends requests on.
pub(super) fn forward(
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
        // Without another try, its bounds hold for the only one.
        retry: retry.filter(|policy| {
            let bounds = [policy.per_try_timeout, policy.per_try_idle];
            policy.attempts > 0 || bounds.iter().any(|bound| !bound.is_zero())
        }),
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
        high_priority: action.priority == RoutingPriority::High as i32,
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

pub(super) fn redirect(spec: &pb::RedirectAction) -> Result<Redirect> {
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

pub(super) fn direct(spec: &pb::DirectResponseAction) -> Result<DirectResponse> {
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

pub(crate) static ROUTE_ACTION: Reads = Reads::of(
    "envoy.config.route.v3.RouteAction",
    &[
        (1, "cluster", Whole),
        (2, "cluster_header", Whole),
        (3, "weighted_clusters", In(&WEIGHTED)),
        (5, "prefix_rewrite", Whole),
        (6, "host_rewrite_literal", Whole),
        (7, "auto_host_rewrite", Whole),
        (8, "timeout", Whole),
        (9, "retry_policy", In(&RETRY)),
        (11, "priority", Whole),
        (14, "include_vh_rate_limits", Off),
        (15, "hash_policy[]", In(&HASH_POLICY)),
        (17, "cors", In(&ROUTE_CORS)),
        (23, "max_grpc_timeout", Whole),
        (24, "idle_timeout", Whole),
        (25, "upgrade_configs[]", In(&ROUTE_UPGRADE)),
        (29, "host_rewrite_header", Whole),
        (30, "request_mirror_policies[]", In(&MIRROR)),
        (32, "regex_rewrite", In(&REGEX_REWRITE)),
        (35, "host_rewrite_path_regex", In(&REGEX_REWRITE)),
        (36, "max_stream_duration", In(&STREAM_DURATION)),
        (37, "cluster_specifier_plugin", Whole),
        (39, "inline_cluster_specifier_plugin", Whole),
        (41, "path_rewrite_policy", Whole),
        (44, "host_rewrite", Whole),
        (45, "path_rewrite", Whole),
    ],
);

pub(crate) static WEIGHTED: Reads = Reads::of(
    "envoy.config.route.v3.WeightedCluster",
    &[
        (1, "clusters[]", In(&CLUSTER_WEIGHT)),
        (2, "runtime_key_prefix", Harmless),
        (3, "total_weight", Harmless),
    ],
);

pub(crate) static CLUSTER_WEIGHT: Reads = Reads::of(
    "envoy.config.route.v3.WeightedCluster.ClusterWeight",
    &[
        (1, "name", Whole),
        (2, "weight", Whole),
        (4, "request_headers_to_add[]", In(&HEADER_OPTION)),
        (5, "response_headers_to_add[]", In(&HEADER_OPTION)),
        (6, "response_headers_to_remove[]", Whole),
        (9, "request_headers_to_remove[]", Whole),
        (11, "host_rewrite_literal", Whole),
        (12, "cluster_header", Whole),
    ],
);

pub(crate) static ROUTE_UPGRADE: Reads = Reads::of(
    "envoy.config.route.v3.RouteAction.UpgradeConfig",
    &[(1, "upgrade_type", Whole), (2, "enabled", Whole)],
);

pub(crate) static MIRROR: Reads = Reads::of(
    "envoy.config.route.v3.RouteAction.RequestMirrorPolicy",
    &[
        (1, "cluster", Whole),
        (3, "runtime_fraction", In(&RUNTIME_FRACTION)),
        (4, "trace_sampled", Off),
        (5, "cluster_header", Whole),
    ],
);

pub(crate) static STREAM_DURATION: Reads = Reads::of(
    "envoy.config.route.v3.RouteAction.MaxStreamDuration",
    &[
        (1, "max_stream_duration", Off),
        (2, "grpc_timeout_header_max", Whole),
    ],
);

pub(crate) static HASH_POLICY: Reads = Reads::of(
    "envoy.config.route.v3.RouteAction.HashPolicy",
    &[
        (1, "header", In(&HASH_HEADER)),
        (2, "cookie", In(&HASH_COOKIE)),
        (3, "connection_properties", Whole),
        (4, "terminal", Whole),
        (5, "query_parameter", Whole),
        (6, "filter_state", Whole),
    ],
);

pub(crate) static HASH_HEADER: Reads = Reads::of(
    "envoy.config.route.v3.RouteAction.HashPolicy.Header",
    &[(1, "header_name", Whole)],
);

pub(crate) static HASH_COOKIE: Reads = Reads::of(
    "envoy.config.route.v3.RouteAction.HashPolicy.Cookie",
    &[
        (1, "name", Whole),
        (2, "ttl", Whole),
        (3, "path", Whole),
        (4, "attributes[]", Whole),
    ],
);

pub(crate) static REDIRECT: Reads = Reads::of(
    "envoy.config.route.v3.RedirectAction",
    &[
        (1, "host_redirect", Whole),
        (2, "path_redirect", Whole),
        (3, "response_code", Whole),
        (4, "https_redirect", Whole),
        (5, "prefix_rewrite", Whole),
        (6, "strip_query", Whole),
        (7, "scheme_redirect", Whole),
        (8, "port_redirect", Whole),
        (9, "regex_rewrite", In(&REGEX_REWRITE)),
        (10, "path_rewrite", Whole),
    ],
);

pub(crate) static DIRECT_RESPONSE: Reads = Reads::of(
    "envoy.config.route.v3.DirectResponseAction",
    &[(1, "status", Whole), (2, "body", In(&DATA_SOURCE))],
);
