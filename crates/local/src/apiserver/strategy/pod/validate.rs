//! What is valid in a pod's spec, in a pod or in a template, in the words of Kubernetes.

mod probe;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::apiserver::error::FieldError;
use crate::apiserver::meta;
use crate::apiserver::strategy::checks::{non_negative, one_of};
use crate::apiserver::strategy::names;

/// Where an environment variable may come from.
const SOURCES: [&str; 4] = [
    "fieldRef",
    "resourceFieldRef",
    "configMapKeyRef",
    "secretKeyRef",
];

pub(in crate::apiserver::strategy) fn validate(pod: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    validate_spec(&pod["spec"], "spec", &mut errors);
    errors
}

/// Checks a pod spec, in a pod or in a template.
pub(in crate::apiserver::strategy) fn validate_spec(
    spec: &Value,
    field: &str,
    errors: &mut Vec<FieldError>,
) {
    let volumes = validate_volumes(spec, field, errors);
    if meta::list(spec, "/containers").is_empty() {
        errors.push(FieldError::required(format!("{field}.containers"), ""));
    }
    let mut seen = BTreeSet::new();
    for list in ["initContainers", "containers"] {
        for (index, container) in meta::list(spec, &format!("/{list}")).iter().enumerate() {
            let at = format!("{field}.{list}[{index}]");
            validate_container(container, &at, &volumes, errors);
            if list == "initContainers" {
                validate_init(container, &at, errors);
            }
            let name = meta::text(container, "/name").unwrap_or_default();
            if !name.is_empty() && !seen.insert(name) {
                errors.push(FieldError::duplicate(format!("{at}.name"), &name.into()));
            }
        }
    }
    validate_rest(spec, field, errors);
}

fn validate_rest(spec: &Value, field: &str, errors: &mut Vec<FieldError>) {
    let at = |name: &str| format!("{field}.{name}");
    let policies = ["Always", "OnFailure", "Never"];
    match meta::text(spec, "/restartPolicy") {
        Some(policy) if policies.contains(&policy) => {}
        _ => errors.push(FieldError::unsupported(
            at("restartPolicy"),
            &spec["restartPolicy"],
            &policies,
        )),
    }
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    one_of(spec, "dnsPolicy", field, &policies, errors);
    non_negative(spec, "terminationGracePeriodSeconds", field, errors);
    if let Some(seconds) = spec["activeDeadlineSeconds"].as_i64()
        && seconds < 1
    {
        errors.push(FieldError::invalid(
            at("activeDeadlineSeconds"),
            &seconds.into(),
            "must be between 1 and 2147483647, inclusive",
        ));
    }
    for name in ["hostname", "subdomain"] {
        let given = meta::text(spec, &format!("/{name}"));
        if given.is_some_and(|text| !text.is_empty()) {
            names::require_label(&at(name), given, errors);
        }
    }
    for name in ["serviceAccountName", "nodeName"] {
        let given = meta::text(spec, &format!("/{name}")).unwrap_or_default();
        if !given.is_empty() {
            names::require_subdomain(&at(name), given, errors);
        }
    }
    names::validate_labels(spec.get("nodeSelector"), &at("nodeSelector"), errors);
}

/// Checks the volumes; returns their names.
fn validate_volumes<'s>(
    spec: &'s Value,
    field: &str,
    errors: &mut Vec<FieldError>,
) -> BTreeSet<&'s str> {
    let mut seen = BTreeSet::new();
    for (index, volume) in meta::list(spec, "/volumes").iter().enumerate() {
        let at = format!("{field}.volumes[{index}]");
        let name = meta::text(volume, "/name");
        names::require_label(&format!("{at}.name"), name, errors);
        if let Some(name) = name.filter(|name| !name.is_empty())
            && !seen.insert(name)
        {
            errors.push(FieldError::duplicate(format!("{at}.name"), &name.into()));
        }
        let sources = volume.as_object().into_iter().flatten();
        let mut sources = sources.filter(|(key, _)| *key != "name").skip(1);
        if let Some((second, _)) = sources.next() {
            errors.push(FieldError::forbidden(
                format!("{at}.{second}"),
                "may not specify more than 1 volume type",
            ));
        }
    }
    seen
}

