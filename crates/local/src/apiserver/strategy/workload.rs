//! Deployments, replica sets and jobs.

use serde_json::{Value, json};

use super::checks::{non_negative, one_of, validate_selector};
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
    for name in [
        "replicas",
        "minReadySeconds",
        "revisionHistoryLimit",
        "progressDeadlineSeconds",
    ] {
        non_negative(&object["spec"], name, "spec", &mut errors);
    }
    validate_selection(object, &mut errors);
    if object["kind"] == "Deployment" {
        validate_strategy(&object["spec"], &mut errors);
    }
    let template = &object["spec"]["template"];
    let at = "spec.template.spec.restartPolicy";
    let policy = &template["spec"]["restartPolicy"];
    if policy != "Always" && !errors.iter().any(|error| error.field == at) {
        errors.push(FieldError::unsupported(at, policy, &["Always"]));
    }
    errors
}

/// The selector, the template, and whether one selects the other.
fn validate_selection(object: &Value, errors: &mut Vec<FieldError>) {
    let selector = object.pointer("/spec/selector");
    let parsed = LabelSelector::from_object(selector);
    let before = errors.len();
    validate_selector(selector, "spec.selector", errors);
    let is_sound = errors.len() == before;
    if selector.is_none() {
        errors.push(FieldError::required("spec.selector", ""));
    } else if parsed.is_empty() {
        let kind = meta::text(object, "/kind")
            .unwrap_or_default()
            .to_lowercase();
        errors.push(FieldError::invalid(
            "spec.selector",
            &object["spec"]["selector"],
            format!("empty selector is invalid for {kind}"),
        ));
    }
    let template = &object["spec"]["template"];
    if selector.is_some() && is_sound && !parsed.matches(template) {
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
    validate_template(object, errors);
}

fn validate_strategy(spec: &Value, errors: &mut Vec<FieldError>) {
    let field = "spec.strategy";
    let strategy = &spec["strategy"];
    one_of(
        strategy,
        "type",
        field,
        &["Recreate", "RollingUpdate"],
        errors,
    );
    let Some(rolling) = strategy.get("rollingUpdate") else {
        return;
    };
    let at = |name: &str| format!("{field}.rollingUpdate{name}");
    if strategy["type"] == "Recreate" {
        let why = "may not be specified when strategy `type` is 'Recreate'";
        errors.push(FieldError::forbidden(at(""), why));
        return;
    }
    let mut zeros = 0;
    for name in ["maxUnavailable", "maxSurge"] {
        let value = &rolling[name];
        let amount = match value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text
                .strip_suffix('%')
                .filter(|digits| digits.chars().all(|c| c.is_ascii_digit()))
                .and_then(|digits| digits.parse().ok()),
            _ => continue,
        };
        let place = at(&format!(".{name}"));
        match amount {
            None => errors.push(FieldError::invalid(
                place,
                value,
                "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
            )),
            Some(amount) if amount < 0 => errors.push(FieldError::invalid(
                place,
                value,
                "must be greater than or equal to 0",
            )),
            Some(amount) if name == "maxUnavailable" && value.is_string() && amount > 100 => {
                errors.push(FieldError::invalid(place, value, "must not be greater than 100%"));
            }
            Some(amount) => zeros += usize::from(amount == 0),
        }
    }
    if zeros == 2 {
        errors.push(FieldError::invalid(
            at(".maxUnavailable"),
            &rolling["maxUnavailable"],
            "may not be 0 when `maxSurge` is 0",
        ));
    }
}

pub(super) fn validate_job(job: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for name in [
        "parallelism",
        "completions",
        "backoffLimit",
        "activeDeadlineSeconds",
        "ttlSecondsAfterFinished",
    ] {
        non_negative(&job["spec"], name, "spec", &mut errors);
    }
    let modes = ["Indexed", "NonIndexed"];
    one_of(&job["spec"], "completionMode", "spec", &modes, &mut errors);
    validate_template(job, &mut errors);
    let at = "spec.template.spec.restartPolicy";
    let policy = job.pointer("/spec/template/spec/restartPolicy");
    let policy = policy.cloned().unwrap_or_default();
    if policy == "Always" {
        let why = "valid values: \"OnFailure\", \"Never\"";
        errors.push(FieldError::required(at, why));
    } else if policy != "Never" && policy != "OnFailure" {
        errors.retain(|error| error.field != at);
        errors.push(FieldError::unsupported(
            at,
            &policy,
            &["OnFailure", "Never"],
        ));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: Value, expect: &[&str]) {
        let mut deployment = json!({"kind": "Deployment", "spec": {"selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}}});
        json_patch::merge(&mut deployment, &change);
        default_deployment(&mut deployment);
        let errors: Vec<_> = validate(&deployment)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(errors, expect, "{change}");
    }

    #[test]
    fn deployments() {
        check(json!({}), &[]);
        check(
            json!({"spec": {"replicas": -1}}),
            &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
        );
        check(
            json!({"spec": {"selector": {"matchLabels": {"a": "c"}}}}),
            &[
                "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`",
            ],
        );
        check(
            json!({"spec": {"selector": null}}),
            &["spec.selector: Required value"],
        );
        check(
            json!({"spec": {"template": {"spec": {"restartPolicy": "Never"}}}}),
            &[
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            ],
        );
    }

    #[test]
    fn strategies() {
        let rolling = |value: Value| json!({"spec": {"strategy": {"rollingUpdate": value}}});
        check(
            rolling(json!({"maxSurge": "30%", "maxUnavailable": 0})),
            &[],
        );
        check(
            rolling(json!({"maxSurge": 0, "maxUnavailable": "0%"})),
            &[
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0",
            ],
        );
        check(
            rolling(json!({"maxSurge": "many"})),
            &[
                "spec.strategy.rollingUpdate.maxSurge: Invalid value: \"many\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
            ],
        );
        check(
            json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": {}}}}),
            &[
                "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
            ],
        );
    }
}
