//! How a string is compared: exactly, by prefix or by RE2 expression.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::SerializeMap};
use serde_json::{Value, json};

use crate::Schema;

/// One of `exact`, `prefix` and `regex`; the empty object asks only for presence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum StringMatch {
    /// Any value will do.
    #[default]
    Present,
    /// The whole value.
    Exact(String),
    /// The start of the value.
    Prefix(String),
    /// An RE2 expression that covers the whole value.
    Regex(String),
}

#[derive(Deserialize)]
struct Raw {
    exact: Option<String>,
    prefix: Option<String>,
    regex: Option<String>,
}

impl<'de> Deserialize<'de> for StringMatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Option::<Raw>::deserialize(deserializer)?;
        let Some(raw) = raw else {
            return Ok(Self::Present);
        };
        match (raw.exact, raw.prefix, raw.regex) {
            (None, None, None) => Ok(Self::Present),
            (Some(v), None, None) => Ok(Self::Exact(v)),
            (None, Some(v), None) => Ok(Self::Prefix(v)),
            (None, None, Some(v)) => Ok(Self::Regex(v)),
            _ => Err(D::Error::custom(
                "only one of exact, prefix and regex may be set",
            )),
        }
    }
}

impl Serialize for StringMatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entry = match self {
            Self::Present => None,
            Self::Exact(v) => Some(("exact", v)),
            Self::Prefix(v) => Some(("prefix", v)),
            Self::Regex(v) => Some(("regex", v)),
        };
        let mut map = serializer.serialize_map(Some(usize::from(entry.is_some())))?;
        if let Some((key, value)) = entry {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl Schema for StringMatch {
    fn schema() -> Value {
        json!({"type": "object", "properties": {
            "exact": {"type": "string"},
            "prefix": {"type": "string"},
            "regex": {"type": "string"},
        }})
    }
}
