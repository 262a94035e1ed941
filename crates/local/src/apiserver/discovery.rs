//! What is served: `/api`, `/apis`, `/version` and OpenAPI.

mod aggregated;
mod openapi;

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::core::Core;
use super::kinds::{Kinds, Resource, api_version};
use super::reply::{self, Reply};

/// The Kubernetes release whose interface this is.
const MINOR: &str = "32";

const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// Answers a path that is not about objects.
pub(super) fn get(core: &Core, path: &str, headers: &HeaderMap) -> Option<Reply> {
    let kinds = core.kinds();
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let ok = |value: Value| Some(reply::json(StatusCode::OK, &value));
    match parts.as_slice() {
        ["version"] => ok(version()),
        ["api" | "apis"] if aggregated::is_wanted(headers) => {
            Some(aggregated::get(&kinds, parts[0] == "api", headers))
        }
        ["api"] => ok(json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}],
        })),
        ["apis"] => ok(json!({
            "kind": "APIGroupList", "apiVersion": "v1",
            "groups": kinds.groups().iter().map(|(name, versions)| group(name, versions)).collect::<Vec<_>>(),
        })),
        ["apis", name] => {
            let (name, versions) = kinds
                .groups()
                .into_iter()
                .find(|(group, _)| group == name)?;
            let mut group = group(&name, &versions);
            group["kind"] = "APIGroup".into();
            group["apiVersion"] = "v1".into();
            ok(group)
        }
        ["api", version] => resources(&kinds, "", version).and_then(ok),
        ["apis", group, version] => resources(&kinds, group, version).and_then(ok),
        ["openapi", rest @ ..] => openapi::get(&kinds, rest, headers),
        [] => ok(
            json!({"paths": ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]}),
        ),
        ["healthz" | "livez" | "readyz", ..] => Some(reply::text(StatusCode::OK, "ok")),
        _ => None,
    }
}

fn verbs(resource: &Resource) -> &'static [&'static str] {
    match (resource.virtual_only, resource.read_only) {
        (true, _) => &["create"],
        (_, true) => &["get", "list", "watch"],
        _ => &VERBS,
    }
}

fn version() -> Value {
    json!({
        "major": "1", "minor": MINOR,
        "gitVersion": format!("v1.{MINOR}.0+lateen-{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "", "compiler": "rustc",
        "platform": format!("linux/{}", if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" }),
    })
}

fn group(name: &str, versions: &[arcstr::ArcStr]) -> Value {
    let version =
        |version: &str| json!({"groupVersion": api_version(name, version), "version": version});
    json!({
        "name": name,
        "versions": versions.iter().map(|one| version(one)).collect::<Vec<_>>(),
        "preferredVersion": version(versions.first().map_or("", |one| one)),
    })
}

fn resources(kinds: &Kinds, group: &str, version: &str) -> Option<Value> {
    let list: Vec<Value> = kinds
        .of(group, version)
        .flat_map(|resource| entries(resource))
        .collect();
    (!list.is_empty()).then(|| {
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version(group, version), "resources": list})
    })
}

fn entries(resource: &Resource) -> Vec<Value> {
    let mut main = json!({
        "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
        "kind": resource.kind, "verbs": verbs(resource),
    });
    if !resource.short_names.is_empty() {
        main["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        main["categories"] = json!(resource.categories);
    }
    let mut all = vec![main];
    for sub in subresources(resource) {
        let mut entry = json!({
            "name": format!("{}/{}", resource.plural, sub.name), "singularName": "",
            "namespaced": resource.namespaced, "kind": sub.kind, "verbs": sub.verbs,
        });
        if !sub.version.is_empty() {
            let (group, version) = sub.version.rsplit_once('/').unwrap_or(("", sub.version));
            entry["group"] = group.into();
            entry["version"] = version.into();
        }
        all.push(entry);
    }
    all
}

struct Subresource {
    name: &'static str,
    kind: String,
    /// Empty if the resource's own.
    version: &'static str,
    verbs: &'static [&'static str],
}

fn subresources(resource: &Resource) -> Vec<Subresource> {
    const CHANGE: &[&str] = &["get", "patch", "update"];
    let mut all = Vec::new();
    let mut add = |name, kind: &str, version, verbs| {
        all.push(Subresource {
            name,
            kind: kind.to_owned(),
            version,
            verbs,
        })
    };
    if resource.status {
        add("status", &resource.kind, "", CHANGE);
    }
    if resource.scale {
        add("scale", "Scale", "autoscaling/v1", CHANGE);
    }
    if resource.is("", "pods") {
        add("log", "Pod", "", &["get"]);
        add("eviction", "Eviction", "policy/v1", &["create"]);
    }
    if resource.is("", "serviceaccounts") {
        add(
            "token",
            "TokenRequest",
            "authentication.k8s.io/v1",
            &["create"],
        );
    }
    if resource.is("", "namespaces") {
        add("finalize", "Namespace", "", &["update"]);
    }
    all
}
