//! The proxy's container.

use lateen_api::annotations;
use serde_json::{Map, Value, json};

use super::{PROXY, Settings, volumes};
use crate::proxy_config;
use crate::values::{annotation, items, name};

pub(super) fn sidecar(pod: &Value, settings: &Settings<'_>, native: bool) -> Value {
    let mut container = json!({
        "name": PROXY,
        "image": image(pod, settings),
        "args": args("sidecar", pod, settings),
        "env": env(pod, settings),
        "ports": [{"containerPort": 15090, "name": "http-envoy-prom", "protocol": "TCP"}],
        "resources": resources(pod),
        "securityContext": security(settings),
        "volumeMounts": volumes::mounts(true),
    });
    let lifecycle = lifecycle(settings, native);
    if lifecycle.as_object().is_some_and(|hooks| !hooks.is_empty()) {
        container["lifecycle"] = lifecycle;
    }
    if native {
        container["restartPolicy"] = json!("Always");
    }
    if settings.status_port != 0 {
        container["readinessProbe"] = readiness(pod);
        container["startupProbe"] = startup();
    }
    container
}

pub(super) fn image(pod: &Value, settings: &Settings<'_>) -> String {
    proxy_config::image(pod, &settings.proxy_config, &settings.params.image)
}

pub(super) fn agent_log_level(pod: &Value) -> String {
    let level = annotation(pod, annotations::AGENT_LOG_LEVEL).unwrap_or("default:info");
    format!("--log_output_level={level}")
}

pub(super) fn args(role: &str, pod: &Value, settings: &Settings<'_>) -> Vec<String> {
    let or = |key: &str, default: &str| annotation(pod, key).unwrap_or(default).to_owned();
    let mut args = vec![
        "proxy".to_owned(),
        role.to_owned(),
        "--domain".to_owned(),
        format!("$(POD_NAMESPACE).svc.{}", settings.params.domain),
        format!("--proxyLogLevel={}", or(annotations::LOG_LEVEL, "warning")),
        format!(
            "--proxyComponentLogLevel={}",
            or(annotations::COMPONENT_LOG_LEVEL, "misc:error")
        ),
        agent_log_level(pod),
    ];
    if let Some(workers) = settings.proxy_config.get("concurrency") {
        args.push(format!("--concurrency={workers}"));
    }
    args
}

fn field(name: &str, path: &str) -> Value {
    json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}})
}

fn limit(name: &str, resource: &str) -> Value {
    json!({"name": name, "valueFrom": {"resourceFieldRef": {"resource": resource, "divisor": "1"}}})
}

pub(super) fn env(pod: &Value, settings: &Settings<'_>) -> Vec<Value> {
    let value = |name: &str, value: String| json!({"name": name, "value": value});
    let (params, owner) = (settings.params, settings.owner);
    let mut env = vec![
        value("PILOT_CERT_PROVIDER", "istiod".into()),
        value("CA_ADDR", params.ca_address.clone()),
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("INSTANCE_IP", "status.podIP"),
        field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        field("HOST_IP", "status.hostIP"),
        limit("ISTIO_CPU_LIMIT", "limits.cpu"),
        limit("GOMEMLIMIT", "limits.memory"),
        value(
            "PROXY_CONFIG",
            Value::Object(settings.proxy_config.clone()).to_string(),
        ),
        value("ISTIO_META_POD_PORTS", pod_ports(pod)),
        value("ISTIO_META_APP_CONTAINERS", app_containers(pod)),
        value("ISTIO_META_CLUSTER_ID", params.cluster_id.clone()),
        field("ISTIO_META_NODE_NAME", "spec.nodeName"),
        value(
            "ISTIO_META_INTERCEPTION_MODE",
            settings.interception.clone(),
        ),
        value("ISTIO_META_WORKLOAD_NAME", owner.name.clone()),
        value("ISTIO_META_OWNER", owner.uri()),
        value("ISTIO_META_MESH_ID", params.mesh_id().to_owned()),
        value("TRUST_DOMAIN", params.mesh.trust_domain().to_owned()),
    ];
    if !params.network.is_empty() {
        env.push(value("ISTIO_META_NETWORK", params.network.clone()));
    }
    env.extend(metadata(settings));
    env.extend(
        params
            .env
            .iter()
            .map(|(name, text)| value(name, text.clone())),
    );
    env
}

