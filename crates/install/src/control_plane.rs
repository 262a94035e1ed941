//! The control plane's Service and Deployment.

use serde_json::{Value, json};

use crate::{Options, Profile};

pub(crate) fn all(options: &Options) -> Vec<Value> {
    vec![service(options), deployment(options)]
}

fn service(options: &Options) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "istiod",
            "namespace": options.namespace,
            "labels": {"app": "istiod", "istio": "pilot", "istio.io/rev": "default", "release": "istio"},
        },
        "spec": {
            "selector": {"app": "istiod", "istio": "pilot"},
            "ports": [
                {"name": "grpc-xds", "port": 15010, "protocol": "TCP"},
                {"name": "https-dns", "port": 15012, "protocol": "TCP"},
                {"name": "https-webhook", "port": 443, "targetPort": 15017, "protocol": "TCP"},
                {"name": "http-monitoring", "port": 15014, "protocol": "TCP"},
            ],
        },
    })
}

fn deployment(options: &Options) -> Value {
    let labels =
        json!({"app": "istiod", "istio": "pilot", "istio.io/rev": "default", "release": "istio"});
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "istiod", "namespace": options.namespace, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "istiod", "istio": "pilot"}},
            "strategy": {"rollingUpdate": {"maxSurge": "100%", "maxUnavailable": "25%"}},
            "template": {
                "metadata": {
                    "labels": {
                        "app": "istiod",
                        "istio": "pilot",
                        "istio.io/rev": "default",
                        "istio.io/dataplane-mode": "none",
                        "sidecar.istio.io/inject": "false",
                    },
                    "annotations": {
                        "prometheus.io/port": "15014",
                        "prometheus.io/scrape": "true",
                        "sidecar.istio.io/inject": "false",
                    },
                },
                "spec": {
                    "serviceAccountName": "istiod",
                    "containers": [container(options)],
                    "volumes": volumes(),
                },
            },
        },
    })
}

fn container(options: &Options) -> Value {
    let requests = match options.profile {
        Profile::Demo => json!({"cpu": "10m", "memory": "100Mi"}),
        _ => json!({"cpu": "500m", "memory": "2048Mi"}),
    };
    json!({
        "name": "discovery",
        "image": options.image("pilot"),
        "args": [
            "discovery",
            "--monitoringAddr=:15014",
            "--log_output_level=default:info",
            "--domain",
            "cluster.local",
        ],
        "ports": [
            {"name": "http-debug", "containerPort": 8080, "protocol": "TCP"},
            {"name": "grpc-xds", "containerPort": 15010, "protocol": "TCP"},
            {"name": "tls-xds", "containerPort": 15012, "protocol": "TCP"},
            {"name": "https-webhooks", "containerPort": 15017, "protocol": "TCP"},
            {"name": "http-monitoring", "containerPort": 15014, "protocol": "TCP"},
        ],
        // Every pod waits for the control plane, so it is asked often.
        "readinessProbe": {
            "httpGet": {"path": "/ready", "port": 8080},
            "periodSeconds": 1,
            "timeoutSeconds": 5,
        },
        "env": env(options),
        "resources": {"requests": requests},
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "istio-token", "mountPath": "/var/run/secrets/tokens", "readOnly": true},
            {"name": "local-certs", "mountPath": "/var/run/secrets/istio-dns"},
            {"name": "cacerts", "mountPath": "/etc/cacerts", "readOnly": true},
        ],
    })
}

fn env(options: &Options) -> Vec<Value> {
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}});
    let mut env = vec![
        json!({"name": "REVISION", "value": "default"}),
        json!({"name": "PILOT_CERT_PROVIDER", "value": "istiod"}),
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        json!({"name": "CLUSTER_ID", "value": options.cluster_id}),
    ];
    let own = options.env.iter();
    env.extend(own.map(|(name, value)| json!({"name": name, "value": value})));
    env
}

fn volumes() -> Value {
    json!([
        {"name": "local-certs", "emptyDir": {"medium": "Memory"}},
        {"name": "istio-token", "projected": {"sources": [
            {"serviceAccountToken": {"audience": "istio-ca", "expirationSeconds": 43200, "path": "istio-token"}},
        ]}},
        {"name": "cacerts", "secret": {"secretName": "cacerts", "optional": true}},
    ])
}
