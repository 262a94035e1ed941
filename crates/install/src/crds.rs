//! Custom resource definitions, made from the types of the `api` crate.

use lateen_api::{
    gateway_api::GROUP,
    kinds::{self, Kind},
};
use serde_json::{Value, json};

use crate::Installation;

/// Durations as Go reads them.
const DURATION: &str = r"^[-+]?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$";

pub(crate) fn all(installation: &Installation) -> impl Iterator<Item = Value> {
    let base = &installation.values().base;
    let is_wanted = |kind: &&Kind| {
        let name = format!("{}.{}", kind.plural, kind.group);
        base.enable_crds != Some(false) && !base.excluded_crds.contains(&name)
    };
    kinds::ALL.iter().filter(is_wanted).map(|kind| {
        let category = kind.group.replace('.', "-");
        let labels = json!({"app": "istio-pilot"});
        definition(
            kind,
            &json!({"labels": labels}),
            &json!(["istio-io", category]),
        )
    })
}

/// The version of the Gateway API whose fields these are.
const BUNDLE_VERSION: &str = "v1.6.3";

/// Kinds of the Gateway API, as its standard channel has them, with the versions of the other
/// channel where samples use those.
pub(crate) fn gateway_api() -> impl Iterator<Item = Value> {
    let meta = json!({"annotations": {
        "api-approved.kubernetes.io": "unapproved, made from the mesh's own types",
        "gateway.networking.k8s.io/bundle-version": BUNDLE_VERSION,
        "gateway.networking.k8s.io/channel": "standard",
    }});
    let kinds = kinds::gateway_api::ALL.iter();
    kinds.map(move |kind| definition(kind, &meta, &json!(["gateway-api"])))
}

fn definition(kind: &Kind, meta: &Value, categories: &Value) -> Value {
    let versions = kind
        .versions
        .iter()
        .enumerate()
        .map(|(n, name)| version(kind, name, n == 0));
    let mut meta = meta.clone();
    meta["name"] = json!(format!("{}.{}", kind.plural, kind.group));
    let scope = match kind.is_namespaced() {
        true => "Namespaced",
        false => "Cluster",
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": meta,
        "spec": {
            "group": kind.group,
            "scope": scope,
            "names": {
                "kind": kind.kind,
                "listKind": format!("{}List", kind.kind),
                "plural": kind.plural,
                "singular": kind.singular,
                "shortNames": kind.short_names,
                "categories": categories,
            },
            "versions": versions.collect::<Vec<_>>(),
        },
    })
}

fn version(kind: &Kind, name: &str, preferred: bool) -> Value {
    // Nobody looks at objects of the Gateway API before they are stored, so that unknown fields are
    // for the API server to refuse or to drop.
    let unknown_fields = kind.group != GROUP;
    let mut spec = kind.spec_schema();
    complete(&mut spec, name == "v1alpha3", unknown_fields);
    let mut status = kind.status_schema();
    complete(&mut status, false, unknown_fields);
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
fn complete(schema: &mut Value, old_fields: bool, unknown_fields: bool) {
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
            complete(property, old_fields, unknown_fields);
        }
        if unknown_fields {
            map.insert("x-kubernetes-preserve-unknown-fields".into(), json!(true));
        }
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(inner) {
            complete(inner, old_fields, unknown_fields);
        }
    }
}
