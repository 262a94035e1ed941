//! What is put into a pod.

mod container;
mod gateway;
mod grpc;
mod iptables;
mod volumes;

use lateen_api::{annotations, labels};
use serde_json::{Map, Value, json};

use crate::{
    Owner, Params, merge, probes, prometheus, proxy_config,
    values::{annotation, items, label, list, name, object},
};

pub use gateway::inject_gateway;
pub(crate) use grpc::{inject_grpc_agent, inject_grpc_simple};

/// Name of the sidecar.
pub(crate) const PROXY: &str = "istio-proxy";
/// Name of the container that sets capture up.
pub(crate) const INIT: &str = "istio-init";

/// Where the agent looks for the control plane by itself.
const DISCOVERY: &str = "istiod.istio-system.svc:15012";

/// Puts the sidecar into a pod (or a pod template): `pod` has `metadata` and `spec`. Asks no
/// questions; [`crate::decide`] does.
pub fn inject(pod: &mut Value, owner: &Owner, params: &Params) {
    let native =
        annotation(pod, annotations::NATIVE_SIDECAR).map_or(params.native_sidecar, |v| v == "true");
    let settings = Settings::of(pod, owner, params);
    let home = if native {
        "initContainers"
    } else {
        "containers"
    };
    let mut overrides = Overrides::take(pod, home);
    prepare(pod, &settings);

    let mut proxy = container::sidecar(pod, &settings, native);
    tell_agent(pod, &settings, &mut proxy);
    overrides.apply(&mut proxy, PROXY);
    let mut added = Added::default();
    if settings.intercepts() {
        let mut init = iptables::container(pod, &settings);
        overrides.apply(&mut init, INIT);
        added.init.push(INIT.into());
        place_init(list(&mut pod["spec"], "initContainers"), init, native);
    }
    place_proxy(pod, proxy, native, &settings);
    if native {
        &mut added.init
    } else {
        &mut added.containers
    }
    .push(PROXY.into());
    added.volumes = add_volumes(pod, volumes::sidecar());
    annotate(pod, &settings, &overrides, &added);
    name_application(pod);
    mark(pod, &settings);
    object(&mut pod["metadata"], "labels")
        .entry(labels::TLS_MODE)
        .or_insert_with(|| json!("istio"));
}

/// What the pod's annotations and the mesh say, once.
pub(crate) struct Settings<'a> {
    pub(crate) params: &'a Params,
    pub(crate) owner: &'a Owner,
    pub(crate) status_port: u16,
    pub(crate) interception: String,
    /// ProxyConfig of the pod: what differs from the defaults.
    pub(crate) proxy_config: Map<String, Value>,
}

impl<'a> Settings<'a> {
    pub(crate) fn of(pod: &Value, owner: &'a Owner, params: &'a Params) -> Self {
        let port = annotation(pod, annotations::STATUS_PORT).and_then(|port| port.parse().ok());
        let mut proxy_config = proxy_config::of_pod(pod, &owner.namespace, params);
        let interception = annotation(pod, annotations::INTERCEPTION_MODE)
            .or_else(|| proxy_config.get("interceptionMode")?.as_str())
            .unwrap_or("REDIRECT")
            .to_owned();
        // Only what differs from the agent's own default is passed on.
        if proxy_config
            .get("discoveryAddress")
            .is_some_and(|a| a == DISCOVERY)
        {
            proxy_config.shift_remove("discoveryAddress");
        }
        let status_port = port.unwrap_or_else(|| params.status_port());
        Self {
            params,
            owner,
            status_port,
            interception,
            proxy_config,
        }
    }

    pub(crate) fn intercepts(&self) -> bool {
        self.interception != "NONE"
    }

    pub(crate) fn holds_application(&self) -> bool {
        self.proxy_config
            .get("holdApplicationUntilProxyStarts")
            .is_some_and(|hold| hold == true)
    }
}

/// What the user wrote of the containers that are about to be added.
#[derive(Default)]
struct Overrides {
    containers: Vec<Value>,
    init: Vec<Value>,
}

impl Overrides {
    /// Takes them out of the pod; `home` is where the sidecar will be.
    fn take(pod: &mut Value, home: &str) -> Self {
        let mut taken = Self::default();
        for field in ["initContainers", "containers"] {
            let Some(held) = pod["spec"].get_mut(field).and_then(Value::as_array_mut) else {
                continue;
            };
            let (ours, theirs) = held
                .drain(..)
                .partition(|c: &Value| name(c) == PROXY || name(c) == INIT);
            *held = theirs;
            for container in ours {
                let init = name(&container) == INIT || home == "initContainers";
                if init {
                    &mut taken.init
                } else {
                    &mut taken.containers
                }
                .push(without_auto(container));
            }
        }
        taken
    }

    fn apply(&mut self, container: &mut Value, container_name: &str) {
        let all = self.containers.iter().chain(&self.init);
        for over in all.filter(|over| name(over) == container_name) {
            merge::merge(container, over);
        }
    }

