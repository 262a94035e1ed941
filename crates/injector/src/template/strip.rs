//! Takes an injection out of a pod again: what was put in, and what was changed.

use lateen_api::annotations;
use serde_json::{Map, Value, json};

use super::{DEFAULT_CONTAINER, KNOWN_BY, OWN, PROXY, multus, of_user::OfUser};
use crate::values::{annotation, items, list, name, object};

/// Fields that other webhooks add to in every container they see, and what tells their items apart.
const SHARED: [(&str, &str); 3] = [
    ("env", "name"),
    ("volumeMounts", "mountPath"),
    ("ports", "containerPort"),
];
/// Variables that tell the agent what the pod was before; they are made anew.
const ORIGINALS: [&str; 2] = ["ISTIO_KUBE_APP_PROBERS", "ISTIO_PROMETHEUS_ANNOTATIONS"];

/// The containers that an injection had put in, by the list that they were in.
#[derive(Default)]
pub(crate) struct Previous {
    containers: Vec<(&'static str, Value)>,
}

impl Previous {
    /// Others may have changed the containers since they were put in: what they added stays.
    pub(super) fn keep_additions(&self, pod: &mut Value) {
        for (field, old) in &self.containers {
            let held = pod["spec"].get_mut(*field).and_then(Value::as_array_mut);
            let mut held = held.into_iter().flatten();
            if let Some(container) = held.find(|held| name(held) == name(old)) {
                add_missing(container, old);
            }
        }
    }
}

fn add_missing(container: &mut Value, old: &Value) {
    for (field, key) in SHARED {
        let held = items(container, field);
        let missing: Vec<Value> = items(old, field)
            .iter()
            .filter(|item| !ORIGINALS.contains(&name(item)))
            .filter(|item| held.iter().all(|held| held[key] != item[key]))
            .cloned()
            .collect();
        if !missing.is_empty() {
            list(container, field).extend(missing);
        }
    }
}

/// Takes the containers out that an injection put in, and gives back what it changed: containers that
/// the user wrote, probes and annotations. Volumes stay, since whoever comes next has the same.
pub(super) fn take_out(pod: &mut Value) -> Previous {
    let Some(status) = status(pod) else {
        return Previous::default();
    };
    multus::remove(pod);
    let mut previous = Previous::default();
    for field in ["initContainers", "containers"] {
        let names = names(&status, field);
        let Some(held) = pod["spec"].get_mut(field).and_then(Value::as_array_mut) else {
            continue;
        };
        let (out, stay) = held.drain(..).partition(|container| {
            let name = name(container);
            names.iter().any(|listed| listed == name) || OWN.contains(&name)
        });
        *held = stay;
        let out: Vec<Value> = out;
        let taken = out.into_iter().map(|container| (field, container));
        previous.containers.extend(taken);
    }
    give_back_containers(pod, &mut previous);
    for (_, container) in &previous.containers {
        give_back_probes(pod, container);
        give_back_metrics(pod, container);
    }
    for field in ["initContainers", "containers"] {
        if items(&pod["spec"], field).is_empty()
            && let Some(spec) = pod["spec"].as_object_mut()
        {
            spec.shift_remove(field);
        }
    }
    let annotations = object(&mut pod["metadata"], "annotations");
    annotations.shift_remove(annotations::STATUS);
    annotations.shift_remove(annotations::PROXY_OVERRIDES);
    previous
}

fn status(pod: &Value) -> Option<Value> {
    let status = annotation(pod, annotations::STATUS)?;
    // What is not JSON says nothing of what was put in; the containers have names of their own.
    Some(serde_json::from_str(status).unwrap_or_else(|_| json!({})))
}

fn names(status: &Value, field: &str) -> Vec<String> {
    let all = items(status, field).iter();
    all.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// In the order in which the pod had them.
fn give_back_containers(pod: &mut Value, previous: &mut Previous) {
    let text = annotation(pod, annotations::PROXY_OVERRIDES).unwrap_or_default();
    let Ok(Value::Object(overrides)) = serde_json::from_str::<Value>(text) else {
        return;
    };
    let mut back: Vec<(&str, Value)> = Vec::new();
    for field in ["initContainers", "containers"] {
        for container in overrides
            .get(field)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            back.push((field, container.clone()));
        }
    }
    // What a template has too stands where it stood; what only the annotation has comes last.
    let place = |(field, container): &(&str, Value)| {
        let same = |(home, old): &(&str, Value)| home == field && name(old) == name(container);
        previous
            .containers
            .iter()
            .position(same)
            .unwrap_or(usize::MAX)
    };
    back.sort_by_key(place);
    let given: Vec<String> = back.iter().map(|(_, it)| name(it).to_owned()).collect();
    for (field, container) in back {
        list(&mut pod["spec"], field).push(container);
    }
    // What templates had added to the user's own containers, they add again.
    previous.containers.retain(|(_, container)| {
        let name = name(container);
        OWN.contains(&name) || !given.iter().any(|given| given == name)
    });
}

/// Probes and hooks that the agent was asked for are the application's own again.
fn give_back_probes(pod: &mut Value, proxy: &Value) {
    let originals = variable(proxy, ORIGINALS[0]);
    let Some(Value::Object(originals)) = originals.and_then(|text| serde_json::from_str(text).ok())
    else {
        return;
    };
    for field in ["initContainers", "containers"] {
        let held = pod["spec"].get_mut(field).and_then(Value::as_array_mut);
        for container in held.into_iter().flatten() {
            give_back_actions(container, &originals);
        }
    }
}

fn give_back_actions(container: &mut Value, originals: &Map<String, Value>) {
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(field) {
            give_back(probe, originals);
        }
    }
    for hook in ["preStop", "postStart"] {
        if let Some(hook) = container
            .get_mut("lifecycle")
            .and_then(|all| all.get_mut(hook))
        {
            give_back(hook, originals);
        }
    }
}