fn validate_container(
    container: &Value,
    field: &str,
    volumes: &BTreeSet<&str>,
    errors: &mut Vec<FieldError>,
) {
    let at = |name: &str| format!("{field}.{name}");
    names::require_label(&at("name"), meta::text(container, "/name"), errors);
    match meta::text(container, "/image") {
        None | Some("") => errors.push(FieldError::required(at("image"), "")),
        Some(image) if image.trim() != image => errors.push(FieldError::invalid(
            at("image"),
            &image.into(),
            "must not have leading or trailing whitespace",
        )),
        Some(_) => {}
    }
    let policies = ["Always", "IfNotPresent", "Never"];
    one_of(container, "imagePullPolicy", field, &policies, errors);
    let policies = ["FallbackToLogsOnError", "File"];
    one_of(
        container,
        "terminationMessagePolicy",
        field,
        &policies,
        errors,
    );
    validate_ports(container, field, errors);
    validate_env(container, field, errors);
    validate_mounts(container, field, volumes, errors);
    probe::validate(container, field, errors);
}

/// What only containers may have that run on.
fn validate_init(container: &Value, field: &str, errors: &mut Vec<FieldError>) {
    let policy = &container["restartPolicy"];
    if !policy.is_null() && policy != "Always" {
        errors.push(FieldError::unsupported(
            format!("{field}.restartPolicy"),
            policy,
            &["Always"],
        ));
    }
    if policy == "Always" {
        return;
    }
    for name in [
        "lifecycle",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
    ] {
        if container.get(name).is_some() {
            errors.push(FieldError::forbidden(
                format!("{field}.{name}"),
                "may not be set for init containers without restartPolicy=Always",
            ));
        }
    }
}

fn validate_ports(container: &Value, field: &str, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (index, port) in meta::list(container, "/ports").iter().enumerate() {
        let at = |name: &str| format!("{field}.ports[{index}].{name}");
        match port["containerPort"].as_i64() {
            None | Some(0) => errors.push(FieldError::required(at("containerPort"), "")),
            Some(number) => names::check_port_number(&at("containerPort"), number, errors),
        }
        if let Some(number) = port["hostPort"].as_i64().filter(|number| *number != 0) {
            names::check_port_number(&at("hostPort"), number, errors);
        }
        let protocols = ["SCTP", "TCP", "UDP"];
        let place = format!("{field}.ports[{index}]");
        one_of(port, "protocol", &place, &protocols, errors);
        let name = meta::text(port, "/name").unwrap_or_default();
        if name.is_empty() {
            continue;
        }
        names::check_port_name(&at("name"), name, errors);
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(at("name"), &name.into()));
        }
    }
}

fn validate_env(container: &Value, field: &str, errors: &mut Vec<FieldError>) {
    for (index, variable) in meta::list(container, "/env").iter().enumerate() {
        let at = |name: &str| format!("{field}.env[{index}].{name}");
        match meta::text(variable, "/name") {
            None | Some("") => errors.push(FieldError::required(at("name"), "")),
            Some(name) if !name.chars().all(|c| (' '..='~').contains(&c) && c != '=') => {
                errors.push(FieldError::invalid(
                    at("name"),
                    &name.into(),
                    "a valid environment variable name must consist only of printable ASCII characters other than '='",
                ));
            }
            Some(_) => {}
        }
        let Some(from) = variable.get("valueFrom") else {
            continue;
        };
        let n = SOURCES.iter().filter(|source| from.get(source).is_some());
        let has_value = meta::text(variable, "/value").is_some_and(|value| !value.is_empty());
        let fault = match n.count() {
            0 => Some(
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
            ),
            1 if has_value => Some("may not be specified when `value` is not empty"),
            1 => None,
            _ => Some("may not have more than one field specified at a time"),
        };
        errors.extend(fault.map(|why| FieldError::invalid(at("valueFrom"), &"".into(), why)));
    }
}

fn validate_mounts(
    container: &Value,
    field: &str,
    volumes: &BTreeSet<&str>,
    errors: &mut Vec<FieldError>,
) {
    let mut seen = BTreeSet::new();
    for (index, mount) in meta::list(container, "/volumeMounts").iter().enumerate() {
        let at = |name: &str| format!("{field}.volumeMounts[{index}].{name}");
        match meta::text(mount, "/name").unwrap_or_default() {
            "" => errors.push(FieldError::required(at("name"), "")),
            name if !volumes.contains(name) => errors.push(FieldError {
                reason: "FieldValueNotFound",
                field: at("name"),
                detail: format!("Not found: {name:?}"),
            }),
            _ => {}
        }
        match meta::text(mount, "/mountPath").unwrap_or_default() {
            "" => errors.push(FieldError::required(at("mountPath"), "")),
            path if !seen.insert(path) => {
                errors.push(FieldError::invalid(
                    at("mountPath"),
                    &path.into(),
                    "must be unique",
                ));
            }
            _ => {}
        }
    }
}

