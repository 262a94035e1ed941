//! Structural schemas: pruning, defaults and validation of custom resources.

use regex::Regex;
use serde_json::{Map, Value};

use crate::apiserver::error::FieldError;
use crate::apiserver::meta;

/// Beyond this many faults the rest is not told.
const MAX_ERRORS: usize = 20;

fn is_true(schema: &Value, key: &str) -> bool {
    schema.get(key) == Some(&Value::Bool(true))
}

/// Whether the schema embeds a whole object, whose metadata is not described.
fn embeds(schema: &Value) -> bool {
    is_true(schema, "x-kubernetes-embedded-resource")
}

/// Removes what the schema does not know; returns the paths of what was removed.
pub(in crate::apiserver) fn prune(schema: &Value, object: &mut Value) -> Vec<String> {
    let mut removed = Vec::new();
    prune_at(schema, object, "", true, &mut removed);
    removed
}

fn prune_at(schema: &Value, value: &mut Value, path: &str, root: bool, removed: &mut Vec<String>) {
    match value {
        Value::Object(members) => prune_members(schema, members, path, root, removed),
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for (index, item) in items.iter_mut().enumerate() {
                    prune_at(schema, item, &format!("{path}[{index}]"), false, removed);
                }
            }
        }
        _ => {}
    }
}

fn prune_members(
    schema: &Value,
    members: &mut Map<String, Value>,
    path: &str,
    root: bool,
    removed: &mut Vec<String>,
) {
    let keeps = is_true(schema, "x-kubernetes-preserve-unknown-fields");
    let properties = schema.get("properties").and_then(Value::as_object);
    let additional = schema.get("additionalProperties");
    let is_object = root || embeds(schema);
    members.retain(|key, value| {
        if is_object && matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
            return true;
        }
        let path = join(path, key);
        match (
            properties.and_then(|properties| properties.get(key)),
            additional,
        ) {
            (Some(schema), _) => prune_at(schema, value, &path, false, removed),
            (None, Some(schema @ Value::Object(_))) => {
                prune_at(schema, value, &path, false, removed)
            }
            (None, Some(Value::Bool(true))) => {}
            (None, _) if keeps => {}
            (None, _) => {
                removed.push(path);
                return false;
            }
        }
        true
    });
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// Fills in the schema's defaults.
pub(in crate::apiserver) fn default(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(members) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            for (key, schema) in properties.into_iter().flatten() {
                // A null is as good as absent where nulls are not allowed.
                let absent = members
                    .get(key)
                    .is_none_or(|value| value.is_null() && !is_true(schema, "nullable"));
                if absent && let Some(default) = schema.get("default") {
                    members.insert(key.clone(), default.clone());
                }
            }
            // Nor is one kept that has no default.
            members.retain(|key, value| {
                let known = properties.and_then(|properties| properties.get(key));
                !value.is_null() || known.is_none_or(|schema| is_true(schema, "nullable"))
            });
            for (key, value) in members.iter_mut() {
                let known = properties.and_then(|properties| properties.get(key));
                if let Some(schema) = known.or_else(|| schema.get("additionalProperties")) {
                    default(schema, value);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                items.iter_mut().for_each(|item| default(schema, item));
            }
        }
        _ => {}
    }
}

/// What is wrong with a value.
pub(in crate::apiserver) fn validate(schema: &Value, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    validate_at(schema, object, "", &mut errors);
    errors.truncate(MAX_ERRORS);
    errors
}

fn validate_at(schema: &Value, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let field = if path.is_empty() { "<nil>" } else { path };
    if value.is_null() && is_true(schema, "nullable") {
        return;
    }
    if let Some(error) = type_error(schema, value, field) {
        errors.push(error);
        return;
    }
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        let names: Vec<String> = allowed
            .iter()
            .map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        errors.push(FieldError::unsupported(field, value, &names));
    }
    match value {
        Value::String(text) => validate_text(schema, text, value, field, errors),
        Value::Number(_) => validate_number(schema, value, field, errors),
        Value::Array(items) => validate_items(schema, items, path, errors),
        Value::Object(members) => validate_members(schema, members, path, errors),
        _ => {}
    }
    validate_combinations(schema, value, field, errors);
}

fn type_error(schema: &Value, value: &Value, field: &str) -> Option<FieldError> {
    if is_true(schema, "x-kubernetes-int-or-string") {
        let fits = value.is_string() || value.is_i64() || value.is_u64();
        return (!fits).then(|| wrong_type(field, value, "integer,string"));
    }
    let wanted = schema.get("type").and_then(Value::as_str)?;
    let fits = match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => {
            value.is_i64()
                || value.is_u64()
                || value.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
        "number" => value.is_number(),
        _ => true,
    };
    (!fits).then(|| wrong_type(field, value, wanted))
}

fn wrong_type(field: &str, value: &Value, wanted: &str) -> FieldError {
    let given = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let mut error = FieldError::invalid(
        field,
        &given.into(),
        format!("{field} in body must be of type {wanted}: {given:?}"),
    );
    error.reason = "FieldValueTypeInvalid";
    error
}

