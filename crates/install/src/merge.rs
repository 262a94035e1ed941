//! How one layer of an installation is laid over another.

use serde_json::{Map, Value};

/// Lists whose items are known by name, so that a layer changes the one that it names.
const NAMED: [&str; 2] = ["ingressGateways", "egressGateways"];
/// Lists whose items are known by name and say one thing, so that a layer's item takes the place of
/// the other: a variable has one source, a volume too.
const WHOLE: [&str; 3] = ["env", "volumes", "volumeMounts"];

/// Lays a document over another: objects are merged, null takes away, everything else replaces.
pub(crate) fn merge(base: &mut Value, over: &Value) {
    let Some(fields) = over.as_object() else {
        *base = over.clone();
        return;
    };
    if !base.is_object() {
        *base = Value::Object(Map::new());
    }
    let Some(base) = base.as_object_mut() else {
        return;
    };
    for (name, value) in fields {
        match value {
            Value::Null => {
                base.shift_remove(name);
            }
            Value::Array(items) if NAMED.contains(&name.as_str()) => {
                let base = base.entry(name).or_insert(Value::Null);
                by_name(base, items, merge);
            }
            Value::Array(items) if WHOLE.contains(&name.as_str()) => {
                let base = base.entry(name).or_insert(Value::Null);
                by_name(base, items, |held, item| held.clone_from(item));
            }
            _ => merge(base.entry(name).or_insert(Value::Null), value),
        }
    }
}

/// Lays the items of a list over those of the same name; others are added.
fn by_name(base: &mut Value, items: &[Value], lay: impl Fn(&mut Value, &Value)) {
    if !base.is_array() {
        *base = Value::Array(Vec::new());
    }
    let Some(held) = base.as_array_mut() else {
        return;
    };
    for item in items {
        let same = held
            .iter_mut()
            .find(|other| !item["name"].is_null() && other["name"] == item["name"]);
        match same {
            Some(other) => lay(other, item),
            None => held.push(item.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(mut base: Value, over: &Value, want: &Value) {
        merge(&mut base, over);
        assert_eq!(base, *want);
    }

    #[test]
    fn layers_change_what_they_name() {
        check(
            json!({"a": {"b": 1, "c": [1, 2]}}),
            &json!({"a": {"c": [3], "d": "x"}}),
            &json!({"a": {"b": 1, "c": [3], "d": "x"}}),
        );
        check(
            json!({"a": 1, "b": 2}),
            &json!({"a": null}),
            &json!({"b": 2}),
        );
        check(
            json!({"a": [1]}),
            &json!({"a": {"b": 1}}),
            &json!({"a": {"b": 1}}),
        );
    }

    #[test]
    fn a_variable_has_one_source() {
        check(
            json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {}}}, {"name": "B"}]}),
            &json!({"env": [{"name": "A", "value": "x"}]}),
            &json!({"env": [{"name": "A", "value": "x"}, {"name": "B"}]}),
        );
    }

    #[test]
    fn gateways_are_known_by_name() {
        check(
            json!({"ingressGateways": [{"name": "a", "enabled": true}]}),
            &json!({"ingressGateways": [{"name": "b"}, {"name": "a", "enabled": false}]}),
            &json!({"ingressGateways": [{"name": "a", "enabled": false}, {"name": "b"}]}),
        );
    }
}
