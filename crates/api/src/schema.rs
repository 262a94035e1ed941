//! One declaration per type, three uses: serde, the CRD schema and the list of known fields.
//!
//! A hand-written schema beside a hand-written struct drifts; the macros below make both from the
//! same lines.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// A type that can say what it looks like, as an OpenAPI v3 structural schema.
pub trait Schema {
    /// The schema of a value of this type.
    fn schema() -> Value;
}

/// What a value must keep to beyond its type. The CRDs carry it, and galley checks it.
///
/// The API server reckons what a rule may cost at worst and refuses a definition that may cost too
/// much, so every list on the way to a rule has a bound.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    /// The least number.
    Min(i64),
    /// The greatest number.
    Max(i64),
    /// The least length of a list, or of a map.
    MinItems(u32),
    /// The greatest length of a list, or of a map.
    MaxItems(u32),
    /// The least length of a text.
    MinLength(u32),
    /// The greatest length of a text.
    MaxLength(u32),
    /// An expression that a text matches. Unlike a rule it costs nothing.
    Pattern(&'static str),
    /// What the API server writes where the field is absent, as JSON.
    Default(&'static str),
    /// Limits of each item of a list, or of each value of a map.
    Each(&'static [Limit]),
    /// An object, of whatever fields. The API server knows of a field without a type in no rule.
    Object,
    /// Fields that must be there.
    Required(&'static [&'static str]),
    /// Fields of which one at most may be there.
    AtMostOne(&'static [&'static str]),
    /// Fields of old that are read as today's ([`crate::compat`]), as a message's schema.
    Old(fn() -> Value),
    /// A rule in CEL over `self`, and what is wrong when it does not hold.
    Rule(&'static str, &'static str),
}

/// A schema with limits added.
pub(crate) fn limited(mut schema: Value, limits: &[Limit]) -> Value {
    for limit in limits {
        add_limit(&mut schema, limit);
    }
    schema
}

fn add_limit(schema: &mut Value, limit: &Limit) {
    let is_map = schema.get("additionalProperties").is_some();
    match limit {
        Limit::Min(least) => schema["minimum"] = json!(least),
        Limit::Max(most) => schema["maximum"] = json!(most),
        Limit::MinItems(least) if is_map => schema["minProperties"] = json!(least),
        Limit::MinItems(least) => schema["minItems"] = json!(least),
        Limit::MaxItems(most) if is_map => schema["maxProperties"] = json!(most),
        Limit::MaxItems(most) => schema["maxItems"] = json!(most),
        Limit::MinLength(least) => schema["minLength"] = json!(least),
        Limit::MaxLength(most) => schema["maxLength"] = json!(most),
        Limit::Pattern(pattern) => schema["pattern"] = json!(pattern),
        Limit::Default(text) => {
            schema["default"] = serde_json::from_str(text).expect("a default is JSON");
        }
        Limit::Each(limits) => {
            let each = if is_map {
                "additionalProperties"
            } else {
                "items"
            };
            let item = schema[each].take();
            schema[each] = limited(item, limits);
        }
        Limit::Object => schema["type"] = json!("object"),
        Limit::Required(fields) => schema["required"] = json!(fields),
        Limit::AtMostOne(fields) => {
            let each: Vec<String> = fields
                .iter()
                .map(|field| format!("(has(self.{field}) ? 1 : 0)"))
                .collect();
            let rule = format!("{} <= 1", each.join(" + "));
            let message = format!("at most one of {} may be set", fields.join(", "));
            add_rule(schema, &rule, &message);
        }
        Limit::Old(old) => {
            let old = old();
            for (name, property) in old["properties"].as_object().into_iter().flatten() {
                schema["properties"][name] = property.clone();
                schema["properties"][name]["x-lateen-old"] = json!(true);
            }
        }
        Limit::Rule(rule, message) => add_rule(schema, rule, message),
    }
}

fn add_rule(schema: &mut Value, rule: &str, message: &str) {
    let rule = json!({"rule": rule, "message": message});
    match schema
        .get_mut("x-kubernetes-validations")
        .and_then(Value::as_array_mut)
    {
        Some(rules) => rules.push(rule),
        None => schema["x-kubernetes-validations"] = json!([rule]),
    }
}

macro_rules! schema_as {
    ($($ty:ty => $schema:tt),* $(,)?) => {
        $(impl Schema for $ty {
            fn schema() -> Value {
                json!($schema)
            }
        })*
    };
}

schema_as! {
    bool => {"type": "boolean"},
    String => {"type": "string"},
    u32 => {"type": "integer", "x-lateen-format": "uint32", "minimum": 0, "maximum": 4294967295u32},
    i32 => {"type": "integer", "format": "int32"},
    i64 => {"type": "integer", "format": "int64"},
    u64 => {"type": "integer", "x-lateen-format": "uint64", "minimum": 0},
    f64 => {"type": "number", "format": "double"},
    Value => {"x-kubernetes-preserve-unknown-fields": true},
}

