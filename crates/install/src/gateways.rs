//! Gateways: a Deployment of proxies and the Service before it.

use std::sync::Arc;

use lateen_api::mesh::MeshConfig;
use lateen_injector::{Owner, Params, inject_gateway};
use serde_json::{Value, json};

use crate::{Options, Profile, rbac};

pub(crate) fn all(options: &Options) -> Vec<Value> {
    let gateways = rbac::gateway_names(options).iter();
    gateways
        .flat_map(|name| [service(name, options), deployment(name, options)])
        .collect()
}

struct Port {
    name: &'static str,
    port: u16,
    target: u16,
}

const fn port(name: &'static str, port: u16, target: u16) -> Port {
    Port { name, port, target }
}

fn ports(name: &str, options: &Options) -> Vec<Port> {
    let mut ports = vec![port("http2", 80, 8080), port("https", 443, 8443)];
    if is_ingress(name) {
        ports.insert(0, port("status-port", 15021, 15021));
        if options.profile == Profile::Demo {
            ports.push(port("tcp", 31400, 31400));
            ports.push(port("tls", 15443, 15443));
        }
    }
    ports
}

fn is_ingress(name: &str) -> bool {
    name == "istio-ingressgateway"
}

/// `istio-ingressgateway` is selected by `istio: ingressgateway`.
fn labels(name: &str) -> Value {
    json!({"app": name, "istio": name.trim_start_matches("istio-")})
}

fn all_labels(name: &str) -> Value {
    let mut all = labels(name);
    all["istio.io/rev"] = json!("default");
    all["release"] = json!("istio");
    all
}

fn service(name: &str, options: &Options) -> Value {
    let ports = ports(name, options).into_iter().map(|port| {
        json!({"name": port.name, "port": port.port, "targetPort": port.target, "protocol": "TCP"})
    });
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": options.namespace, "labels": all_labels(name)},
        "spec": {
            "type": if is_ingress(name) { "LoadBalancer" } else { "ClusterIP" },
            "selector": labels(name),
            "ports": ports.collect::<Vec<_>>(),
        },
    })
}

fn deployment(name: &str, options: &Options) -> Value {
    let mut pod = json!({
        "metadata": {
            "labels": all_labels(name),
            "annotations": {"prometheus.io/port": "15020", "prometheus.io/scrape": "true",
                "prometheus.io/path": "/stats/prometheus"},
        },
        "spec": {
            "serviceAccountName": format!("{name}-service-account"),
            "containers": [container(name, options)],
        },
    });
    // The webhook must leave it alone: it is complete.
    pod["metadata"]["labels"]["sidecar.istio.io/inject"] = json!("false");
    let owner = Owner {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        name: name.into(),
        namespace: options.namespace.clone(),
    };
    inject_gateway(&mut pod, &owner, &params(options));
    forget_injection(&mut pod);
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": options.namespace, "labels": all_labels(name)},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels(name)},
            "strategy": {"rollingUpdate": {"maxSurge": "100%", "maxUnavailable": "25%"}},
            "template": pod,
        },
    })
}

/// Nobody injected anything into a pod that was made whole, so nothing is to be taken out again.
pub(crate) fn forget_injection(pod: &mut Value) {
    if let Some(annotations) = pod["metadata"]["annotations"].as_object_mut() {
        annotations.shift_remove("proxy.istio.io/overrides");
        annotations.shift_remove("sidecar.istio.io/status");
    }
}

fn container(name: &str, options: &Options) -> Value {
    let ports = ports(name, options).into_iter();
    let status = (!is_ingress(name)).then_some(15021);
    let ports = ports.map(|port| u32::from(port.target)).chain(status);
    let ports = ports.map(|port| (port, "TCP"));
    let requests = match options.profile {
        Profile::Demo => json!({"cpu": "10m", "memory": "40Mi"}),
        _ => json!({"cpu": "100m", "memory": "128Mi"}),
    };
    proxy(ports, requests)
}

/// The container, to be filled in by the injector.
pub(crate) fn proxy(ports: impl Iterator<Item = (u32, &'static str)>, requests: Value) -> Value {
    let ports = ports.map(|(port, protocol)| json!({"containerPort": port, "protocol": protocol}));
    json!({
        "name": "istio-proxy",
        "image": "auto",
        "ports": ports.collect::<Vec<_>>(),
        "env": [{"name": "ISTIO_META_UNPRIVILEGED_POD", "value": "true"}],
        "readinessProbe": {"failureThreshold": 30, "periodSeconds": 1, "timeoutSeconds": 1},
        "resources": {"requests": requests, "limits": {"cpu": "2000m", "memory": "1024Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
        },
    })
}

fn params(options: &Options) -> Params {
    Params {
        ca_address: format!("istiod.{}.svc:15012", options.namespace),
        cluster_id: options.cluster_id.clone(),
        mesh: Arc::new(MeshConfig::default()),
        ..Params::new(options.image("proxyv2"))
    }
}