fn validate_text(
    schema: &Value,
    text: &str,
    value: &Value,
    field: &str,
    errors: &mut Vec<FieldError>,
) {
    let length = text.chars().count() as u64;
    if schema
        .get("minLength")
        .and_then(Value::as_u64)
        .is_some_and(|least| length < least)
    {
        let detail = format!(
            "{field} in body should be at least {} chars long",
            schema["minLength"]
        );
        errors.push(FieldError::invalid(field, value, detail));
    }
    if schema
        .get("maxLength")
        .and_then(Value::as_u64)
        .is_some_and(|most| length > most)
    {
        let detail = format!(
            "Too long: may not be more than {} bytes",
            schema["maxLength"]
        );
        errors.push(FieldError {
            reason: "FieldValueTooLong",
            field: field.to_owned(),
            detail,
        });
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
        && let Ok(regex) = Regex::new(pattern)
        && !regex.is_match(text)
    {
        errors.push(FieldError::invalid(
            field,
            value,
            format!("{field} in body should match '{pattern}'"),
        ));
    }
    let format_fits = match schema.get("format").and_then(Value::as_str) {
        Some("date-time") => text.parse::<jiff::Timestamp>().is_ok(),
        Some("ipv4") => text.parse::<std::net::Ipv4Addr>().is_ok(),
        Some("ipv6") => text.parse::<std::net::Ipv6Addr>().is_ok(),
        _ => true,
    };
    if !format_fits {
        let format = &schema["format"];
        errors.push(FieldError::invalid(
            field,
            value,
            format!("{field} in body must be of type {format}: {value}"),
        ));
    }
}

fn validate_number(schema: &Value, value: &Value, field: &str, errors: &mut Vec<FieldError>) {
    let number = value.as_f64().unwrap_or_default();
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    if let Some(least) = bound("minimum") {
        let exclusive = is_true(schema, "exclusiveMinimum");
        if number < least || (exclusive && number <= least) {
            let word = if exclusive {
                "greater than"
            } else {
                "greater than or equal to"
            };
            errors.push(FieldError::invalid(
                field,
                value,
                format!("{field} in body should be {word} {least}"),
            ));
        }
    }
    if let Some(most) = bound("maximum") {
        let exclusive = is_true(schema, "exclusiveMaximum");
        if number > most || (exclusive && number >= most) {
            let word = if exclusive {
                "less than"
            } else {
                "less than or equal to"
            };
            errors.push(FieldError::invalid(
                field,
                value,
                format!("{field} in body should be {word} {most}"),
            ));
        }
    }
    if let Some(of) = bound("multipleOf")
        && of != 0.0
        && (number / of).fract() != 0.0
    {
        errors.push(FieldError::invalid(
            field,
            value,
            format!("{field} in body should be a multiple of {of}"),
        ));
    }
}

fn validate_items(schema: &Value, items: &[Value], path: &str, errors: &mut Vec<FieldError>) {
    check_count(
        schema,
        items.len(),
        path,
        ("minItems", "maxItems", "items"),
        errors,
    );
    for (index, item) in items.iter().enumerate() {
        let at = format!("{path}[{index}]");
        if let Some(schema) = schema.get("items") {
            validate_at(schema, item, &at, errors);
        }
        if items[..index]
            .iter()
            .any(|other| is_same_item(schema, other, item))
        {
            errors.push(FieldError::duplicate(at, item));
        }
    }
}

/// Whether two items may not stand together in a set or a map.
fn is_same_item(schema: &Value, one: &Value, other: &Value) -> bool {
    match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => one == other,
        Some("map") => {
            let keys = meta::list(schema, "/x-kubernetes-list-map-keys");
            keys.iter()
                .filter_map(Value::as_str)
                .all(|key| one.get(key) == other.get(key))
        }
        _ => is_true(schema, "uniqueItems") && one == other,
    }
}

fn check_count(
    schema: &Value,
    count: usize,
    path: &str,
    (least, most, what): (&str, &str, &str),
    errors: &mut Vec<FieldError>,
) {
    let count = count as u64;
    if schema
        .get(least)
        .and_then(Value::as_u64)
        .is_some_and(|least| count < least)
    {
        let detail = format!(
            "{path} in body should have at least {} {what}",
            schema[least]
        );
        errors.push(FieldError::invalid(path, &count.into(), detail));
    }
    if schema
        .get(most)
        .and_then(Value::as_u64)
        .is_some_and(|most| count > most)
    {
        let detail = format!(
            "Too many: {count}: must have at most {} {what}",
            schema[most]
        );
        errors.push(FieldError {
            reason: "FieldValueTooMany",
            field: path.to_owned(),
            detail,
        });
    }
}

