//! Pods whose application speaks xDS itself: with an agent beside it, or with a bootstrap alone.

use lateen_api::annotations;
use serde_json::{Value, json};

use super::{Draft, Overrides, PROXY, Settings, add_volumes, container};
use crate::values::{items, list, name, object};
use crate::{Params, prometheus};

/// Where the agent writes the bootstrap of the application.
const AGENT_BOOTSTRAP: &str = "/etc/istio/proxy/grpc-bootstrap.json";
/// Where the agent writes certificates for the application.
const CERTIFICATES: &str = "/var/lib/istio/data";
/// The container that writes a bootstrap where there is no agent.
const SIMPLE_INIT: &str = "grpc-bootstrap-init";
const SIMPLE_VOLUME: &str = "grpc-io-proxyless-bootstrap";
const SIMPLE_FOLDER: &str = "/var/lib/grpc/data/";

/// Puts an agent without a proxy into a pod, and tells the application's gRPC of it.
pub(super) fn agent(draft: &mut Draft<'_>) {
    keep_application(&mut draft.overrides, draft.pod);
    draft.prepare();
    let Draft {
        pod,
        settings,
        overrides,
        added,
        ..
    } = draft;
    let mut agent = json!({
        "name": PROXY,
        "image": container::image(pod, settings),
        "args": container::args("sidecar", pod, settings),
        "env": agent_env(pod, settings),
        "ports": [{"containerPort": settings.agent_port(), "name": "mesh-metrics", "protocol": "TCP"}],
        "lifecycle": {"postStart": {"exec": {"command": [
            "pilot-agent", "wait",
            format!("--url=http://localhost:{}/healthz/ready", settings.agent_port()),
        ]}}},
        "readinessProbe": readiness(pod, settings),
        "resources": container::resources(pod, settings),
        "volumeMounts": mounts(&[
            ("workload-socket", "/var/run/secrets/workload-spiffe-uds"),
            ("workload-certs", "/var/run/secrets/workload-spiffe-credentials"),
            ("istiod-ca-cert", "/var/run/secrets/istio"),
            ("istio-data", CERTIFICATES),
            ("istio-xds", "/etc/istio/proxy"),
            ("istio-token", "/var/run/secrets/tokens"),
            ("istio-podinfo", "/etc/istio/pod"),
        ]),
    });
    container::common(&mut agent, settings);
    if let Some(value) = prometheus::merge(pod, settings) {
        list(&mut agent, "env")
            .push(json!({"name": "ISTIO_PROMETHEUS_ANNOTATIONS", "value": value}));
    }
    overrides.apply(&mut agent, PROXY);
    added.container(PROXY);
    app(pod).for_each(|container| added.container(name(container)));
    tell_application(
        pod,
        &[
            ("GRPC_XDS_EXPERIMENTAL_SECURITY_SUPPORT", "true"),
            ("GRPC_XDS_BOOTSTRAP", AGENT_BOOTSTRAP),
        ],
        &[
            ("istio-data", CERTIFICATES),
            ("istio-xds", "/etc/istio/proxy"),
            (
                "workload-certs",
                "/var/run/secrets/workload-spiffe-credentials",
            ),
        ],
    );
    list(&mut pod["spec"], "containers").push(agent);
    add_volumes(pod, agent_volumes(settings), added);
    keep_probers(pod);
    draft.is_known = true;
}

/// Writes a bootstrap into a pod, with which the application's gRPC asks the control plane itself,
/// without certificates.
pub(super) fn simple(draft: &mut Draft<'_>) {
    keep_application(&mut draft.overrides, draft.pod);
    let Draft {
        pod,
        settings,
        added,
        ..
    } = draft;
    added.init(SIMPLE_INIT);
    app(pod).for_each(|container| added.container(name(container)));
    prometheus::merge(pod, settings);
    let bootstrap = format!("{SIMPLE_FOLDER}bootstrap.json");
    tell_application(
        pod,
        &[
            ("GRPC_XDS_BOOTSTRAP", bootstrap.as_str()),
            ("GRPC_GO_LOG_VERBOSITY_LEVEL", "99"),
            ("GRPC_GO_LOG_SEVERITY_LEVEL", "info"),
        ],
        &[(SIMPLE_VOLUME, SIMPLE_FOLDER)],
    );
    let init = simple_init(settings.params);
    list(&mut pod["spec"], "initContainers").push(init);
    let volume = json!({"name": SIMPLE_VOLUME, "emptyDir": {}});
    add_volumes(pod, vec![volume], added);
    keep_probers(pod);
}

