//! Reading and writing pods as JSON.

use serde_json::{Map, Value, json};

/// The field as an object, made if it is not there (or null, or of another type).
pub(crate) fn object<'a>(value: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    let slot = &mut value[field];
    if !slot.is_object() {
        *slot = json!({});
    }
    slot.as_object_mut().expect("made one above")
}

/// The field as a list, made if it is not there.
pub(crate) fn list<'a>(value: &'a mut Value, field: &str) -> &'a mut Vec<Value> {
    if !value.is_object() {
        *value = json!({});
    }
    let slot = &mut value[field];
    if !slot.is_array() {
        *slot = json!([]);
    }
    slot.as_array_mut().expect("made one above")
}

/// The items of a list, none if it is not there.
pub(crate) fn items<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value
        .get(field)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// A text within nested objects.
pub(crate) fn text<'a>(value: &'a Value, path: &[&str]) -> Option<&'a str> {
    path.iter()
        .try_fold(value, |value, step| value.get(step))?
        .as_str()
}

pub(crate) fn annotation<'a>(pod: &'a Value, key: &str) -> Option<&'a str> {
    text(pod, &["metadata", "annotations", key])
}

pub(crate) fn label<'a>(pod: &'a Value, key: &str) -> Option<&'a str> {
    text(pod, &["metadata", "labels", key])
}

/// A name as a label has it, which is shorter and ends in a letter or a digit.
pub(crate) fn label_value(name: &str) -> &str {
    const LONGEST: usize = 63;
    let start = name.get(..LONGEST).unwrap_or(name);
    start.trim_end_matches(['-', '.', '_'])
}

/// Whether an init container stays beside the application: it restarts.
pub(crate) fn stays(init: &Value) -> bool {
    text(init, &["restartPolicy"]) == Some("Always")
}

pub(crate) fn name(value: &Value) -> &str {
    value
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default()
}
