//! Probes and lifecycle hooks: each does exactly one thing.

use serde_json::Value;

use crate::apiserver::error::FieldError;
use crate::apiserver::meta;
use crate::apiserver::strategy::checks::{non_negative, one_of};
use crate::apiserver::strategy::names;

const PROBE_HANDLERS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "grpc"];
const HOOK_HANDLERS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "sleep"];

/// Checks a container's probes and hooks.
pub(super) fn validate(container: &Value, field: &str, errors: &mut Vec<FieldError>) {
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get(name) {
            let at = format!("{field}.{name}");
            validate_handler(probe, &at, &PROBE_HANDLERS, errors);
            validate_numbers(probe, &at, name == "readinessProbe", errors);
        }
    }
    for name in ["postStart", "preStop"] {
        if let Some(hook) = container.pointer(&format!("/lifecycle/{name}")) {
            let at = format!("{field}.lifecycle.{name}");
            validate_handler(hook, &at, &HOOK_HANDLERS, errors);
        }
    }
}

fn validate_numbers(probe: &Value, field: &str, is_readiness: bool, errors: &mut Vec<FieldError>) {
    for name in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        non_negative(probe, name, field, errors);
    }
    if let Some(number) = probe["successThreshold"].as_i64()
        && number > 1
        && !is_readiness
    {
        let at = format!("{field}.successThreshold");
        errors.push(FieldError::invalid(at, &number.into(), "must be 1"));
    }
}

fn validate_handler(handler: &Value, field: &str, known: &[&str], errors: &mut Vec<FieldError>) {
    let mut given = known.iter().filter(|name| handler.get(name).is_some());
    let Some(first) = given.next() else {
        errors.push(FieldError::required(field, "must specify a handler type"));
        return;
    };
    for second in given {
        errors.push(FieldError::forbidden(
            format!("{field}.{second}"),
            "may not specify more than 1 handler type",
        ));
    }
    let (action, at) = (&handler[first], format!("{field}.{first}"));
    match *first {
        "exec" if meta::list(action, "/command").is_empty() => {
            errors.push(FieldError::required(format!("{at}.command"), ""));
        }
        "httpGet" => {
            validate_port(&action["port"], &format!("{at}.port"), errors);
            one_of(action, "scheme", &at, &["HTTP", "HTTPS"], errors);
        }
        "tcpSocket" | "grpc" => validate_port(&action["port"], &format!("{at}.port"), errors),
        _ => {}
    }
}

fn validate_port(port: &Value, field: &str, errors: &mut Vec<FieldError>) {
    match port {
        Value::Number(number) => {
            names::check_port_number(field, number.as_i64().unwrap_or(0), errors);
        }
        Value::String(name) => names::check_port_name(field, name, errors),
        _ => errors.push(FieldError::required(field, "")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(container: Value, expect: &[&str]) {
        let mut errors = Vec::new();
        validate(&container, "c", &mut errors);
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors, expect, "{container}");
    }

    #[test]
    fn probes() {
        let get = json!({"port": 80, "path": "/"});
        check(
            json!({"livenessProbe": {"httpGet": get, "periodSeconds": 1}}),
            &[],
        );
        check(
            json!({"readinessProbe": {"tcpSocket": {"port": "http"}, "successThreshold": 2}}),
            &[],
        );
        check(
            json!({"livenessProbe": {"periodSeconds": 1}}),
            &["c.livenessProbe: Required value: must specify a handler type"],
        );
        check(
            json!({"startupProbe": {"httpGet": get, "exec": {"command": ["true"]}}}),
            &["c.startupProbe.httpGet: Forbidden: may not specify more than 1 handler type"],
        );
        check(
            json!({"livenessProbe": {"httpGet": get, "successThreshold": 2, "timeoutSeconds": -1}}),
            &[
                "c.livenessProbe.timeoutSeconds: Invalid value: -1: must be greater than or equal to 0",
                "c.livenessProbe.successThreshold: Invalid value: 2: must be 1",
            ],
        );
        check(
            json!({"livenessProbe": {"httpGet": {"port": 0}}}),
            &[
                "c.livenessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ],
        );
        check(
            json!({"lifecycle": {"preStop": {"exec": {}}, "postStart": {}}}),
            &[
                "c.lifecycle.postStart: Required value: must specify a handler type",
                "c.lifecycle.preStop.exec.command: Required value",
            ],
        );
    }
}
