//! Server-side apply: who owns which field, and what follows when owners disagree.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::fields::{self, Fields, List, Typing};
use crate::apiserver::error::ApiError;
use crate::apiserver::meta;
use crate::apiserver::request::{Call, is_true};

/// Members of `metadata` that users own; the rest is the server's.
const OWNED_METADATA: [&str; 4] = ["labels", "annotations", "finalizers", "ownerReferences"];

fn typing(call: &Call) -> Typing<'_> {
    match &call.target.resource.custom {
        Some(custom) => Typing::Schema(custom.schema.as_ref()),
        None => Typing::Builtin,
    }
}

/// The part of an object whose fields have owners.
fn ownable(object: &Value) -> Value {
    let mut object = object.clone();
    let members = object.as_object_mut().expect("checked to be an object");
    members.shift_remove("apiVersion");
    members.shift_remove("kind");
    if let Some(metadata) = members.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| OWNED_METADATA.contains(&key.as_str()));
        if metadata.is_empty() {
            members.shift_remove("metadata");
        }
    }
    object
}

/// One entry of `managedFields`.
struct Entry {
    value: Value,
    fields: Fields,
}

fn entries(object: &Value) -> Vec<Entry> {
    let all = meta::list(object, "/metadata/managedFields").iter();
    all.filter(|value| value.get("manager").is_some())
        .map(|value| Entry {
            value: value.clone(),
            fields: value["fieldsV1"].as_object().cloned().unwrap_or_default(),
        })
        .collect()
}

fn put_entries(object: &mut Value, entries: Vec<Entry>) {
    let list: Vec<Value> = entries
        .into_iter()
        .filter(|entry| !entry.fields.is_empty())
        .map(|entry| {
            let mut value = entry.value;
            value["fieldsV1"] = entry.fields.into();
            value
        })
        .collect();
    meta::metadata(object).insert("managedFields".into(), list.into());
}

fn is_owner(entry: &Entry, manager: &str, operation: &str, subresource: &str) -> bool {
    entry.value["manager"] == manager
        && entry.value["operation"] == operation
        && meta::text(&entry.value, "/subresource").unwrap_or_default() == subresource
}

fn new_entry(call: &Call, manager: &str, operation: &str, fields: Fields) -> Entry {
    let mut value = json!({
        "manager": manager, "operation": operation, "apiVersion": call.target.resource.api_version(),
        "time": meta::now(), "fieldsType": "FieldsV1",
    });
    if !call.target.subresource.is_empty() {
        value["subresource"] = call.target.subresource.clone().into();
    }
    Entry { value, fields }
}

/// Notes who set what, for writes other than applies.
pub(in crate::apiserver) fn track(call: &Call, old: Option<&Value>, new: &mut Value) {
    let given = new
        .pointer("/metadata/managedFields")
        .filter(|given| given.is_array());
    let mut entries = match (given, old) {
        (Some(_), _) => entries(new),
        (None, Some(old)) => entries(old),
        (None, None) => Vec::new(),
    };
    let empty = json!({});
    let (before, after) = (old.map_or(empty, ownable), ownable(new));
    let changed = fields::changed(typing(call), "", &before, &after);
    let removed = fields::removed(typing(call), "", &before, &after);
    for entry in &mut entries {
        fields::subtract(&mut entry.fields, &removed);
    }
    if !changed.is_empty() {
        let manager = call.field_manager();
        let subresource = &call.target.subresource;
        for entry in entries
            .iter_mut()
            .filter(|entry| !is_owner(entry, &manager, "Update", subresource))
        {
            fields::subtract(&mut entry.fields, &changed);
        }
        match entries
            .iter_mut()
            .find(|entry| is_owner(entry, &manager, "Update", subresource))
        {
            Some(entry) => {
                fields::add(&mut entry.fields, &changed);
                entry.value["time"] = meta::now().into();
            }
            None => entries.push(new_entry(call, &manager, "Update", changed)),
        }
    }
    put_entries(new, entries);
}

