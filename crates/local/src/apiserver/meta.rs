//! Reading and writing `metadata` in JSON objects.

use serde_json::{Map, Value};

/// The text at a pointer, or nothing.
#[must_use]
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer).and_then(Value::as_str)
}

/// `metadata.name`, or empty.
#[must_use]
pub(crate) fn name(object: &Value) -> &str {
    text(object, "/metadata/name").unwrap_or_default()
}

/// `metadata.namespace`, or empty.
#[must_use]
pub(crate) fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace").unwrap_or_default()
}

/// The list at a pointer, or an empty one.
#[must_use]
pub(crate) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// A member that is an object, made if absent or null.
///
/// # Panics
/// If `parent` is not an object; callers check that the root is one.
pub(crate) fn child<'a>(parent: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    let members = parent.as_object_mut().expect("callers pass objects");
    let entry = members
        .entry(key)
        .or_insert_with(|| Value::Object(Map::new()));
    if !entry.is_object() {
        *entry = Value::Object(Map::new());
    }
    entry.as_object_mut().expect("made an object above")
}

/// `metadata`, made if absent.
pub(crate) fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    child(object, "metadata")
}

/// Whether deletion has begun.
#[must_use]
pub(crate) fn is_deleting(object: &Value) -> bool {
    text(object, "/metadata/deletionTimestamp").is_some()
}

/// The finalizers.
#[must_use]
pub(crate) fn finalizers(object: &Value) -> Vec<String> {
    list(object, "/metadata/finalizers")
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// Adds a finalizer once.
pub(crate) fn add_finalizer(object: &mut Value, finalizer: &str) {
    let mut all = finalizers(object);
    if !all.iter().any(|one| one == finalizer) {
        all.push(finalizer.to_owned());
    }
    metadata(object).insert("finalizers".into(), all.into());
}

/// Sets a member if it is absent or null.
pub(crate) fn default(members: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    if members.get(key).is_none_or(Value::is_null) {
        members.insert(key.to_owned(), value.into());
    }
}

/// Now, as Kubernetes writes it.
#[must_use]
pub(crate) fn now() -> String {
    timestamp(jiff::Timestamp::now())
}

/// A time with seconds, in UTC.
#[must_use]
pub(crate) fn timestamp(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
