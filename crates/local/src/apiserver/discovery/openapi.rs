//! OpenAPI, as far as `kubectl` needs it: which operations take which parameters, and custom schemas.

use http::header::ACCEPT;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::apiserver::kinds::{Kinds, Resource};
use crate::apiserver::reply::{self, Reply};

const TITLE: &str = "Kubernetes";
const VERSION: &str = "v1.32.0";
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Answers what is under `/openapi`.
pub(super) fn get(kinds: &Kinds, rest: &[&str], headers: &HeaderMap) -> Option<Reply> {
    let ok = |value: Value| Some(reply::json(StatusCode::OK, &value));
    match rest {
        ["v2"] => Some(version_2(headers)),
        ["v3"] => ok(index(kinds)),
        ["v3", "api", version] => document(kinds, "", version).and_then(ok),
        ["v3", "apis", group, version] => document(kinds, group, version).and_then(ok),
        _ => None,
    }
}

/// The old form, which describes nothing: clients then validate nothing and merge by what they
/// know themselves. kubectl before 1.24 reads it in protobuf only.
fn version_2(headers: &HeaderMap) -> Reply {
    let accept = headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if accept.contains("proto-openapi") {
        return reply::bytes(StatusCode::OK, V2_PROTOBUF, empty_document());
    }
    let document = json!({
        "swagger": "2.0", "info": {"title": TITLE, "version": VERSION}, "paths": {}, "definitions": {},
    });
    reply::json(StatusCode::OK, &document)
}

/// A `Document` of `openapi.v2`: its fields 1 (`swagger`), 2 (`info`: `title`, `version`), 8
/// (`paths`) and 9 (`definitions`).
fn empty_document() -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| {
        let length = u8::try_from(bytes.len()).expect("short constants");
        [&[number << 3 | 2, length], bytes].concat()
    };
    let info = [field(1, TITLE.as_bytes()), field(2, VERSION.as_bytes())].concat();
    [
        field(1, b"2.0"),
        field(2, &info),
        field(8, b""),
        field(9, b""),
    ]
    .concat()
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
            "openapi": "3.0.0", "info": {"title": TITLE, "version": VERSION},
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
