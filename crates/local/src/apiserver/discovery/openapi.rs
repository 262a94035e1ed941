//! OpenAPI, as far as `kubectl` needs it: which operations take which parameters, and custom schemas.

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::apiserver::kinds::{Kinds, Resource};
use crate::apiserver::reply::{self, Reply};

/// Answers what is under `/openapi`.
pub(super) fn get(kinds: &Kinds, rest: &[&str], _headers: &HeaderMap) -> Option<Reply> {
    let ok = |value: Value| Some(reply::json(StatusCode::OK, &value));
    match rest {
        ["v3"] => ok(index(kinds)),
        ["v3", "api", version] => document(kinds, "", version).and_then(ok),
        ["v3", "apis", group, version] => document(kinds, group, version).and_then(ok),
        _ => None,
    }
}

fn index(kinds: &Kinds) -> Value {
    let mut paths = json!({"api/v1": {"serverRelativeURL": "/openapi/v3/api/v1"}});
    for (group, versions) in kinds.groups() {
        for version in versions {
            let path = format!("apis/{group}/{version}");
            let url = format!("/openapi/v3/{path}");
            paths[path] = json!({"serverRelativeURL": url});
        }
    }
    json!({"paths": paths})
}

fn document(kinds: &Kinds, group: &str, version: &str) -> Option<Value> {
    let mut paths = json!({});
    let mut schemas = json!({});
    for resource in kinds.of(group, version) {
        for (path, item) in path_items(resource) {
            paths[path] = item;
        }
        schemas[schema_name(resource)] = schema(resource);
    }
    (paths.as_object().is_some_and(|paths| !paths.is_empty())).then(|| {
        json!({
            "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.32.0"},
            "paths": paths, "components": {"schemas": schemas},
        })
    })
}

fn gvk(resource: &Resource) -> Value {
    json!({"group": resource.group, "version": resource.version, "kind": resource.kind})
}

fn schema_name(resource: &Resource) -> String {
    let group = if resource.group.is_empty() {
        "core"
    } else {
        resource.group.split('.').next().unwrap_or_default()
    };
    match resource.custom {
        Some(_) => {
            let reversed: Vec<_> = resource.group.split('.').rev().collect();
            format!(
                "{}.{}.{}",
                reversed.join("."),
                resource.version,
                resource.kind
            )
        }
        None => format!("io.k8s.api.{group}.{}.{}", resource.version, resource.kind),
    }
}

fn path_items(resource: &Resource) -> Vec<(String, Value)> {
    let root = if resource.group.is_empty() {
        "/api".to_owned()
    } else {
        format!("/apis/{}", resource.group)
    };
    let scope = if resource.namespaced {
        "/namespaces/{namespace}"
    } else {
        ""
    };
    let collection = format!("{root}/{}{scope}/{}", resource.version, resource.plural);
    let operation = |action: &str| {
        let parameter =
            |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string"}});
        json!({
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": gvk(resource),
            "parameters": [parameter("dryRun"), parameter("fieldManager"), parameter("fieldValidation")],
            "responses": {"200": {"description": "OK"}},
        })
    };
    let mut patch = operation("patch");
    patch["requestBody"] = json!({"content": {"application/merge-patch+json": {}, "application/apply-patch+yaml": {}}});
    vec![
        (
            collection.clone(),
            json!({"get": operation("list"), "post": operation("post")}),
        ),
        (
            format!("{collection}/{{name}}"),
            json!({"get": operation("get"), "put": operation("put"), "patch": patch, "delete": operation("delete")}),
        ),
    ]
}

fn schema(resource: &Resource) -> Value {
    let custom = resource
        .custom
        .as_ref()
        .and_then(|custom| custom.schema.clone());
    let mut schema = custom.unwrap_or_else(|| json!({"type": "object", "properties": {}}));
    schema["x-kubernetes-group-version-kind"] = json!([gvk(resource)]);
    let text = |description: &str| json!({"type": "string", "description": description});
    if !schema["properties"].is_object() {
        schema["properties"] = json!({});
    }
    schema["properties"]["apiVersion"] = text("The version of the representation of the object.");
    schema["properties"]["kind"] = text("The kind of the object.");
    schema["properties"]["metadata"] =
        json!({"type": "object", "description": "Standard metadata of the object."});
    schema
}
