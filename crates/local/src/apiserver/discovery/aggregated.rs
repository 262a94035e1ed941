//! Discovery of everything in two requests, as clients since 1.26 prefer.

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::{subresources, verbs};
use crate::apiserver::kinds::{Kinds, Resource};
use crate::apiserver::reply::{self, Reply};

const V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Whether the client asks for this form in the version that is served.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let accept = headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    accept.split(',').any(|range| {
        let parts: Vec<&str> = range.split(';').map(str::trim).collect();
        parts.contains(&"application/json")
            && parts.contains(&"as=APIGroupDiscoveryList")
            && parts.contains(&"v=v2")
    })
}

/// Answers `/api` or `/apis`.
pub(super) fn get(kinds: &Kinds, core: bool, _headers: &HeaderMap) -> Reply {
    let items: Vec<Value> = if core {
        vec![
            json!({"metadata": {"creationTimestamp": null}, "versions": [version(kinds, "", "v1")]}),
        ]
    } else {
        let group = |(name, versions): &(arcstr::ArcStr, Vec<arcstr::ArcStr>)| {
            let versions: Vec<_> = versions
                .iter()
                .map(|one| version(kinds, name, one))
                .collect();
            json!({"metadata": {"name": name, "creationTimestamp": null}, "versions": versions})
        };
        kinds.groups().iter().map(group).collect()
    };
    let list = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items});
    let mut reply = reply::json(StatusCode::OK, &list);
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(V2));
    reply
}

fn version(kinds: &Kinds, group: &str, version: &str) -> Value {
    let resources: Vec<_> = kinds.of(group, version).map(|one| resource(one)).collect();
    json!({"version": version, "freshness": "Current", "resources": resources})
}

fn resource(resource: &Resource) -> Value {
    let kind = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let subresources: Vec<_> = subresources(resource)
        .iter()
        .map(|sub| {
            let (group, version) = match sub.version.rsplit_once('/') {
                Some(pair) => pair,
                None => (resource.group.as_str(), resource.version.as_str()),
            };
            json!({"subresource": sub.name, "responseKind": kind(group, version, &sub.kind), "verbs": sub.verbs})
        })
        .collect();
    let mut entry = json!({
        "resource": resource.plural,
        "responseKind": kind(&resource.group, &resource.version, &resource.kind),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": verbs(resource),
    });
    for (key, list) in [
        ("shortNames", &resource.short_names),
        ("categories", &resource.categories),
    ] {
        if !list.is_empty() {
            entry[key] = json!(list);
        }
    }
    if !subresources.is_empty() {
        entry["subresources"] = subresources.into();
    }
    entry
}
