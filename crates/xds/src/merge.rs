//! Laying a part of a message over a whole one, as users who patch configuration expect it.
//!
//! It is protobuf's merge (what is set replaces, messages are merged field by field, lists are added
//! to, entries of maps are replaced) but for what has no parts to its author: a duration and a
//! wrapped number replace the whole that was there, so that one second and a half laid over two
//! minutes is not two minutes and a half, and a wrapped `false` counts. An `Any` laid over one of its
//! own type is merged too; over another type it replaces.
//!
//! A plain field that is at its default cannot be told from one that is not there, and does nothing.

use prost::{Message, Name};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, ReflectMessage, Value};

use crate::names::PREFIX;
use crate::{Error, json};

/// What becomes of a list that both have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lists {
    /// The items of the part come after those that are there.
    Append,
    /// The part's list takes the place of the one that is there.
    Replace,
}

/// A message that knows its full name, as all of Envoy's do.
pub trait NamedMessage: Message + Name + Default + Clone {}

impl<M: Message + Name + Default + Clone> NamedMessage for M {}

/// Lays `part` over `whole`.
///
/// # Errors
/// When either is not what its descriptor says, which leaves `whole` as it was.
pub fn merge<M: NamedMessage>(whole: &mut M, part: &M, lists: Lists) -> Result<(), Error> {
    let mut merged = dynamic(&M::full_name(), &whole.encode_to_vec())?;
    let part = dynamic(&M::full_name(), &part.encode_to_vec())?;
    lay(&mut merged, &part, lists)?;
    *whole = json::transcode(&merged)?;
    Ok(())
}

fn dynamic(full_name: &str, bytes: &[u8]) -> Result<DynamicMessage, Error> {
    DynamicMessage::decode(json::descriptor(full_name)?, bytes).map_err(|source| Error::Decode {
        type_url: full_name.to_owned(),
        source,
    })
}

fn lay(whole: &mut DynamicMessage, part: &DynamicMessage, lists: Lists) -> Result<(), Error> {
    for (field, value) in part.fields() {
        if !whole.has_field(&field) || is_indivisible(&field) {
            whole.set_field(&field, value.clone());
            continue;
        }
        match (whole.get_field_mut(&field), value) {
            (Value::List(there), Value::List(more)) => {
                if lists == Lists::Replace {
                    there.clear();
                }
                there.extend(more.iter().cloned());
            }
            (Value::Map(there), Value::Map(more)) => {
                there.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
            (Value::Message(there), Value::Message(more)) if is_any(there) => {
                lay_any(there, more, lists)?;
            }
            (Value::Message(there), Value::Message(more)) => lay(there, more, lists)?,
            (there, value) => *there = value.clone(),
        }
    }
    Ok(())
}

/// A message that its author writes as one value. A `Struct` is not among them.
fn is_indivisible(field: &FieldDescriptor) -> bool {
    let Kind::Message(message) = field.kind() else {
        return false;
    };
    if field.is_list() || field.is_map() {
        return false;
    }
    let known = message.full_name().strip_prefix("google.protobuf.");
    known.is_some_and(|name| matches!(name, "Duration" | "Timestamp") || name.ends_with("Value"))
}

fn is_any(message: &DynamicMessage) -> bool {
    message.descriptor().full_name() == "google.protobuf.Any"
}

fn lay_any(whole: &mut DynamicMessage, part: &DynamicMessage, lists: Lists) -> Result<(), Error> {
    let held = |any: &DynamicMessage| any.transcode_to::<crate::Any>().unwrap_or_default();
    let (mut there, more) = (held(whole), held(part));
    let full_name = more.type_url.strip_prefix(PREFIX);
    match full_name.filter(|_| there.type_url == more.type_url) {
        Some(full_name) if json::knows(full_name) => {
            let mut merged = dynamic(full_name, &there.value)?;
            lay(&mut merged, &dynamic(full_name, &more.value)?, lists)?;
            there.value = merged.encode_to_vec();
            *whole = dynamic("google.protobuf.Any", &there.encode_to_vec())?;
        }
        _ => *whole = part.clone(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::types::cluster::Cluster;
    use crate::types::listener::Filter;

    #[track_caller]
    fn check<M: NamedMessage>(whole: Value, part: Value, lists: Lists, want: Value) {
        let read = |value| json::from_value::<M>(value).expect("a message");
        let mut whole = read(whole);
        merge(&mut whole, &read(part), lists).expect("they fit");
        assert_eq!(json::to_value(&whole).expect("known types"), want);
    }

    #[test]
    fn fields_replace_and_messages_are_merged() {
        check::<Cluster>(
            json!({"name": "a", "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 1}}}),
            json!({"name": "b", "upstream_connection_options": {"tcp_keepalive": {"keepalive_probes": 2}}}),
            Lists::Append,
            json!({"name": "b", "upstream_connection_options":
                {"tcp_keepalive": {"keepalive_time": 1, "keepalive_probes": 2}}}),
        );
    }

    #[test]
    fn values_of_one_piece_replace() {
        check::<Cluster>(
            json!({"connect_timeout": "120s", "per_connection_buffer_limit_bytes": 9}),
            json!({"connect_timeout": "0.500s", "per_connection_buffer_limit_bytes": 0}),
            Lists::Append,
            json!({"connect_timeout": "0.500s", "per_connection_buffer_limit_bytes": 0}),
        );
    }

    #[test]
    fn of_a_choice_the_part_counts() {
        check::<Cluster>(
            json!({"type": "EDS"}),
            json!({"cluster_type": {"name": "x"}}),
            Lists::Append,
            json!({"cluster_type": {"name": "x"}}),
        );
    }

    #[test]
    fn lists_are_added_to_or_replaced() {
        let whole =
            || json!({"protocol_selection": "USE_DOWNSTREAM_PROTOCOL", "filters": [{"name": "a"}]});
        let part = || json!({"filters": [{"name": "b"}]});
        for (lists, want) in [
            (Lists::Append, json!([{"name": "a"}, {"name": "b"}])),
            (Lists::Replace, json!([{"name": "b"}])),
        ] {
            let mut merged = whole();
            merged["filters"] = want;
            check::<Cluster>(whole(), part(), lists, merged);
        }
    }

    #[test]
    fn entries_of_maps_replace() {
        check::<Cluster>(
            json!({"metadata": {"filter_metadata": {"a": {"x": 1.0}, "b": {"x": 1.0}}}}),
            json!({"metadata": {"filter_metadata": {"a": {"y": 2.0}}}}),
            Lists::Append,
            json!({"metadata": {"filter_metadata": {"a": {"y": 2.0}, "b": {"x": 1.0}}}}),
        );
    }

    #[test]
    fn an_any_of_one_type_is_merged_and_of_another_replaced() {
        let tcp = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
        let echo = "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo";
        let whole = || json!({"name": "f", "typed_config": {"@type": tcp, "stat_prefix": "s", "cluster": "c"}});
        check::<Filter>(
            whole(),
            json!({"typed_config": {"@type": tcp, "idle_timeout": "5s"}}),
            Lists::Append,
            json!({"name": "f", "typed_config":
                {"@type": tcp, "stat_prefix": "s", "cluster": "c", "idle_timeout": "5s"}}),
        );
        check::<Filter>(
            whole(),
            json!({"typed_config": {"@type": echo}}),
            Lists::Append,
            json!({"name": "f", "typed_config": {"@type": echo}}),
        );
    }
}
