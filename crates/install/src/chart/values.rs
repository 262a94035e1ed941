//! A chart's settings: their file, and the schema by which Helm refuses a misspelt one.

use serde_json::{Map, Value, json};

use super::expression::quoted;
use crate::{ignored::IGNORED, profile};

/// Where images come from.
pub(super) const HUB: &str = crate::installation::HUB;

/// Version of the images.
pub(super) fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Some settings of the profile `default`.
pub(super) fn of_profile(parts: &[&str]) -> Value {
    let profile = profile::profile(profile::DEFAULT).expect("it is there, which tests see to");
    let values = &profile["spec"]["values"];
    parts
        .iter()
        .map(|part| ((*part).to_owned(), values[part].clone()))
        .collect()
}

pub(super) fn yaml(value: &Value) -> String {
    lateen_yaml::to_string(value).expect("JSON is YAML")
}

/// `values.yaml`.
pub(super) fn file(chart: &str, values: &Value) -> String {
    format!(
        "# Settings of the chart {chart}, under the names that the public charts have.\n{}",
        yaml(values)
    )
}

/// Settings of the public charts that have no effect here, of those parts that a chart has.
pub(super) fn ignored(parts: &[&str]) -> impl Iterator<Item = &'static str> {
    let is_here = |path: &&&str| {
        let part = path.split('.').next().unwrap_or_default();
        parts.contains(&part)
    };
    IGNORED.iter().filter(is_here).copied()
}

/// Lines of a chart's notes on what was set and has no effect.
pub(super) fn notes_on_ignored(parts: &[&str]) -> String {
    let mut notes = "{{- $all := omit $.Values \"\" }}\n".to_owned();
    for path in ignored(parts) {
        let keys: Vec<String> = path.split('.').map(quoted).collect();
        notes.push_str(&format!(
            "{{{{- if dig {} \"\" $all }}}}\nWARNING: {path}: not supported, has no effect\n{{{{- end }}}}\n",
            keys.join(" ")
        ));
    }
    notes
}

/// `values.schema.json`, by which Helm refuses a setting that is not known here. Maps that are empty
/// in the file are for whatever anybody writes.
pub(super) fn schema(values: &Value, known: &Value, ignored: &[&str]) -> String {
    let mut schema = shape(values);
    extend(&mut schema, known);
    for path in self::ignored(ignored) {
        let mut at = &mut schema;
        for name in path.split('.') {
            at = &mut at["properties"][name];
        }
        if at.is_null() {
            *at = json!({});
        }
    }
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    format!("{schema:#}\n")
}

/// Adds names that an installation knows beside those of the file. What it leaves to Kubernetes to
/// judge is open, whatever the file has of it.
fn extend(schema: &mut Value, known: &Value) {
    let Some(properties) = known["properties"].as_object() else {
        *schema = json!({});
        return;
    };
    for (name, known) in properties {
        match &mut schema["properties"][name] {
            held @ Value::Null => *held = json!({}),
            held => extend(held, known),
        }
    }
}

fn shape(value: &Value) -> Value {
    let Value::Object(fields) = value else {
        return json!({});
    };
    if fields.is_empty() {
        return json!({"type": ["object", "null"]});
    }
    let properties: Map<String, Value> = fields
        .iter()
        .map(|(name, value)| (name.clone(), shape(value)))
        .collect();
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}
