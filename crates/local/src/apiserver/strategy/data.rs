//! Config maps and secrets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::apiserver::error::FieldError;
use crate::apiserver::meta;

/// The most that a config map or secret may hold.
const MAX_DATA: usize = 1 << 20;

/// The keys that secrets of these types must have.
const SECRET_KEYS: &[(&str, &[&str])] = &[
    ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
];

fn members(object: &mut Value) -> &mut serde_json::Map<String, Value> {
    object.as_object_mut().expect("checked to be an object")
}

pub(super) fn default_secret(secret: &mut Value) {
    if let Some(Value::Object(texts)) = members(secret).shift_remove("stringData") {
        let data = meta::child(secret, "data");
        for (key, value) in texts {
            data.insert(
                key,
                STANDARD.encode(value.as_str().unwrap_or_default()).into(),
            );
        }
    }
    meta::default(members(secret), "type", "Opaque");
}

pub(super) fn validate_data(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut size = 0;
    for part in ["data", "binaryData"] {
        for (key, value) in object
            .get(part)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            size += value.as_str().map_or(0, str::len);
            let valid = !key.is_empty()
                && key.len() <= 253
                && key
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
            if !valid || matches!(key.as_str(), "." | "..") {
                errors.push(FieldError::invalid(
                    format!("{part}[{key}]"),
                    &key.clone().into(),
                    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
                ));
            }
        }
    }
    if object["kind"] == "Secret" {
        let kind = meta::text(object, "/type").unwrap_or_default();
        let keys = SECRET_KEYS.iter().find(|(of, _)| *of == kind);
        let missing = |key: &&&str| object["data"].get(**key).is_none();
        let missing = keys
            .into_iter()
            .flat_map(|(_, keys)| keys.iter())
            .filter(missing);
        errors.extend(missing.map(|key| FieldError::required(format!("data[{key}]"), "")));
    }
    if size > MAX_DATA {
        errors.push(FieldError {
            reason: "FieldValueTooLong",
            field: String::new(),
            detail: format!("Too long: may not be more than {MAX_DATA} bytes"),
        });
    }
    errors
}

pub(super) fn validate_immutable(old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if old["kind"] == "Secret" && old["type"] != new["type"] {
        errors.push(FieldError::invalid(
            "type",
            &new["type"],
            "field is immutable",
        ));
    }
    if old["immutable"] == true {
        for key in ["data", "binaryData", "immutable"] {
            if old[key] != new[key] {
                errors.push(FieldError::forbidden(
                    key,
                    "field is immutable when `immutable` is set",
                ));
            }
        }
    }
    errors
}
