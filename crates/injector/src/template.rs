//! What is put into a pod.

mod container;
mod gateway;
mod grpc;
mod iptables;
mod multus;
mod of_user;
mod strip;
mod volumes;

use lateen_api::{annotations, labels};
use lateen_core::ports::AGENT_STATUS;
use serde_json::{Map, Value, json};

use crate::{
    Owner, Params, merge, probes, prometheus, proxy_config,
    values::{annotation, items, label, label_value, list, name, object, text},
};

use of_user::OfUser;
use strip::Previous;
pub use strip::uninject;

/// Name of the sidecar.
pub(crate) const PROXY: &str = "istio-proxy";
/// Name of the container that sets capture up.
pub(crate) const INIT: &str = "istio-init";
/// Name of the container that looks whether capture is set up, where a plugin of nodes does it.
pub(crate) const VALIDATION: &str = "istio-validation";
/// Containers that the sidecar's template has, one or the other.
pub(crate) const OWN: [&str; 3] = [PROXY, INIT, VALIDATION];

/// Network of the pod, which its workload is told.
pub(crate) const NETWORK_ENV: &str = "ISTIO_META_NETWORK";
/// Cluster of the pod, which its workload is told.
pub(crate) const CLUSTER_ENV: &str = "ISTIO_META_CLUSTER_ID";

/// Annotations by which `kubectl exec` and `logs` know which container is meant.
const DEFAULT_CONTAINER: [&str; 2] = [
    "kubectl.kubernetes.io/default-container",
    "kubectl.kubernetes.io/default-logs-container",
];
/// Labels by which the mesh and telemetry know a pod.
const KNOWN_BY: [&str; 3] = [
    labels::TLS_MODE,
    labels::CANONICAL_NAME,
    labels::CANONICAL_REVISION,
];

/// How a ProxyConfig says that connections are captured.
pub(crate) const INTERCEPTION_MODE: &str = "interceptionMode";
/// The agent's port in a ProxyConfig.
const STATUS_PORT: &str = "statusPort";

/// Where the agent looks for the control plane by itself.
pub(crate) const DISCOVERY: &str = "istiod.istio-system.svc:15012";

/// A template that is part of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BuiltIn {
    Sidecar,
    Gateway,
    GrpcAgent,
    GrpcSimple,
}

impl BuiltIn {
    pub(crate) fn of(name: &str) -> Option<Self> {
        match name {
            "sidecar" => Some(Self::Sidecar),
            "gateway" => Some(Self::Gateway),
            "grpc-agent" => Some(Self::GrpcAgent),
            "grpc-simple" => Some(Self::GrpcSimple),
            _ => None,
        }
    }

    pub(crate) fn fill(self, draft: &mut Draft<'_>) {
        match self {
            Self::Sidecar => sidecar(draft),
            Self::Gateway => gateway::fill(draft),
            Self::GrpcAgent => grpc::agent(draft),
            Self::GrpcSimple => grpc::simple(draft),
        }
    }
}

/// Puts the sidecar into a pod (or a pod template): `pod` has `metadata` and `spec`. Asks no
/// questions; [`crate::decide`] does.
pub fn inject(pod: &mut Value, owner: &Owner, params: &Params) {
    fill_alone(BuiltIn::Sidecar, pod, owner, params);
}

/// Makes a gateway of a pod (or a pod template) whose container `istio-proxy` is to be filled in.
pub fn inject_gateway(pod: &mut Value, owner: &Owner, params: &Params) {
    fill_alone(BuiltIn::Gateway, pod, owner, params);
}

fn fill_alone(template: BuiltIn, pod: &mut Value, owner: &Owner, params: &Params) {
    let mut draft = Draft::of(pod, owner, params, Some(template));
    template.fill(&mut draft);
    draft.finish();
}

