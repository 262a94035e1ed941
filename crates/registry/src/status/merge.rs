//! What a status becomes when an owner has its say.

use jiff::{Timestamp, Unit};
use serde_json::{Map, Value, json};

use super::{StatusOwner, WantedStatus};

const CONDITIONS: &str = "conditions";
/// Lists to which several controllers write, each its own entries.
const SHARED: [&str; 2] = ["parents", "ancestors"];

/// A stored status with what an owner wants of it.
pub(super) fn merged(
    stored: &Value,
    owner: &StatusOwner,
    wanted: &WantedStatus,
    now: Timestamp,
) -> Value {
    let mut status = stored.as_object().cloned().unwrap_or_default();
    let of_now = Moment {
        now: now.round(Unit::Second).unwrap_or(now).to_string(),
        generation: wanted.generation,
    };
    for (field, value) in wanted.status.as_object().into_iter().flatten() {
        let old = status.get(field).unwrap_or(&Value::Null);
        let new = match field.as_str() {
            CONDITIONS => of_now.conditions(old, value, |kind| !owner.conditions.contains(&kind)),
            list if SHARED.contains(&list) => of_now.entries(old, value, owner.controller),
            _ => of_now.dated(old, value),
        };
        match new {
            Value::Null => status.remove(field),
            new => status.insert(field.clone(), new),
        };
    }
    Value::Object(status)
}

/// The top-level fields that differ, as a merge patch; `None` where none does.
pub(super) fn difference(stored: &Value, status: &Value) -> Option<Map<String, Value>> {
    let empty = Map::new();
    let old = stored.as_object().unwrap_or(&empty);
    let new = status.as_object().unwrap_or(&empty);
    let gone = old.keys().filter(|field| !new.contains_key(*field));
    let mut fields: Map<_, _> = gone.map(|field| (field.clone(), Value::Null)).collect();
    for (field, value) in new {
        match old.get(field) {
            Some(old) if old == value => {}
            // A merge patch would keep what an object has beside the new fields.
            Some(Value::Object(old)) if value.is_object() => {
                let gone = old.keys().filter(|key| value.get(key.as_str()).is_none());
                let mut value = value.clone();
                for key in gone {
                    value[key] = Value::Null;
                }
                fields.insert(field.clone(), value);
            }
            _ => {
                fields.insert(field.clone(), value.clone());
            }
        }
    }
    (!fields.is_empty()).then_some(fields)
}

/// When it is written, and of which generation it speaks.
struct Moment {
    now: String,
    generation: i64,
}

impl Moment {
    /// The wanted conditions, behind those old ones that stay.
    fn conditions(&self, old: &Value, wanted: &Value, stays: impl Fn(&str) -> bool) -> Value {
        let kind = |condition: &Value| condition["type"].as_str().unwrap_or_default().to_owned();
        let old = old.as_array().map_or(&[][..], Vec::as_slice);
        let kept = old.iter().filter(|condition| stays(&kind(condition)));
        let own = wanted.as_array().into_iter().flatten().map(|condition| {
            let before = old.iter().find(|held| kind(held) == kind(condition));
            self.condition(before, condition)
        });
        let all: Vec<_> = kept.cloned().chain(own).collect();
        if all.is_empty() {
            return Value::Null;
        }
        all.into()
    }

    fn condition(&self, before: Option<&Value>, wanted: &Value) -> Value {
        let mut condition = wanted.clone();
        let since = before
            .filter(|before| before["status"] == wanted["status"])
            .and_then(|before| before.get("lastTransitionTime"));
        condition["lastTransitionTime"] = since.cloned().unwrap_or_else(|| json!(self.now));
        if self.generation != 0 && condition.get("observedGeneration").is_none() {
            condition["observedGeneration"] = json!(self.generation);
        }
        condition
    }

    /// The wanted entries, behind those of other controllers.
    fn entries(&self, old: &Value, wanted: &Value, controller: &str) -> Value {
        let old = old.as_array().map_or(&[][..], Vec::as_slice);
        let of_others = |entry: &&Value| entry["controllerName"] != controller;
        let kept = old.iter().filter(of_others);
        let own = wanted.as_array().into_iter().flatten().map(|entry| {
            let before = old.iter().find(|held| is_same_entry(held, entry));
            self.dated(before.unwrap_or(&Value::Null), entry)
        });
        kept.cloned().chain(own).collect()
    }

    /// A wanted value whose conditions, however deep, know since when they are so.
    fn dated(&self, old: &Value, wanted: &Value) -> Value {
        match wanted {
            Value::Object(fields) => {
                let each = fields.iter().map(|(field, value)| {
                    let old = old.get(field).unwrap_or(&Value::Null);
                    let new = match field.as_str() {
                        CONDITIONS => self.conditions(old, value, |_| false),
                        _ => self.dated(old, value),
                    };
                    (field.clone(), new)
                });
                each.collect()
            }
            Value::Array(entries) => {
                let old = old.as_array().map_or(&[][..], Vec::as_slice);
                let each = entries.iter().map(|entry| {
                    let before = old.iter().find(|held| is_same_entry(held, entry));
                    self.dated(before.unwrap_or(&Value::Null), entry)
                });
                each.collect()
            }
            other => other.clone(),
        }
    }
}

