//! Custom resource definitions, made from the types of the `api` crate.

use lateen_api::kinds::{self, Kind};
use serde_json::{Value, json};

/// Durations as Go reads them.
const DURATION: &str = r"^[-+]?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$";

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
    complete(&mut spec, name == "v1alpha3");
    let mut status = kind.status_schema();
    complete(&mut status, false);
    let mut out = json!({
        "name": name,
        "served": true,
        "storage": preferred,
        "schema": {"openAPIV3Schema": {"type": "object", "required": ["spec"], "properties": {
            "spec": spec,
            "status": status,
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
/// misspelt timeout would look as if it were in force. Fields of old are described in the version
/// that had them, and kept in all.
fn complete(schema: &mut Value, old_fields: bool) {
    let Some(map) = schema.as_object_mut() else {
        return;
    };
    let format = map.shift_remove("x-lateen-format");
    if format.is_some_and(|format| format == "duration") {
        map.insert("pattern".into(), json!(DURATION));
    }
    map.shift_remove("x-lateen-old");
    // Kubernetes' type of a bound is a double.
    for bound in ["minimum", "maximum"] {
        if let Some(bound) = map.get_mut(bound) {
            *bound = json!(bound.as_f64());
        }
    }
    if let Some(properties) = map.get_mut("properties").and_then(Value::as_object_mut) {
        properties.retain(|_, property| {
            let is_old = property.get("x-lateen-old").is_some();
            old_fields || !is_old
        });
        for property in properties.values_mut() {
            complete(property, old_fields);
        }
        map.insert("x-kubernetes-preserve-unknown-fields".into(), json!(true));
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(inner) {
            complete(inner, old_fields);
        }
    }
}
