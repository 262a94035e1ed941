//! Kinds, annotations, templates, ports, probes and security contexts: a table of what is given and
//! what comes of it. Whatever comes of it, injecting it again must change nothing.

use std::sync::Arc;

use lateen_api::mesh::MeshConfig;
use lateen_injector::{InjectorConfig, Params, inject_document};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// A line of the table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// Kinds of workloads; without any, a Pod.
    #[serde(default)]
    kinds: Vec<String>,
    /// What is changed of an ordinary pod: a field that is here replaces, maps are merged.
    #[serde(default)]
    pod: Value,
    /// Annotations of the pod.
    #[serde(default)]
    note: Map<String, Value>,
    /// Keys `config` and `values` of the injector's ConfigMap.
    #[serde(default)]
    config: Value,
    #[serde(default)]
    values: Value,
    /// MeshConfig.
    #[serde(default)]
    mesh: MeshConfig,
    /// Whether nodes have native sidecars.
    #[serde(default)]
    native: bool,
    /// Of the pod, of `istio-proxy`, `istio-init`, `istio-validation` and the application's container: what
    /// must be there. `null` must not; arguments are given as a part of their line.
    want: Option<Value>,
    proxy: Option<Value>,
    init: Option<Value>,
    validation: Option<Value>,
    app: Option<Value>,
    /// Names of all containers, those that begin first.
    order: Option<Vec<String>>,
    /// Part of the reason why the pod is refused.
    refused: Option<String>,
    /// Nothing happens to the pod.
    #[serde(default)]
    skipped: bool,
}

