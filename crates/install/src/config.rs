//! ConfigMaps: the mesh's configuration and the injector's.

use serde_json::{Value, json};

use crate::{Options, Profile};

pub(crate) fn all(options: &Options) -> Vec<Value> {
    vec![mesh(options), injector(options)]
}

fn mesh(options: &Options) -> Value {
    let namespace = &options.namespace;
    let mut mesh = json!({
        "defaultConfig": {"discoveryAddress": format!("istiod.{namespace}.svc:15012")},
        "enablePrometheusMerge": true,
        "rootNamespace": namespace,
        "trustDomain": "cluster.local",
    });
    if options.profile == Profile::Demo {
        mesh["accessLogFile"] = json!("/dev/stdout");
    }
    if let (Some(base), Some(own)) = (mesh.as_object_mut(), options.mesh.as_object()) {
        base.extend(own.clone());
    }
    config_map(
        "istio",
        options,
        json!({"mesh": yaml(&mesh), "meshNetworks": "networks: {}\n"}),
    )
}

/// The templates are part of the program; what may be set is here.
fn injector(options: &Options) -> Value {
    let config = json!({
        "policy": "enabled",
        "defaultTemplates": ["sidecar"],
        "neverInjectSelector": [],
        "alwaysInjectSelector": [],
        "injectedAnnotations": {},
    });
    let values = json!({
        "global": {
            "hub": options.hub,
            "tag": options.tag,
            "proxy": {"image": "proxyv2"},
            "multiCluster": {"clusterName": options.cluster_id},
        },
        "sidecarInjectorWebhook": {"rewriteAppHTTPProbe": true},
    });
    let data = json!({"config": yaml(&config), "values": format!("{values:#}")});
    config_map("istio-sidecar-injector", options, data)
}

fn yaml(value: &Value) -> String {
    serde_yaml_ng::to_string(value).expect("JSON is YAML")
}

fn config_map(name: &str, options: &Options, data: Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": options.namespace,
            "labels": {"istio.io/rev": "default", "release": "istio"},
        },
        "data": data,
    })
}