impl<T: Schema> Schema for Option<T> {
    fn schema() -> Value {
        T::schema()
    }
}

impl<T: Schema> Schema for Box<T> {
    fn schema() -> Value {
        T::schema()
    }
}

impl<T: Schema> Schema for Vec<T> {
    fn schema() -> Value {
        json!({"type": "array", "items": T::schema()})
    }
}

impl<K, T: Schema> Schema for BTreeMap<K, T> {
    fn schema() -> Value {
        json!({"type": "object", "additionalProperties": T::schema()})
    }
}

/// `snake_case`, possibly a raw identifier, to `camelCase`, the way serde does it.
pub(crate) fn camel(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut upper = false;
    for c in name.trim_start_matches("r#").chars() {
        if c == '_' {
            upper = true;
        } else if upper {
            out.extend(c.to_uppercase());
            upper = false;
        } else {
            out.push(c);
        }
    }
    out
}

/// Whether a field is at its default, and so need not be written.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Reads `null` as "not set", as protobuf JSON does.
pub(crate) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + serde::Deserialize<'de>,
{
    let value: Option<T> = serde::Deserialize::deserialize(deserializer)?;
    Ok(value.unwrap_or_default())
}

/// Declares messages: every field optional on the wire, camelCase, null like absent.
///
/// `where [..]` after a field's type, or after the message's name, lists [`Limit`]s. `as "name"` after
/// a field's name is for names on the wire that are no camelCase of it.
macro_rules! message {
    ($(
        $(#[$meta:meta])*
        $vis:vis struct $name:ident $(where [$($rule:expr),* $(,)?])? {
            $(
                $(#[$fmeta:meta])*
                pub $field:ident $(as $wire:literal)? : $ty:ty
                    $(where [$($limit:expr),* $(,)?])?
            ),* $(,)?
        }
    )*) => {
        $(
            #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
            $(#[$meta])*
            #[serde(rename_all = "camelCase", default)]
            $vis struct $name {
                $(
                    $(#[$fmeta])*
                    $(#[serde(rename = $wire)])?
                    #[serde(
                        skip_serializing_if = "crate::schema::is_default",
                        deserialize_with = "crate::schema::nullable"
                    )]
                    pub $field: $ty,
                )*
            }

            impl crate::schema::Schema for $name {
                fn schema() -> serde_json::Value {
                    #[allow(unused_imports, reason = "a message may have no limits")]
                    use crate::schema::{Limit, limited};
                    #[allow(unused_mut, reason = "a message may have no fields")]
                    let mut properties = serde_json::Map::new();
                    $(
                        let property = <$ty as crate::schema::Schema>::schema();
                        $(let property = limited(property, &[$($limit),*]);)?
                        #[allow(unused_variables, reason = "the name may be another")]
                        let name = crate::schema::camel(stringify!($field));
                        $(let name = $wire.to_owned();)?
                        properties.insert(name, property);
                    )*
                    let schema = serde_json::json!({"type": "object", "properties": properties});
                    $(let schema = limited(schema, &[$($rule),*]);)?
                    schema
                }
            }
        )*
    };
}
pub(crate) use message;

/// Declares enumerations by their wire names; the first is the default.
macro_rules! enumeration {
    ($(
        $(#[$meta:meta])*
        pub enum $name:ident {
            $(#[$first_meta:meta])* $first:ident = $first_wire:literal,
            $( $(#[$vmeta:meta])* $variant:ident = $wire:literal ),* $(,)?
        }
    )*) => {
        $(
            $(#[$meta])*
            #[derive(
                Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord,
                serde::Serialize, serde::Deserialize,
            )]
            pub enum $name {
                $(#[$first_meta])*
                #[default]
                #[serde(rename = $first_wire)]
                $first,
                $(
                    $(#[$vmeta])*
                    #[serde(rename = $wire)]
                    $variant,
                )*
            }

            impl $name {
                /// The name on the wire.
                pub fn as_str(self) -> &'static str {
                    match self {
                        Self::$first => $first_wire,
                        $(Self::$variant => $wire,)*
                    }
                }
            }

            impl std::fmt::Display for $name {
                fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str(self.as_str())
                }
            }

            impl crate::schema::Schema for $name {
                fn schema() -> serde_json::Value {
                    serde_json::json!({"type": "string", "enum": [$first_wire $(, $wire)*]})
                }
            }
        )*
    };
}
pub(crate) use enumeration;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn camel_case_is_serdes() {
        for (from, to) in [
            ("hosts", "hosts"),
            ("consecutive_5xx_errors", "consecutive5xxErrors"),
            ("h2_upgrade_policy", "h2UpgradePolicy"),
            ("r#match", "match"),
            ("http1_max_pending_requests", "http1MaxPendingRequests"),
        ] {
            assert_eq!(camel(from), to);
        }
    }
}
