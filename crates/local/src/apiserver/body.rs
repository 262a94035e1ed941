//! Bodies of requests: JSON or YAML, and which members they name twice.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::error::ApiError;

/// Reads JSON.
pub(super) fn parse_json(bytes: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        ApiError::bad_request(format!(
            "couldn't get version/kind; json parse error: {error}"
        ))
    })
}

/// Reads YAML, which refuses members that are named twice.
pub(super) fn parse_yaml(bytes: &[u8]) -> Result<Value, ApiError> {
    // JSON is YAML, and what kubectl sends is JSON nearly always.
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    let value: serde_yaml_ng::Value = serde_yaml_ng::from_slice(bytes)
        .map_err(|error| ApiError::bad_request(format!("yaml parse error: {error}")))?;
    serde_json::to_value(value)
        .map_err(|error| ApiError::bad_request(format!("yaml parse error: {error}")))
}

/// The paths of members that JSON names more than once; nothing if it is not JSON.
pub(super) fn duplicates(bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let seed = Scan {
        path: String::new(),
        found: &mut found,
    };
    let mut json = serde_json::Deserializer::from_slice(bytes);
    match seed.deserialize(&mut json) {
        Ok(()) => found,
        Err(_) => Vec::new(),
    }
}

/// Walks a value and notes the duplicates in it.
struct Scan<'f> {
    path: String,
    found: &'f mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Scan<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Scan<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        for index in 0.. {
            let item = Scan {
                path: format!("{}[{index}]", self.path),
                found: &mut *self.found,
            };
            if items.next_element_seed(item)?.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut seen = std::collections::BTreeSet::new();
        while let Some(key) = members.next_key::<String>()? {
            let path = match self.path.as_str() {
                "" => key.clone(),
                path => format!("{path}.{key}"),
            };
            if !seen.insert(key) && !self.found.contains(&path) {
                self.found.push(path.clone());
            }
            members.next_value_seed(Scan {
                path,
                found: &mut *self.found,
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_are_found() {
        let check = |json: &str, expect: &[&str]| assert_eq!(duplicates(json.as_bytes()), expect);
        check(
            r#"{"a": 1, "b": [{"c": 1}, {"c": 2}], "d": {"a": null}}"#,
            &[],
        );
        check(
            r#"{"a": 1, "b": [{}, {"c": 1, "c": 2, "c": "x"}], "a": true}"#,
            &["b[1].c", "a"],
        );
        check("a: 1\na: 2", &[]);
    }

    #[test]
    fn yaml_names_nothing_twice() {
        assert!(parse_yaml(b"a: 1\nb: [x]").is_ok());
        let error = parse_yaml(b"a: 1\na: 2").expect_err("twice");
        assert!(error.message.contains("duplicate"), "{}", error.message);
    }
}