/// Whether two entries of a list are about the same thing: a listener by its name, a parent by its
/// reference and controller.
fn is_same_entry(one: &Value, other: &Value) -> bool {
    if !one.is_object() || !other.is_object() {
        return false;
    }
    ["name", "parentRef", "ancestorRef", "controllerName"]
        .iter()
        .all(|key| one.get(key) == other.get(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: StatusOwner = StatusOwner {
        name: "test",
        conditions: &["Ours", "OursToo"],
        controller: "us",
    };
    const THEN: &str = "2026-01-01T00:00:00Z";
    const NOW: &str = "2026-06-01T00:00:00Z";

    fn merge(stored: Value, wanted: Value) -> Value {
        let wanted = WantedStatus {
            generation: 2,
            status: wanted,
        };
        merged(&stored, &OWNER, &wanted, NOW.parse().expect("a time"))
    }

    fn is(kind: &str, status: &str, since: &str) -> Value {
        json!({"type": kind, "status": status, "lastTransitionTime": since, "observedGeneration": 2})
    }

    #[test]
    fn own_conditions_are_replaced_and_others_stay() {
        let foreign = json!({"type": "Theirs", "status": "True"});
        let stored = json!({
            "other": 1,
            "conditions": [is("Ours", "True", THEN), foreign, is("OursToo", "True", THEN)],
        });
        let wanted = json!({"conditions": [{"type": "Ours", "status": "True"}]});
        let expect = json!({"other": 1, "conditions": [foreign, is("Ours", "True", THEN)]});
        assert_eq!(merge(stored.clone(), wanted), expect, "the time stays");
        let wanted = json!({"conditions": [{"type": "Ours", "status": "False"}], "other": null});
        let expect = json!({"conditions": [foreign, is("Ours", "False", NOW)]});
        assert_eq!(merge(stored, wanted), expect, "another status has its time");
        let alone = json!({"conditions": [is("Ours", "True", THEN)]});
        assert_eq!(merge(alone, json!({"conditions": []})), json!({}));
    }

    #[test]
    fn parents_of_other_controllers_stay() {
        let theirs = json!({"parentRef": {"name": "a"}, "controllerName": "them"});
        let ours = |name: &str, since: &str| {
            json!({"parentRef": {"name": name}, "controllerName": "us",
                "conditions": [is("Accepted", "True", since)]})
        };
        let stored = json!({"parents": [ours("a", THEN), theirs, ours("b", THEN)]});
        let want = |name: &str| {
            json!({"parentRef": {"name": name}, "controllerName": "us",
                "conditions": [{"type": "Accepted", "status": "True"}]})
        };
        let wanted = json!({"parents": [want("b"), want("c")]});
        let expect = json!({"parents": [theirs, ours("b", THEN), ours("c", NOW)]});
        assert_eq!(merge(stored.clone(), wanted), expect);
        let expect = json!({"parents": [theirs]});
        assert_eq!(merge(stored, json!({"parents": []})), expect);
    }

    #[test]
    fn conditions_in_a_list_are_found_by_the_name_of_their_entry() {
        let listener = |name: &str, conditions: Value| json!({"name": name, "attachedRoutes": 1, "conditions": conditions});
        let stored = json!({"listeners": [
            listener("gone", json!([is("Programmed", "True", THEN)])),
            listener("http", json!([is("Programmed", "True", THEN), is("Old", "True", THEN)])),
        ]});
        let wanted = json!({"listeners": [
            listener("http", json!([{"type": "Programmed", "status": "True"}])),
        ]});
        let expect =
            json!({"listeners": [listener("http", json!([is("Programmed", "True", THEN)]))]});
        assert_eq!(merge(stored, wanted), expect);
    }

    #[test]
    fn a_patch_names_what_differs_only() {
        let check = |stored: Value, status: Value, expect: Value| {
            let patch = difference(&stored, &status).map_or(Value::Null, Value::Object);
            assert_eq!(patch, expect, "{stored} {status}");
        };
        check(json!({"a": 1}), json!({"a": 1}), Value::Null);
        check(Value::Null, json!({}), Value::Null);
        check(
            json!({"a": 1, "b": 2, "c": 3}),
            json!({"a": 1, "b": [3]}),
            json!({"c": null, "b": [3]}),
        );
        check(
            json!({"a": {"b": 1}}),
            json!({"a": {"c": 1}}),
            json!({"a": {"c": 1, "b": null}}),
        );
    }
}
