//! Custom resource definitions.

use serde_json::{Value, json};

use crate::apiserver::crd::cel;
use crate::apiserver::error::FieldError;
use crate::apiserver::meta;

pub(super) fn default_definition(definition: &mut Value) {
    let names = meta::child(&mut definition["spec"], "names");
    if let Some(kind) = names.get("kind").and_then(Value::as_str).map(str::to_owned) {
        meta::default(names, "singular", kind.to_lowercase());
        meta::default(names, "listKind", format!("{kind}List"));
    }
    let spec = meta::child(definition, "spec");
    meta::default(spec, "conversion", json!({"strategy": "None"}));
}

pub(super) fn validate_definition(definition: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let text = |pointer: &str| meta::text(definition, pointer).unwrap_or_default();
    for field in ["group", "names/plural", "names/kind"] {
        if text(&format!("/spec/{field}")).is_empty() {
            errors.push(FieldError::required(
                format!("spec.{}", field.replace('/', ".")),
                "",
            ));
        }
    }
    if !matches!(text("/spec/scope"), "Namespaced" | "Cluster") {
        errors.push(FieldError::unsupported(
            "spec.scope",
            &definition["spec"]["scope"],
            &["Cluster", "Namespaced"],
        ));
    }
    let expected = format!("{}.{}", text("/spec/names/plural"), text("/spec/group"));
    if meta::name(definition) != expected {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid(
            "metadata.name",
            &meta::name(definition).into(),
            detail,
        ));
    }
    if text("/spec/conversion/strategy") == "Webhook" {
        errors.push(FieldError::forbidden(
            "spec.conversion.strategy",
            "conversion by webhook is not supported",
        ));
    }
    let versions = meta::list(definition, "/spec/versions");
    if versions
        .iter()
        .filter(|version| version["storage"] == true)
        .count()
        != 1
    {
        let shown = definition["spec"]["versions"].clone();
        let shown = if shown.is_null() {
            shown
        } else {
            "<versions>".into()
        };
        errors.push(FieldError::invalid(
            "spec.versions",
            &shown,
            "must have exactly one version marked as storage version",
        ));
    }
    for (index, version) in versions.iter().enumerate() {
        let schema = version.pointer("/schema/openAPIV3Schema");
        if !schema.is_some_and(Value::is_object) {
            errors.push(FieldError::required(
                format!("spec.versions[{index}].schema.openAPIV3Schema"),
                "schemas are required",
            ));
        } else if schema
            .and_then(|schema| schema.get("type"))
            .is_none_or(|kind| kind != "object")
        {
            let field = format!("spec.versions[{index}].schema.openAPIV3Schema.type");
            errors.push(FieldError::required(field, "must not be empty at the root"));
        }
        if let Some(schema) = schema {
            let path = format!("spec.versions[{index}].schema.openAPIV3Schema");
            errors.extend(cel::faults(schema, &path));
        }
    }
    errors
}
