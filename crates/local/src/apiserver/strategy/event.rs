//! Events: one kind of object under two groups with different field names.

use serde_json::Value;

use crate::apiserver::kinds::Resource;
use crate::apiserver::meta;

/// The fields by their names in the core group and in `events.k8s.io`.
const FIELDS: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename(event: &mut Value, pairs: impl Iterator<Item = (&'static str, &'static str)>) {
    let members = event.as_object_mut().expect("events are objects");
    for (from, to) in pairs {
        if let Some(value) = members.shift_remove(from) {
            members.insert(to.to_owned(), value);
        }
    }
}

/// As `events.k8s.io` shows it.
pub(in crate::apiserver) fn to_new_group(event: &mut Value) {
    rename(event, FIELDS.iter().copied());
}

/// As it is stored.
pub(in crate::apiserver) fn to_core_group(event: &mut Value) {
    rename(event, FIELDS.iter().map(|&(core, new)| (new, core)));
    event["apiVersion"] = "v1".into();
}

pub(super) fn default(resource: &Resource, event: &mut Value) {
    if resource.group == "events.k8s.io" {
        to_core_group(event);
    }
    let members = event.as_object_mut().expect("checked to be an object");
    meta::default(members, "type", "Normal");
}
