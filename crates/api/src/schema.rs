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
    u32 => {"type": "integer", "minimum": 0, "maximum": 4294967295u32},
    i32 => {"type": "integer", "format": "int32"},
    i64 => {"type": "integer", "format": "int64"},
    u64 => {"type": "integer", "minimum": 0},
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
macro_rules! message {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$fmeta:meta])* pub $field:ident : $ty:ty ),* $(,)?
        }
    )*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
            #[serde(rename_all = "camelCase", default)]
            pub struct $name {
                $(
                    $(#[$fmeta])*
                    #[serde(
                        skip_serializing_if = "crate::schema::is_default",
                        deserialize_with = "crate::schema::nullable"
                    )]
                    pub $field: $ty,
                )*
            }

            impl crate::schema::Schema for $name {
                fn schema() -> serde_json::Value {
                    #[allow(unused_mut, reason = "a message may have no fields")]
                    let mut properties = serde_json::Map::new();
                    $(properties.insert(
                        crate::schema::camel(stringify!($field)),
                        <$ty as crate::schema::Schema>::schema(),
                    );)*
                    serde_json::json!({"type": "object", "properties": properties})
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
