//! The smaller kinds.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::apiserver::error::FieldError;
use crate::apiserver::kinds::Resource;
use crate::apiserver::meta;

/// The most that a config map or secret may hold.
const MAX_DATA: usize = 1 << 20;

fn members(object: &mut Value) -> &mut serde_json::Map<String, Value> {
    object.as_object_mut().expect("checked to be an object")
}

pub(super) fn create_namespace(namespace: &mut Value) {
    let name = meta::name(namespace).to_owned();
    meta::child(&mut namespace["metadata"], "labels")
        .insert("kubernetes.io/metadata.name".into(), name.into());
    meta::child(namespace, "spec").insert("finalizers".into(), json!(["kubernetes"]));
    namespace["status"] = json!({"phase": "Active"});
}

/// Only `/finalize` changes the finalizers of the spec.
pub(super) fn update_namespace(subresource: &str, old: &Value, new: &mut Value) {
    if subresource != "finalize" {
        new["spec"] = old["spec"].clone();
    } else {
        let spec = new["spec"].clone();
        *new = old.clone();
        new["spec"] = spec;
    }
    let name = meta::name(new).to_owned();
    meta::child(&mut new["metadata"], "labels")
        .insert("kubernetes.io/metadata.name".into(), name.into());
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
            let encoded = object["kind"] == "Secret" || part == "binaryData";
            let decodes = |text: &str| STANDARD.decode(text).is_ok();
            if encoded && value.as_str().is_none_or(|text| !decodes(text)) {
                errors.push(FieldError::invalid(
                    format!("{part}[{key}]"),
                    &"<value>".into(),
                    "must be base64",
                ));
            }
        }
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

pub(super) fn default_rbac(object: &mut Value) {
    if let Some(role) = object.get_mut("roleRef").and_then(Value::as_object_mut) {
        meta::default(role, "apiGroup", "rbac.authorization.k8s.io");
    }
    for subject in object
        .get_mut("subjects")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let is_account = subject["kind"] == "ServiceAccount";
        if let Some(subject) = subject.as_object_mut()
            && !is_account
        {
            meta::default(subject, "apiGroup", "rbac.authorization.k8s.io");
        }
    }
}

pub(super) fn validate_rbac(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if resource.plural.ends_with("bindings") {
        let kind = meta::text(object, "/roleRef/kind").unwrap_or_default();
        let allowed: &[&str] = if resource.namespaced {
            &["Role", "ClusterRole"]
        } else {
            &["ClusterRole"]
        };
        if !allowed.contains(&kind) {
            errors.push(FieldError::unsupported(
                "roleRef.kind",
                &kind.into(),
                allowed,
            ));
        }
        if meta::text(object, "/roleRef/name").is_none_or(str::is_empty) {
            errors.push(FieldError::required("roleRef.name", ""));
        }
        return errors;
    }
    for (index, rule) in meta::list(object, "/rules").iter().enumerate() {
        if meta::list(rule, "/verbs").is_empty() {
            errors.push(FieldError::required(
                format!("rules[{index}].verbs"),
                "verbs must contain at least one value",
            ));
        }
    }
    errors
}

pub(super) fn validate_role_ref(old: &Value, new: &Value) -> Vec<FieldError> {
    if old["roleRef"] == new["roleRef"] {
        return Vec::new();
    }
    vec![FieldError::invalid(
        "roleRef",
        &new["roleRef"],
        "cannot change roleRef",
    )]
}

pub(super) fn default_webhooks(plural: &str, object: &mut Value) {
    for webhook in object
        .get_mut("webhooks")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(service) = webhook
            .pointer_mut("/clientConfig/service")
            .and_then(Value::as_object_mut)
        {
            meta::default(service, "port", 443);
        }
        for rule in webhook
            .get_mut("rules")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if let Some(rule) = rule.as_object_mut() {
                meta::default(rule, "scope", "*");
            }
        }
        let Some(webhook) = webhook.as_object_mut() else {
            continue;
        };
        meta::default(webhook, "failurePolicy", "Fail");
        meta::default(webhook, "matchPolicy", "Equivalent");
        meta::default(webhook, "namespaceSelector", json!({}));
        meta::default(webhook, "objectSelector", json!({}));
        meta::default(webhook, "timeoutSeconds", 10);
        if plural == "mutatingwebhookconfigurations" {
            meta::default(webhook, "reinvocationPolicy", "Never");
        }
    }
}

