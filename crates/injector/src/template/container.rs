//! The proxy's container.

use lateen_api::annotations;
use serde_json::{Map, Value, json};

use super::{CLUSTER_ENV, NETWORK_ENV, PROXY, Settings, volumes};
use crate::config::said;
use crate::proxy_config;
use crate::values::{annotation, items, list, name, stays};

pub(super) fn sidecar(pod: &Value, settings: &Settings<'_>, native: bool) -> Value {
    let mut container = json!({
        "name": PROXY,
        "image": image(pod, settings),
        "args": args("sidecar", pod, settings),
        "env": env(pod, settings),
        "ports": [{"containerPort": 15090, "name": "http-envoy-prom", "protocol": "TCP"}],
        "resources": resources(pod, settings),
        "securityContext": security(pod, settings),
        "volumeMounts": volumes::mounts(true),
    });
    common(&mut container, settings);
    list(&mut container, "volumeMounts").extend(volumes::mounts_of_user(pod));
    let lifecycle = lifecycle(settings, native);
    if lifecycle.as_object().is_some_and(|hooks| !hooks.is_empty()) {
        container["lifecycle"] = lifecycle;
    }
    if native {
        container["restartPolicy"] = json!("Always");
    }
    if settings.status_port != 0 {
        container["readinessProbe"] = readiness(pod, settings);
        if let Some(probe) = startup(settings) {
            container["startupProbe"] = probe;
        }
    }
    container
}

pub(super) fn image(pod: &Value, settings: &Settings<'_>) -> String {
    proxy_config::image(pod, &settings.proxy_config, &settings.params.image)
}

/// What is the same for all containers that templates have.
pub(super) fn common(container: &mut Value, settings: &Settings<'_>) {
    let policy = settings.params.config.global().image_pull_policy.as_deref();
    if let Some(policy) = said(policy) {
        container["imagePullPolicy"] = json!(policy);
    }
}

/// What the agent logs, and how.
pub(super) fn log_args(pod: &Value, settings: &Settings<'_>) -> Vec<String> {
    let global = settings.params.config.global();
    let by_default = said(global.logging.level.as_deref()).unwrap_or("default:info");
    let level = annotation(pod, annotations::AGENT_LOG_LEVEL).unwrap_or(by_default);
    let mut args = vec![format!("--log_output_level={level}")];
    if global.log_as_json == Some(true) {
        args.push("--log_as_json".to_owned());
    }
    args
}

