//! Compares a document with the schema of its kind: unknown fields, wrong types, unknown names.
//!
//! serde would stop at the first fault and not say where; a user wants all of them at once.

use serde_json::Value;

use crate::fault::{Faults, Path};

/// The one reason that does not keep a document from being read.
pub const UNKNOWN_FIELD: &str = "unknown field";

/// Whether a value says more than its absence would.
pub fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(_) => true,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        // A message that is there with nothing in it is there.
        Value::Object(_) => true,
    }
}

/// Adds what of a document its schema does not know, or knows otherwise.
pub fn check(value: &Value, schema: &Value, at: &Path<'_>, faults: &mut Faults) {
    // Null is "not set", as protobuf has it.
    if value.is_null() {
        return;
    }
    if let Some(names) = schema.get("enum").and_then(Value::as_array) {
        return check_name(value, names, at, faults);
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("object") => check_object(value, schema, at, faults),
        Some("array") => check_array(value, schema, at, faults),
        Some("string") => check_string(value, schema, at, faults),
        Some("boolean") if !value.is_boolean() => wrong_type(value, "true or false", at, faults),
        Some("integer") => check_integer(value, schema, at, faults),
        Some("number") if !value.is_number() => wrong_type(value, "a number", at, faults),
        _ => {}
    }
}

fn check_object(value: &Value, schema: &Value, at: &Path<'_>, faults: &mut Faults) {
    let Some(map) = value.as_object() else {
        return wrong_type(value, "an object", at, faults);
    };
    if let Some(items) = schema.get("additionalProperties") {
        for (key, item) in map {
            check(item, items, &at.key(key), faults);
        }
    }
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return;
    };
    for (key, item) in map {
        match properties.get(key) {
            Some(property) => check(item, property, &at.field(key), faults),
            None => {
                let known: Vec<&str> = properties.keys().map(String::as_str).collect();
                faults.add(&at.field(key), UNKNOWN_FIELD, suggestion(key, &known));
            }
        }
    }
}

fn check_array(value: &Value, schema: &Value, at: &Path<'_>, faults: &mut Faults) {
    let Some(items) = value.as_array() else {
        return wrong_type(value, "a list", at, faults);
    };
    for (n, item) in items.iter().enumerate() {
        check(item, &schema["items"], &at.index(n), faults);
    }
}

fn check_string(value: &Value, schema: &Value, at: &Path<'_>, faults: &mut Faults) {
    let Some(text) = value.as_str() else {
        return wrong_type(value, "a text", at, faults);
    };
    let duration = schema
        .get("x-lateen-format")
        .is_some_and(|format| format == "duration");
    if duration && text.parse::<crate::Duration>().is_err() {
        faults.add(
            at,
            format!("invalid duration {text:?}"),
            "write a number with a unit, as in 5s, 1.5s, 100ms or 1h",
        );
    }
}

fn check_integer(value: &Value, schema: &Value, at: &Path<'_>, faults: &mut Faults) {
    let whole = value.as_i64().is_some() || value.as_u64().is_some();
    if !whole {
        return wrong_type(value, "a whole number", at, faults);
    }
    let text = |key: &str| schema.get(key).and_then(Value::as_str);
    let number = value.as_i64();
    let (unsigned, fits) = match (text("format"), text("x-lateen-format")) {
        (Some("int32"), _) => (false, number.is_some_and(|n| i32::try_from(n).is_ok())),
        (_, Some("uint32")) => (true, number.is_some_and(|n| u32::try_from(n).is_ok())),
        (_, Some("uint64")) => (true, value.as_u64().is_some()),
        _ => (false, number.is_some()),
    };
    if fits {
        return;
    }
    if unsigned && number.is_some_and(|n| n < 0) {
        let reason = format!("{value} must not be negative");
        return faults.add(at, reason, "write zero or more");
    }
    faults.add(
        at,
        format!("{value} is too large"),
        "write a smaller number",
    );
}