fn sidecar(draft: &mut Draft<'_>) {
    draft.prepare();
    let Draft {
        pod,
        settings,
        overrides,
        added,
        ..
    } = draft;
    let native = settings.native;
    let mut proxy = container::sidecar(pod, settings, native);
    tell_agent(pod, settings, &mut proxy);
    let bootstrap = volumes::of_bootstrap(pod);
    if bootstrap.is_some() {
        volumes::mount_bootstrap(&mut proxy);
    }
    overrides.apply(&mut proxy, PROXY);
    if settings.intercepts() {
        let config = &settings.params.config;
        if config.is_multus() {
            multus::add(pod);
        }
        let capture = if config.is_cni() { VALIDATION } else { INIT };
        let mut init = iptables::container(pod, settings);
        overrides.apply(&mut init, capture);
        added.init(capture);
        list(&mut pod["spec"], "initContainers").push(init);
    }
    list(&mut pod["spec"], settings.home()).push(proxy);
    if native {
        added.init(PROXY);
    } else {
        added.container(PROXY);
    }
    add_volumes(pod, volumes::sidecar(settings), added);
    let of_user = volumes::of_user(pod).into_iter().chain(bootstrap);
    add_volumes(pod, of_user.collect(), added);
    object(&mut pod["metadata"], "labels")
        .entry(labels::TLS_MODE)
        .or_insert_with(|| json!("istio"));
    draft.is_known = true;
}

/// A pod on its way to be injected.
pub(crate) struct Draft<'a> {
    pub(crate) pod: &'a mut Value,
    pub(crate) settings: Settings<'a>,
    /// What the user wrote of containers that templates have as well.
    pub(crate) overrides: Overrides,
    /// What an injection before this one put in.
    previous: Previous,
    of_user: OfUser,
    pub(crate) added: Added,
    /// Whether the mesh knows the pod by what it is told of it, rather than by its application alone.
    is_known: bool,
}

impl<'a> Draft<'a> {
    /// Begins with what the user wrote; `template` is the built-in one that is to come.
    pub(crate) fn of(
        pod: &'a mut Value,
        owner: &'a Owner,
        params: &'a Params,
        template: Option<BuiltIn>,
    ) -> Self {
        let of_user = OfUser::of(pod);
        let previous = strip::take_out(pod);
        let mut settings = Settings::of(pod, owner, params);
        // Everywhere else the proxy is the application, or it is for the application alone.
        settings.native &= template.is_none_or(|template| template == BuiltIn::Sidecar);
        let overrides = Overrides::take(pod, settings.home());
        Self {
            pod,
            settings,
            overrides,
            previous,
            of_user,
            added: Added::default(),
            is_known: false,
        }
    }

    /// Labels by which telemetry knows the pod, before anything reads them.
    fn prepare(&mut self) {
        let pod = &mut *self.pod;
        let first = |keys: [&str; 3], or: &str| {
            let found = keys.iter().find_map(|key| label(pod, key));
            label_value(found.unwrap_or(or)).to_owned()
        };
        let canonical = [labels::CANONICAL_NAME, labels::APP_NAME, labels::APP];
        let canonical = first(canonical, &self.settings.owner.name);
        let version = [
            labels::CANONICAL_REVISION,
            labels::APP_VERSION,
            labels::VERSION,
        ];
        let version = first(version, "latest");
        let labels_map = object(&mut pod["metadata"], "labels");
        labels_map.insert(labels::CANONICAL_NAME.into(), json!(canonical));
        labels_map.insert(labels::CANONICAL_REVISION.into(), json!(version));
    }

    /// What is the same for all templates, after them.
    pub(crate) fn finish(mut self) {
        self.add_pull_secrets();
        self.previous.keep_additions(self.pod);
        arrange(self.pod, &self.settings);
        self.annotate();
        if self.is_known {
            name_application(self.pod);
            let map = object(&mut self.pod["metadata"], "annotations");
            let revision = json!(self.settings.params.revision);
            map.insert(annotations::REVISION.into(), revision);
        }
        let params = self.settings.params;
        if let Some(network) = params.env.get(NETWORK_ENV) {
            let map = object(&mut self.pod["metadata"], "labels");
            map.insert(labels::NETWORK.into(), json!(network));
        }
        let more = &params.config.injected_annotations;
        if !more.is_empty() {
            let map = object(&mut self.pod["metadata"], "annotations");
            map.extend(more.iter().map(|(key, text)| (key.clone(), json!(text))));
        }
    }

    /// Tells what was put in, and what of that the user had given.
    fn annotate(&mut self) {
        let added = &self.added;
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
            "imagePullSecrets": or_null(&added.secrets),
            "revision": self.settings.params.revision,
        });
        let mut overrides = self.overrides.describe();
        self.of_user.describe(added, &mut overrides);
        let map = object(&mut self.pod["metadata"], "annotations");
        if !overrides.is_empty() {
            let overrides = Value::Object(overrides).to_string();
            map.insert(annotations::PROXY_OVERRIDES.into(), json!(overrides));
        }
        map.insert(annotations::STATUS.into(), json!(status.to_string()));
    }

    fn add_pull_secrets(&mut self) {
        let secrets = &self.settings.params.config.global().image_pull_secrets;
        if secrets.is_empty() {
            return;
        }
        let held = list(&mut self.pod["spec"], "imagePullSecrets");
        for secret in secrets {
            if held.iter().all(|other| name(other) != secret) {
                held.push(json!({"name": secret}));
            }
            self.added.secret(secret);
        }
    }
}

