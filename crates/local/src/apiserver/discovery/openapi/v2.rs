//! The old form, by which `kubectl` before 1.24 explains, validates, and computes patches.
//! It is read in protobuf only: `openapi.v2.Document` of gnostic, whose field numbers these are.

use http::header::ACCEPT;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::{PARAMETERS, TITLE, VERSION, collection_path, definitions};
use crate::apiserver::kinds::{Kinds, Resource};
use crate::apiserver::reply::{self, Reply};
use crate::apiserver::types::gvk;

const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Answers `/openapi/v2`.
pub(super) fn get(kinds: &Kinds, headers: &HeaderMap) -> Reply {
    let accept = headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let document = document(kinds);
    match accept.contains("proto-openapi") {
        true => reply::bytes(StatusCode::OK, PROTOBUF, encode(&document)),
        false => reply::json(StatusCode::OK, &document),
    }
}

fn document(kinds: &Kinds) -> Value {
    let resources = || kinds.all.iter().map(|one| &**one);
    let all = definitions(resources()).into_iter();
    let definitions: Map<String, Value> = all
        .map(|(name, schema)| (name, in_version_2(schema)))
        .collect();
    let paths: Map<String, Value> = resources().map(path_item).collect();
    json!({
        "swagger": "2.0", "info": {"title": TITLE, "version": VERSION},
        "paths": paths, "definitions": definitions,
    })
}

/// Only the patch, of which clients ask whether it takes a parameter.
fn path_item(resource: &Resource) -> (String, Value) {
    let parameter = |name: &&str| json!({"name": name, "in": "query", "type": "string"});
    let patch = json!({
        "x-kubernetes-action": "patch", "x-kubernetes-group-version-kind": gvk(resource),
        "parameters": PARAMETERS.iter().map(parameter).collect::<Vec<_>>(),
    });
    let path = format!("{}/{{name}}", collection_path(resource));
    (path, json!({"patch": patch}))
}

/// What version 2 cannot say is left out: a value of which it says nothing may be anything.
fn in_version_2(schema: Value) -> Value {
    let Value::Object(mut members) = schema else {
        return schema;
    };
    let says = |key: &str| members.get(key) == Some(&Value::Bool(true));
    let is_quantity = || {
        let text = members.get("description").and_then(Value::as_str);
        text.is_some_and(|text| text.starts_with("Quantity is"))
    };
    if says("x-kubernetes-int-or-string") {
        let format = if is_quantity() {
            Value::Null
        } else {
            "int-or-string".into()
        };
        return json!({"type": "string", "format": format, "description": members.get("description")});
    }
    if says("x-kubernetes-preserve-unknown-fields") || says("x-kubernetes-embedded-resource") {
        return json!({"description": members.get("description")});
    }
    for key in ["oneOf", "anyOf", "allOf", "not", "nullable"] {
        members.shift_remove(key);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(value) = members.get_mut(key) {
            *value = in_version_2(value.take());
        }
    }
    if let Some(properties) = members.get_mut("properties").and_then(Value::as_object_mut) {
        for value in properties.values_mut() {
            *value = in_version_2(value.take());
        }
    }
    members.into()
}

