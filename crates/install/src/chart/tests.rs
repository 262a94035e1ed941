//! Charts against installations, object by object. The injector's engine renders the templates, and
//! Helm as well where it is: `HELM=/path/to/helm`, else the path.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use lateen_injector::render_template;
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::labels::COMPONENT;

/// Made once, as it takes many installations.
static CHARTS: LazyLock<Vec<Chart>> = LazyLock::new(|| charts().expect("charts"));

/// A release of a chart.
struct Release {
    chart: &'static str,
    name: &'static str,
    namespace: &'static str,
    /// What differs from the chart's own settings.
    values: Value,
}

fn release(chart: &'static str, name: &'static str, values: Value) -> Release {
    Release {
        chart,
        name,
        namespace: "istio-system",
        values,
    }
}

fn text<'a>(chart: &'a Chart, path: &str) -> &'a str {
    let file = chart.files.iter().find(|(name, _)| name == path);
    &file.unwrap_or_else(|| panic!("no {path}")).1
}

/// Lays settings over a chart's, as Helm does: null takes away.
fn lay(over: &Value, held: &mut Value) {
    match (over, held) {
        (Value::Object(over), Value::Object(held)) => {
            for (name, value) in over {
                if value.is_null() {
                    held.shift_remove(name);
                } else {
                    lay(value, held.entry(name).or_insert(Value::Null));
                }
            }
        }
        (over, held) => held.clone_from(over),
    }
}

fn documents(text: &str) -> Vec<Value> {
    let documents = serde_yaml_ng::Deserializer::from_str(text);
    let values = documents.map(|document| {
        Value::deserialize(document).unwrap_or_else(|error| panic!("{error}:\n{text}"))
    });
    values.filter(|value| !value.is_null()).collect()
}

impl Release {
    /// What templates become by the injector's engine, by their paths.
    fn files(&self) -> Vec<(&'static str, String)> {
        let chart = CHARTS.iter().find(|chart| chart.name == self.chart);
        let chart = chart.expect("a chart");
        let mut values: Value =
            serde_yaml_ng::from_str(text(chart, "values.yaml")).expect("settings");
        lay(&self.values, &mut values);
        let release = json!({"Name": self.name, "Namespace": self.namespace, "Service": "Helm"});
        let data = json!({"Values": values, "Release": release});
        let templates = chart.files.iter();
        let templates = templates.filter(|(path, _)| path.starts_with("templates/"));
        let rendered = templates.map(|(path, template)| {
            let rendered = render_template(template, &data);
            let rendered = rendered.unwrap_or_else(|error| panic!("{path}: {error}\n{template}"));
            (path.as_str(), rendered)
        });
        rendered.collect()
    }

    /// The objects, as the injector's engine has them.
    fn rendered(&self) -> Vec<Value> {
        let files = self.files();
        let yaml = files.iter().filter(|(path, _)| path.ends_with(".yaml"));
        yaml.flat_map(|(_, text)| documents(text)).collect()
    }

    /// The objects, as Helm has them.
    fn templated(&self, helm: &Path, folder: &Path) -> Vec<Value> {
        let values = folder.join("overrides.json");
        std::fs::write(&values, self.values.to_string()).expect("written");
        let mut helm = Command::new(helm);
        helm.args(["template", self.name, "--namespace", self.namespace])
            .arg(folder.join(self.chart))
            .arg("--values")
            .arg(values);
        let output = helm.output().expect("helm runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}");
        documents(&String::from_utf8(output.stdout).expect("UTF-8"))
    }
}

