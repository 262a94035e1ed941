//! The application's probes go through the agent: from outside the pod they would meet mutual TLS.

use serde_json::{Map, Value, json};

use crate::{
    template::{INIT, PROXY},
    values::{items, name, stays},
};

/// What the agent is told, by the path that it is asked under.
pub(crate) type Probers = Map<String, Value>;

const PROBES: [(&str, &str); 3] = [
    ("livenessProbe", "livez"),
    ("readinessProbe", "readyz"),
    ("startupProbe", "startupz"),
];
const HOOKS: [(&str, &str); 2] = [("preStop", "prestopz"), ("postStart", "poststartz")];

/// What the start of everything after a container waits for.
const OF_START: [&str; 2] = ["startupProbe", "postStart"];

/// Points the probes and HTTP hooks of the pod's containers at the agent, those of init containers that
/// stay too; returns the originals, sorted by path. `native` says that the agent starts before them all.
pub(crate) fn rewrite(spec: &mut Value, status_port: u16, native: bool) -> Probers {
    let mut originals = Vec::new();
    for field in ["initContainers", "containers"] {
        let is_init = field == "initContainers";
        let held = spec.get_mut(field).and_then(Value::as_array_mut);
        for container in held.into_iter().flatten() {
            if [PROXY, INIT].contains(&name(container)) || is_init && !stays(container) {
                continue;
            }
            // The agent would wait for what asks it. Nothing is captured yet, so nobody has to.
            let early = is_init && !native;
            redirect_all(container, status_port, early, &mut originals);
        }
    }
    originals.sort_by(|a, b| a.0.cmp(&b.0));
    originals.into_iter().collect()
}

fn redirect_all(
    container: &mut Value,
    status_port: u16,
    early: bool,
    originals: &mut Vec<(String, Value)>,
) {
    let before = container.clone();
    let container_name = name(&before);
    let probes =
        PROBES.map(|(field, path)| (None, field, format!("/app-health/{container_name}/{path}")));
    let hooks = HOOKS.map(|(field, path)| {
        (
            Some("lifecycle"),
            field,
            format!("/app-lifecycle/{container_name}/{path}"),
        )
    });
    for (parent, field, path) in probes.into_iter().chain(hooks) {
        if early && OF_START.contains(&field) {
            continue;
        }
        let home = match parent {
            Some(parent) => container.get_mut(parent),
            None => Some(&mut *container),
        };
        let Some(action) = home.and_then(|home| home.get_mut(field)) else {
            continue;
        };
        if let Some(original) = redirect(action, &path, status_port, &before) {
            originals.push((path, original));
        }
    }
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
        let mut spec = json!({"containers": [{
            "name": "app", "ports": [{"name": "web", "containerPort": 80}],
            "readinessProbe": {"httpGet": {"port": "web", "path": "/ok", "scheme": "HTTPS"}, "timeoutSeconds": 2},
            "livenessProbe": {"exec": {"command": ["true"]}},
            "startupProbe": {"grpc": {"port": 90}},
            "lifecycle": {"preStop": {"httpGet": {"port": 80, "path": "/bye"}}},
        }]});
        let probers = rewrite(&mut spec, 15020, false);
        assert_eq!(
            Value::Object(probers),
            json!({
                "/app-health/app/readyz": {
                    "httpGet": {"port": 80, "path": "/ok", "scheme": "HTTPS"}, "timeoutSeconds": 2},
                "/app-health/app/startupz": {"grpc": {"port": 90}},
                "/app-lifecycle/app/prestopz": {"httpGet": {"port": 80, "path": "/bye"}},
            })
        );
        let app = &spec["containers"][0];
        assert_eq!(
            app["readinessProbe"]["httpGet"],
            json!({"port": 15020, "path": "/app-health/app/readyz", "scheme": "HTTP"})
        );
        assert_eq!(app["livenessProbe"], json!({"exec": {"command": ["true"]}}));
        assert_eq!(app["lifecycle"]["preStop"]["httpGet"]["port"], 15020);
    }

    #[test]
    fn of_init_containers_those_that_stay_are_asked_through_the_agent() {
        let probe = || json!({"tcpSocket": {"port": 80}});
        let container = |name: &str, restarts: Option<&str>| {
            json!({"name": name, "restartPolicy": restarts, "livenessProbe": probe(),
                "startupProbe": probe(), "lifecycle": {"postStart": {"httpGet": {"port": 80}}}})
        };
        for (native, want) in [
            (false, &["/app-health/stays/livez"][..]),
            (
                true,
                &[
                    "/app-health/stays/livez",
                    "/app-health/stays/startupz",
                    "/app-lifecycle/stays/poststartz",
                ],
            ),
        ] {
            let mut spec = json!({"initContainers": [
                container("stays", Some("Always")), container("ends", None), container(PROXY, Some("Always")),
            ]});
            let before = spec.clone();
            let probers = rewrite(&mut spec, 15020, native);
            assert_eq!(probers.keys().collect::<Vec<_>>(), want);
            assert_eq!(spec["initContainers"][1], before["initContainers"][1]);
            assert_eq!(spec["initContainers"][2], before["initContainers"][2]);
            let start = &spec["initContainers"][0]["startupProbe"];
            assert_eq!(start.get("tcpSocket").is_some(), !native, "{start}");
        }
    }
}