/// Of a pod's spec only images and a few others may change.
pub(in crate::apiserver::strategy) fn validate_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let moved = match (
        meta::text(old, "/spec/nodeName"),
        meta::text(new, "/spec/nodeName"),
    ) {
        (Some(before), after) => Some(before) != after,
        (None, _) => false,
    };
    if fixed(old) == fixed(new) && !moved {
        return Vec::new();
    }
    vec![FieldError::forbidden(
        "spec",
        "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
    )]
}

/// What may not change.
fn fixed(pod: &Value) -> Value {
    let mut spec = pod["spec"].clone();
    for list in ["containers", "initContainers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            if let Some(container) = container.as_object_mut() {
                container.shift_remove("image");
            }
        }
    }
    if let Some(spec) = spec.as_object_mut() {
        for key in [
            "activeDeadlineSeconds",
            "tolerations",
            "terminationGracePeriodSeconds",
            "nodeName",
            "ephemeralContainers",
        ] {
            spec.shift_remove(key);
        }
    }
    spec
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(change: Value, expect: &[&str]) {
        let mut spec =
            json!({"restartPolicy": "Always", "containers": [{"name": "c", "image": "x"}]});
        json_patch::merge(&mut spec, &change);
        let mut errors = Vec::new();
        validate_spec(&spec, "spec", &mut errors);
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors, expect, "{change}");
    }

    fn container(change: Value, expect: &[&str]) {
        let mut container = json!({"name": "c", "image": "x"});
        json_patch::merge(&mut container, &change);
        check(json!({"containers": [container]}), expect);
    }

    #[test]
    fn containers() {
        check(json!({}), &[]);
        check(
            json!({"containers": []}),
            &["spec.containers: Required value"],
        );
        container(
            json!({"image": ""}),
            &["spec.containers[0].image: Required value"],
        );
        let twice = json!({"name": "c", "image": "x"});
        check(
            json!({"containers": [twice, twice]}),
            &["spec.containers[1].name: Duplicate value: \"c\""],
        );
        container(
            json!({"imagePullPolicy": "Sometimes"}),
            &[
                "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
            ],
        );
        check(
            json!({"initContainers": [{"name": "i", "image": "x", "readinessProbe": {"exec": {"command": ["a"]}}}]}),
            &[
                "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
            ],
        );
    }

    #[test]
    fn ports() {
        container(
            json!({"ports": [{"containerPort": 80, "name": "http"}, {"containerPort": 81}]}),
            &[],
        );
        container(
            json!({"ports": [{"containerPort": 70000}]}),
            &[
                "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            ],
        );
        container(
            json!({"ports": [{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]}),
            &["spec.containers[0].ports[1].name: Duplicate value: \"a\""],
        );
        container(
            json!({"ports": [{"containerPort": 1, "name": "much-too-long-a-name"}]}),
            &[
                "spec.containers[0].ports[0].name: Invalid value: \"much-too-long-a-name\": must be no more than 15 characters",
            ],
        );
    }

    #[test]
    fn volumes_and_mounts() {
        check(
            json!({"volumes": [{"name": "../../etc", "emptyDir": {}}]}),
            &[
                "spec.volumes[0].name: Invalid value: \"../../etc\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            ],
        );
        check(
            json!({"volumes": [{"name": "a", "emptyDir": {}}, {"name": "a", "emptyDir": {}, "secret": {}}]}),
            &[
                "spec.volumes[1].name: Duplicate value: \"a\"",
                "spec.volumes[1].secret: Forbidden: may not specify more than 1 volume type",
            ],
        );
        container(
            json!({"volumeMounts": [{"name": "a", "mountPath": "/a"}]}),
            &["spec.containers[0].volumeMounts[0].name: Not found: \"a\""],
        );
    }

    #[test]
    fn environment() {
        container(json!({"env": [{"name": "A.b", "value": "x"}]}), &[]);
        container(
            json!({"env": [{"value": "x"}]}),
            &["spec.containers[0].env[0].name: Required value"],
        );
        container(
            json!({"env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
            &[
                "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
            ],
        );
    }

    #[test]
    fn policies() {
        check(
            json!({"restartPolicy": "Maybe"}),
            &[
                "spec.restartPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            ],
        );
        check(
            json!({"terminationGracePeriodSeconds": -1}),
            &[
                "spec.terminationGracePeriodSeconds: Invalid value: -1: must be greater than or equal to 0",
            ],
        );
    }
}
