//! Deployments, replica sets and jobs.

use serde_json::{Value, json};

use super::{names, pod};
use crate::apiserver::error::FieldError;
use crate::apiserver::meta;
use crate::apiserver::selector::LabelSelector;

fn default_template(object: &mut Value) {
    let template = &mut object["spec"]["template"];
    if template.is_object() {
        meta::child(template, "metadata");
        pod::default_spec(meta::child(template, "spec"));
    }
}

pub(super) fn default_deployment(deployment: &mut Value) {
    let spec = meta::child(deployment, "spec");
    meta::default(spec, "replicas", 1);
    meta::default(spec, "revisionHistoryLimit", 10);
    meta::default(spec, "progressDeadlineSeconds", 600);
    meta::default(spec, "strategy", json!({}));
    if let Some(strategy) = spec["strategy"].as_object_mut() {
        meta::default(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate" {
            meta::default(strategy, "rollingUpdate", json!({}));
            if let Some(rolling) = strategy["rollingUpdate"].as_object_mut() {
                meta::default(rolling, "maxUnavailable", "25%");
                meta::default(rolling, "maxSurge", "25%");
            }
        }
    }
    default_template(deployment);
}

pub(super) fn default_replica_set(set: &mut Value) {
    meta::default(meta::child(set, "spec"), "replicas", 1);
    default_template(set);
}

pub(super) fn default_job(job: &mut Value) {
    let spec = meta::child(job, "spec");
    if spec.get("completions").is_none_or(Value::is_null)
        && spec.get("parallelism").is_none_or(Value::is_null)
    {
        spec.insert("completions".into(), 1.into());
    }
    meta::default(spec, "parallelism", 1);
    meta::default(spec, "backoffLimit", 6);
    meta::default(spec, "completionMode", "NonIndexed");
    meta::default(spec, "suspend", false);
    meta::default(spec, "podReplacementPolicy", "TerminatingOrFailed");
    // Jobs may not have the usual default of "Always"; leaving it out is refused below.
    let named = job.pointer("/spec/template/spec/restartPolicy").is_some();
    default_template(job);
    if !named
        && let Some(spec) = job
            .pointer_mut("/spec/template/spec")
            .and_then(Value::as_object_mut)
    {
        spec.insert("restartPolicy".into(), "Always".into());
    }
}

/// A job selects its own pods by its uid.
pub(super) fn label_job(job: &mut Value) {
    if job.pointer("/spec/manualSelector") == Some(&Value::Bool(true)) {
        return;
    }
    let uid = job["metadata"]["uid"].clone();
    let name = job["metadata"]["name"].clone();
    job["spec"]["selector"] = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
    if !job["spec"]["template"].is_object() {
        return;
    }
    let labels = meta::child(&mut job["spec"]["template"]["metadata"], "labels");
    for (key, value) in [
        ("batch.kubernetes.io/controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        ("job-name", &name),
    ] {
        labels.insert(key.into(), value.clone());
    }
}

pub(super) fn validate(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if object
        .pointer("/spec/replicas")
        .and_then(Value::as_i64)
        .is_none_or(|replicas| replicas < 0)
    {
        errors.push(FieldError::invalid(
            "spec.replicas",
            &object["spec"]["replicas"],
            "must be greater than or equal to 0",
        ));
    }
    let selector = object.pointer("/spec/selector");
    let parsed = LabelSelector::from_object(selector);
    if selector.is_none() {
        errors.push(FieldError::required("spec.selector", ""));
    } else if parsed.is_empty() {
        errors.push(FieldError::invalid(
            "spec.selector",
            &object["spec"]["selector"],
            "empty selector is invalid for deployment",
        ));
    }
    validate_template(object, &mut errors);
    let template = &object["spec"]["template"];
    if selector.is_some() && !parsed.matches(template) {
        let labels = template
            .pointer("/metadata/labels")
            .cloned()
            .unwrap_or(json!({}));
        errors.push(FieldError::invalid(
            "spec.template.metadata.labels",
            &labels,
            "`selector` does not match template `labels`",
        ));
    }
    if !errors
        .iter()
        .any(|error| error.field.starts_with("spec.template"))
        && meta::text(template, "/spec/restartPolicy") != Some("Always")
    {
        let policy = &template["spec"]["restartPolicy"];
        errors.push(FieldError::unsupported(
            "spec.template.spec.restartPolicy",
            policy,
            &["Always"],
        ));
    }
    errors
}

pub(super) fn validate_job(job: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    validate_template(job, &mut errors);
    let policy = job
        .pointer("/spec/template/spec/restartPolicy")
        .cloned()
        .unwrap_or_default();
    if policy != "Never" && policy != "OnFailure" {
        errors.push(FieldError {
            reason: "FieldValueRequired",
            field: "spec.template.spec.restartPolicy".into(),
            detail: "Required value: valid values: \"OnFailure\", \"Never\"".into(),
        });
    }
    errors
}

fn validate_template(object: &Value, errors: &mut Vec<FieldError>) {
    let template = &object["spec"]["template"];
    names::validate_labels(
        template.pointer("/metadata/labels"),
        "spec.template.labels",
        errors,
    );
    let empty = json!({"restartPolicy": "Always"});
    let spec = template.get("spec").unwrap_or(&empty);
    pod::validate_spec(spec, "spec.template.spec", errors);
}
