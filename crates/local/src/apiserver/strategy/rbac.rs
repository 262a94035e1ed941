//! Roles and bindings.

use serde_json::Value;

use crate::apiserver::error::FieldError;
use crate::apiserver::kinds::Resource;
use crate::apiserver::meta;

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
        validate_subjects(object, &mut errors);
        return errors;
    }
    for (index, rule) in meta::list(object, "/rules").iter().enumerate() {
        validate_rule(resource, rule, &format!("rules[{index}]"), &mut errors);
    }
    errors
}

fn validate_subjects(binding: &Value, errors: &mut Vec<FieldError>) {
    for (index, subject) in meta::list(binding, "/subjects").iter().enumerate() {
        let at = |name: &str| format!("subjects[{index}].{name}");
        let is_empty = |pointer: &str| meta::text(subject, pointer).is_none_or(str::is_empty);
        if is_empty("/name") {
            errors.push(FieldError::required(at("name"), ""));
        }
        match meta::text(subject, "/kind") {
            Some("ServiceAccount") if is_empty("/namespace") => {
                errors.push(FieldError::required(at("namespace"), ""));
            }
            Some("ServiceAccount" | "User" | "Group") => {}
            _ => errors.push(FieldError::unsupported(
                at("kind"),
                &subject["kind"],
                &["ServiceAccount", "User", "Group"],
            )),
        }
    }
}

fn validate_rule(resource: &Resource, rule: &Value, field: &str, errors: &mut Vec<FieldError>) {
    let at = |name: &str| format!("{field}.{name}");
    let is_empty = |list: &str| meta::list(rule, list).is_empty();
    if is_empty("/verbs") {
        let why = "verbs must contain at least one value";
        errors.push(FieldError::required(at("verbs"), why));
    }
    if !is_empty("/nonResourceURLs") {
        if resource.namespaced {
            errors.push(FieldError::invalid(
                at("nonResourceURLs"),
                &rule["nonResourceURLs"],
                "namespaced rules cannot apply to non-resource URLs",
            ));
        }
        if !is_empty("/apiGroups") || !is_empty("/resources") || !is_empty("/resourceNames") {
            errors.push(FieldError::invalid(
                at("nonResourceURLs"),
                &rule["nonResourceURLs"],
                "rules cannot apply to both regular resources and non-resource URLs",
            ));
        }
        return;
    }
    if is_empty("/apiGroups") {
        let why = "resource rules must supply at least one api group";
        errors.push(FieldError::required(at("apiGroups"), why));
    }
    if is_empty("/resources") {
        let why = "resource rules must supply at least one resource";
        errors.push(FieldError::required(at("resources"), why));
    }
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
