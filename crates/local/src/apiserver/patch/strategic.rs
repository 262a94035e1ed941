//! Strategic merge patches: lists of objects are merged by a key, others are replaced.

use serde_json::{Map, Value};

use crate::apiserver::error::ApiError;
use crate::apiserver::meta;

/// The keys by which the well-known lists are merged, by the name of the list.
///
/// A few names mean different lists in different places; those are told apart by the members of
/// their items, see [`merge_key`].
const MERGE_KEYS: &[(&str, &str)] = &[
    ("conditions", "type"),
    ("containers", "name"),
    ("env", "name"),
    ("ephemeralContainers", "name"),
    ("hostAliases", "ip"),
    ("imagePullSecrets", "name"),
    ("initContainers", "name"),
    ("ownerReferences", "uid"),
    ("podIPs", "ip"),
    ("hostIPs", "ip"),
    ("resourceClaims", "name"),
    ("secrets", "name"),
    ("topologySpreadConstraints", "topologyKey"),
    ("volumeDevices", "devicePath"),
    ("volumeMounts", "mountPath"),
    ("volumes", "name"),
    ("webhooks", "name"),
];

/// Lists of plain values that are merged as sets.
pub(in crate::apiserver) const SETS: &[&str] = &["finalizers", "podCIDRs"];

/// The merge key of a list, from its name and its items.
pub(in crate::apiserver) fn merge_key(field: &str, items: &[Value]) -> Option<&'static str> {
    match field {
        // Containers' ports have containerPort; services' ports have port.
        "ports" if items.iter().any(|item| item.get("containerPort").is_some()) => {
            Some("containerPort")
        }
        "ports" if items.iter().any(|item| item.get("port").is_some()) => Some("port"),
        // A node's status.addresses are objects, those of endpoints are atomic.
        "addresses" if items.iter().any(|item| item.get("type").is_some()) => Some("type"),
        "ports" | "addresses" => None,
        _ => MERGE_KEYS
            .iter()
            .find(|(name, _)| *name == field)
            .map(|(_, key)| *key),
    }
}

/// Applies a patch in place.
///
/// # Errors
/// 400 for an unknown directive or an item without its merge key.
pub(in crate::apiserver) fn merge(target: &mut Value, patch: &Value) -> Result<(), ApiError> {
    let Some(patch) = patch.as_object() else {
        return Err(ApiError::bad_request(
            "a strategic merge patch must be an object",
        ));
    };
    merge_map(target, patch)
}

fn merge_map(target: &mut Value, patch: &Map<String, Value>) -> Result<(), ApiError> {
    match patch.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            *target = Value::Object(
                patch
                    .iter()
                    .filter(|(key, _)| !key.starts_with('$'))
                    .map(own)
                    .collect(),
            );
            return Ok(());
        }
        Some("delete") => {
            *target = Value::Object(Map::new());
            return Ok(());
        }
        Some("merge") | None => {}
        Some(other) => {
            return Err(ApiError::bad_request(format!(
                "unknown patch directive {other:?}"
            )));
        }
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    retain_keys(target, patch);
    for (key, value) in patch {
        if let Some(list) = key.strip_prefix("$deleteFromPrimitiveList/") {
            delete_from_set(target, list, value);
        }
    }
    for (key, value) in patch.iter().filter(|(key, _)| !key.starts_with('$')) {
        merge_member(target, key, value)?;
    }
    for (key, order) in patch {
        if let Some(list) = key.strip_prefix("$setElementOrder/") {
            reorder(target, list, order);
        }
    }
    Ok(())
}