/// What is compared: texts within texts are read, orders that mean nothing are given up, and what a
/// chart says otherwise is seen to and left out.
fn comparable(mut object: Value, of_release: Option<&str>) -> (String, Value) {
    let labels = &mut object["metadata"]["labels"];
    let labels = labels.as_object_mut().expect("labels");
    let manager = labels.remove("app.kubernetes.io/managed-by");
    let release = labels.remove("release");
    if let Some(name) = of_release {
        assert_eq!(manager, Some(json!("Helm")));
        assert_eq!(release, Some(json!(name)));
    }
    if object["kind"] == "CustomResourceDefinition" && of_release.is_some() {
        let meta = object["metadata"].as_object_mut().expect("fields");
        let annotations = meta.remove("annotations");
        assert_eq!(
            annotations,
            Some(json!({"helm.sh/resource-policy": "keep"}))
        );
    }
    for (_, text) in object["data"].as_object_mut().into_iter().flatten() {
        *text = serde_yaml_ng::from_str(text.as_str().expect("a text")).expect("YAML");
    }
    let containers = object.pointer_mut("/spec/template/spec/containers");
    for container in containers
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let env = container["env"].as_array_mut().expect("a list");
        env.sort_by_key(|variable| variable["name"].to_string());
        for variable in env.iter_mut().filter(|it| it["name"] == "PROXY_CONFIG") {
            let text = variable["value"].as_str().expect("a text");
            let mut config: Value = serde_json::from_str(text).expect("JSON");
            // An installation leaves out what is the agent's default.
            if config["discoveryAddress"].is_null() {
                config["discoveryAddress"] = json!("istiod.istio-system.svc:15012");
            }
            variable["value"] = config;
        }
    }
    let name = format!("{} {}", object["kind"], object["metadata"]["name"]);
    (name, plain(object))
}

/// With all numbers of one kind.
fn plain(value: Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.into_iter().map(plain).collect(),
        Value::Object(map) => map.into_iter().map(|(k, v)| (k, plain(v))).collect(),
        other => other,
    }
}

fn by_name(objects: Vec<Value>, of_release: Option<&str>) -> BTreeMap<String, Value> {
    let n_objects = objects.len();
    let objects = objects.into_iter();
    let all: BTreeMap<String, Value> = objects
        .map(|object| comparable(object, of_release))
        .collect();
    assert_eq!(all.len(), n_objects, "an object is there twice");
    all
}

/// Where two values differ, for whoever reads a failure.
fn differences(at: &str, chart: &Value, install: &Value, found: &mut Vec<String>) {
    match (chart, install) {
        (Value::Object(one), Value::Object(other)) => {
            let keys: std::collections::BTreeSet<&String> =
                one.keys().chain(other.keys()).collect();
            for key in keys {
                let (one, other) = (one.get(key), other.get(key));
                let (one, other) = (one.unwrap_or(&Value::Null), other.unwrap_or(&Value::Null));
                differences(&format!("{at}.{key}"), one, other, found);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (n, (one, other)) in one.iter().zip(other).enumerate() {
                differences(&format!("{at}[{n}]"), one, other, found);
            }
        }
        (one, other) if one == other => {}
        (one, other) => found.push(format!("{at}: chart {one}, install {other}")),
    }
}

/// Helm, where it is.
fn helm() -> Option<PathBuf> {
    let named = std::env::var_os("HELM").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    named.or_else(|| {
        let mut folders = std::env::split_paths(&path);
        folders.find_map(|folder| Some(folder.join("helm")).filter(|helm| helm.is_file()))
    })
}

/// Charts in a folder that goes in the end.
fn written() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for chart in CHARTS.iter() {
        for (path, text) in &chart.files {
            let path = folder.path().join(chart.name).join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        }
    }
    folder
}

/// Objects of an installation that are of a component. Charts say where images come from, and an
/// installation that does not has them from the same place.
fn installed(spec: &Value, component: &str) -> Vec<Value> {
    let images = json!({"hub": values::HUB, "tag": values::version()});
    let mut whole = json!({"values": {"global": images}});
    lay(spec, &mut whole);
    let spec = whole;
    let document = json!({
        "apiVersion": "install.istio.io/v1alpha1", "kind": "IstioOperator", "spec": spec,
    });
    let layers = Layers {
        files: vec![("f".into(), document.to_string())],
        ..Layers::default()
    };
    let installation = Installation::of(&layers).expect("an installation");
    let objects = manifests(&installation).expect("manifests").into_iter();
    let is_of = |object: &Value| object["metadata"]["labels"][COMPONENT] == component;
    objects
        .filter(|object| is_of(object) && object["kind"] != "Namespace")
        .collect()
}