/// What the pod's annotations and the mesh say, once.
pub(crate) struct Settings<'a> {
    pub(crate) params: &'a Params,
    pub(crate) owner: &'a Owner,
    pub(crate) status_port: u16,
    pub(crate) interception: String,
    /// Whether the sidecar is an init container that restarts.
    pub(crate) native: bool,
    /// ProxyConfig of the pod: what differs from the defaults.
    pub(crate) proxy_config: Map<String, Value>,
}

impl<'a> Settings<'a> {
    pub(crate) fn of(pod: &Value, owner: &'a Owner, params: &'a Params) -> Self {
        let mut proxy_config = proxy_config::of_pod(pod, &owner.namespace, params);
        let interception = annotation(pod, annotations::INTERCEPTION_MODE)
            .or_else(|| proxy_config.get(INTERCEPTION_MODE)?.as_str())
            .unwrap_or("REDIRECT")
            .to_owned();
        // Only what differs from the agent's own default is passed on.
        if proxy_config
            .get("discoveryAddress")
            .is_some_and(|a| a == DISCOVERY)
        {
            proxy_config.shift_remove("discoveryAddress");
        }
        let status_port = status_port(pod, &proxy_config, params);
        tell_port(&mut proxy_config, agent_port(status_port));
        let node = text(pod, &["spec", "nodeName"]);
        let of_node = node.and_then(|node| params.nodes.get(node).copied());
        let native = annotation(pod, annotations::NATIVE_SIDECAR);
        let native = native.map_or_else(
            || of_node.unwrap_or(params.native_sidecar),
            |wanted| wanted == "true",
        );
        Self {
            native,
            params,
            owner,
            status_port,
            interception,
            proxy_config,
        }
    }

    /// The list that the sidecar is in.
    pub(crate) fn home(&self) -> &'static str {
        if self.native {
            "initContainers"
        } else {
            "containers"
        }
    }

    pub(crate) fn intercepts(&self) -> bool {
        self.interception != "NONE"
    }

    pub(crate) fn holds_application(&self) -> bool {
        let field = "holdApplicationUntilProxyStarts";
        let own = self
            .proxy_config
            .get(field)
            .is_some_and(|hold| hold == true);
        let by_chart = self
            .params
            .config
            .proxy()
            .hold_application_until_proxy_starts;
        own || by_chart == Some(true)
    }

    /// Where the agent's interface is, whether or not the pod's probes lead there.
    pub(crate) fn agent_port(&self) -> u16 {
        agent_port(self.status_port)
    }
}

/// The port that the kubelet and Prometheus find the agent at; 0 keeps them away.
fn status_port(pod: &Value, proxy_config: &Map<String, Value>, params: &Params) -> u16 {
    let own = annotation(pod, annotations::STATUS_PORT).and_then(|port| port.parse().ok());
    let of_config = || u16::try_from(proxy_config.get(STATUS_PORT)?.as_u64()?).ok();
    own.or_else(of_config)
        .unwrap_or_else(|| params.status_port())
}

/// The agent listens in any case: the proxy's readiness is asked for there.
pub(crate) fn agent_port(status_port: u16) -> u16 {
    if status_port == 0 {
        AGENT_STATUS
    } else {
        status_port
    }
}

/// The agent has to listen where others ask. It knows its own default.
fn tell_port(proxy_config: &mut Map<String, Value>, port: u16) {
    let port = json!(port);
    let told = proxy_config.get(STATUS_PORT).cloned();
    if told.unwrap_or_else(|| json!(AGENT_STATUS)) != port {
        proxy_config.insert(STATUS_PORT.to_owned(), port);
    }
}

