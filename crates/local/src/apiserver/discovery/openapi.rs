//! OpenAPI, as far as `kubectl` needs it: the fields of every kind, and which operations take which parameters.

mod v2;

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::apiserver::kinds::{Kinds, Resource};
use crate::apiserver::reply::{self, Reply};
use crate::apiserver::types::{OBJECT_META, REFERENCE, gvk, types};

const TITLE: &str = "Kubernetes";
const VERSION: &str = "v1.32.0";

/// Query parameters of everything that writes.
const PARAMETERS: [&str; 3] = ["dryRun", "fieldManager", "fieldValidation"];

/// Where references between schemas point in version 3.
const REFERENCE_3: &str = "#/components/schemas/";

/// Answers what is under `/openapi`.
pub(super) fn get(kinds: &Kinds, rest: &[&str], headers: &HeaderMap) -> Option<Reply> {
    let ok = |value: Value| Some(reply::json(StatusCode::OK, &value));
    match rest {
        ["v2"] => Some(v2::get(kinds, headers)),
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
    let resources: Vec<_> = kinds.of(group, version).collect();
    if resources.is_empty() {
        return None;
    }
    let mut paths = json!({});
    let mut schemas = json!({});
    for resource in &resources {
        for (path, item) in path_items(resource) {
            paths[path] = item;
        }
    }
    for (name, schema) in definitions(resources.iter().map(|one| &***one)) {
        schemas[name] = in_version_3(schema);
    }
    Some(json!({
        "openapi": "3.0.0", "info": {"title": TITLE, "version": VERSION},
        "paths": paths, "components": {"schemas": schemas},
    }))
}

/// The schemas of the resources, and of all that they refer to.
fn definitions<'r>(resources: impl Iterator<Item = &'r Resource>) -> Vec<(String, Value)> {
    let mut roots = vec![OBJECT_META];
    let mut all = Vec::new();
    let mut kinds: Vec<(&str, Value)> = Vec::new();
    for resource in resources {
        match types().name(resource) {
            Some(name) if resource.custom.is_none() => {
                roots.push(name);
                kinds.push((name, gvk(resource)));
            }
            _ => all.push((custom_name(resource), custom(resource))),
        }
    }
    for name in types().closure(roots) {
        let mut schema = types().definitions[name].clone();
        if let Some((_, kind)) = kinds.iter().find(|(of, _)| *of == name) {
            schema["x-kubernetes-group-version-kind"] = json!([kind]);
        }
        all.push((name.to_owned(), schema));
    }
    all
}

/// Group and version are reversed, as in `io.istio.networking.v1.Gateway`.
fn custom_name(resource: &Resource) -> String {
    let reversed: Vec<_> = resource.group.split('.').rev().collect();
    format!(
        "{}.{}.{}",
        reversed.join("."),
        resource.version,
        resource.kind
    )
}

fn custom(resource: &Resource) -> Value {
    let given = resource
        .custom
        .as_ref()
        .and_then(|custom| custom.schema.clone());
    let mut schema = given.unwrap_or_else(|| json!({"type": "object", "properties": {}}));
    schema["x-kubernetes-group-version-kind"] = json!([gvk(resource)]);
    let text = |description: &str| json!({"type": "string", "description": description});
    if !schema["properties"].is_object() {
        schema["properties"] = json!({});
    }
    schema["properties"]["apiVersion"] = text("The version of the representation of the object.");
    schema["properties"]["kind"] = text("The kind of the object.");
    schema["properties"]["metadata"] = json!({
        "$ref": format!("{REFERENCE}{OBJECT_META}"), "description": "Standard metadata of the object.",
    });
    schema
}

/// Version 3 keeps schemas elsewhere, and what is said beside a reference needs `allOf`.
fn in_version_3(schema: Value) -> Value {
    match schema {
        Value::Object(mut members) => {
            let reference = match members.get("$ref").and_then(Value::as_str) {
                Some(text) => text
                    .strip_prefix(REFERENCE)
                    .map(|name| json!({"$ref": format!("{REFERENCE_3}{name}")})),
                None => None,
            };
            if let Some(reference) = reference {
                members.shift_remove("$ref");
                if members.is_empty() {
                    return reference;
                }
                members.insert("allOf".into(), json!([reference]));
                return members.into();
            }
            let members = members.into_iter();
            Value::Object(
                members
                    .map(|(key, value)| (key, in_version_3(value)))
                    .collect(),
            )
        }
        Value::Array(items) => items.into_iter().map(in_version_3).collect(),
        other => other,
    }
}

fn collection_path(resource: &Resource) -> String {
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
    format!("{root}/{}{scope}/{}", resource.version, resource.plural)
}

fn path_items(resource: &Resource) -> Vec<(String, Value)> {
    let collection = collection_path(resource);
    let operation = |action: &str| {
        let parameter =
            |name: &&str| json!({"name": name, "in": "query", "schema": {"type": "string"}});
        json!({
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": gvk(resource),
            "parameters": PARAMETERS.iter().map(parameter).collect::<Vec<_>>(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_described() {
        let kinds = Kinds::new(&[]);
        let document = document(&kinds, "apps", "v1").expect("served");
        let schemas = &document["components"]["schemas"];
        let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
        assert_eq!(
            deployment["x-kubernetes-group-version-kind"][0]["kind"],
            "Deployment"
        );
        let reference = &deployment["properties"]["spec"]["allOf"][0]["$ref"];
        assert_eq!(
            reference,
            "#/components/schemas/io.k8s.api.apps.v1.DeploymentSpec"
        );
        assert!(schemas["io.k8s.api.core.v1.Container"]["properties"]["image"].is_object());
        assert_eq!(schemas.get("io.k8s.api.core.v1.Node"), None);
    }
}
