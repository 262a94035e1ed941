//! The application's probes go through the agent: from outside the pod they would meet mutual TLS.

use serde_json::{Map, Value, json};

use crate::values::{items, name};

/// What the agent is told, by the path that it is asked under.
pub(crate) type Probers = Map<String, Value>;

const PROBES: [(&str, &str); 3] = [
    ("livenessProbe", "livez"),
    ("readinessProbe", "readyz"),
    ("startupProbe", "startupz"),
];
const HOOKS: [(&str, &str); 2] = [("preStop", "prestopz"), ("postStart", "poststartz")];

/// Points the probes and HTTP hooks of the pod's containers at the agent; returns the originals,
/// sorted by path.
pub(crate) fn rewrite(containers: &mut [Value], status_port: u16) -> Probers {
    let mut originals = Vec::new();
    for container in containers {
        let container_name = name(container).to_owned();
        if container_name == crate::template::PROXY {
            continue;
        }
        let ports = container.clone();
        for (field, path) in PROBES {
            let Some(probe) = container.get_mut(field) else {
                continue;
            };
            let path = format!("/app-health/{container_name}/{path}");
            if let Some(original) = redirect(probe, &path, status_port, &ports) {
                originals.push((path, original));
            }
        }
        for (field, path) in HOOKS {
            let Some(hook) = container
                .get_mut("lifecycle")
                .and_then(|l| l.get_mut(field))
            else {
                continue;
            };
            let path = format!("/app-lifecycle/{container_name}/{path}");
            if let Some(original) = redirect(hook, &path, status_port, &ports) {
                originals.push((path, original));
            }
        }
    }
    originals.sort_by(|a, b| a.0.cmp(&b.0));
    originals.into_iter().collect()
}

/// `None` where there is nothing to redirect: commands run in the container itself.
fn redirect(probe: &mut Value, path: &str, status_port: u16, container: &Value) -> Option<Value> {
    let probe = probe.as_object_mut()?;
    let kind = ["httpGet", "tcpSocket", "grpc"]
        .into_iter()
        .find(|kind| probe.get(*kind).is_some_and(Value::is_object))?;
    let mut original = probe.get(kind)?.clone();
    original["port"] = port_number(&original["port"], container)?;
    if original.get("path").is_some_and(|path| path == "") {
        original.as_object_mut()?.shift_remove("path");
    }
    let mut asked = match kind {
        "httpGet" => probe.get("httpGet")?.clone(),
        _ => json!({}),
    };
    asked["path"] = json!(path);
    asked["port"] = json!(status_port);
    if asked.get("scheme").is_some_and(|scheme| scheme == "HTTPS") {
        asked["scheme"] = json!("HTTP");
    }
    probe.shift_remove(kind);
    probe.insert("httpGet".into(), asked);
    let mut told = json!({kind: original});
    if let Some(timeout) = probe.get("timeoutSeconds") {
        told["timeoutSeconds"] = timeout.clone();
    }
    Some(told)
}

/// The agent does not know container ports by name. A name that no port has is left to Kubernetes.
fn port_number(port: &Value, container: &Value) -> Option<Value> {
    let Some(wanted) = port.as_str() else {
        return Some(port.clone());
    };
    if let Ok(number) = wanted.parse::<u16>() {
        return Some(json!(number));
    }
    let named = items(container, "ports")
        .iter()
        .find(|port| name(port) == wanted)?;
    named.get("containerPort").cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_stay_and_the_rest_goes_through_the_agent() {
        let mut containers = vec![json!({
            "name": "app", "ports": [{"name": "web", "containerPort": 80}],
            "readinessProbe": {"httpGet": {"port": "web", "path": "/ok", "scheme": "HTTPS"}, "timeoutSeconds": 2},
            "livenessProbe": {"exec": {"command": ["true"]}},
            "startupProbe": {"grpc": {"port": 90}},
            "lifecycle": {"preStop": {"httpGet": {"port": 80, "path": "/bye"}}},
        })];
        let probers = rewrite(&mut containers, 15020);
        assert_eq!(
            Value::Object(probers),
            json!({
                "/app-health/app/readyz": {
                    "httpGet": {"port": 80, "path": "/ok", "scheme": "HTTPS"}, "timeoutSeconds": 2},
                "/app-health/app/startupz": {"grpc": {"port": 90}},
                "/app-lifecycle/app/prestopz": {"httpGet": {"port": 80, "path": "/bye"}},
            })
        );
        let app = &containers[0];
        assert_eq!(
            app["readinessProbe"]["httpGet"],
            json!({"port": 15020, "path": "/app-health/app/readyz", "scheme": "HTTP"})
        );
        assert_eq!(app["livenessProbe"], json!({"exec": {"command": ["true"]}}));
        assert_eq!(app["lifecycle"]["preStop"]["httpGet"]["port"], 15020);
    }
}