/// What the user wrote of the containers that are about to be added.
#[derive(Default)]
pub(crate) struct Overrides {
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
                .partition(|container: &Value| OWN.contains(&name(container)));
            *held = theirs;
            for container in ours {
                let init = name(&container) != PROXY || home == "initContainers";
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

    /// Keeps what the user wrote of a container that a template has too. What another template put
    /// there is not the user's, and what is kept already was so before any template.
    pub(crate) fn keep(&mut self, field: &str, container: Value, added: &Added) {
        let (held, put) = if field == "containers" {
            (&mut self.containers, &added.containers)
        } else {
            (&mut self.init, &added.init)
        };
        let wanted = name(&container);
        let is_known =
            put.iter().any(|name| name == wanted) || held.iter().any(|held| name(held) == wanted);
        if !is_known {
            held.push(container);
        }
    }

    pub(crate) fn apply(&self, container: &mut Value, container_name: &str) {
        let all = self.containers.iter().chain(&self.init);
        for over in all.filter(|over| name(over) == container_name) {
            merge::merge(container, over);
        }
    }

    fn describe(&self) -> Map<String, Value> {
        let mut all = Map::new();
        for (field, containers) in [
            ("containers", &self.containers),
            ("initContainers", &self.init),
        ] {
            if !containers.is_empty() {
                all.insert(field.into(), json!(containers));
            }
        }
        all
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

/// Probes and metrics that the agent takes over.
fn tell_agent(pod: &mut Value, settings: &Settings<'_>, proxy: &mut Value) {
    let by_default = &settings.params.config.values.sidecar_injector_webhook;
    let by_default = by_default.rewrite_app_http_probe.unwrap_or(true);
    let wanted = annotation(pod, annotations::REWRITE_PROBERS);
    let is_wanted = wanted.map_or(by_default, |wanted| wanted != "false");
    if is_wanted && settings.status_port != 0 {
        let probers = probes::rewrite(&mut pod["spec"], settings.status_port, settings.native);
        if !probers.is_empty() {
            let value = Value::Object(probers).to_string();
            list(proxy, "env").push(json!({"name": "ISTIO_KUBE_APP_PROBERS", "value": value}));
        }
    }
    if let Some(value) = prometheus::merge(pod, settings) {
        list(proxy, "env").push(json!({"name": "ISTIO_PROMETHEUS_ANNOTATIONS", "value": value}));
    }
}

/// Where the order counts: capture starts last, so that the user's init containers still reach the
/// network; with a native sidecar it starts first, since the sidecar then serves them too. Whether a
/// plugin has set it up is looked at before anything runs. A sidecar that is not native is last, so that `kubectl exec` means the user's container, or first where the
/// application must wait.
fn arrange(pod: &mut Value, settings: &Settings<'_>) {
    let spec = &mut pod["spec"];
    if settings.native {
        move_to(spec, "initContainers", PROXY, true);
        move_to(spec, "initContainers", INIT, true);
    } else {
        move_to(spec, "initContainers", INIT, false);
        move_to(spec, "containers", PROXY, settings.holds_application());
    }
    move_to(spec, "initContainers", VALIDATION, true);
}

fn move_to(spec: &mut Value, field: &str, wanted: &str, first: bool) {
    let Some(held) = spec.get_mut(field).and_then(Value::as_array_mut) else {
        return;
    };
    let Some(at) = held.iter().position(|container| name(container) == wanted) else {
        return;
    };
    let container = held.remove(at);
    let to = if first { 0 } else { held.len() };
    held.insert(to, container);
}

fn add_volumes(pod: &mut Value, volumes: Vec<Value>, added: &mut Added) {
    if volumes.is_empty() {
        return;
    }
    let held = list(&mut pod["spec"], "volumes");
    for volume in volumes {
        added.volume(name(&volume));
        // What the user gave under this name is meant to replace ours.
        if held.iter().all(|other| name(other) != name(&volume)) {
            held.push(volume);
        }
    }
}

/// Names of what templates have, for the status annotation.
#[derive(Default)]
pub(crate) struct Added {
    init: Vec<String>,
    containers: Vec<String>,
    volumes: Vec<String>,
    secrets: Vec<String>,
}

impl Added {
    pub(crate) fn init(&mut self, name: &str) {
        note(&mut self.init, name);
    }

    pub(crate) fn container(&mut self, name: &str) {
        note(&mut self.containers, name);
    }

    pub(crate) fn volume(&mut self, name: &str) {
        note(&mut self.volumes, name);
    }

    pub(crate) fn secret(&mut self, name: &str) {
        note(&mut self.secrets, name);
    }
}

/// Two templates may have the same.
fn note(names: &mut Vec<String>, name: &str) {
    if !names.iter().any(|held| held == name) {
        names.push(name.to_owned());
    }
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
    for key in DEFAULT_CONTAINER {
        map.entry(key).or_insert_with(|| json!(app));
    }
}

#[cfg(test)]
mod tests;