/// The live object with an applied configuration merged in, or the conflicts.
pub(super) fn apply(call: &Call, live: &Value, applied: &Value) -> Result<Value, ApiError> {
    let manager = call
        .parameter("fieldManager")
        .ok_or_else(|| ApiError::bad_request("PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"))?;
    if !applied.is_object() {
        return Err(ApiError::bad_request(
            "the applied configuration is not an object",
        ));
    }
    if applied
        .pointer("/metadata/managedFields")
        .is_some_and(|given| !given.is_null())
    {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    let typing = typing(call);
    let wanted = ownable(applied);
    let mine = fields::of(typing, "", &wanted);
    let mut entries = entries(live);
    let subresource = call.target.subresource.clone();
    let is_me = |entry: &Entry| is_owner(entry, manager, "Apply", &subresource);

    let changed = fields::changed(typing, "", &ownable(live), &wanted);
    let mut conflicts = Vec::new();
    for entry in entries.iter_mut().filter(|entry| !is_me(entry)) {
        let mut paths = Vec::new();
        overlap(&entry.fields, &changed, "", &mut paths);
        if paths.is_empty() {
            continue;
        }
        if is_true(&call.query, "force") && call.query.contains_key("force") {
            fields::subtract(&mut entry.fields, &changed);
        } else {
            conflicts.push((entry.value.clone(), paths));
        }
    }
    if !conflicts.is_empty() {
        return Err(conflict(&conflicts));
    }

    let mut new = live.clone();
    merge(typing, "", &mut new, applied);
    if let Some(previous) = entries.iter().find(|entry| is_me(entry)) {
        let mut dropped = previous.fields.clone();
        fields::subtract(&mut dropped, &mine);
        for entry in entries.iter().filter(|entry| !is_me(entry)) {
            fields::subtract(&mut dropped, &entry.fields);
        }
        prune_parents(&mut dropped, &mine);
        remove(typing, "", &mut new, &dropped);
    }
    match entries.iter_mut().find(|entry| is_me(entry)) {
        Some(entry) if entry.fields == mine => {}
        Some(entry) => *entry = new_entry(call, manager, "Apply", mine),
        None => entries.push(new_entry(call, manager, "Apply", mine)),
    }
    put_entries(&mut new, entries);
    Ok(new)
}

/// Keeps a list item that is still wanted, though some of its fields are not.
fn prune_parents(dropped: &mut Fields, mine: &Fields) {
    for (step, below) in dropped.iter_mut() {
        if let (Some(Value::Object(mine)), Value::Object(below)) = (mine.get(step), below) {
            below.shift_remove(".");
            prune_parents(below, mine);
        }
    }
}

/// The leaves that are in both sets.
fn overlap(owned: &Fields, changed: &Fields, path: &str, paths: &mut Vec<String>) {
    for (step, below) in changed.iter().filter(|(step, _)| *step != ".") {
        let Some(Value::Object(owned)) = owned.get(step) else {
            continue;
        };
        let path = format!("{path}{}", fields::shown(step));
        match below.as_object() {
            Some(below) if !below.is_empty() && !owned.is_empty() => {
                overlap(owned, below, &path, paths)
            }
            _ => paths.push(path),
        }
    }
}

fn conflict(conflicts: &[(Value, Vec<String>)]) -> ApiError {
    let n: usize = conflicts.iter().map(|(_, paths)| paths.len()).sum();
    let mut lines = Vec::new();
    let mut causes = Vec::new();
    for (entry, paths) in conflicts {
        let with = format!(
            "{} using {}",
            entry["manager"],
            entry["apiVersion"].as_str().unwrap_or_default()
        );
        match paths.as_slice() {
            [only] => lines.push(format!("conflict with {with}: {only}")),
            many => lines.push(format!("conflicts with {with}:\n- {}", many.join("\n- "))),
        }
        causes.extend(paths.iter().map(|path| {
            json!({"reason": "FieldManagerConflict", "message": format!("conflict with {with}"), "field": path})
        }));
    }
    let plural = if n == 1 { "" } else { "s" };
    let message = format!(
        "Apply failed with {n} conflict{plural}: {}",
        lines.join("\n")
    );
    let mut error = ApiError::new(StatusCode::CONFLICT, "Conflict", message);
    error.details = Some(json!({"causes": causes}));
    error
}

fn merge(typing: Typing<'_>, field: &str, target: &mut Value, applied: &Value) {
    match applied {
        Value::Object(members) => {
            if !target.is_object() {
                *target = Value::Object(Map::new());
            }
            for (key, value) in members {
                let target = target.as_object_mut().expect("made an object above");
                merge(
                    typing.member(key),
                    key,
                    target.entry(key).or_insert(Value::Null),
                    value,
                );
            }
        }
        Value::Array(items) => merge_items(typing, field, target, items),
        other => *target = other.clone(),
    }
}

fn merge_items(typing: Typing<'_>, field: &str, target: &mut Value, items: &[Value]) {
    let old = target.as_array().cloned().unwrap_or_default();
    let mut merged = old;
    match typing.list(field, items) {
        List::Atomic => merged = items.to_vec(),
        List::Set => {
            for item in items {
                if !merged.contains(item) {
                    merged.push(item.clone());
                }
            }
        }
        List::Keyed(keys) => {
            for item in items {
                let step = fields::item_step(&keys, item);
                match merged
                    .iter_mut()
                    .find(|other| fields::item_step(&keys, other) == step)
                {
                    Some(other) => merge(typing.item(), "", other, item),
                    None => merged.push(item.clone()),
                }
            }
        }
    }
    *target = merged.into();
}

/// Takes fields out of an object; an item goes when it is itself among them, and a map with the last of
/// its fields: an empty one is still there for whoever counts members.
fn remove(typing: Typing<'_>, field: &str, value: &mut Value, dropped: &Fields) {
    let is_gone = |below: &Value| {
        below
            .as_object()
            .is_none_or(|below| below.is_empty() || below.contains_key("."))
    };
    if let Value::Object(members) = value {
        for (step, below) in dropped {
            let key = fields::step_field(step);
            if is_gone(below) {
                members.shift_remove(key);
            } else if let (Some(value), Value::Object(below)) = (members.get_mut(key), below) {
                remove(typing.member(key), key, value, below);
                if value.as_object().is_some_and(Map::is_empty) {
                    members.shift_remove(key);
                }
            }
        }
        return;
    }
    let Value::Array(items) = value else { return };
    let list = typing.list(field, items);
    let step_of = |item: &Value| match &list {
        List::Atomic => String::new(),
        List::Set => format!("v:{item}"),
        List::Keyed(keys) => fields::item_step(keys, item),
    };
    items.retain(|item| !dropped.get(&step_of(item)).is_some_and(is_gone));
    for item in items {
        if let Some(Value::Object(below)) = dropped.get(&step_of(item)) {
            remove(typing.item(), "", item, below);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::apiserver::auth::User;
    use crate::apiserver::kinds::Kinds;
    use crate::apiserver::request::{Form, Target};

    fn call(manager: &str, force: bool) -> Call {
        let kinds = Kinds::new(&[]);
        let mut query = BTreeMap::from([("fieldManager".to_owned(), manager.to_owned())]);
        if force {
            query.insert("force".into(), "true".into());
        }
        Call {
            target: Target {
                resource: Arc::clone(&kinds.find("", "v1", "pods").expect("builtin")),
                namespace: "default".into(),
                name: "p".into(),
                subresource: String::new(),
            },
            verb: "patch",
            query,
            form: Form::Json,
            user: User::default(),
            user_agent: String::new(),
            content_type: "application/apply-patch+yaml".into(),
            body: bytes::Bytes::new(),
            command: Vec::new(),
            upgrade: None,
        }
    }

    fn pod(spec: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})
    }

    #[test]
    fn fields_left_out_are_removed_and_others_kept() {
        let first = pod(
            json!({"a": 1, "b": 2, "containers": [{"name": "x", "image": "1"}, {"name": "y"}]}),
        );
        let live = apply(&call("me", false), &pod(json!({})), &first).expect("applies");
        let mut live = live;
        let before = live.clone();
        live["spec"]["c"] = json!(3);
        track(&call("other", false), Some(&before), &mut live);
        let second = pod(json!({"a": 5, "containers": [{"name": "x", "image": "2"}]}));
        let new = apply(&call("me", false), &live, &second).expect("applies");
        assert_eq!(
            new["spec"],
            json!({"a": 5, "c": 3, "containers": [{"name": "x", "image": "2"}]})
        );
    }

    #[test]
    fn a_map_goes_with_its_last_field() {
        let service = pod(json!({"client": {"service": {"name": "s", "port": 443}}}));
        let url = pod(json!({"client": {"url": "https://it"}}));
        let live = apply(&call("me", false), &pod(json!({})), &service).expect("applies");
        let new = apply(&call("me", false), &live, &url).expect("applies");
        assert_eq!(new["spec"], json!({"client": {"url": "https://it"}}));
    }

    #[test]
    fn owners_disagree() {
        let live =
            apply(&call("one", false), &pod(json!({})), &pod(json!({"a": 1}))).expect("applies");
        apply(&call("two", false), &live, &pod(json!({"a": 1}))).expect("the same value is shared");
        let error =
            apply(&call("two", false), &live, &pod(json!({"a": 2}))).expect_err("conflicts");
        assert_eq!(
            error.message,
            "Apply failed with 1 conflict: conflict with \"one\" using v1: .spec.a"
        );
        let forced = apply(&call("two", true), &live, &pod(json!({"a": 2}))).expect("forced");
        let managers: Vec<_> = entries(&forced)
            .iter()
            .map(|entry| entry.value["manager"].clone())
            .collect();
        assert_eq!(
            (forced["spec"]["a"].clone(), managers),
            (json!(2), vec![json!("two")])
        );
    }
}