/// What the proxy's configuration says of its environment. Capture is told too: some of it is about
/// what is captured.
pub(super) fn metadata(settings: &Settings<'_>) -> Vec<Value> {
    let metadata = settings.proxy_config.get("proxyMetadata");
    let metadata = metadata.and_then(Value::as_object).into_iter().flatten();
    metadata
        .map(|(name, text)| json!({"name": name, "value": text}))
        .collect()
}

fn app(pod: &Value) -> impl Iterator<Item = &Value> {
    items(&pod["spec"], "containers")
        .iter()
        .filter(|container| name(container) != PROXY)
}

fn pod_ports(pod: &Value) -> String {
    let ports = app(pod)
        .flat_map(|container| items(container, "ports"))
        .map(|port| {
            // The order and the choice of fields are what the control plane reads.
            let mut out = Map::new();
            for key in ["name", "containerPort", "protocol"] {
                if let Some(value) = port.get(key) {
                    out.insert(key.into(), value.clone());
                }
            }
            Value::Object(out)
        });
    Value::Array(ports.collect()).to_string()
}

fn app_containers(pod: &Value) -> String {
    app(pod).map(name).collect::<Vec<_>>().join(",")
}

/// As soon as one of the annotations is there, they alone decide.
pub(super) fn resources(pod: &Value) -> Value {
    let given = |key: &str| annotation(pod, key);
    let keys = [
        ("requests", "cpu", annotations::PROXY_CPU, "100m"),
        ("requests", "memory", annotations::PROXY_MEMORY, "128Mi"),
        ("limits", "cpu", annotations::PROXY_CPU_LIMIT, "2"),
        ("limits", "memory", annotations::PROXY_MEMORY_LIMIT, "1Gi"),
    ];
    let own = keys.iter().any(|(_, _, key, _)| given(key).is_some());
    let mut out = json!({});
    for (group, resource, key, default) in keys {
        let value = if own { given(key) } else { Some(default) };
        if let Some(value) = value {
            out[group][resource] = json!(value);
        }
    }
    out
}

fn security(settings: &Settings<'_>) -> Value {
    let uid = lateen_core::ports::PROXY_UID;
    let mut context = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "privileged": false,
        "readOnlyRootFilesystem": true,
        "runAsGroup": uid,
        "runAsNonRoot": true,
        "runAsUser": uid,
    });
    if settings.interception == "TPROXY" {
        // Transparent sockets need the capability, and the capability needs root.
        context["capabilities"]["add"] = json!(["NET_ADMIN"]);
        context["runAsNonRoot"] = json!(false);
        context["runAsUser"] = json!(0);
    }
    context
}

fn lifecycle(settings: &Settings<'_>, native: bool) -> Value {
    let mut hooks = json!({});
    if native {
        let port = format!("--debug-port={}", settings.status_port);
        hooks["preStop"] =
            json!({"exec": {"command": ["pilot-agent", "request", port, "POST", "drain"]}});
    } else if settings.holds_application() {
        hooks["postStart"] = json!({"exec": {"command": ["pilot-agent", "wait"]}});
    }
    hooks
}

pub(super) fn readiness(pod: &Value) -> Value {
    let number = |key: &str| annotation(pod, key).and_then(|value| value.parse::<u32>().ok());
    let mut probe = json!({
        "httpGet": {"path": "/healthz/ready", "port": 15021},
        "failureThreshold": number(annotations::READINESS_FAILURE).unwrap_or(4),
        "periodSeconds": number(annotations::READINESS_PERIOD).unwrap_or(15),
        "timeoutSeconds": 3,
    });
    if let Some(delay) = number(annotations::READINESS_INITIAL_DELAY) {
        probe["initialDelaySeconds"] = json!(delay);
    }
    probe
}

/// Ten minutes to start, asked every second so that a pod is ready as soon as it can be.
fn startup() -> Value {
    json!({
        "httpGet": {"path": "/healthz/ready", "port": 15021},
        "failureThreshold": 600,
        "periodSeconds": 1,
        "timeoutSeconds": 3,
    })
}