/// A release and the installation that it must be the same as.
type Case = (Release, Value, &'static str);

fn check(cases: &[Case]) {
    let folder = written();
    let helm = helm();
    if helm.is_none() {
        eprintln!(
            "helm is neither at HELM nor on the path: the charts were rendered by the injector's engine alone"
        );
    }
    let mut found = Vec::new();
    for (release, spec, component) in cases {
        let want = by_name(installed(spec, component), None);
        assert!(!want.is_empty(), "{component} of {spec}");
        let mut ways = HashMap::from([("engine", release.rendered())]);
        if let Some(helm) = &helm {
            ways.insert("helm", release.templated(helm, folder.path()));
        }
        for (way, objects) in ways {
            let have = by_name(objects, Some(release.name));
            for name in want
                .keys()
                .chain(have.keys().filter(|name| !want.contains_key(*name)))
            {
                let at = format!("{way}, {} {}: {name} ", release.chart, release.values);
                match (have.get(name), want.get(name)) {
                    (Some(have), Some(want)) => differences(&at, have, want, &mut found),
                    (have, _) => {
                        let only = if have.is_some() {
                            "chart"
                        } else {
                            "installation"
                        };
                        found.push(format!("{at}only in the {only}"));
                    }
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn charts_are_the_default_profile() {
    let spec = json!({});
    check(&[
        (
            release("base", "istio-base", json!({})),
            spec.clone(),
            "Base",
        ),
        (
            release("istiod", "istiod", json!({})),
            spec.clone(),
            "Pilot",
        ),
        (
            release("gateway", "istio-ingressgateway", json!({})),
            spec,
            "IngressGateways",
        ),
    ]);
}

#[test]
fn the_base_has_what_it_is_told() {
    let values = json!({
        "global": {"imagePullSecrets": ["a", "b"]},
        "base": {"excludedCRDs": ["gateways.networking.istio.io"]},
    });
    let without = json!({"base": {"enableIstioConfigCRDs": false}});
    let case = |values: Value| {
        let spec = json!({"namespace": "mesh", "values": values});
        let release = Release {
            namespace: "mesh",
            ..release("base", "base", values)
        };
        (release, spec, "Base")
    };
    check(&[case(values), case(without)]);
}

/// The chart's settings as an installation has them.
fn of_istiod(namespace: &'static str, values: Value) -> Case {
    let mut spec = json!({"namespace": namespace, "values": values});
    for field in ["meshConfig", "revision"] {
        if let Some(value) = spec["values"]
            .as_object_mut()
            .and_then(|it| it.remove(field))
        {
            spec[field] = value;
        }
    }
    let release = Release {
        namespace,
        ..release("istiod", "r", values)
    };
    (release, spec, "Pilot")
}

#[test]
fn the_control_plane_has_what_it_is_told() {
    let named = json!({"matchLabels": {"a": "b"}});
    let pilot = json!({
        "hub": "h", "tag": "1.10", "image": "p",
        "autoscaleMin": 2, "autoscaleMax": 7, "cpu": {"targetAverageUtilization": 50},
        "autoscaleBehavior": {"scaleDown": {"stabilizationWindowSeconds": 9}},
        "rollingMaxSurge": 1, "rollingMaxUnavailable": "10%",
        "resources": {"limits": {"cpu": "3"}},
        "env": {"A": "1", "PILOT_CERT_PROVIDER": "x"},
        "deploymentLabels": {"d": "l"},
        "podAnnotations": {"prometheus.io/port": "1", "p": "a"},
        "podLabels": {"p": "l"},
        "serviceAnnotations": {"s": "a"},
        "serviceAccountAnnotations": {"s": "aa"},
        "nodeSelector": {"disk": "ssd"},
        "affinity": {"nodeAffinity": {}},
        "tolerations": [{"key": "k", "operator": "Exists"}],
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}],
        "keepaliveMaxServerConnectionAge": "5m",
        "extraContainerArgs": ["--x", "y"],
        "traceSampling": 12.5,
    });
    let global = json!({
        "imagePullPolicy": "Always", "imagePullSecrets": ["s"], "logAsJson": true,
        "logging": {"level": "ads:debug"}, "meshID": "m", "network": "n",
        "multiCluster": {"clusterName": "c"}, "priorityClassName": "high",
        "defaultNodeSelector": {"disk": "hdd", "os": "linux"},
        "sds": {"token": {"aud": "a"}}, "pilotCertProvider": "istiod",
        "proxy": {"clusterDomain": "d", "autoInject": "disabled", "logLevel": "info", "image": "whole/p:1"},
        "meshNetworks": {"n": {"endpoints": [{"fromRegistry": "c"}]}},
        "proxy_init": {"image": "i"},
    });
    check(&[
        of_istiod("istio-system", json!({"revision": "canary"})),
        of_istiod("istio-system", json!({"revision": "default"})),
        of_istiod(
            "mesh",
            json!({"revision": "canary", "pilot": {"autoscaleEnabled": false, "replicaCount": 3}}),
        ),
        of_istiod("mesh", json!({"pilot": pilot, "global": global})),
        of_istiod(
            "mesh",
            json!({"revision": "1-2", "pilot": pilot, "global": global}),
        ),
        of_istiod(
            "istio-system",
            json!({"global": {
                "hub": "h", "tag": "v", "configValidation": false,
                "defaultPodDisruptionBudget": {"enabled": false},
                "defaultTolerations": [{"operator": "Exists"}],
            }, "pilot": {
                "configMap": false, "keepaliveMaxServerConnectionAge": "", "image": "own/image:3",
            }}),
        ),
        of_istiod("istio-system", json!({"pilot": {"autoscaleMin": 9}})),
        of_istiod(
            "istio-system",
            json!({"global": {"istiod": {"enableAnalysis": true}}}),
        ),
        of_istiod(
            "istio-system",
            json!({"pilot": {"env": {"PILOT_ENABLE_ANALYSIS": "true"}}}),
        ),
        of_istiod(
            "istio-system",
            json!({"pilot": {"env": {"PILOT_ENABLE_ANALYSIS": "1"}}}),
        ),
        of_istiod(
            "istio-system",
            json!({"pilot": {"env": {"PILOT_ENABLE_ANALYSIS": "yes"}}}),
        ),
        of_istiod(
            "istio-system",
            json!({"revision": "x", "sidecarInjectorWebhook": {
                "enableNamespacesByDefault": true, "reinvocationPolicy": "IfNeeded",
                "neverInjectSelector": [named], "alwaysInjectSelector": [named],
                "injectedAnnotations": {"a": "b"}, "templates": {"own": "metadata: {}\n"},
                "defaultTemplates": ["sidecar", "own"],
            }}),
        ),
        of_istiod(
            "istio-system",
            json!({"sidecarInjectorWebhook": {"enableNamespacesByDefault": true}}),
        ),
        of_istiod(
            "istio-system",
            json!({"meshConfig": {
                "accessLogFile": "/dev/stdout", "enablePrometheusMerge": false, "trustDomain": "t",
                "defaultConfig": {"proxyMetadata": {"A": "b"}, "holdApplicationUntilProxyStarts": true},
                "extensionProviders": [{"name": "z", "zipkin": {"service": "z.s", "port": 9411}}],
            }}),
        ),
    ]);
}

#[test]
fn a_gateway_has_what_it_is_told() {
    let case = |name: &'static str, values: Value, spec: &Value, component: Value| {
        let mut whole = json!({"name": name, "enabled": true, "namespace": "edge"});
        lay(&component, &mut whole);
        let off = json!({"name": "istio-ingressgateway", "enabled": false});
        let mut gateways = vec![whole];
        if name != "istio-ingressgateway" {
            gateways.push(off);
        }
        let mut spec = spec.clone();
        spec["components"]["ingressGateways"] = json!(gateways);
        let release = Release {
            namespace: "edge",
            ..release("gateway", name, values)
        };
        (release, spec, "IngressGateways")
    };
    let of_values =
        |values: Value| json!({"values": {"gateways": {"istio-ingressgateway": values}}});
    let ports = json!([
        {"name": "http", "port": 80, "protocol": "TCP"},
        {"name": "dns", "port": 53, "targetPort": 5353, "protocol": "UDP", "nodePort": 30053},
        {"name": "web", "port": 81, "targetPort": 80, "appProtocol": "kubernetes.io/h2c"},
        {"name": "named", "port": 82, "targetPort": "named"},
        {"name": "again", "port": 83, "targetPort": "named"},
        {"name": "number", "port": 84, "targetPort": 82},
        {"name": "metrics", "port": 85, "targetPort": "http-envoy-prom"},
    ]);
    let values = json!({
        "service": {
            "type": "NodePort", "annotations": {"s": "a"}, "externalTrafficPolicy": "Local",
            "loadBalancerIP": "10.0.0.1", "loadBalancerSourceRanges": ["10.0.0.0/8"],
            "externalIPs": ["10.0.0.2"], "ports": ports,
        },
        "resources": {"limits": {"cpu": "3"}},
        "autoscaling": {
            "minReplicas": 2, "maxReplicas": 7, "targetCPUUtilizationPercentage": 50,
            "autoscaleBehavior": {"scaleUp": {"selectPolicy": "Max"}},
        },
        "podDisruptionBudget": {"maxUnavailable": 1},
        "env": {"A": "1", "PROXY_X": "y"},
        "labels": {"istio": "own", "team": "t"},
        "podAnnotations": {"p": "a"},
        "securityContext": {"fsGroup": 7},
        "nodeSelector": {"disk": "ssd"},
        "affinity": {"nodeAffinity": {}},
        "tolerations": [{"operator": "Exists"}],
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}],
        "volumes": [{"name": "v", "emptyDir": {}}],
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        "imagePullPolicy": "Always",
        "priorityClassName": "high",
        "global": {"imagePullSecrets": ["s"]},
    });
    let gateway = json!({
        "type": "NodePort", "serviceAnnotations": {"s": "a"}, "externalTrafficPolicy": "Local",
        "loadBalancerIP": "10.0.0.1", "loadBalancerSourceRanges": ["10.0.0.0/8"],
        "externalIPs": ["10.0.0.2"], "ports": ports,
        "resources": {"limits": {"cpu": "3"}},
        "autoscaleMin": 2, "autoscaleMax": 7, "cpu": {"targetAverageUtilization": 50},
        "env": {"A": "1", "PROXY_X": "y"},
        "labels": {"app": "own", "istio": "own", "team": "t"},
        "podAnnotations": {"p": "a"}, "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"operator": "Exists"}],
    });
    let k8s = json!({"k8s": {
        "hpaSpec": {"behavior": {"scaleUp": {"selectPolicy": "Max"}}},
        "podDisruptionBudget": {"maxUnavailable": 1},
        "securityContext": {"fsGroup": 7},
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}],
        "volumes": [{"name": "v", "emptyDir": {}}],
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        "imagePullPolicy": "Always",
        "priorityClassName": "high",
    }});
    let mut spec = of_values(gateway);
    spec["values"]["global"]["imagePullSecrets"] = json!(["s"]);
    let global = json!({
        "hub": "h", "tag": "v", "istioNamespace": "mesh", "network": "n", "logAsJson": true,
        "logging": {"level": "a:debug"}, "multiCluster": {"clusterName": "c"},
        "defaultPodDisruptionBudget": {"enabled": false}, "imagePullPolicy": "Never",
        "proxy": {"clusterDomain": "d", "logLevel": "info", "componentLogLevel": "x:info", "image": "p"},
        "sds": {"token": {"aud": "a"}},
    });
    let mesh = json!({"trustDomain": "t", "defaultConfig": {
        "concurrency": 3, "meshId": "m", "proxyMetadata": {"B": "c"},
        "tracing": {"sampling": 5.0},
    }});
    let off = json!({"autoscaleEnabled": false, "labels": {"istio": "ingressgateway"}});
    let mut of_global = of_values(off);
    of_global["values"]["global"] = global.clone();
    of_global["values"]["pilot"] = json!({"traceSampling": 5.0});
    of_global["namespace"] = json!("mesh");
    of_global["meshConfig"] = mesh.clone();
    of_global["revision"] = json!("canary");
    check(&[
        case("own", values, &spec, k8s),
        case(
            "istio-ingressgateway",
            json!({"revision": "canary", "replicaCount": 4, "global": global, "meshConfig": mesh,
                "autoscaling": {"enabled": false}}),
            &of_global,
            json!({"k8s": {"replicaCount": 4}}),
        ),
    ]);
}

