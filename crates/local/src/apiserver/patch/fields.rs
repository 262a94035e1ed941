//! Sets of fields as `metadata.managedFields` writes them (FieldsV1), and walks over them.
//!
//! A set is a tree: `f:name` is a member, `k:{…}` an item of a list that is keyed, `v:…` one of a
//! list that is a set, `.` the thing itself; a leaf is an empty map.

use serde_json::{Map, Value, json};

use super::strategic;
use crate::apiserver::meta;

/// A set of fields.
pub(super) type Fields = Map<String, Value>;

/// How the lists of an object are merged: by tables for builtin kinds, by schema for custom ones.
#[derive(Clone, Copy)]
pub(super) enum Typing<'a> {
    Builtin,
    Schema(Option<&'a Value>),
}

/// What kind of list this is.
pub(super) enum List {
    Atomic,
    Set,
    Keyed(Vec<String>),
}

impl<'a> Typing<'a> {
    pub(super) fn member(self, key: &str) -> Self {
        match self {
            Self::Builtin => Self::Builtin,
            Self::Schema(schema) => Self::Schema(schema.and_then(|schema| {
                let named = schema
                    .get("properties")
                    .and_then(|properties| properties.get(key));
                named.or_else(|| schema.get("additionalProperties"))
            })),
        }
    }

    pub(super) fn item(self) -> Self {
        match self {
            Self::Builtin => Self::Builtin,
            Self::Schema(schema) => Self::Schema(schema.and_then(|schema| schema.get("items"))),
        }
    }

    /// The kind of a list by its name, its schema and its items.
    pub(super) fn list(self, field: &str, items: &[Value]) -> List {
        if matches!(field, "finalizers") {
            return List::Set;
        }
        match self {
            Self::Builtin => match strategic::merge_key(field, items) {
                Some(key @ ("port" | "containerPort")) => {
                    List::Keyed(vec![key.into(), "protocol".into()])
                }
                Some(key) => List::Keyed(vec![key.into()]),
                None => List::Atomic,
            },
            Self::Schema(schema) => {
                match schema.and_then(|schema| meta::text(schema, "/x-kubernetes-list-type")) {
                    Some("set") => List::Set,
                    Some("map") => {
                        let keys = schema
                            .map(|schema| meta::list(schema, "/x-kubernetes-list-map-keys"))
                            .unwrap_or_default();
                        List::Keyed(
                            keys.iter()
                                .filter_map(Value::as_str)
                                .map(str::to_owned)
                                .collect(),
                        )
                    }
                    _ => List::Atomic,
                }
            }
        }
    }
}

/// The step of a set that names an item of a keyed list.
pub(super) fn item_step(keys: &[String], item: &Value) -> String {
    let mut names = Map::new();
    for key in keys {
        let value = item.get(key).cloned();
        // The one key that has a default.
        names.insert(
            key.clone(),
            value.unwrap_or_else(|| {
                if key == "protocol" {
                    "TCP".into()
                } else {
                    Value::Null
                }
            }),
        );
    }
    format!("k:{}", Value::Object(names))
}

/// The steps below a value with the values they lead to; nothing for leaves.
pub(super) fn steps<'v, 't>(
    typing: Typing<'t>,
    field: &str,
    value: &'v Value,
) -> Vec<(String, &'v Value, Typing<'t>)> {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| (format!("f:{key}"), value, typing.member(key)))
            .collect(),
        Value::Array(items) => match typing.list(field, items) {
            List::Atomic => Vec::new(),
            List::Set => items
                .iter()
                .map(|item| (format!("v:{item}"), item, typing.item()))
                .collect(),
            List::Keyed(keys) => items
                .iter()
                .map(|item| (item_step(&keys, item), item, typing.item()))
                .collect(),
        },
        _ => Vec::new(),
    }
}

/// The name of the member that a step names, by which lists are known.
pub(super) fn step_field(step: &str) -> &str {
    step.strip_prefix("f:").unwrap_or_default()
}

/// Every field of a value.
pub(super) fn of(typing: Typing<'_>, field: &str, value: &Value) -> Fields {
    let mut fields = Fields::new();
    for (step, value, typing) in steps(typing, field, value) {
        let mut below = match step.starts_with("v:") {
            true => Fields::new(),
            false => of(typing, step_field(&step), value),
        };
        if step.starts_with("k:") {
            below.insert(".".into(), json!({}));
        }
        fields.insert(step, below.into());
    }
    fields
}

/// Every field whose value is new or has changed.
pub(super) fn changed(typing: Typing<'_>, field: &str, old: &Value, new: &Value) -> Fields {
    let before = steps(typing, field, old);
    let mut fields = Fields::new();
    for (step, value, typing) in steps(typing, field, new) {
        let Some((_, old, _)) = before.iter().find(|(other, _, _)| *other == step) else {
            let mut below = of(typing, step_field(&step), value);
            if step.starts_with("k:") {
                below.insert(".".into(), json!({}));
            }
            fields.insert(step, below.into());
            continue;
        };
        if *old == value {
            continue;
        }
        let below = changed(typing, step_field(&step), old, value);
        let is_leaf = steps(typing, step_field(&step), value).is_empty();
        if is_leaf || !below.is_empty() {
            fields.insert(step, below.into());
        }
    }
    fields
}

/// Every field that is no longer there.
pub(super) fn removed(typing: Typing<'_>, field: &str, old: &Value, new: &Value) -> Fields {
    changed(typing, field, new, old)
        .into_iter()
        .filter_map(|(step, below)| only_missing(typing, field, new, &step, below))
        .collect()
}

fn only_missing(
    typing: Typing<'_>,
    field: &str,
    new: &Value,
    step: &str,
    below: Value,
) -> Option<(String, Value)> {
    let now = steps(typing, field, new);
    let Some((_, value, typing)) = now.iter().find(|(other, _, _)| other == step) else {
        return Some((step.to_owned(), below));
    };
    let Value::Object(below) = below else {
        return None;
    };
    let inner: Fields = below
        .into_iter()
        .filter_map(|(inner, below)| only_missing(*typing, step_field(step), value, &inner, below))
        .collect();
    (!inner.is_empty()).then(|| (step.to_owned(), inner.into()))
}

/// Takes the fields of one set out of another; what is below a leaf goes with it.
pub(super) fn subtract(from: &mut Fields, what: &Fields) {
    for (step, below) in what {
        let below = below.as_object().cloned().unwrap_or_default();
        let Some(Value::Object(rest)) = from.get_mut(step) else {
            continue;
        };
        if below.is_empty() {
            rest.clear();
        } else {
            subtract(rest, &below);
        }
        if rest.is_empty() {
            from.shift_remove(step);
        }
    }
}

/// Adds the fields of one set to another.
pub(super) fn add(to: &mut Fields, what: &Fields) {
    for (step, below) in what {
        let entry = to.entry(step.clone()).or_insert_with(|| json!({}));
        if let (Value::Object(entry), Value::Object(below)) = (entry, below) {
            add(entry, below);
        }
    }
}

/// A step as messages write it.
pub(super) fn shown(step: &str) -> String {
    if let Some(name) = step.strip_prefix("f:") {
        return format!(".{name}");
    }
    let Some(keys) = step.strip_prefix("k:") else {
        return format!("[={}]", step.trim_start_matches("v:"));
    };
    let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
    let pairs: Vec<String> = keys
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    format!("[{}]", pairs.join(","))
}