#[test]
fn what_is_given_and_what_comes_of_it() {
    let table: Vec<Case> =
        lateen_yaml::from_str(include_str!("table.yaml")).expect("a list of cases");
    let pod = [String::from("Pod")];
    let mut n_cases = 0;
    let mut wrong = Vec::new();
    for (n, case) in table.iter().enumerate() {
        let kinds = if case.kinds.is_empty() {
            &pod[..]
        } else {
            &case.kinds
        };
        for kind in kinds {
            n_cases += 1;
            for fault in case.faults(kind) {
                wrong.push(format!("case {} ({kind}): {fault}", n + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(n_cases >= 120, "only {n_cases} cases");
}

impl Case {
    fn faults(&self, kind: &str) -> Vec<String> {
        let before = workload(kind, self.given());
        let mut after = before.clone();
        let params = self.params();
        let outcome = inject_document(&mut after, "default", &params);
        let mut faults = Vec::new();
        match (&self.refused, outcome) {
            (Some(why), Err(reason)) if reason.contains(why) => return faults,
            (Some(why), other) => {
                faults.push(format!("{other:?} is not refused with {why:?}"));
                return faults;
            }
            (None, Err(reason)) => {
                faults.push(format!("refused: {reason}"));
                return faults;
            }
            (None, Ok(injected)) if injected == self.skipped => {
                faults.push(format!("injected: {injected}"));
            }
            (None, Ok(_)) => {}
        }
        if self.skipped && before != after {
            faults.push("the pod was changed".to_owned());
        }
        self.compare(pod_of(kind, &after), &mut faults);
        let mut again = after.clone();
        let _ = inject_document(&mut again, "default", &params);
        different("", &after, &again, &mut faults);
        faults
    }

    fn given(&self) -> Value {
        let mut pod = json!({
            "metadata": {"name": "a", "namespace": "n", "labels": {"app": "a"}},
            "spec": {"containers": [
                {"name": "app", "image": "i", "ports": [{"containerPort": 80, "name": "http"}]},
            ]},
        });
        lay(&mut pod, &self.pod);
        for (key, text) in &self.note {
            lay(&mut pod, &json!({"metadata": {"annotations": {key: text}}}));
        }
        pod
    }

    fn params(&self) -> Params {
        let text = |value: &Value| match value {
            Value::Null => String::new(),
            value => value.to_string(),
        };
        let config = InjectorConfig::parse(&text(&self.config), &text(&self.values));
        let config = config.expect("a configuration");
        let mesh = Arc::new(self.mesh.clone());
        let base = Params {
            native_sidecar: self.native,
            ..Params::new("proxy:1")
        };
        base.with_config(config.into()).with_mesh(mesh, Vec::new())
    }

    fn compare(&self, pod: &Value, faults: &mut Vec<String>) {
        let all = |field: &str| pod["spec"][field].as_array().cloned().unwrap_or_default();
        let containers = [all("initContainers"), all("containers")].concat();
        let named = |name: &str| containers.iter().find(|held| held["name"] == name);
        let parts = [
            (&self.want, Some(pod), "pod"),
            (&self.proxy, named("istio-proxy"), "istio-proxy"),
            (&self.init, named("istio-init"), "istio-init"),
            (
                &self.validation,
                named("istio-validation"),
                "istio-validation",
            ),
            (&self.app, named("app"), "app"),
        ];
        for (want, found, at) in parts {
            if let Some(want) = want {
                lacks(at, want, found.unwrap_or(&Value::Null), faults);
            }
        }
        if let Some(order) = &self.order {
            let found: Vec<&str> = containers
                .iter()
                .filter_map(|it| it["name"].as_str())
                .collect();
            if found != *order {
                faults.push(format!("containers {found:?}, not {order:?}"));
            }
        }
    }
}

fn lay(base: &mut Value, over: &Value) {
    match (base, over) {
        (_, Value::Null) => {}
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                lay(base.entry(key.as_str()).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}

fn workload(kind: &str, mut pod: Value) -> Value {
    let version = match kind {
        "Pod" | "ReplicationController" => "v1",
        "Job" | "CronJob" => "batch/v1",
        "DeploymentConfig" => "apps.openshift.io/v1",
        _ => "apps/v1",
    };
    let head = json!({"apiVersion": version, "kind": kind});
    match kind {
        "Pod" => {
            lay(&mut pod, &head);
            pod
        }
        _ => {
            let mut out = head;
            out["metadata"] = json!({"name": "a", "namespace": "n"});
            let metadata = pod["metadata"].as_object_mut().expect("made above");
            metadata.shift_remove("name");
            metadata.shift_remove("namespace");
            if kind == "CronJob" {
                out["spec"]["jobTemplate"]["spec"]["template"] = pod;
            } else {
                out["spec"]["template"] = pod;
            }
            out
        }
    }
}

fn pod_of<'a>(kind: &str, workload: &'a Value) -> &'a Value {
    match kind {
        "Pod" => workload,
        "CronJob" => &workload["spec"]["jobTemplate"]["spec"]["template"],
        _ => &workload["spec"]["template"],
    }
}

/// Maps hold at least what is wanted, and lists of named items too; other lists are equal.
fn lacks(at: &str, want: &Value, found: &Value, faults: &mut Vec<String>) {
    match (want, found) {
        // Texts of JSON are looked into.
        (Value::Object(_) | Value::Array(_), Value::String(text)) => {
            match serde_json::from_str::<Value>(text) {
                Ok(found) => lacks(at, want, &found, faults),
                Err(_) => faults.push(format!("{at}: {text:?} is not JSON")),
            }
        }
        (Value::Object(want), found) if !want.is_empty() => {
            for (key, want) in want {
                let found = found.get(key).unwrap_or(&Value::Null);
                lacks(&format!("{at}.{key}"), want, found, faults);
            }
        }
        (Value::Array(want), Value::Array(found))
            if want.iter().all(|it| it["name"].is_string()) =>
        {
            for want in want {
                let same = found.iter().find(|held| held["name"] == want["name"]);
                let at = format!("{at}[{}]", want["name"]);
                lacks(&at, want, same.unwrap_or(&Value::Null), faults);
            }
        }
        (Value::String(part), Value::Array(args)) => {
            let line: Vec<&str> = args.iter().filter_map(Value::as_str).collect();
            if !line.join(" ").contains(part) {
                faults.push(format!("{at}: {line:?} lacks {part:?}"));
            }
        }
        (want, found) if want == found => {}
        (want, found) => faults.push(format!("{at}: {found}, not {want}")),
    }
}

fn different(at: &str, once: &Value, twice: &Value, faults: &mut Vec<String>) {
    match (once, twice) {
        (Value::Object(a), Value::Object(b)) if a.keys().all(|key| b.contains_key(key)) => {
            for (key, b) in b {
                different(
                    &format!("{at}.{key}"),
                    &a.get(key).cloned().unwrap_or_default(),
                    b,
                    faults,
                );
            }
        }
        (a, b) if a == b => {}
        (a, b) => faults.push(format!("injected again, {at}: {a} is {b}")),
    }
}
