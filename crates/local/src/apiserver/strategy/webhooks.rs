//! Webhook configurations.

use serde_json::{Value, json};

use super::checks::{one_of, validate_selector};
use crate::apiserver::error::FieldError;
use crate::apiserver::meta;

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
        validate_choices(webhook, &format!("webhooks[{index}]"), &mut errors);
        let name = meta::text(webhook, "/name").unwrap_or_default();
        let before = &meta::list(object, "/webhooks")[..index];
        if before.iter().any(|other| other["name"] == name) {
            errors.push(FieldError::duplicate(field("name"), &name.into()));
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

/// The members of which there are only so many values, and those that are not supported.
fn validate_choices(webhook: &Value, field: &str, errors: &mut Vec<FieldError>) {
    one_of(webhook, "failurePolicy", field, &["Fail", "Ignore"], errors);
    one_of(
        webhook,
        "matchPolicy",
        field,
        &["Equivalent", "Exact"],
        errors,
    );
    let policies = ["IfNeeded", "Never"];
    one_of(webhook, "reinvocationPolicy", field, &policies, errors);
    if let Some(seconds) = webhook["timeoutSeconds"].as_i64()
        && !(1..=30).contains(&seconds)
    {
        errors.push(FieldError::invalid(
            format!("{field}.timeoutSeconds"),
            &seconds.into(),
            "the timeout value must be between 1 and 30 seconds",
        ));
    }
    for name in ["namespaceSelector", "objectSelector"] {
        validate_selector(webhook.get(name), &format!("{field}.{name}"), errors);
    }
    if !meta::list(webhook, "/matchConditions").is_empty() {
        errors.push(FieldError::forbidden(
            format!("{field}.matchConditions"),
            "match conditions are not supported by this platform",
        ));
    }
    for (index, rule) in meta::list(webhook, "/rules").iter().enumerate() {
        let at = format!("{field}.rules[{index}]");
        for name in ["operations", "apiGroups", "apiVersions", "resources"] {
            if meta::list(rule, &format!("/{name}")).is_empty() {
                errors.push(FieldError::required(format!("{at}.{name}"), ""));
            }
        }
        one_of(rule, "scope", &at, &["*", "Cluster", "Namespaced"], errors);
    }
}