    fn describe(&self) -> Option<String> {
        let mut all = Map::new();
        for (field, containers) in [
            ("containers", &self.containers),
            ("initContainers", &self.init),
        ] {
            if !containers.is_empty() {
                all.insert(field.into(), json!(containers));
            }
        }
        (!all.is_empty()).then(|| Value::Object(all).to_string())
    }
}

/// `image: auto` means the image that is injected.
fn without_auto(mut container: Value) -> Value {
    if container["image"] == "auto"
        && let Some(map) = container.as_object_mut()
    {
        map.shift_remove("image");
    }
    container
}

/// Labels by which telemetry knows the pod, before anything reads them.
fn prepare(pod: &mut Value, settings: &Settings<'_>) {
    let canonical = [labels::CANONICAL_NAME, labels::APP_NAME, labels::APP];
    let canonical = canonical
        .iter()
        .find_map(|key| label(pod, key))
        .unwrap_or(&settings.owner.name);
    let canonical = canonical.to_owned();
    let version = [
        labels::CANONICAL_REVISION,
        labels::APP_VERSION,
        labels::VERSION,
    ];
    let version = version
        .iter()
        .find_map(|key| label(pod, key))
        .unwrap_or("latest")
        .to_owned();
    let labels_map = object(&mut pod["metadata"], "labels");
    labels_map.insert(labels::CANONICAL_NAME.into(), json!(canonical));
    labels_map.insert(labels::CANONICAL_REVISION.into(), json!(version));
}

/// Probes and metrics that the agent takes over.
fn tell_agent(pod: &mut Value, settings: &Settings<'_>, proxy: &mut Value) {
    let wanted = annotation(pod, annotations::REWRITE_PROBERS) != Some("false");
    if wanted && settings.status_port != 0 {
        let probers = probes::rewrite(list(&mut pod["spec"], "containers"), settings.status_port);
        if !probers.is_empty() {
            let value = Value::Object(probers).to_string();
            list(proxy, "env").push(json!({"name": "ISTIO_KUBE_APP_PROBERS", "value": value}));
        }
    }
    if let Some(value) = prometheus::merge(pod, settings.params) {
        list(proxy, "env").push(json!({"name": "ISTIO_PROMETHEUS_ANNOTATIONS", "value": value}));
    }
}

/// Capture starts last, so that the user's init containers still reach the network; with a native
/// sidecar it starts first, since the sidecar then serves them too.
fn place_init(held: &mut Vec<Value>, init: Value, native: bool) {
    if native {
        held.insert(0, init)
    } else {
        held.push(init)
    }
}

/// Last, so that `kubectl exec` means the user's container; first where the application must wait.
fn place_proxy(pod: &mut Value, proxy: Value, native: bool, settings: &Settings<'_>) {
    if native {
        let after_init = usize::from(settings.intercepts());
        list(&mut pod["spec"], "initContainers").insert(after_init, proxy);
    } else if settings.holds_application() {
        list(&mut pod["spec"], "containers").insert(0, proxy);
    } else {
        list(&mut pod["spec"], "containers").push(proxy);
    }
}

fn add_volumes(pod: &mut Value, volumes: Vec<Value>) -> Vec<String> {
    let names = volumes
        .iter()
        .map(|volume| name(volume).to_owned())
        .collect();
    let held = list(&mut pod["spec"], "volumes");
    for volume in volumes {
        match held.iter_mut().find(|other| name(other) == name(&volume)) {
            // What the user gave under this name is meant to replace ours.
            Some(_) => {}
            None => held.push(volume),
        }
    }
    names
}

#[derive(Default)]
struct Added {
    init: Vec<String>,
    containers: Vec<String>,
    volumes: Vec<String>,
}

fn annotate(pod: &mut Value, settings: &Settings<'_>, overrides: &Overrides, added: &Added) {
    let or_null = |names: &[String]| {
        if names.is_empty() {
            Value::Null
        } else {
            json!(names)
        }
    };
    let status = json!({
        "initContainers": or_null(&added.init),
        "containers": or_null(&added.containers),
        "volumes": or_null(&added.volumes),
        "imagePullSecrets": null,
        "revision": settings.params.revision,
    });
    let map = object(&mut pod["metadata"], "annotations");
    if let Some(overrides) = overrides.describe() {
        map.insert(annotations::PROXY_OVERRIDES.into(), json!(overrides));
    }
    map.insert(annotations::STATUS.into(), json!(status.to_string()));
}

/// `kubectl exec` and `logs` mean the user's container.
fn name_application(pod: &mut Value) {
    let app = items(&pod["spec"], "containers")
        .iter()
        .map(name)
        .find(|name| *name != PROXY);
    let Some(app) = app.map(str::to_owned) else {
        return;
    };
    let map = object(&mut pod["metadata"], "annotations");
    for key in [
        "kubectl.kubernetes.io/default-container",
        "kubectl.kubernetes.io/default-logs-container",
    ] {
        map.entry(key).or_insert_with(|| json!(app));
    }
}

fn mark(pod: &mut Value, settings: &Settings<'_>) {
    let map = object(&mut pod["metadata"], "annotations");
    map.insert(
        annotations::REVISION.into(),
        json!(settings.params.revision),
    );
}

#[cfg(test)]
mod tests;