/// Compares a document of the right shape with the limits of its kind, for what nobody has found a
/// better word.
pub fn limits(value: &Value, schema: &Value, at: &Path<'_>, faults: &mut Faults) {
    let number = |key: &str| schema.get(key).and_then(Value::as_f64);
    match value {
        Value::Number(given) => {
            let given = given.as_f64().unwrap_or_default();
            if let Some(least) = number("minimum").filter(|least| given < *least) {
                new_fault(
                    at,
                    format!("{value} is too small"),
                    format!("write {least} or more"),
                    faults,
                );
            }
            if let Some(most) = number("maximum").filter(|most| given > *most) {
                new_fault(
                    at,
                    format!("{value} is too large"),
                    format!("write {most} or less"),
                    faults,
                );
            }
        }
        Value::String(text) => {
            let count = text.chars().count();
            check_count(count, ("minLength", "maxLength"), schema, at, faults);
        }
        Value::Array(items) => {
            check_count(items.len(), ("minItems", "maxItems"), schema, at, faults);
            if let Some(each) = schema.get("items") {
                for (n, item) in items.iter().enumerate() {
                    limits(item, each, &at.index(n), faults);
                }
            }
        }
        Value::Object(map) => {
            let bounds = ("minProperties", "maxProperties");
            check_count(map.len(), bounds, schema, at, faults);
            for field in schema["required"].as_array().into_iter().flatten() {
                let field = field.as_str().unwrap_or_default();
                if map.get(field).is_none_or(Value::is_null) {
                    new_fault(&at.field(field), "Required value", "set it", faults);
                }
            }
            for (key, item) in map {
                if let Some(property) = schema["properties"].get(key) {
                    limits(item, property, &at.field(key), faults);
                } else if let Some(each) = schema.get("additionalProperties") {
                    limits(item, each, &at.key(key), faults);
                }
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn check_count(
    count: usize,
    (least, most): (&str, &str),
    schema: &Value,
    at: &Path<'_>,
    faults: &mut Faults,
) {
    let bound = |key: &str| schema.get(key).and_then(Value::as_u64);
    let count = count as u64;
    if bound(least).is_some_and(|least| count < least) {
        new_fault(at, "Required value", "it must not be empty", faults);
    }
    if let Some(most) = bound(most).filter(|most| count > *most) {
        new_fault(
            at,
            format!("has a length of {count}"),
            format!("{most} is the most"),
            faults,
        );
    }
}

/// What is wrong with a field, or with a part of it, is told once.
fn new_fault(
    at: &Path<'_>,
    reason: impl Into<String>,
    help: impl Into<String>,
    faults: &mut Faults,
) {
    let field = at.to_string();
    let is_within = |fault: &crate::fault::Fault| {
        let rest = fault.field.strip_prefix(&field);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    if !faults.0.iter().any(is_within) {
        faults.add(at, reason, help);
    }
}

fn check_name(value: &Value, names: &[Value], at: &Path<'_>, faults: &mut Faults) {
    if names.contains(value) {
        return;
    }
    let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
    faults.add(
        at,
        format!("Unsupported value: {value}"),
        format!("use one of {}", names.join(", ")),
    );
}

fn wrong_type(value: &Value, wanted: &str, at: &Path<'_>, faults: &mut Faults) {
    let found = match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    faults.add(at, format!("is {found}"), format!("must be {wanted}"));
}

/// The nearest of the known names, or all of them.
pub fn suggestion(field: &str, known: &[&str]) -> String {
    let near = known.iter().map(|name| (distance(field, name), name)).min();
    match near {
        Some((far, name)) if far <= 3 && far < name.len() => format!("did you mean {name}?"),
        _ if known.is_empty() => "this object has no fields".into(),
        _ => format!("known here: {}", known.join(", ")),
    }
}

/// Edit distance, case left out: most wrong names are wrong by case.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_ascii_lowercase(), b.to_ascii_lowercase());
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let above = row[j + 1];
            let change = diagonal + usize::from(ca != *cb);
            row[j + 1] = change.min(above + 1).min(row[j] + 1);
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use crate::{
        Schema,
        networking::{ReadinessProbe, ServiceEntry, VirtualService},
    };
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn beyond<T: Schema>(spec: &Value, want: &[&str]) {
        let mut faults = Faults::default();
        limits(spec, &T::schema(), &Path::root("spec"), &mut faults);
        let found: Vec<String> = faults.0.iter().map(ToString::to_string).collect();
        assert_eq!(found, want);
    }

    #[test]
    fn what_is_beyond_limits_is_found() {
        beyond::<ReadinessProbe>(
            &json!({"periodSeconds": -1, "httpGet": {"port": 70000}}),
            &[
                "spec.periodSeconds: -1 is too small; write 0 or more",
                "spec.httpGet.port: 70000 is too large; write 65535 or less",
            ],
        );
        beyond::<ServiceEntry>(
            &json!({"hosts": ["a".repeat(300)]}),
            &["spec.hosts[0]: has a length of 300; 256 is the most"],
        );
        beyond::<ServiceEntry>(&json!({}), &["spec.hosts: Required value; set it"]);
    }

    #[test]
    fn every_fault_is_found_with_its_place() {
        let mut faults = Faults::default();
        let spec = json!({
            "hosts": "reviews",
            "htpp": [],
            "http": [{"route": [{"weight": "90"}], "timeout": "5", "Retries": {}}],
            "tcp": [{"match": [{"port": -1}]}],
        });
        check(
            &spec,
            &VirtualService::schema(),
            &Path::root("spec"),
            &mut faults,
        );
        let found: Vec<String> = faults.0.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "spec.hosts: is a text; must be a list",
                "spec.htpp: unknown field; did you mean http?",
                "spec.http[0].route[0].weight: is a text; must be a whole number",
                "spec.http[0].timeout: invalid duration \"5\"; write a number with a unit, as in 5s, 1.5s, 100ms or 1h",
                "spec.http[0].Retries: unknown field; did you mean retries?",
                "spec.tcp[0].match[0].port: -1 must not be negative; write zero or more",
            ]
        );
    }
}
