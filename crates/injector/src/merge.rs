//! Lays what a user wrote of a container over what the template has.

use serde_json::Value;

/// The fields that tell the items of a list apart, where a list is a set.
fn identity(list: &str) -> Option<&'static [&'static str]> {
    match list {
        "env" | "volumes" => Some(&["name"]),
        "volumeMounts" => Some(&["mountPath"]),
        "ports" => Some(&["containerPort", "protocol"]),
        _ => None,
    }
}

/// Objects are merged field by field, sets item by item; the rest is replaced.
pub(crate) fn merge(base: &mut Value, over: &Value) {
    let (Some(base_map), Some(over_map)) = (base.as_object_mut(), over.as_object()) else {
        *base = over.clone();
        return;
    };
    for (key, value) in over_map {
        match base_map.get_mut(key) {
            None => {
                base_map.insert(key.clone(), value.clone());
            }
            Some(held) => match (identity(key), held.as_array_mut(), value.as_array()) {
                (Some(id), Some(held), Some(items)) => merge_set(held, items, id),
                _ => merge(held, value),
            },
        }
    }
}

fn merge_set(held: &mut Vec<Value>, items: &[Value], id: &[&str]) {
    for item in items {
        let is_same = |other: &&mut Value| id.iter().all(|key| part(other, key) == part(item, key));
        match held.iter_mut().find(is_same) {
            Some(other) => *other = item.clone(),
            None => held.push(item.clone()),
        }
    }
}

/// A field of an item; Kubernetes' default where a port does not say its protocol.
pub(crate) fn part<'a>(item: &'a Value, key: &str) -> Option<&'a Value> {
    static TCP: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| "TCP".into());
    match item.get(key) {
        None if key == "protocol" => Some(&TCP),
        found => found,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sets_merge_and_lists_are_replaced() {
        let mut base =
            json!({"args": ["a", "b"], "env": [{"name": "A", "value": "1"}], "tty": false});
        let over = json!({"args": ["c"], "env": [{"name": "A", "value": "2"}, {"name": "B"}], "tty": true});
        merge(&mut base, &over);
        assert_eq!(
            base,
            json!({"args": ["c"], "env": [{"name": "A", "value": "2"}, {"name": "B"}], "tty": true})
        );
    }

    #[test]
    fn ports_of_two_protocols_may_have_one_number() {
        let udp = json!({"containerPort": 53, "protocol": "UDP"});
        let mut base = json!({"ports": [{"containerPort": 53, "name": "a"}, udp]});
        let tcp = json!({"containerPort": 53, "protocol": "TCP"});
        merge(&mut base, &json!({"ports": [tcp]}));
        assert_eq!(base, json!({"ports": [tcp, udp]}));
    }
}