/// A message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut number: usize) {
        while number >= 0x80 {
            self.0.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    /// A text or a message: wire type 2.
    fn field(mut self, number: usize, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.varint(number << 3 | 2);
        self.varint(bytes.len());
        self.0.extend_from_slice(bytes);
        self
    }

    /// A text if it is there.
    fn text(self, number: usize, value: Option<&Value>) -> Self {
        match value.and_then(Value::as_str) {
            Some(text) => self.field(number, text),
            None => self,
        }
    }

    /// Each member of an object as a pair of its name and what becomes of its value.
    fn named(
        self,
        number: usize,
        members: Option<&Value>,
        encode: impl Fn(&Value) -> Message,
    ) -> Self {
        let members = members.and_then(Value::as_object).into_iter().flatten();
        members.fold(self, |message, (name, value)| {
            message.field(number, pair(name, &encode(value)))
        })
    }

    /// The members that begin with `x-`.
    fn extensions(self, number: usize, members: &Value) -> Self {
        let members = members.as_object().into_iter().flatten();
        let extensions = members.filter(|(name, _)| name.starts_with("x-"));
        extensions.fold(self, |message, (name, value)| {
            message.field(number, pair(name, &any(value)))
        })
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn pair(name: &str, value: &Message) -> Message {
    Message::default().field(1, name).field(2, value)
}

/// `Any`, by its field `yaml`; JSON is YAML.
fn any(value: &Value) -> Message {
    Message::default().field(2, value.to_string())
}

fn encode(document: &Value) -> Vec<u8> {
    let info = &document["info"];
    let info = Message::default()
        .text(1, info.get("title"))
        .text(2, info.get("version"));
    let paths = Message::default().named(2, document.get("paths"), |item| {
        Message::default().field(8, operation(&item["patch"]))
    });
    let definitions = Message::default().named(1, document.get("definitions"), schema);
    Message::default()
        .text(1, document.get("swagger"))
        .field(2, info)
        .field(8, paths)
        .field(9, definitions)
        .0
}

/// `Operation`: parameters in the query, and extensions.
fn operation(operation: &Value) -> Message {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let message = parameters.fold(Message::default(), |message, parameter| {
        let query = Message::default()
            .text(2, parameter.get("in"))
            .text(4, parameter.get("name"))
            .text(6, parameter.get("type"));
        // ParametersItem, Parameter, NonBodyParameter and QueryParameterSubSchema, one in the other.
        let non_body = Message::default().field(3, query);
        let parameter = Message::default().field(2, non_body);
        message.field(8, Message::default().field(1, parameter))
    });
    message.extensions(13, operation)
}

/// `Schema`, without the bounds of values, which no client looks at.
fn schema(schema: &Value) -> Message {
    let mut message = Message::default()
        .text(1, schema.get("$ref"))
        .text(2, schema.get("format"))
        .text(4, schema.get("description"));
    let required = schema["required"].as_array().into_iter().flatten();
    for name in required.filter_map(Value::as_str) {
        message = message.field(19, name);
    }
    for value in schema["enum"].as_array().into_iter().flatten() {
        message = message.field(20, any(value));
    }
    message = match schema.get("additionalProperties") {
        Some(each @ Value::Object(_)) => {
            message.field(21, Message::default().field(1, self::schema(each)))
        }
        _ => message,
    };
    if let Some(kind) = schema["type"].as_str() {
        message = message.field(22, Message::default().field(1, kind));
    }
    if let Some(items) = schema.get("items") {
        message = message.field(23, Message::default().field(1, self::schema(items)));
    }
    if schema["properties"].is_object() {
        let properties = Message::default().named(1, schema.get("properties"), self::schema);
        message = message.field(25, properties);
    }
    message.extensions(31, schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_tags_are_varints() {
        let long = "x".repeat(300);
        let message = Message::default().field(31, &long).0;
        assert_eq!(message[..4], [0xfa, 0x01, 0xac, 0x02]);
        assert_eq!(message.len(), 304);
    }

    #[test]
    fn schemas_are_encoded() {
        let message = schema(&json!({"type": "string", "x-a": 1})).0;
        // Field 22 with a message that has the text "string" as its field 1; field 31 with a name and YAML.
        let kind = [&[0xb2, 0x01, 8, 0x0a, 6], &b"string"[..]].concat();
        let extension = [
            &[0xfa, 0x01, 10, 0x0a, 3],
            &b"x-a"[..],
            &[0x12, 3, 0x12, 1],
            b"1",
        ]
        .concat();
        assert_eq!(message, [kind, extension].concat());
    }

    #[test]
    fn what_may_be_anything_says_nothing() {
        let free = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let schema = json!({"properties": {"a": free, "b": {"x-kubernetes-int-or-string": true}}});
        let shown = in_version_2(schema);
        assert_eq!(shown["properties"]["a"].get("type"), None);
        assert_eq!(shown["properties"]["b"]["format"], "int-or-string");
    }
}
