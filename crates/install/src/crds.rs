//! Custom resource definitions, made from the types of the `api` crate.

use lateen_api::kinds::{self, Kind};
use serde_json::{Map, Value, json};

pub(crate) fn all() -> impl Iterator<Item = Value> {
    kinds::ALL.iter().map(definition)
}

fn definition(kind: &Kind) -> Value {
    let category = kind.group.replace('.', "-");
    let versions = kind
        .versions
        .iter()
        .enumerate()
        .map(|(n, name)| version(kind, name, n == 0));
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{}.{}", kind.plural, kind.group),
            "labels": {"app": "istio-pilot", "release": "istio"},
        },
        "spec": {
            "group": kind.group,
            "scope": "Namespaced",
            "names": {
                "kind": kind.kind,
                "listKind": format!("{}List", kind.kind),
                "plural": kind.plural,
                "singular": kind.singular,
                "shortNames": kind.short_names,
                "categories": ["istio-io", category],
            },
            "versions": versions.collect::<Vec<_>>(),
        },
    })
}

fn version(kind: &Kind, name: &str, preferred: bool) -> Value {
    let mut spec = kind.spec_schema();
    complete(&mut spec);
    let mut out = json!({
        "name": name,
        "served": true,
        "storage": preferred,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {
            "spec": spec,
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        }}},
        "subresources": {"status": {}},
    });
    let columns = kind.columns.iter().map(|column| {
        json!({
            "name": column.name,
            "type": column.r#type,
            "jsonPath": column.path,
            "description": column.description,
        })
    });
    let mut columns: Vec<Value> = columns.collect();
    // Naming columns takes the usual age away; some have it elsewhere than at the end.
    let has_age = kind.columns.iter().any(|column| column.name == "Age");
    if !columns.is_empty() && !has_age {
        columns.push(json!({
            "name": "Age",
            "type": "date",
            "jsonPath": ".metadata.creationTimestamp",
            "description": "Time since the object was made",
        }));
    }
    if !columns.is_empty() {
        out["additionalPrinterColumns"] = Value::Array(columns);
    }
    out
}

/// Unknown fields are kept, so that the validating webhook sees and names them: pruned silently, a
/// misspelt timeout would look as if it were in force.
fn complete(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else {
        return;
    };
    map.shift_remove("x-lateen-format");
    if let Some(properties) = map.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(complete);
        map.insert("x-kubernetes-preserve-unknown-fields".into(), json!(true));
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(inner) {
            complete(inner);
        }
    }
    drop_number_bounds(map);
}

/// Bounds that the type implies are galley's to explain.
fn drop_number_bounds(map: &mut Map<String, Value>) {
    if map.get("type").is_some_and(|t| t == "integer") {
        map.shift_remove("minimum");
        map.shift_remove("maximum");
    }
}
