//! Ingresses.

use serde_json::{Value, json};

use super::names;
use crate::apiserver::error::FieldError;
use crate::apiserver::meta;

pub(super) fn default_ingress(ingress: &mut Value) {
    let status = meta::child(ingress, "status");
    meta::default(status, "loadBalancer", json!({}));
}

pub(super) fn validate(ingress: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let rules = meta::list(ingress, "/spec/rules");
    let default = ingress.pointer("/spec/defaultBackend");
    if rules.is_empty() && default.is_none() {
        errors.push(FieldError::invalid(
            "spec",
            &json!({}),
            "either `defaultBackend` or `rules` must be specified",
        ));
    }
    if let Some(backend) = default {
        validate_backend(backend, "spec.defaultBackend", &mut errors);
    }
    for (index, rule) in rules.iter().enumerate() {
        let field = format!("spec.rules[{index}]");
        let host = meta::text(rule, "/host").unwrap_or_default();
        let name = host.strip_prefix("*.").unwrap_or(host);
        if !name.is_empty() {
            names::require_subdomain(&format!("{field}.host"), name, &mut errors);
        }
        validate_paths(rule, &format!("{field}.http.paths"), &mut errors);
    }
    errors
}

fn validate_paths(rule: &Value, field: &str, errors: &mut Vec<FieldError>) {
    if rule.get("http").is_some() && meta::list(rule, "/http/paths").is_empty() {
        errors.push(FieldError::required(field, ""));
    }
    for (index, path) in meta::list(rule, "/http/paths").iter().enumerate() {
        let field = format!("{field}[{index}]");
        let kinds = ["Exact", "ImplementationSpecific", "Prefix"];
        match meta::text(path, "/pathType") {
            None => errors.push(FieldError::required(
                format!("{field}.pathType"),
                "pathType must be specified",
            )),
            Some(kind) if !kinds.contains(&kind) => {
                let at = format!("{field}.pathType");
                errors.push(FieldError::unsupported(at, &kind.into(), &kinds));
            }
            Some(kind) => {
                let given = meta::text(path, "/path").unwrap_or_default();
                if kind != "ImplementationSpecific" && !given.starts_with('/') {
                    let at = format!("{field}.path");
                    let why = "must be an absolute path";
                    errors.push(FieldError::invalid(at, &given.into(), why));
                }
            }
        }
        validate_backend(&path["backend"], &format!("{field}.backend"), errors);
    }
}

fn validate_backend(backend: &Value, field: &str, errors: &mut Vec<FieldError>) {
    if backend.get("resource").is_some() {
        return;
    }
    if meta::text(backend, "/service/name").is_none_or(str::is_empty) {
        errors.push(FieldError::required(format!("{field}.service.name"), ""));
    }
    let port = &backend["service"]["port"];
    let given = ["name", "number"]
        .iter()
        .filter(|key| port.get(**key).is_some());
    match given.count() {
        1 => {}
        0 => errors.push(FieldError::required(
            field,
            "port name or number is required",
        )),
        _ => errors.push(FieldError::invalid(
            field,
            &"".into(),
            "cannot set both port name & port number",
        )),
    }
}
