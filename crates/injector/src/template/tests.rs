use std::{collections::BTreeMap, path::PathBuf};

use lateen_testkit::conformance;
use serde_json::{Value, json};

use crate::{Owner, Params, inject, kube_inject};

const IMAGE: &str = "registry.istio.io/testing/proxyv2:latest";

fn documents(text: &str) -> Vec<Value> {
    lateen_yaml::documents(text).expect("YAML")
}

/// Brings both sides to one form: what Kubernetes' own serializer adds is left out, sets are sorted,
/// and texts that hold JSON are compared as JSON. Variables keep their order, as one may name those
/// before it.
fn normal(value: &Value, field: &str) -> Value {
    match value {
        Value::Object(map) => {
            let mut out: BTreeMap<String, Value> = BTreeMap::new();
            for (key, value) in map {
                let value = normal(value, key);
                let empty = matches!(&value, Value::Object(map) if map.is_empty());
                let added = ["resources", "strategy", "metadata"].contains(&key.as_str());
                // What Go's types write of themselves; an injector touches none of it.
                let zero = ["minReadySeconds", "paused", "test", "status"].contains(&key.as_str());
                let unset = field == "env" && key == "value" && value == "";
                if !(value.is_null() || empty && added || zero || unset) {
                    out.insert(key.clone(), value);
                }
            }
            // A volume without a source is an empty directory.
            if field == "volumes" && out.len() == 1 {
                out.insert("emptyDir".into(), json!({}));
            }
            out.into_iter().collect()
        }
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(|item| normal(item, field)).collect();
            if ["volumes", "volumeMounts", "ports"].contains(&field) {
                items.sort_by_key(Value::to_string);
            }
            Value::Array(items)
        }
        Value::String(text) => normal_text(text),
        other => other.clone(),
    }
}

fn normal_text(text: &str) -> Value {
    if let Some(milli) = text
        .strip_suffix("000m")
        .filter(|m| m.parse::<u32>().is_ok())
    {
        return json!(milli);
    }
    match serde_json::from_str::<Value>(text) {
        Ok(parsed @ (Value::Object(_) | Value::Array(_))) => normal(&parsed, ""),
        _ => json!(text),
    }
}

fn differences(path: &str, ours: &Value, theirs: &Value, out: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let at = format!("{path}/{key}");
                differences(
                    &at,
                    a.get(key).unwrap_or(&Value::Null),
                    b.get(key).unwrap_or(&Value::Null),
                    out,
                );
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (n, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}/{n}"), a, b, out);
            }
        }
        _ if ours != theirs => out.push(format!("{path}: ours {ours}, theirs {theirs}")),
        _ => {}
    }
}

/// The one case with a text of our own, which `docs/differences.md` tells: the script that writes a
/// bootstrap, and a name that ends in a line break there.
const OWN_SCRIPT: (&str, &str) = (
    "grpc-simple",
    "/0/spec/template/spec/initContainers/0/command/2",
);
const BROKEN_LINE: &str = "/0/spec/template/spec/initContainers/0/env/3/value";

/// Where the agent has a port of its own, Istio's template names others than that at which it answers; see
/// `docs/differences.md`.
const STATUS_PORT: [(&str, &str); 3] = [
    (
        "status_annotations",
        "/0/spec/template/metadata/annotations/prometheus.io/port",
    ),
    (
        "status_annotations",
        "/0/spec/template/spec/initContainers/1/env/8/value/statusPort",
    ),
    (
        "status_annotations_zeroport",
        "/0/spec/template/spec/initContainers/1/lifecycle/preStop/exec/command/2",
    ),
];

