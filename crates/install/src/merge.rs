//! How one layer of an installation is laid over another.

use serde_json::{Map, Value};

/// Lists whose items are known by name, so that a layer changes the one that it names.
const NAMED: [&str; 5] = [
    "ingressGateways",
    "egressGateways",
    "env",
    "volumes",
    "volumeMounts",
];

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
                merge_named(base.entry(name).or_insert(Value::Null), items);
            }
            _ => merge(base.entry(name).or_insert(Value::Null), value),
        }
    }
}

fn merge_named(base: &mut Value, items: &[Value]) {
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
            Some(other) => merge(other, item),
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
    fn gateways_are_known_by_name() {
        check(
            json!({"ingressGateways": [{"name": "a", "enabled": true}]}),
            &json!({"ingressGateways": [{"name": "b"}, {"name": "a", "enabled": false}]}),
            &json!({"ingressGateways": [{"name": "a", "enabled": false}, {"name": "b"}]}),
        );
    }
}