/// The template has something for the application's containers, of which the user's word counts.
fn keep_application(overrides: &mut Overrides, pod: &Value) {
    overrides.containers.extend(app(pod).cloned());
}

fn app(pod: &Value) -> impl Iterator<Item = &Value> {
    let containers = items(&pod["spec"], "containers").iter();
    containers.filter(|container| name(container) != PROXY)
}

fn mounts(of: &[(&str, &str)]) -> Vec<Value> {
    let mount = |(name, path): &(&str, &str)| json!({"name": name, "mountPath": path});
    of.iter().map(mount).collect()
}

/// What the user wrote of a variable or a path counts.
fn tell_application(pod: &mut Value, env: &[(&str, &str)], volumes: &[(&str, &str)]) {
    for container in list(&mut pod["spec"], "containers") {
        let held = list(container, "env");
        for (key, value) in env {
            if held.iter().all(|other| name(other) != *key) {
                held.push(json!({"name": key, "value": value}));
            }
        }
        let held = list(container, "volumeMounts");
        for mount in mounts(volumes) {
            if held
                .iter()
                .all(|other| other["mountPath"] != mount["mountPath"])
            {
                held.push(mount);
            }
        }
    }
}

fn agent_env(pod: &Value, settings: &Settings<'_>) -> Vec<Value> {
    let value = |name: &str, value: &str| json!({"name": name, "value": value});
    let mut env = vec![
        value("ISTIO_META_GENERATOR", "grpc"),
        value("OUTPUT_CERTS", CERTIFICATES),
    ];
    // There is no proxy whose threads and memory are to be set, and nothing is redirected.
    let of_proxy = [
        "ISTIO_CPU_LIMIT",
        "GOMEMLIMIT",
        "ISTIO_META_INTERCEPTION_MODE",
    ];
    let general = container::env(pod, settings).into_iter();
    env.extend(general.filter(|variable| !of_proxy.contains(&name(variable))));
    env.push(value("ISTIO_META_DNS_CAPTURE", "false"));
    env.push(value("DISABLE_ENVOY", "true"));
    env
}

fn readiness(pod: &Value, settings: &Settings<'_>) -> Value {
    let mut probe = container::readiness(pod, settings);
    probe["httpGet"]["port"] = json!(settings.agent_port());
    probe
}

fn agent_volumes(settings: &Settings<'_>) -> Vec<Value> {
    let of_sidecar = super::volumes::gateway(settings);
    let find = |wanted: &str| {
        let found = of_sidecar.iter().find(|volume| name(volume) == wanted);
        found.cloned()
    };
    let xds = json!({"name": "istio-xds", "emptyDir": {"medium": "Memory"}});
    let before = ["workload-socket", "workload-certs"]
        .into_iter()
        .filter_map(find);
    let after = [
        "istio-data",
        "istio-podinfo",
        "istio-token",
        "istiod-ca-cert",
    ];
    before
        .chain([xds])
        .chain(after.into_iter().filter_map(find))
        .collect()
}

/// The agent does not stand between the kubelet and the application here.
fn keep_probers(pod: &mut Value) {
    let annotations = object(&mut pod["metadata"], "annotations");
    annotations.insert(annotations::REWRITE_PROBERS.into(), json!("false"));
}

fn simple_init(params: &Params) -> Value {
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    json!({
        "name": SIMPLE_INIT,
        "image": "busybox:1.28",
        "command": ["sh", "-c", simple_script(params)],
        "env": [
            field("INSTANCE_IP", "status.podIP"),
            field("POD_NAME", "metadata.name"),
            field("POD_NAMESPACE", "metadata.namespace"),
            {"name": "ISTIO_NAMESPACE", "value": params.mesh.root_namespace()},
        ],
        "volumeMounts": mounts(&[(SIMPLE_VOLUME, SIMPLE_FOLDER)]),
    })
}

/// The shell fills in what only the running pod knows.
fn simple_script(params: &Params) -> String {
    let domain = &params.domain;
    let bootstrap = json!({
        "xds_servers": [{
            "server_uri": "dns:///istiod.${ISTIO_NAMESPACE}.svc:15010",
            "channel_creds": [{"type": "insecure"}],
            "server_features": ["xds_v3"],
        }],
        "node": {
            "id": format!(
                "sidecar~${{INSTANCE_IP}}~${{POD_NAME}}.${{POD_NAMESPACE}}~${{POD_NAMESPACE}}.svc.{domain}"
            ),
            "metadata": {"GENERATOR": "grpc", "NAMESPACE": "${POD_NAMESPACE}"},
        },
    });
    format!("cat > {SIMPLE_FOLDER}bootstrap.json <<END\n{bootstrap:#}\nEND")
}
