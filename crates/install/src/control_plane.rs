//! The control plane's Service and Deployment.

use lateen_api::install::{Component, KubernetesResources};
use serde_json::{Value, json};

use crate::{
    Installation,
    installation::{self, DEFAULT_REVISION, Source, first_text},
    scale::{self, Bounds},
    settings,
};

pub(crate) fn all(
    installation: &Installation,
    pilot: &Component,
    own: &KubernetesResources,
) -> Vec<Value> {
    let values = &installation.values().pilot;
    let mut service = service(installation);
    settings::add(
        &mut service["metadata"],
        "annotations",
        &values.service_annotations,
    );
    settings::of_service(&mut service, own);
    let mut deployment = deployment(installation, pilot);
    settings::of_deployment(&mut deployment, own, installation);
    let bounds = Bounds {
        is_on: values.autoscale_enabled,
        least: values.autoscale_min,
        most: values.autoscale_max,
        replicas: values.replica_count,
        behavior: values.autoscale_behavior.clone(),
    };
    let beside = scale::beside(&mut deployment, &bounds, &values.cpu, own, installation);
    let mut all = vec![service, deployment];
    all.extend(beside);
    all
}

/// How the control plane's pods are told from others; of a revision, from those of another.
pub(crate) fn selector(revision: &str) -> Value {
    match revision {
        DEFAULT_REVISION => json!({"app": "istiod", "istio": PILOT}),
        revision => json!({"app": "istiod", "istio.io/rev": revision}),
    }
}

/// What the pods of the default revision are called, which selects by nothing else.
const PILOT: &str = "pilot";

/// Pods of other revisions must not be taken for those of the default one.
fn pod_name(installation: &Installation) -> &'static str {
    match installation.revision() {
        DEFAULT_REVISION => PILOT,
        _ => "istiod",
    }
}

/// The Service that proxies and the API server know; `selector` is null where the control plane is
/// elsewhere.
pub(crate) fn service(installation: &Installation) -> Value {
    let name = installation.revisioned("istiod");
    service_named(&name, installation.namespace(), installation.revision())
}

/// A Service that leads to the control plane of a revision.
pub(crate) fn service_named(name: &str, namespace: &str, revision: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app": "istiod", "istio": "pilot"},
        },
        "spec": {
            "selector": selector(revision),
            "ports": [
                {"name": "grpc-xds", "port": 15010, "protocol": "TCP"},
                {"name": "https-dns", "port": 15012, "protocol": "TCP"},
                {"name": "https-webhook", "port": 443, "targetPort": 15017, "protocol": "TCP"},
                {"name": "http-monitoring", "port": 15014, "protocol": "TCP"},
            ],
        },
    })
}

fn deployment(installation: &Installation, pilot: &Component) -> Value {
    let values = &installation.values().pilot;
    let name = installation.revisioned("istiod");
    let surge = values.rolling_max_surge.clone();
    let unavailable = values.rolling_max_unavailable.clone();
    let mut deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "namespace": installation.namespace(),
            "labels": {"app": "istiod", "istio": "pilot"},
        },
        "spec": {
            "selector": {"matchLabels": selector(installation.revision())},
            "strategy": {"rollingUpdate": {
                "maxSurge": surge.unwrap_or_else(|| json!("100%")),
                "maxUnavailable": unavailable.unwrap_or_else(|| json!("25%")),
            }},
            "template": {
                "metadata": {
                    "labels": {
                        "app": "istiod",
                        "istio": pod_name(installation),
                        "istio.io/rev": installation.revision(),
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
                    "serviceAccountName": name,
                    "containers": [container(installation, pilot)],
                    "volumes": volumes(installation),
                },
            },
        },
    });
    settings::add(
        &mut deployment["metadata"],
        "labels",
        &values.deployment_labels,
    );
    let pod = &mut deployment["spec"]["template"];
    settings::add(&mut pod["metadata"], "annotations", &values.pod_annotations);
    settings::add(&mut pod["metadata"], "labels", &values.pod_labels);
    let pod = &mut pod["spec"];
    settings::add(pod, "nodeSelector", &values.node_selector);
    settings::replace(pod, "affinity", values.affinity.as_ref());
    let list = |items| Some(items).filter(|items: &&Vec<Value>| !items.is_empty());
    settings::replace(pod, "tolerations", list(&values.tolerations));
    let spread = list(&values.topology_spread_constraints);
    settings::replace(pod, "topologySpreadConstraints", spread);
    deployment
}

fn container(installation: &Installation, pilot: &Component) -> Value {
    let values = &installation.values().pilot;
    let source = Source {
        hub: first_text([pilot.hub.as_deref(), values.hub.as_deref()]),
        tag: pilot.tag.as_ref().or(values.tag.as_ref()),
    };
    let image = first_text([values.image.as_deref()]).unwrap_or("pilot");
    let mut container = json!({
        "name": "discovery",
        "image": installation.image(image, source),
        "args": args(installation),
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
        "env": env(installation),
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
    });
    let resources = values.resources.as_ref();
    let resources = resources.or(installation.values().global.default_resources.as_ref());
    settings::replace(&mut container, "resources", resources);
    container
}

/// What it is started with.
pub(crate) fn args(installation: &Installation) -> Vec<String> {
    let values = installation.values();
    let domain = first_text([values.global.proxy.cluster_domain.as_deref()]);
    let level = first_text([values.global.logging.level.as_deref()]);
    let mut args = vec![
        "discovery".to_owned(),
        "--monitoringAddr=:15014".to_owned(),
        format!("--log_output_level={}", level.unwrap_or("default:info")),
        "--domain".to_owned(),
        domain.unwrap_or("cluster.local").to_owned(),
    ];
    if values.global.log_as_json == Some(true) {
        args.push("--log_as_json".to_owned());
    }
    if let Some(age) = first_text([values.pilot.keepalive_max_server_connection_age.as_deref()]) {
        args.push("--keepaliveMaxServerConnectionAge".to_owned());
        args.push(age.to_owned());
    }
    args.extend(values.pilot.extra_container_args.iter().cloned());
    args
}

fn env(installation: &Installation) -> Vec<Value> {
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}});
    let provider = first_text([installation.values().global.pilot_cert_provider.as_deref()]);
    let mut env = vec![
        json!({"name": "REVISION", "value": installation.revision()}),
        json!({"name": "PILOT_CERT_PROVIDER", "value": provider.unwrap_or("istiod")}),
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        json!({"name": "CLUSTER_ID", "value": installation.cluster_id()}),
        json!({"name": "TOKEN_AUDIENCES", "value": token_audience(installation)}),
    ];
    if installation.is_analysed() {
        env.push(json!({"name": installation::ANALYSIS, "value": "true"}));
    }
    settings::set_env(&mut env, &installation.values().pilot.env);
    env
}

/// For whom tokens of the mesh are made out.
fn token_audience(installation: &Installation) -> &str {
    let named = installation.values().global.sds.token.aud.as_deref();
    first_text([named]).unwrap_or("istio-ca")
}

fn volumes(installation: &Installation) -> Value {
    let audience = token_audience(installation);
    json!([
        {"name": "local-certs", "emptyDir": {"medium": "Memory"}},
        {"name": "istio-token", "projected": {"sources": [
            {"serviceAccountToken": {"audience": audience, "expirationSeconds": 43200, "path": "istio-token"}},
        ]}},
        {"name": "cacerts", "secret": {"secretName": "cacerts", "optional": true}},
    ])
}
