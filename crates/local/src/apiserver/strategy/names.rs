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

/// Labels, of DNS and of objects, are no longer.
const MAX_LABEL: usize = 63;

/// All annotations of an object together, keys and values.
const MAX_ANNOTATIONS: usize = 256 << 10;

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
    let mut size = 0;
    if let Some(annotations) = object
        .pointer("/metadata/annotations")
        .and_then(Value::as_object)
    {
        for (key, value) in annotations {
            validate_label_key(&key.to_lowercase(), "metadata.annotations", &mut errors);
            size += key.len() + value.as_str().map_or(0, str::len);
        }
    }
    if size > MAX_ANNOTATIONS {
        errors.push(FieldError {
            reason: "FieldValueTooLong",
            field: "metadata.annotations".into(),
            detail: format!("Too long: may not be more than {MAX_ANNOTATIONS} bytes"),
        });
    }
    errors
}

fn validate_name(resource: &Resource, name: &str, errors: &mut Vec<FieldError>) {
    let bad = |detail: &str| FieldError::invalid("metadata.name", &name.into(), detail);
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("rbac.authorization.k8s.io", _) => {
            let bad_path = name.contains(['/', '%']) || matches!(name, "." | "..");
            errors.extend(bad_path.then(|| bad("may not contain '/' or '%'")));
            // The store could not tell such a key from another.
            let control = name.chars().any(char::is_control);
            errors.extend(control.then(|| bad("may not contain control characters")));
        }
        ("", "namespaces" | "services") if name.len() > MAX_LABEL => {
            errors.push(bad(&too_long(MAX_LABEL)));
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
        validate_label_key(key, field, errors);
        match value.as_str() {
            Some(text) if text.len() > MAX_LABEL => {
                errors.push(FieldError::invalid(field, value, too_long(MAX_LABEL)));
            }
            Some(text) if is_label_value(text) => {}
            _ => errors.push(FieldError::invalid(field, value, LABEL_VALUE)),
        }
    }
}

/// Checks the key of a label or annotation.
pub(super) fn validate_label_key(key: &str, field: &str, errors: &mut Vec<FieldError>) {
    let (prefix, name) = key
        .split_once('/')
        .map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let fault = match (prefix, name) {
        _ if is_qualified(key) => return,
        (Some(""), _) => "prefix part must be non-empty".to_owned(),
        (_, "") => "name part must be non-empty".to_owned(),
        (_, name) if name.len() > MAX_LABEL => format!("name part {}", too_long(MAX_LABEL)),
        (_, name) if !is_label_value(name) => QUALIFIED.to_owned(),
        _ => format!("prefix part {SUBDOMAIN}"),
    };
    errors.push(FieldError::invalid(field, &key.into(), fault));
}

fn too_long(most: usize) -> String {
    format!("must be no more than {most} bytes")
}

/// Checks that a name is a DNS name.
pub(super) fn require_subdomain(field: &str, name: &str, errors: &mut Vec<FieldError>) {
    if !is_subdomain(name) {
        errors.push(FieldError::invalid(field, &name.into(), SUBDOMAIN));
    }
}

/// Checks the number of a port.
pub(super) fn check_port_number(field: &str, number: i64, errors: &mut Vec<FieldError>) {
    if !(1..=65535).contains(&number) {
        errors.push(FieldError::invalid(
            field,
            &number.into(),
            "must be between 1 and 65535, inclusive",
        ));
    }
}

/// Checks the name of a port (RFC 6335, section 5.1).
pub(super) fn check_port_name(field: &str, name: &str, errors: &mut Vec<FieldError>) {
    let mut refuse = |why: &str| errors.push(FieldError::invalid(field, &name.into(), why));
    if name.len() > 15 {
        refuse("must be no more than 15 characters");
    }
    if !name
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        || name.is_empty()
    {
        refuse("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
        return;
    }
    if !name.contains(|c: char| c.is_ascii_lowercase()) {
        refuse("must contain at least one letter (a-z)");
    }
    if name.contains("--") {
        refuse("must not contain consecutive hyphens");
    }
    if name.starts_with('-') || name.ends_with('-') {
        refuse("must not begin or end with a hyphen");
    }
}

/// Checks that a name is a DNS label.
pub(super) fn require_label(field: &str, name: Option<&str>, errors: &mut Vec<FieldError>) {
    match name {
        None | Some("") => errors.push(FieldError::required(field, "")),
        Some(name) if name.len() > MAX_LABEL => {
            errors.push(FieldError::invalid(
                field,
                &name.into(),
                too_long(MAX_LABEL),
            ));
        }
        Some(name) if !is_label(name) => {
            errors.push(FieldError::invalid(field, &name.into(), LABEL));
        }
        Some(_) => {}
    }
}
