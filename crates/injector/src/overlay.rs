//! Lays a partial pod over a pod as Kubernetes' strategic merge patch does: lists of containers, volumes
//! and so on are merged by what tells their items apart, `null` takes away, and `$patch` says otherwise.

use serde_json::{Map, Value};

use crate::merge::part;

/// What tells the items of a pod's lists apart; lists that are not here are replaced.
fn identity(list: &str) -> Option<&'static [&'static str]> {
    match list {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "volumes"
        | "env"
        | "imagePullSecrets"
        | "resourceClaims"
        | "schedulingGates" => Some(&["name"]),
        "volumeMounts" => Some(&["mountPath"]),
        "volumeDevices" => Some(&["devicePath"]),
        "ports" => Some(&["containerPort", "protocol"]),
        "hostAliases" => Some(&["ip"]),
        "topologySpreadConstraints" => Some(&["topologyKey", "whenUnsatisfiable"]),
        "ownerReferences" => Some(&["uid"]),
        _ => None,
    }
}

/// Lays `patch` over `pod`.
pub(crate) fn lay(pod: &mut Value, patch: &Value) {
    if let Some(patch) = patch.as_object() {
        lay_object(pod, patch);
    }
}

fn lay_object(base: &mut Value, patch: &Map<String, Value>) {
    if patch.get("$patch").is_some_and(|says| says == "replace") || !base.is_object() {
        *base = Value::Object(Map::new());
    }
    let Some(map) = base.as_object_mut() else {
        return;
    };
    for (key, value) in patch.iter().filter(|(key, _)| !key.starts_with('$')) {
        match value {
            Value::Null => {
                map.shift_remove(key);
            }
            Value::Object(value) => {
                if value.get("$patch").is_some_and(|says| says == "delete") {
                    map.shift_remove(key);
                } else {
                    lay_object(map.entry(key.as_str()).or_insert(Value::Null), value);
                }
            }
            Value::Array(items) => match identity(key) {
                Some(id) => lay_list(
                    map.entry(key.as_str()).or_insert(Value::Null),
                    items,
                    key,
                    id,
                ),
                None => {
                    map.insert(key.clone(), value.clone());
                }
            },
            value => {
                map.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Items that are new come first, in the patch's order.
fn lay_list(base: &mut Value, items: &[Value], list: &str, id: &[&str]) {
    if !base.is_array() {
        *base = Value::Array(Vec::new());
    }
    let Some(held) = base.as_array_mut() else {
        return;
    };
    let mut new = Vec::new();
    for item in items {
        let Some(item_map) = item.as_object() else {
            continue;
        };
        let is_same = |other: &Value| id.iter().all(|key| part(other, key) == part(item, key));
        let at = held.iter().position(is_same);
        match (item.get("$patch").and_then(Value::as_str), at) {
            (Some("delete"), Some(at)) => {
                held.remove(at);
            }
            (Some("delete"), None) => {}
            // A variable's value and its source exclude each other, as the sources of a volume do.
            (_, Some(at)) if ["env", "volumes"].contains(&list) => {
                held[at] = item.clone();
            }
            (_, Some(at)) => lay_object(&mut held[at], item_map),
            (_, None) => {
                let mut made = Value::Null;
                lay_object(&mut made, item_map);
                new.push(made);
            }
        }
    }
    held.splice(0..0, new);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(base: &Value, patch: &Value, want: &Value) {
        let mut found = base.clone();
        lay(&mut found, patch);
        assert_eq!(&found, want, "{patch}");
    }

    #[test]
    fn lists_are_merged_by_their_keys() {
        check(
            &json!({"containers": [{"name": "a", "image": "1", "tty": true}]}),
            &json!({"containers": [{"name": "b"}, {"name": "a", "image": "2"}]}),
            &json!({"containers": [{"name": "b"}, {"name": "a", "image": "2", "tty": true}]}),
        );
        check(
            &json!({"env": [{"name": "a", "valueFrom": {}}, {"name": "b", "value": "1"}]}),
            &json!({"env": [{"name": "a", "value": "2"}]}),
            &json!({"env": [{"name": "a", "value": "2"}, {"name": "b", "value": "1"}]}),
        );
        check(
            &json!({"volumes": [{"name": "a", "emptyDir": {}}]}),
            &json!({"volumes": [{"name": "a", "secret": {"secretName": "s"}}]}),
            &json!({"volumes": [{"name": "a", "secret": {"secretName": "s"}}]}),
        );
        check(
            &json!({"ports": [{"containerPort": 53, "protocol": "UDP"}]}),
            &json!({"ports": [{"containerPort": 53}]}),
            &json!({"ports": [{"containerPort": 53}, {"containerPort": 53, "protocol": "UDP"}]}),
        );
    }

    #[test]
    fn other_lists_are_replaced() {
        check(
            &json!({"args": ["a", "b"], "tolerations": [{"key": "a"}]}),
            &json!({"args": ["c"], "tolerations": []}),
            &json!({"args": ["c"], "tolerations": []}),
        );
    }

    #[test]
    fn what_is_to_go_goes() {
        check(
            &json!({"a": 1, "b": {"c": 1, "d": 2}, "e": {}}),
            &json!({"a": null, "b": {"c": null}, "e": {"$patch": "delete"}}),
            &json!({"b": {"d": 2}}),
        );
        check(
            &json!({"containers": [{"name": "a"}, {"name": "b"}], "x": {"old": 1}}),
            &json!({"containers": [{"name": "a", "$patch": "delete"}], "x": {"$patch": "replace", "new": 1}}),
            &json!({"containers": [{"name": "b"}], "x": {"new": 1}}),
        );
    }
}