fn give_back(probe: &mut Value, originals: &Map<String, Value>) {
    let path = probe.pointer("/httpGet/path").and_then(Value::as_str);
    let Some(Value::Object(original)) = path.and_then(|path| originals.get(path)).cloned() else {
        return;
    };
    let Some(probe) = probe.as_object_mut() else {
        return;
    };
    probe.shift_remove("httpGet");
    for (kind, action) in original {
        probe.insert(kind, action);
    }
}

/// What the application said of its metrics, or nothing where only the mesh said something.
fn give_back_metrics(pod: &mut Value, proxy: &Value) {
    if annotation(pod, "prometheus.io/path") != Some("/stats/prometheus") || name(proxy) != PROXY {
        return;
    }
    let told = variable(proxy, ORIGINALS[1]);
    let told: Value = told
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let annotations = object(&mut pod["metadata"], "annotations");
    for what in ["scrape", "path", "port"] {
        annotations.shift_remove(&format!("prometheus.io/{what}"));
        if let Some(text) = told[what].as_str().filter(|text| !text.is_empty()) {
            annotations.insert(format!("prometheus.io/{what}"), json!(text));
        }
    }
}

fn variable<'a>(container: &'a Value, wanted: &str) -> Option<&'a str> {
    let found = items(container, "env")
        .iter()
        .find(|it| name(it) == wanted)?;
    found["value"].as_str()
}

