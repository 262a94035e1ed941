//! Names, labels and annotations: what Kubernetes allows, in its words.

use serde_json::Value;

use crate::apiserver::error::FieldError;
use crate::apiserver::kinds::Resource;
use crate::apiserver::meta;

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// Whether this is a DNS label of RFC 1123.
pub(super) fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty()
        && text.len() <= 63
        && text.chars().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whether this is a DNS name of RFC 1123.
pub(super) fn is_subdomain(text: &str) -> bool {
    text.len() <= 253
        && text
            .split('.')
            .all(|part| !part.is_empty() && is_label_of_any_length(part))
}

fn is_label_of_any_length(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_label_value(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && text.chars().all(inner)
        && edge(text.chars().next())
        && edge(text.chars().last())
}

fn is_qualified(key: &str) -> bool {
    let (prefix, name) = key
        .split_once('/')
        .map_or((None, key), |(prefix, name)| (Some(prefix), name));
    !name.is_empty() && is_label_value(name) && prefix.is_none_or(is_subdomain)
}

/// Checks the metadata of an object.
pub(super) fn validate(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    validate_name(resource, meta::name(object), &mut errors);
    validate_labels(
        object.pointer("/metadata/labels"),
        "metadata.labels",
        &mut errors,
    );
    if let Some(annotations) = object
        .pointer("/metadata/annotations")
        .and_then(Value::as_object)
    {
        for (key, value) in annotations {
            if !is_qualified(&key.to_lowercase()) {
                errors.push(FieldError::invalid(
                    "metadata.annotations",
                    &key.clone().into(),
                    QUALIFIED,
                ));
            }
            if !value.is_string() {
                errors.push(FieldError::invalid(
                    format!("metadata.annotations[{key}]"),
                    value,
                    "must be a string",
                ));
            }
        }
    }
    errors
}

fn validate_name(resource: &Resource, name: &str, errors: &mut Vec<FieldError>) {
    let bad = |detail: &str| FieldError::invalid("metadata.name", &name.into(), detail);
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("rbac.authorization.k8s.io", _) => {
            let bad_path = name.contains(['/', '%']) || matches!(name, "." | "..");
            errors.extend(bad_path.then(|| bad("may not contain '/' or '%'")));
        }
        ("", "namespaces") if !is_label(name) => errors.push(bad(LABEL)),
        ("", "services") if !is_label(name) || name.starts_with(|c: char| c.is_ascii_digit()) => {
            errors.push(bad(LABEL_1035));
        }
        _ if !is_subdomain(name) => errors.push(bad(SUBDOMAIN)),
        _ => {}
    }
    if resource.custom.is_none()
        && resource.is("apiextensions.k8s.io", "customresourcedefinitions")
        && !name.contains('.')
    {
        errors.push(bad("must be spec.names.plural+\".\"+spec.group"));
    }
}

/// Checks a map of labels.
pub(super) fn validate_labels(labels: Option<&Value>, field: &str, errors: &mut Vec<FieldError>) {
    let Some(labels) = labels.and_then(Value::as_object) else {
        return;
    };
    for (key, value) in labels {
        if !is_qualified(key) {
            errors.push(FieldError::invalid(field, &key.clone().into(), QUALIFIED));
        }
        if !value.as_str().is_some_and(is_label_value) {
            errors.push(FieldError::invalid(field, value, LABEL_VALUE));
        }
    }
}

/// Checks that a name is a DNS label.
pub(super) fn require_label(field: &str, name: Option<&str>, errors: &mut Vec<FieldError>) {
    match name {
        None | Some("") => errors.push(FieldError::required(field, "")),
        Some(name) if !is_label(name) => {
            errors.push(FieldError::invalid(field, &name.into(), LABEL))
        }
        Some(_) => {}
    }
}