#[test]
fn parts_of_a_gateway_can_be_left_out() {
    let kinds = |values: Value| {
        let objects = release("gateway", "g", values).rendered();
        let kinds = objects
            .iter()
            .map(|it| it["kind"].as_str().expect("a kind").to_owned());
        kinds.collect::<Vec<_>>()
    };
    let all = kinds(json!({}));
    for (values, gone) in [
        (json!({"service": {"type": "None"}}), &["Service"][..]),
        (
            json!({"rbac": {"enabled": false}}),
            &["Role", "RoleBinding"],
        ),
        (
            json!({"serviceAccount": {"create": false}}),
            &["ServiceAccount"],
        ),
    ] {
        let left = kinds(values);
        let missing = all.iter().filter(|kind| !left.contains(kind));
        assert_eq!(missing.collect::<Vec<_>>(), gone);
    }
    let account = release(
        "gateway",
        "g",
        json!({"serviceAccount": {"name": "own", "annotations": {"a": "b"}}}),
    );
    let objects = account.rendered();
    let of_kind = |kind: &str| objects.iter().find(|it| it["kind"] == kind).expect("there");
    let account = &of_kind("ServiceAccount")["metadata"];
    assert_eq!(
        (&account["name"], &account["annotations"]["a"]),
        (&json!("own"), &json!("b"))
    );
    assert_eq!(of_kind("RoleBinding")["subjects"][0]["name"], "own");
    assert_eq!(
        of_kind("Deployment")["spec"]["template"]["spec"]["serviceAccountName"],
        "own"
    );
}