fn validate_members(
    schema: &Value,
    members: &Map<String, Value>,
    path: &str,
    errors: &mut Vec<FieldError>,
) {
    check_count(
        schema,
        members.len(),
        path,
        ("minProperties", "maxProperties", "properties"),
        errors,
    );
    for required in meta::list(schema, "/required")
        .iter()
        .filter_map(Value::as_str)
    {
        if !members.contains_key(required) {
            errors.push(FieldError::required(join(path, required), ""));
        }
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    for (key, value) in members {
        // Metadata has its own rules; the schema may only restrict the name further.
        if path.is_empty() && key == "metadata" {
            continue;
        }
        let known = properties.and_then(|properties| properties.get(key));
        if let Some(schema) = known.or_else(|| schema.get("additionalProperties")) {
            validate_at(schema, value, &join(path, key), errors);
        }
    }
}

fn validate_combinations(schema: &Value, value: &Value, field: &str, errors: &mut Vec<FieldError>) {
    // An int-or-string schema usually says so by anyOf too; that was checked above.
    if is_true(schema, "x-kubernetes-int-or-string") {
        return;
    }
    let fits = |schema: &&Value| {
        let mut errors = Vec::new();
        validate_at(schema, value, field, &mut errors);
        errors.is_empty()
    };
    let of = |key: &str| meta::list(schema, &format!("/{key}"));
    for schema in of("allOf") {
        validate_at(
            schema,
            value,
            if field == "<nil>" { "" } else { field },
            errors,
        );
    }
    let mut refuse = |what: &str| {
        errors.push(FieldError::invalid(
            field,
            &"".into(),
            format!("{field:?} must validate {what}"),
        ))
    };
    if !of("anyOf").is_empty() && !of("anyOf").iter().any(|schema| fits(&schema)) {
        refuse("at least one schema (anyOf)");
    }
    if !of("oneOf").is_empty() {
        match of("oneOf").iter().filter(fits).count() {
            1 => {}
            0 => refuse("one and only one schema (oneOf). Found none valid"),
            _ => refuse("one and only one schema (oneOf). Found more than one valid"),
        }
    }
    if let Some(not) = schema.get("not")
        && fits(&not)
    {
        refuse("the schema (not)");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({"type": "object", "properties": {"spec": {"type": "object", "required": ["hosts"], "properties": {
            "hosts": {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": "^[a-z.]+$"}},
            "weight": {"type": "integer", "minimum": 0, "maximum": 100, "default": 1},
            "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "mode": {"type": "string", "enum": ["A", "B"]},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "match": {"type": "object", "properties": {"exact": {"type": "string"}, "prefix": {"type": "string"}},
                      "oneOf": [{"required": ["exact"]}, {"required": ["prefix"]}]},
        }}}})
    }

    #[test]
    fn unknown_members_go() {
        let mut object = json!({"apiVersion": "v", "kind": "K", "metadata": {"name": "a"}, "extra": 1,
            "spec": {"hosts": ["a"], "nope": {}, "free": {"any": 1}, "labels": {"x": "y"}}});
        let removed = prune(&schema(), &mut object);
        assert_eq!(removed, ["extra", "spec.nope"]);
        assert_eq!(
            object["spec"],
            json!({"hosts": ["a"], "free": {"any": 1}, "labels": {"x": "y"}})
        );
    }

    #[test]
    fn defaults_are_filled_in() {
        let mut object = json!({"spec": {"hosts": ["a"], "weight": null, "mode": null}});
        default(&schema(), &mut object);
        // What has no default is as if it were not there.
        assert_eq!(object["spec"], json!({"hosts": ["a"], "weight": 1}));
    }

    fn check(spec: Value, expect: &[&str]) {
        let errors: Vec<_> = validate(&schema(), &json!({"spec": spec}))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(errors, expect);
    }

    #[test]
    fn faults_are_named() {
        check(
            json!({"hosts": ["a"], "port": "http", "weight": 5, "mode": "A", "match": {"exact": "x"}}),
            &[],
        );
        check(json!({}), &["spec.hosts: Required value"]);
        check(
            json!({"hosts": ["A"]}),
            &[
                "spec.hosts[0]: Invalid value: \"A\": spec.hosts[0] in body should match '^[a-z.]+$'",
            ],
        );
        check(
            json!({"hosts": ["a"], "weight": "x"}),
            &[
                "spec.weight: Invalid value: \"string\": spec.weight in body must be of type integer: \"string\"",
            ],
        );
        check(
            json!({"hosts": ["a"], "weight": 101}),
            &[
                "spec.weight: Invalid value: 101: spec.weight in body should be less than or equal to 100",
            ],
        );
        check(
            json!({"hosts": ["a"], "mode": "C"}),
            &["spec.mode: Unsupported value: \"C\": supported values: \"A\", \"B\""],
        );
        check(
            json!({"hosts": ["a"], "match": {}}),
            &[
                "spec.match: Invalid value: \"\": \"spec.match\" must validate one and only one schema (oneOf). Found none valid",
            ],
        );
    }
}