#[test]
fn conformance_workloads_are_injected_as_expected() {
    let Some(folder) = conformance("injection") else {
        return;
    };
    let params = Params {
        native_sidecar: true,
        ..Params::new(IMAGE)
    };
    let (mut same, mut wrong) = (0, Vec::new());
    let entries = std::fs::read_dir(folder).expect("folder is readable");
    let mut files: Vec<PathBuf> = entries.map(|e| e.expect("entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    for path in files {
        let case = path
            .file_stem()
            .expect("name")
            .to_string_lossy()
            .into_owned();
        let read = |path: PathBuf| std::fs::read_to_string(path).expect("file is readable");
        let ours = kube_inject(&read(path.clone()), "default", &params).expect("injected");
        let theirs = read(path.with_extension("yaml.injected"));
        let (ours, theirs) = (documents(&ours), documents(&theirs));
        let mut found = Vec::new();
        let both = [ours, theirs].map(|documents| {
            let mut all = Value::Array(documents);
            if case == OWN_SCRIPT.0 {
                let script = all.pointer_mut(OWN_SCRIPT.1).expect("a script").take();
                assert!(script.as_str().is_some_and(|it| it.contains("xds_servers")));
                let name = all.pointer_mut(BROKEN_LINE).expect("a name");
                *name = json!(name.as_str().expect("a text").trim_end());
            }
            if case == "gateway" {
                // Two variables are the other way round there, see `docs/differences.md`.
                let env = all.pointer_mut("/0/spec/template/spec/containers/0/env");
                let env = env.and_then(Value::as_array_mut).expect("variables");
                env.sort_by_key(|variable| variable["name"].to_string());
            }
            normal(&all, "")
        });
        differences("", &both[0], &both[1], &mut found);
        for (_, place) in STATUS_PORT.iter().filter(|(of, _)| *of == case) {
            let known = found
                .iter()
                .position(|one| one.starts_with(&format!("{place}: ")));
            found.remove(known.expect("a difference that is listed is one"));
        }
        if found.is_empty() {
            same += 1;
        } else {
            wrong.push(format!("{case}:\n  {}", found.join("\n  ")));
        }
    }
    // An empty folder shows nothing.
    let n_cases = same + wrong.len();
    assert!(n_cases > 20, "{n_cases} cases");
    assert!(
        wrong.is_empty(),
        "{} of {n_cases} differ\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn capture_is_told_what_the_proxy_is_told() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  annotations:\n    \
               proxy.istio.io/config: '{\"proxyMetadata\": {\"ISTIO_META_DNS_CAPTURE\": \"true\"}}'\n\
               spec: {containers: [{name: main, image: x}]}\n";
    let env = |pod: &str| {
        let injected = kube_inject(pod, "default", &Params::new(IMAGE)).expect("injected");
        documents(&injected)[0]["spec"]["initContainers"][0]["env"].clone()
    };
    let captures = json!([{"name": "ISTIO_META_DNS_CAPTURE", "value": "true"}]);
    assert_eq!(env(pod), captures);
    assert_eq!(
        env(&pod.replace("proxy.istio.io/config", "other")),
        Value::Null
    );
}

/// A Deployment's name may be longer than a label's value, which Kubernetes would refuse with the pod.
#[test]
fn labels_made_of_names_are_valid() {
    let owner = |name: String| Owner {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        name,
        namespace: "n".into(),
    };
    let labelled = |name: String| {
        let mut pod = json!({"metadata": {}, "spec": {"containers": [{"name": "c"}]}});
        inject(&mut pod, &owner(name), &Params::new(IMAGE));
        let found = pod["metadata"]["labels"]["service.istio.io/canonical-name"].as_str();
        found.expect("a label").to_owned()
    };
    let long = "a".repeat(62);
    assert_eq!(labelled("short".into()), "short");
    assert_eq!(labelled(format!("{long}b")), format!("{long}b"));
    assert_eq!(labelled(format!("{long}bc")), format!("{long}b"));
    assert_eq!(labelled(format!("{long}-c")), long);
    assert_eq!(labelled(format!("{}-.-c", "a".repeat(60))), "a".repeat(60));
}
