//! Route tables in the words of Envoy's first API.

use lateen_xds::types::matcher::string_matcher::MatchPattern;
use lateen_xds::types::route::header_matcher::HeaderMatchSpecifier;
use lateen_xds::types::route::route::Action;
use lateen_xds::types::route::route_action::{ClusterSpecifier, HostRewriteSpecifier};
use lateen_xds::types::route::route_match::PathSpecifier;
use lateen_xds::types::route::{
    HeaderMatcher, RedirectAction, Route, RouteAction, RouteConfiguration, VirtualHost,
    redirect_action,
};
use serde_json::{Map, Value, json};

use super::cluster::milliseconds;
use super::listener::name_of;
use crate::snapshot::Snapshot;

/// A table; an empty one where there is none of the name, which is what the reference says then.
pub(super) fn table(snapshot: &Snapshot, table: Option<&RouteConfiguration>) -> Value {
    let hosts = table.iter().flat_map(|table| &table.virtual_hosts);
    let hosts: Vec<_> = hosts.map(|of| host(snapshot, of)).collect();
    json!({"virtual_hosts": hosts})
}

fn host(snapshot: &Snapshot, of: &VirtualHost) -> Value {
    let routes: Vec<_> = of
        .routes
        .iter()
        .filter_map(|of| route(snapshot, of))
        .collect();
    json!({"name": of.name, "domains": of.domains, "routes": routes})
}

fn route(snapshot: &Snapshot, of: &Route) -> Option<Value> {
    let mut fields = Map::new();
    let matched = of.r#match.as_ref()?;
    let (field, path) = match matched.path_specifier.as_ref()? {
        PathSpecifier::Prefix(prefix) => ("prefix", prefix.clone()),
        PathSpecifier::PathSeparatedPrefix(prefix) => ("prefix", prefix.clone()),
        PathSpecifier::Path(path) => ("path", path.clone()),
        PathSpecifier::SafeRegex(regex) => ("regex", regex.regex.clone()),
        // What the first API had no words for cannot be shown as if it were another thing.
        _ => return None,
    };
    fields.insert(field.to_owned(), json!(path));
    match of.action.as_ref()? {
        Action::Route(action) => to_clusters(snapshot, action, &mut fields),
        Action::Redirect(redirect) => redirected(redirect, &mut fields),
        _ => return None,
    }
    let headers: Vec<_> = matched.headers.iter().map(header).collect::<Option<_>>()?;
    if !headers.is_empty() {
        fields.insert("headers".to_owned(), headers.into());
    }
    if let Some(decorator) = &of.decorator {
        let decorator = json!({"operation": decorator.operation});
        fields.insert("decorator".to_owned(), decorator);
    }
    Some(fields.into())
}

fn to_clusters(snapshot: &Snapshot, action: &RouteAction, fields: &mut Map<String, Value>) {
    match &action.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => {
            fields.insert("cluster".to_owned(), json!(name_of(snapshot, name)));
        }
        Some(ClusterSpecifier::WeightedClusters(all)) => {
            let each = all.clusters.iter().map(|one| {
                let weight = one.weight.map_or(0, |weight| weight.value);
                json!({"name": name_of(snapshot, &one.name), "weight": weight})
            });
            let clusters = json!({"clusters": each.collect::<Vec<_>>()});
            fields.insert("weighted_clusters".to_owned(), clusters);
        }
        _ => {}
    }
    if !action.prefix_rewrite.is_empty() {
        fields.insert("prefix_rewrite".to_owned(), json!(action.prefix_rewrite));
    }
    if let Some(HostRewriteSpecifier::HostRewriteLiteral(host)) = &action.host_rewrite_specifier {
        fields.insert("host_rewrite".to_owned(), json!(host));
    }
    let timeout = action.timeout.as_ref().map_or(15_000, milliseconds);
    fields.insert("timeout_ms".to_owned(), json!(timeout));
    if let Some(retries) = &action.retry_policy {
        let mut policy = json!({
            "retry_on": retries.retry_on,
            "num_retries": retries.num_retries.map_or(1, |n| n.value),
        });
        if let Some(timeout) = &retries.per_try_timeout {
            policy["per_try_timeout_ms"] = json!(milliseconds(timeout));
        }
        fields.insert("retry_policy".to_owned(), policy);
    }
}

fn redirected(redirect: &RedirectAction, fields: &mut Map<String, Value>) {
    if !redirect.host_redirect.is_empty() {
        fields.insert("host_redirect".to_owned(), json!(redirect.host_redirect));
    }
    if let Some(redirect_action::PathRewriteSpecifier::PathRedirect(path)) =
        &redirect.path_rewrite_specifier
    {
        fields.insert("path_redirect".to_owned(), json!(path));
    }
}

/// `None` for a condition that the first API cannot say: the route would seem to be for more.
fn header(of: &HeaderMatcher) -> Option<Value> {
    if of.invert_match {
        return None;
    }
    let exact = |value: &str| json!({"name": of.name, "value": value});
    let regex = |value: String| json!({"name": of.name, "value": value, "regex": true});
    match of.header_match_specifier.as_ref()? {
        HeaderMatchSpecifier::PresentMatch(true) => Some(json!({"name": of.name})),
        HeaderMatchSpecifier::StringMatch(matcher) => match matcher.match_pattern.as_ref()? {
            MatchPattern::Exact(value) => Some(exact(value)),
            MatchPattern::SafeRegex(value) => Some(regex(value.regex.clone())),
            MatchPattern::Prefix(value) => Some(regex(format!("{}.*", escaped(value)))),
            _ => None,
        },
        _ => None,
    }
}

/// As a regular expression that is for this very text.
fn escaped(text: &str) -> String {
    let each = text.chars().flat_map(|c| {
        let is_special = !c.is_alphanumeric() && c.is_ascii() && c != '_' && c != '-';
        is_special.then_some('\\').into_iter().chain([c])
    });
    each.collect()
}