/// Takes an injection out of a pod or a pod template, its volumes and labels as well, but for those that
/// the user gave. Returns whether there was one.
pub fn uninject(pod: &mut Value) -> bool {
    let Some(status) = status(pod) else {
        return false;
    };
    let of_user = OfUser::of(pod);
    take_out(pod);
    for field in ["volumes", "imagePullSecrets"] {
        let listed = names(&status, field);
        let Some(held) = pod["spec"].get_mut(field).and_then(Value::as_array_mut) else {
            continue;
        };
        held.retain(|item| {
            let name = name(item);
            of_user.has(field, name) || !listed.iter().any(|listed| listed == name)
        });
        if held.is_empty()
            && let Some(spec) = pod["spec"].as_object_mut()
        {
            spec.shift_remove(field);
        }
    }
    let [container, logs] = DEFAULT_CONTAINER;
    let own = [container, logs, annotations::REVISION];
    for (field, keys) in [("annotations", own), ("labels", KNOWN_BY)] {
        let map = object(&mut pod["metadata"], field);
        for key in keys.into_iter().filter(|key| !of_user.has(field, key)) {
            map.shift_remove(key);
        }
        if map.is_empty()
            && let Some(metadata) = pod["metadata"].as_object_mut()
        {
            metadata.shift_remove(field);
        }
    }
    if pod["metadata"].as_object().is_some_and(Map::is_empty)
        && let Some(pod) = pod.as_object_mut()
    {
        pod.shift_remove("metadata");
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Owner, Params, inject};

    fn owner() -> Owner {
        Owner {
            api_version: "v1".into(),
            kind: "Pod".into(),
            name: "a".into(),
            namespace: "default".into(),
        }
    }

    fn pod() -> Value {
        json!({
            "metadata": {"labels": {"app": "a"}, "annotations": {
                "prometheus.io/port": "9", "prometheus.io/scrape": "true",
            }},
            "spec": {"initContainers": [
                {"name": "stays", "restartPolicy": "Always", "livenessProbe": {"tcpSocket": {"port": 81}},
                 "ports": [{"containerPort": 81}]},
            ], "containers": [
                {"name": "main", "readinessProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 3},
                 "lifecycle": {"preStop": {"httpGet": {"port": 80, "path": "/bye"}}}},
                {"name": "istio-proxy", "image": "auto", "env": [{"name": "A", "value": "1"}]},
            ]},
        })
    }

    #[test]
    fn a_pod_is_what_it_was() {
        for native in [false, true] {
            let params = Params {
                native_sidecar: native,
                ..Params::default()
            };
            let mut held = pod();
            inject(&mut held, &owner(), &params);
            assert!(uninject(&mut held));
            let mut want = pod();
            let proxy = json!({"name": "istio-proxy", "env": [{"name": "A", "value": "1"}]});
            want["spec"]["containers"][1] = proxy.clone();
            if native {
                want["spec"]["containers"]
                    .as_array_mut()
                    .expect("a list")
                    .pop();
                let init = want["spec"]["initContainers"].as_array_mut();
                init.expect("a list").push(proxy);
            }
            assert_eq!(held, want);
            assert!(!uninject(&mut held));
        }
    }

    /// Labels by which a Deployment selects its pods, a volume in the place of ours.
    #[test]
    fn what_the_user_gave_stays() {
        let values = r#"{"global": {"imagePullSecrets": ["own", "ours"]}}"#;
        let config = crate::InjectorConfig::parse("", values).expect("a configuration");
        let params = Params::default().with_config(config.into());
        let before = json!({
            "metadata": {
                "labels": {"service.istio.io/canonical-name": "shop", "security.istio.io/tlsMode": "disabled"},
                "annotations": {"kubectl.kubernetes.io/default-container": "b"},
            },
            "spec": {
                "containers": [{"name": "a"}, {"name": "b"}],
                "volumes": [{"name": "istio-envoy", "emptyDir": {"sizeLimit": "1Gi"}}, {"name": "more"}],
                "imagePullSecrets": [{"name": "own"}],
            },
        });
        let mut held = before.clone();
        inject(&mut held, &owner(), &params);
        let once = held.clone();
        inject(&mut held, &owner(), &params);
        assert_eq!(held, once);
        assert!(uninject(&mut held));
        assert_eq!(held, before);
    }

    #[test]
    fn what_others_added_stays() {
        let params = Params::default();
        let mut held = pod();
        inject(&mut held, &owner(), &params);
        let once = held.clone();
        inject(&mut held, &owner(), &params);
        assert_eq!(held, once);
        let env = held
            .pointer_mut("/spec/containers/1/env")
            .expect("the proxy's");
        let theirs = json!({"name": "THEIRS", "value": "1"});
        env.as_array_mut().expect("a list").push(theirs.clone());
        // An image of before gives way to the one of now.
        held["spec"]["containers"][1]["image"] = json!("old");
        inject(&mut held, &owner(), &params);
        let proxy = &held["spec"]["containers"][1];
        assert!(items(proxy, "env").contains(&theirs), "{proxy}");
        assert_eq!(proxy["image"], once["spec"]["containers"][1]["image"]);
    }
}