fn own((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

fn retain_keys(target: &mut Value, patch: &Map<String, Value>) {
    let (Some(keep), Some(members)) = (
        patch.get("$retainKeys").and_then(Value::as_array),
        target.as_object_mut(),
    ) else {
        return;
    };
    members.retain(|key, _| keep.iter().any(|kept| kept == key.as_str()));
}

fn delete_from_set(target: &mut Value, list: &str, values: &Value) {
    let values = values.as_array().map_or(&[][..], Vec::as_slice);
    if let Some(items) = target.get_mut(list).and_then(Value::as_array_mut) {
        items.retain(|item| !values.contains(item));
    }
}

fn merge_member(target: &mut Value, key: &str, value: &Value) -> Result<(), ApiError> {
    let members = target
        .as_object_mut()
        .expect("made an object by the caller");
    match value {
        Value::Null => {
            members.shift_remove(key);
        }
        Value::Object(patch) => {
            let absent = !members.contains_key(key);
            if absent && patch.get("$patch").and_then(Value::as_str) == Some("delete") {
                return Ok(());
            }
            let deleted = patch.get("$patch").and_then(Value::as_str) == Some("delete");
            merge_map(members.entry(key).or_insert(Value::Null), patch)?;
            if deleted {
                members.shift_remove(key);
            }
        }
        Value::Array(items) => merge_list(
            members
                .entry(key)
                .or_insert_with(|| Value::Array(Vec::new())),
            key,
            items,
        )?,
        scalar => {
            members.insert(key.to_owned(), scalar.clone());
        }
    }
    Ok(())
}

fn merge_list(target: &mut Value, field: &str, patch: &[Value]) -> Result<(), ApiError> {
    let replaces = patch
        .iter()
        .any(|item| item.get("$patch").and_then(Value::as_str) == Some("replace"));
    let real = || {
        patch
            .iter()
            .filter(|item| item.get("$patch").and_then(Value::as_str) != Some("replace"))
    };
    let old = target.as_array().cloned().unwrap_or_default();
    if SETS.contains(&field) && !replaces {
        let mut merged = old;
        merged.extend(
            patch
                .iter()
                .filter(|item| !target.as_array().is_some_and(|old| old.contains(item)))
                .cloned(),
        );
        *target = Value::Array(merged);
        return Ok(());
    }
    let key = merge_key(field, patch).or_else(|| merge_key(field, &old));
    let Some(key) = key.filter(|_| !replaces) else {
        *target = Value::Array(real().cloned().collect());
        return Ok(());
    };
    let mut merged = old;
    for item in patch {
        merge_item(&mut merged, field, key, item)?;
    }
    *target = Value::Array(merged);
    Ok(())
}

fn merge_item(
    items: &mut Vec<Value>,
    field: &str,
    key: &str,
    patch: &Value,
) -> Result<(), ApiError> {
    let Some(name) = patch.get(key) else {
        return Err(ApiError::bad_request(format!(
            "map: {patch} does not contain declared merge key: {key} (in list {field:?})"
        )));
    };
    let same = |item: &Value| item.get(key) == Some(name) && same_protocol(field, item, patch);
    let at = items.iter().position(same);
    if patch.get("$patch").and_then(Value::as_str) == Some("delete") {
        items.retain(|item| !same(item));
        return Ok(());
    }
    let patch = patch.as_object().expect("has a member");
    match at {
        Some(at) => merge_map(&mut items[at], patch),
        None => {
            let mut item = Value::Object(Map::new());
            merge_map(&mut item, patch)?;
            items.push(item);
            Ok(())
        }
    }
}

/// One port number may be there once for each protocol.
fn same_protocol(field: &str, item: &Value, patch: &Value) -> bool {
    let protocol = |value: &Value| meta::text(value, "/protocol").map(str::to_owned);
    match (field, protocol(item), protocol(patch)) {
        ("ports", Some(one), Some(other)) => one == other,
        _ => true,
    }
}

/// Brings the items into the order that the patch gives; those it does not name keep their place at the end.
fn reorder(target: &mut Value, field: &str, order: &Value) {
    let order = order.as_array().map_or(&[][..], Vec::as_slice);
    let Some(items) = target.get_mut(field).and_then(Value::as_array_mut) else {
        return;
    };
    let key = merge_key(field, items);
    let rank = |item: &Value| {
        let same = |wanted: &Value| match key {
            Some(key) => wanted.get(key) == item.get(key) && same_protocol(field, item, wanted),
            None => wanted == item,
        };
        order.iter().position(same).unwrap_or(usize::MAX)
    };
    items.sort_by_key(|item| rank(item));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(old: Value, patch: Value, expect: Value) {
        let mut target = old;
        merge(&mut target, &patch).expect("applies");
        assert_eq!(target, expect);
    }

    #[test]
    fn lists_are_merged_by_key() {
        check(
            json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}),
            json!({"containers": [{"name": "b", "image": "2"}, {"name": "c"}]}),
            json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}, {"name": "c"}]}),
        );
        check(
            json!({"containers": [{"name": "a"}, {"name": "b"}]}),
            json!({"containers": [{"name": "a", "$patch": "delete"}], "$setElementOrder/containers": [{"name": "b"}]}),
            json!({"containers": [{"name": "b"}]}),
        );
        check(
            json!({"ports": [{"port": 1, "name": "x"}]}),
            json!({"ports": [{"port": 1, "targetPort": 2}]}),
            json!({"ports": [{"port": 1, "name": "x", "targetPort": 2}]}),
        );
        check(
            json!({"args": ["a"]}),
            json!({"args": ["b"]}),
            json!({"args": ["b"]}),
        );
    }

    #[test]
    fn directives() {
        check(
            json!({"labels": {"a": "1", "b": "2"}}),
            json!({"labels": {"a": null, "c": "3"}}),
            json!({"labels": {"b": "2", "c": "3"}}),
        );
        check(
            json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {}}}),
            json!({"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}),
            json!({"strategy": {"type": "Recreate"}}),
        );
        check(
            json!({"spec": {"a": 1}}),
            json!({"spec": {"$patch": "replace", "b": 2}}),
            json!({"spec": {"b": 2}}),
        );
        check(
            json!({"finalizers": ["a", "b"]}),
            json!({"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]}),
            json!({"finalizers": ["b", "c"]}),
        );
        assert!(merge(&mut json!({}), &json!({"containers": [{"image": "x"}]})).is_err());
    }
}