pub(super) fn validate_webhooks(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, webhook) in meta::list(object, "/webhooks").iter().enumerate() {
        let field = |name: &str| format!("webhooks[{index}].{name}");
        if meta::text(webhook, "/name").is_none_or(|name| name.split('.').count() < 3) {
            let detail = "should be a domain with at least three segments separated by dots";
            errors.push(FieldError::invalid(field("name"), &webhook["name"], detail));
        }
        if !matches!(
            meta::text(webhook, "/sideEffects"),
            Some("None" | "NoneOnDryRun")
        ) {
            errors.push(FieldError::unsupported(
                field("sideEffects"),
                &webhook["sideEffects"],
                &["None", "NoneOnDryRun"],
            ));
        }
        if !meta::list(webhook, "/admissionReviewVersions")
            .iter()
            .any(|version| version == "v1")
        {
            errors.push(FieldError::required(
                field("admissionReviewVersions"),
                "must include v1",
            ));
        }
        let config = &webhook["clientConfig"];
        if config.get("url").is_some() == config.get("service").is_some() {
            errors.push(FieldError::required(
                field("clientConfig"),
                "exactly one of url or service is required",
            ));
        }
    }
    errors
}

pub(super) fn default_definition(definition: &mut Value) {
    let names = meta::child(&mut definition["spec"], "names");
    if let Some(kind) = names.get("kind").and_then(Value::as_str).map(str::to_owned) {
        meta::default(names, "singular", kind.to_lowercase());
        meta::default(names, "listKind", format!("{kind}List"));
    }
    let spec = meta::child(definition, "spec");
    meta::default(spec, "conversion", json!({"strategy": "None"}));
}

pub(super) fn validate_definition(definition: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let text = |pointer: &str| meta::text(definition, pointer).unwrap_or_default();
    for field in ["group", "names/plural", "names/kind"] {
        if text(&format!("/spec/{field}")).is_empty() {
            errors.push(FieldError::required(
                format!("spec.{}", field.replace('/', ".")),
                "",
            ));
        }
    }
    if !matches!(text("/spec/scope"), "Namespaced" | "Cluster") {
        errors.push(FieldError::unsupported(
            "spec.scope",
            &definition["spec"]["scope"],
            &["Cluster", "Namespaced"],
        ));
    }
    let expected = format!("{}.{}", text("/spec/names/plural"), text("/spec/group"));
    if meta::name(definition) != expected {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid(
            "metadata.name",
            &meta::name(definition).into(),
            detail,
        ));
    }
    if text("/spec/conversion/strategy") == "Webhook" {
        errors.push(FieldError::forbidden(
            "spec.conversion.strategy",
            "conversion by webhook is not supported",
        ));
    }
    let versions = meta::list(definition, "/spec/versions");
    if versions
        .iter()
        .filter(|version| version["storage"] == true)
        .count()
        != 1
    {
        let shown = definition["spec"]["versions"].clone();
        let shown = if shown.is_null() {
            shown
        } else {
            "<versions>".into()
        };
        errors.push(FieldError::invalid(
            "spec.versions",
            &shown,
            "must have exactly one version marked as storage version",
        ));
    }
    for (index, version) in versions.iter().enumerate() {
        let schema = version.pointer("/schema/openAPIV3Schema");
        if !schema.is_some_and(Value::is_object) {
            errors.push(FieldError::required(
                format!("spec.versions[{index}].schema.openAPIV3Schema"),
                "schemas are required",
            ));
        } else if schema
            .and_then(|schema| schema.get("type"))
            .is_none_or(|kind| kind != "object")
        {
            let field = format!("spec.versions[{index}].schema.openAPIV3Schema.type");
            errors.push(FieldError::required(field, "must not be empty at the root"));
        }
    }
    errors
}

pub(super) fn default_ingress(ingress: &mut Value) {
    for rule in ingress
        .pointer_mut("/spec/rules")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        for path in rule
            .pointer_mut("/http/paths")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if let Some(path) = path.as_object_mut() {
                meta::default(path, "pathType", "ImplementationSpecific");
            }
        }
    }
    let status = meta::child(ingress, "status");
    meta::default(status, "loadBalancer", json!({}));
}

pub(super) fn default_autoscaler(autoscaler: &mut Value) {
    meta::default(meta::child(autoscaler, "spec"), "minReplicas", 1);
}

pub(super) fn default_slice(slice: &mut Value) {
    for port in slice
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(port) = port.as_object_mut() {
            meta::default(port, "protocol", "TCP");
            meta::default(port, "name", "");
        }
    }
}