#[test]
fn a_misspelt_setting_is_refused() {
    for (chart, known, unknown) in [
        (
            "istiod",
            "/pilot/properties/autoscaleMin",
            "/pilot/properties/autoscaleMn",
        ),
        (
            "istiod",
            "/global/properties/caAddress",
            "/global/properties/caAdress1",
        ),
        ("istiod", "/telemetry", "/istiodRemote"),
        (
            "gateway",
            "/service/properties/type",
            "/service/properties/typ",
        ),
        ("base", "/base/properties/excludedCRDs", "/pilot"),
    ] {
        let chart = CHARTS.iter().find(|it| it.name == chart).expect("a chart");
        let schema: Value = serde_json::from_str(text(chart, "values.schema.json")).expect("JSON");
        assert_eq!(schema["additionalProperties"], false);
        let at = |path: &str| schema.pointer(&format!("/properties{path}")).is_some();
        assert!(at(known), "{known}");
        assert!(!at(unknown), "{unknown}");
        // What Kubernetes judges is open.
        for path in [
            "/resources",
            "/pilot/properties/resources",
            "/service/properties/ports",
        ] {
            let place = schema.pointer(&format!("/properties{path}"));
            assert!(place.is_none_or(|place| *place == json!({})), "{path}");
        }
    }
}

#[test]
fn what_was_set_without_effect_is_told() {
    let values = json!({"telemetry": {"v2": {"enabled": true}}, "global": {"caName": "own"}});
    let files = release("istiod", "istiod", values).files();
    let notes = files
        .iter()
        .find(|(path, _)| *path == "templates/NOTES.txt");
    let (_, notes) = notes.expect("notes");
    let told = notes.lines().filter(|line| line.starts_with("WARNING"));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            "WARNING: global.caName: not supported, has no effect",
            "WARNING: telemetry: not supported, has no effect",
        ]
    );
}

#[test]
fn a_chart_says_where_it_is_from() {
    for chart in CHARTS.iter() {
        let about: Value = serde_yaml_ng::from_str(text(chart, "Chart.yaml")).expect("YAML");
        let source = about["sources"][0].as_str().expect("a text");
        assert!(source.starts_with("https://"), "{source:?}");
        assert_eq!(about["version"], values::version());
    }
}
