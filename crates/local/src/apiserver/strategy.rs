//! Where builtin kinds differ: defaults, what the server decides, and what is valid.

mod checks;
mod data;
mod definition;
pub(super) mod event;
mod ingress;
mod misc;
mod names;
mod pod;
mod rbac;
pub(super) mod scale;
pub(super) mod service;
mod webhooks;
mod workload;

use serde_json::Value;

use super::core::Core;
use super::crd::schema;
use super::error::{ApiError, FieldError};
use super::kinds::Resource;
use super::request::Target;

/// Fills in what the user left out.
pub(super) fn default(resource: &Resource, object: &mut Value) {
    if let Some(custom) = &resource.custom {
        if let Some(schema) = &custom.schema {
            schema::prune(schema, object);
            schema::default(schema, object);
        }
        return;
    }
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => pod::default(object),
        ("", "services") => service::default(object),
        ("", "secrets") => data::default_secret(object),
        ("apps", "deployments") => workload::default_deployment(object),
        ("apps", "replicasets") => workload::default_replica_set(object),
        ("batch", "jobs") => workload::default_job(object),
        ("rbac.authorization.k8s.io", _) => rbac::default_rbac(object),
        ("admissionregistration.k8s.io", plural) => webhooks::default_webhooks(plural, object),
        ("apiextensions.k8s.io", _) => definition::default_definition(object),
        ("networking.k8s.io", "ingresses") => ingress::default_ingress(object),
        ("autoscaling", _) => misc::default_autoscaler(object),
        ("discovery.k8s.io", _) => misc::default_slice(object),
        ("" | "events.k8s.io", "events") => event::default(resource, object),
        _ => {}
    }
}

/// Sets what the server decides when an object is made.
pub(super) fn for_create(
    core: &Core,
    resource: &Resource,
    object: &mut Value,
) -> Result<(), ApiError> {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => pod::for_create(core, resource, object)?,
        ("", "namespaces") => misc::create_namespace(object),
        ("batch", "jobs") => workload::label_job(object),
        _ => {}
    }
    Ok(())
}

/// Sets what the server decides when an object is changed.
pub(super) fn for_update(target: &Target, old: &Value, new: &mut Value) {
    match (
        target.resource.group.as_str(),
        target.resource.plural.as_str(),
    ) {
        ("", "namespaces") => misc::update_namespace(&target.subresource, old, new),
        ("", "services") => service::keep_allocated(old, new),
        _ => {}
    }
}

/// What is wrong with an object by itself.
pub(super) fn validate(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let mut errors = names::validate(resource, object);
    if let Some(custom) = &resource.custom {
        if let Some(schema) = &custom.schema {
            let of_shape = schema::validate(schema, object);
            // Rules are written for objects of the right shape.
            if of_shape.is_empty() {
                errors.extend(custom.rules.check(schema, object));
            }
            errors.extend(of_shape);
        }
        return errors;
    }
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => errors.extend(pod::validate(object)),
        ("", "services") => errors.extend(service::validate(object)),
        ("networking.k8s.io", "ingresses") => errors.extend(ingress::validate(object)),
        ("", "configmaps" | "secrets") => errors.extend(data::validate_data(object)),
        ("apps", _) => errors.extend(workload::validate(object)),
        ("batch", "jobs") => errors.extend(workload::validate_job(object)),
        ("rbac.authorization.k8s.io", _) => errors.extend(rbac::validate_rbac(resource, object)),
        ("apiextensions.k8s.io", _) => errors.extend(definition::validate_definition(object)),
        ("admissionregistration.k8s.io", _) => errors.extend(webhooks::validate_webhooks(object)),
        _ => {}
    }
    errors
}

/// What may not change.
pub(super) fn validate_update(resource: &Resource, old: &Value, new: &Value) -> Vec<FieldError> {
    if let Some(custom) = &resource.custom
        && let Some(schema) = &custom.schema
    {
        let of_shape = schema::validate(schema, new).is_empty();
        let errors = of_shape.then(|| custom.rules.check_change(schema, old, new));
        return errors.unwrap_or_default();
    }
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => pod::validate_update(old, new),
        ("", "services") => service::validate_update(old, new),
        ("", "configmaps" | "secrets") => data::validate_immutable(old, new),
        ("apps", _) => immutable(old, new, "/spec/selector"),
        ("batch", "jobs") => [
            immutable(old, new, "/spec/completions"),
            immutable(old, new, "/spec/completionMode"),
            immutable(old, new, "/spec/selector"),
            immutable(old, new, "/spec/template"),
        ]
        .concat(),
        ("discovery.k8s.io", _) => immutable(old, new, "/addressType"),
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => {
            rbac::validate_role_ref(old, new)
        }
        ("apiextensions.k8s.io", _) => [
            immutable(old, new, "/spec/scope"),
            immutable(old, new, "/spec/group"),
        ]
        .concat(),
        _ => Vec::new(),
    }
}

fn immutable(old: &Value, new: &Value, pointer: &str) -> Vec<FieldError> {
    let (old, new) = (old.pointer(pointer), new.pointer(pointer));
    if old == new {
        return Vec::new();
    }
    let field = pointer.trim_start_matches('/').replace('/', ".");
    vec![FieldError::invalid(
        field,
        new.unwrap_or(&Value::Null),
        "field is immutable",
    )]
}