pub(super) fn args(role: &str, pod: &Value, settings: &Settings<'_>) -> Vec<String> {
    let chart = settings.params.config.proxy();
    let or = |key: &str, setting: &Option<String>, default: &str| {
        let by_default = said(setting.as_deref()).unwrap_or(default);
        annotation(pod, key).unwrap_or(by_default).to_owned()
    };
    let level = or(annotations::LOG_LEVEL, &chart.log_level, "warning");
    let components = annotations::COMPONENT_LOG_LEVEL;
    let components = or(components, &chart.component_log_level, "misc:error");
    let mut args = vec![
        "proxy".to_owned(),
        role.to_owned(),
        "--domain".to_owned(),
        format!("$(POD_NAMESPACE).svc.{}", settings.params.domain),
        format!("--proxyLogLevel={level}"),
        format!("--proxyComponentLogLevel={components}"),
    ];
    args.extend(log_args(pod, settings));
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
    let provider = params.config.global().pilot_cert_provider.as_deref();
    let provider = said(provider).unwrap_or("istiod");
    let mut env = vec![
        value("PILOT_CERT_PROVIDER", provider.into()),
        value("CA_ADDR", params.ca_address.clone()),
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("INSTANCE_IP", "status.podIP"),
        field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        field("HOST_IP", "status.hostIP"),
        limit("ISTIO_CPU_LIMIT", "limits.cpu"),
        value(
            "PROXY_CONFIG",
            Value::Object(settings.proxy_config.clone()).to_string(),
        ),
        value("ISTIO_META_POD_PORTS", pod_ports(pod)),
        value("ISTIO_META_APP_CONTAINERS", app_containers(pod)),
        limit("GOMEMLIMIT", "limits.memory"),
        value(CLUSTER_ENV, params.cluster_id.clone()),
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
        env.push(value(NETWORK_ENV, params.network.clone()));
    }
    env.extend(metadata(settings));
    let more = params.env.iter();
    // These two are the parameters' own by now.
    let more = more.filter(|(name, _)| ![CLUSTER_ENV, NETWORK_ENV].contains(&name.as_str()));
    env.extend(more.map(|(name, text)| value(name, text.clone())));
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

/// The application's containers, those that start before the others last.
fn app(pod: &Value) -> impl Iterator<Item = &Value> {
    let init = items(&pod["spec"], "initContainers").iter();
    items(&pod["spec"], "containers")
        .iter()
        .chain(init.filter(|container| stays(container)))
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
pub(super) fn resources(pod: &Value, settings: &Settings<'_>) -> Value {
    let given = |key: &str| annotation(pod, key);
    let keys = [
        ("requests", "cpu", annotations::PROXY_CPU, "100m"),
        ("requests", "memory", annotations::PROXY_MEMORY, "128Mi"),
        ("limits", "cpu", annotations::PROXY_CPU_LIMIT, "2"),
        ("limits", "memory", annotations::PROXY_MEMORY_LIMIT, "1Gi"),
    ];
    let own = keys.iter().any(|(_, _, key, _)| given(key).is_some());
    if let Some(resources) = &settings.params.config.proxy().resources
        && !own
    {
        return resources.clone();
    }
    let mut out = json!({});
    for (group, resource, key, default) in keys {
        let value = if own { given(key) } else { Some(default) };
        if let Some(value) = value {
            out[group][resource] = json!(value);
        }
    }
    out
}

fn security(pod: &Value, settings: &Settings<'_>) -> Value {
    let uid = lateen_core::ports::PROXY_UID;
    let privileged = settings.params.config.proxy().privileged.unwrap_or(false);
    let mut context = json!({
        "allowPrivilegeEscalation": privileged,
        "capabilities": {"drop": ["ALL"]},
        "privileged": privileged,
        "readOnlyRootFilesystem": true,
        "runAsGroup": uid,
        "runAsNonRoot": true,
        "runAsUser": uid,
    });
    // Ports below 1024 need a capability, which a container gets for its root user alone.
    if annotation(pod, annotations::CAP_NET_BIND_SERVICE) == Some("true") {
        context["capabilities"]["add"] = json!(["NET_BIND_SERVICE"]);
        context["runAsNonRoot"] = json!(false);
        context["runAsUser"] = json!(0);
    }
    context
}

fn lifecycle(settings: &Settings<'_>, native: bool) -> Value {
    if let Some(hooks) = &settings.params.config.proxy().lifecycle {
        return hooks.clone();
    }
    let mut hooks = json!({});
    if native {
        let port = format!("--debug-port={}", settings.agent_port());
        hooks["preStop"] =
            json!({"exec": {"command": ["pilot-agent", "request", port, "POST", "drain"]}});
    } else if settings.holds_application() {
        hooks["postStart"] = json!({"exec": {"command": ["pilot-agent", "wait"]}});
    }
    hooks
}

pub(super) fn readiness(pod: &Value, settings: &Settings<'_>) -> Value {
    let chart = settings.params.config.proxy();
    let number = |key: &str, setting: Option<u32>| {
        let own = annotation(pod, key).and_then(|value| value.parse::<u32>().ok());
        own.or(setting)
    };
    let failures = number(
        annotations::READINESS_FAILURE,
        chart.readiness_failure_threshold,
    );
    let period = number(
        annotations::READINESS_PERIOD,
        chart.readiness_period_seconds,
    );
    let delay = number(
        annotations::READINESS_INITIAL_DELAY,
        chart.readiness_initial_delay_seconds,
    );
    let mut probe = json!({
        "httpGet": {"path": "/healthz/ready", "port": 15021},
        "failureThreshold": failures.unwrap_or(4),
        "periodSeconds": period.unwrap_or(15),
        "timeoutSeconds": 3,
    });
    if let Some(delay) = delay.filter(|delay| *delay > 0) {
        probe["initialDelaySeconds"] = json!(delay);
    }
    probe
}

/// Ten minutes to start, asked every second so that a pod is ready as soon as it can be.
fn startup(settings: &Settings<'_>) -> Option<Value> {
    let chart = &settings.params.config.proxy().startup_probe;
    (chart.enabled != Some(false)).then(|| {
        json!({
            "httpGet": {"path": "/healthz/ready", "port": 15021},
            "failureThreshold": chart.failure_threshold.unwrap_or(600),
            "periodSeconds": 1,
            "timeoutSeconds": 3,
        })
    })
}
