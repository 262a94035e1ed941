//! Finding the cluster that a command means, and reaching a pod's ports through its API server.

mod deadline;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Bytes};
use hyper_util::rt::TokioIo;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::LabelSelector};
use kube::{
    Api, Client, Config, Discovery,
    api::{ApiResource, DynamicObject, ListParams, TypeMeta},
    client::ClientBuilder,
    config::{KubeConfigOptions, Kubeconfig},
    core::{GroupVersionKind, Selector},
};

use lateen_local::state::{self, DEFAULT_NAME, StateDir};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::cli::Global;
use deadline::Deadline;

/// A client for the cluster that the flags, the environment or the local mesh name.
pub(crate) async fn connect(global: &Global) -> anyhow::Result<Client> {
    of(config(global).await?, global)
}

/// A client by which every answer comes in the time that the flags give it.
pub(crate) fn of(config: Config, global: &Global) -> anyhow::Result<Client> {
    let builder = ClientBuilder::try_from(config)?;
    let limit = global.kubeclient_timeout;
    // Nothing is no bound, as for `istioctl`.
    Ok(match limit.is_zero() {
        true => builder.build(),
        false => builder.with_layer(&Deadline(limit)).build(),
    })
}

/// How that cluster is reached, and as whom.
pub(crate) async fn config(global: &Global) -> anyhow::Result<Config> {
    let options = KubeConfigOptions {
        context: global.context.clone(),
        ..KubeConfigOptions::default()
    };
    let mut config = match kubeconfig(global) {
        Some(path) => {
            let config = Config::from_custom_kubeconfig(read(&path)?, &options).await;
            config.with_context(|| format!("kubeconfig {}", path.display()))?
        }
        None => {
            must_be_there()?;
            Config::from_kubeconfig(&options)
                .await
                .context(NO_CLUSTER)?
        }
    };
    config.connect_timeout = Some(global.kubeclient_timeout).filter(|limit| !limit.is_zero());
    impersonate(global, &mut config);
    Ok(config)
}

/// What to do where no cluster is named.
const NO_CLUSTER: &str =
    "no cluster to talk to: start one with `lateen up`, or name one with --kubeconfig";

/// A kubeconfig that is named.
fn read(path: &Path) -> anyhow::Result<Kubeconfig> {
    // The library's own words name the file and the reason twice.
    std::fs::metadata(path)
        .and_then(|_| std::fs::File::open(path))
        .with_context(|| format!("cannot read kubeconfig {}", path.display()))?;
    Kubeconfig::read_from(path).with_context(|| format!("{} is no kubeconfig", path.display()))
}

/// Where neither a flag nor `$KUBECONFIG` names a file, the usual one must be there.
fn must_be_there() -> anyhow::Result<()> {
    let usual = std::env::home_dir().map(|home| home.join(".kube/config"));
    let is_named = std::env::var_os("KUBECONFIG").is_some();
    let running: Vec<String> = running_names();
    match usual {
        _ if is_named => Ok(()),
        Some(path) if path.exists() => Ok(()),
        _ if !running.is_empty() => bail!(
            "several local meshes run ({}): name the kubeconfig of one with --kubeconfig; `lateen cluster list` \
             has them",
            running.join(", ")
        ),
        usual => bail!(
            "{NO_CLUSTER} (there is no {})",
            usual.unwrap_or_else(|| "~/.kube/config".into()).display()
        ),
    }
}

/// Comes as somebody else, where the flags say so.
fn impersonate(global: &Global, config: &mut Config) {
    let auth = &mut config.auth_info;
    if let Some(user) = &global.impersonate {
        auth.impersonate = Some(user.clone());
        // Groups and UID of another user are not this one's.
        auth.impersonate_groups = Some(global.impersonate_groups.clone());
        auth.impersonate_uid = global.impersonate_uid.clone();
    }
}

/// The namespace that a command means: the one that is named, that of the context, or `default`. A kubeconfig
/// that cannot be read is told by whoever connects.
pub(crate) fn namespace(global: &Global) -> String {
    let of_context = || {
        let config = match kubeconfig(global) {
            Some(path) => Kubeconfig::read_from(path),
            None => Kubeconfig::read(),
        };
        let config = config.ok()?;
        let current = global
            .context
            .as_ref()
            .or(config.current_context.as_ref())?;
        let mut contexts = config.contexts.iter();
        let named = contexts.find(|named| named.name == *current)?;
        named.context.as_ref()?.namespace.clone()
    };
    let named = global.named_namespace.clone().or_else(of_context);
    named
        .filter(|namespace| !namespace.is_empty())
        .unwrap_or_else(|| "default".to_owned())
}

/// `--kubeconfig`, then `$KUBECONFIG` (read by the library), then the local mesh's own.
fn kubeconfig(global: &Global) -> Option<PathBuf> {
    if let Some(path) = &global.kubeconfig {
        return Some(path.clone());
    }
    if std::env::var_os("KUBECONFIG").is_some() {
        return None;
    }
    running_kubeconfig()
}

/// The kubeconfig that commands go by, and who says so.
pub(crate) fn kubeconfig_in_use(global: &Global) -> (String, &'static str) {
    if let Some(path) = &global.kubeconfig {
        return (path.display().to_string(), "command line");
    }
    if let Some(paths) = std::env::var_os("KUBECONFIG") {
        return (paths.to_string_lossy().into_owned(), "$KUBECONFIG");
    }
    match running_kubeconfig() {
        Some(path) => (path.display().to_string(), "the local mesh that runs"),
        None => ("~/.kube/config".to_owned(), "default"),
    }
}

/// The kubeconfig of the local mesh that runs: the default one, or the only one.
fn running_kubeconfig() -> Option<PathBuf> {
    let running = |name: &str| {
        StateDir::of(name)
            .ok()
            .filter(|state| state.running().is_some())
    };
    if let Some(state) = running(DEFAULT_NAME) {
        return Some(state.kubeconfig());
    }
    match &running_names()[..] {
        [only] => running(only).map(|state| state.kubeconfig()),
        _ => None,
    }
}

/// The local meshes that run.
fn running_names() -> Vec<String> {
    let is_running = |name: &String| {
        let state = StateDir::of(name);
        state.is_ok_and(|state| state.running().is_some())
    };
    state::names().into_iter().filter(is_running).collect()
}

/// All objects of a kind, with what they are, which items of a list do not say. A kind that the
/// cluster does not have has none.
pub(crate) async fn list(
    api: &Api<DynamicObject>,
    resource: &ApiResource,
) -> kube::Result<Vec<DynamicObject>> {
    let mut found = match api.list(&ListParams::default()).await {
        Ok(found) => found.items,
        Err(kube::Error::Api(status)) if status.code == 404 => Vec::new(),
        Err(error) => return Err(error),
    };
    for object in &mut found {
        object.types = Some(TypeMeta {
            api_version: resource.api_version.clone(),
            kind: resource.kind.clone(),
        });
        object.metadata.managed_fields = None;
    }
    Ok(found)
}

/// All kinds that the cluster has. They come in one answer where the API server can give one: group by
/// group, one that has just gone ends the whole question.
pub(crate) async fn kinds(client: &Client) -> kube::Result<Discovery> {
    match Discovery::new(client.clone()).run_aggregated().await {
        Ok(kinds) => Ok(kinds),
        Err(_) => Discovery::new(client.clone()).run().await,
    }
}

/// A client from a kubeconfig file alone.
pub(crate) async fn from_file(path: &std::path::Path) -> anyhow::Result<Client> {
    let config = Config::from_custom_kubeconfig(read(path)?, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// Fetches a path from a port inside a pod, its loopback included.
pub(crate) async fn pod_get(
    client: &Client,
    namespace: &str,
    pod: &str,
    port: u16,
    path: &str,
) -> anyhow::Result<String> {
    pod_ask(client, namespace, pod, port, Request::get(path), "").await
}

/// Asks a port inside a pod for a change.
pub(crate) async fn pod_post(
    client: &Client,
    namespace: &str,
    pod: &str,
    port: u16,
    path: &str,
) -> anyhow::Result<String> {
    pod_ask(client, namespace, pod, port, Request::post(path), "").await
}

/// Sends a request to a port inside a pod; the answer's body where it went well.
pub(crate) async fn pod_ask(
    client: &Client,
    namespace: &str,
    pod: &str,
    port: u16,
    request: hyper::http::request::Builder,
    body: &str,
) -> anyhow::Result<String> {
    let stream = pod_connect(client, namespace, pod, port).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = request
        .header("host", "localhost")
        .body(Full::new(Bytes::from(body.to_owned())))?;
    let path = request.uri().path().to_owned();
    let response = sender
        .send_request(request)
        .await
        .with_context(|| format!("no answer from port {port} of pod {pod}.{namespace}"))?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    connection.abort();
    let text = String::from_utf8_lossy(&body).into_owned();
    if !status.is_success() {
        bail!(
            "{path} on pod {pod}.{namespace} answered {status}: {}",
            text.trim_end()
        );
    }
    Ok(text)
}

/// A connection to a port inside a pod.
pub(crate) async fn pod_connect(
    client: &Client,
    namespace: &str,
    pod: &str,
    port: u16,
) -> anyhow::Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut forward = pods
        .portforward(pod, &[port])
        .await
        .with_context(|| format!("cannot reach port {port} of pod {pod}.{namespace}"))?;
    forward
        .take_stream(port)
        .context("the API server forwarded no port")
}

/// The running pods of the control plane.
pub(crate) async fn control_plane_pods(
    client: &Client,
    global: &Global,
) -> anyhow::Result<Vec<String>> {
    control_planes(client, global, None).await
}

/// The running pods of the control planes: of all, or of one revision.
pub(crate) async fn control_planes(
    client: &Client,
    global: &Global,
    revision: Option<&str>,
) -> anyhow::Result<Vec<String>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &global.istio_namespace);
    let labels = match revision {
        Some(revision) => format!("app=istiod,istio.io/rev={revision}"),
        None => "app=istiod".to_owned(),
    };
    let list = pods.list(&ListParams::default().labels(&labels)).await?;
    let running = list
        .into_iter()
        .filter(is_running)
        .filter_map(|pod| pod.metadata.name)
        .collect::<Vec<_>>();
    if running.is_empty() {
        let revision = revision.map_or_else(String::new, |name| format!(" of revision {name}"));
        bail!(
            "no control plane{revision} runs in namespace {}: `lateen verify-install` says what is \
             wrong, `lateen install` installs one",
            global.istio_namespace
        );
    }
    Ok(running)
}

/// The pod that a user names, with its namespace: `name[.namespace]`, or `kind/name[.namespace]` for
/// a running pod of a workload or a Service, as `istioctl` takes them.
pub(crate) async fn find_pod<'a>(
    client: &Client,
    name: &'a str,
    global: &'a Global,
) -> anyhow::Result<(String, &'a str)> {
    let (kind, bare) = name.split_once('/').unwrap_or(("pod", name));
    let (bare, namespace) = split_namespace(bare, global);
    if let "pod" | "pods" | "po" = kind {
        return Ok((bare.to_owned(), namespace));
    }
    let selector = selector(client, namespace, kind, bare).await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pod = pods
        .list(&ListParams::default().labels_from(&selector))
        .await?
        .into_iter()
        .filter(is_running)
        .find_map(|pod| pod.metadata.name)
        .with_context(|| format!("{kind} {bare}.{namespace} has no running pod"))?;
    Ok((pod, namespace))
}

/// The two parts of `name[.namespace]`.
pub(crate) fn split_namespace<'a>(name: &'a str, global: &'a Global) -> (&'a str, &'a str) {
    // A pod's name may have dots itself.
    name.rsplit_once('.').unwrap_or((name, &global.namespace))
}

/// What the pods of a workload or a Service are told by.
async fn selector(
    client: &Client,
    namespace: &str,
    kind: &str,
    name: &str,
) -> anyhow::Result<Selector> {
    let known = WORKLOADS.iter().find(|(names, ..)| names.contains(&kind));
    let Some((_, group, kind)) = known else {
        let kinds: Vec<_> = WORKLOADS.iter().map(|(names, ..)| names[0]).collect();
        bail!(
            "{kind}/{name} is not supported: name a pod, or KIND/NAME of {}",
            kinds.join(", ")
        );
    };
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let object = api
        .get(name)
        .await
        .with_context(|| format!("cannot read {kind} {name}.{namespace}"))?;
    let selector = &object.data["spec"]["selector"];
    if selector.is_null() {
        bail!("{kind} {name}.{namespace} selects no pods: name one of them");
    }
    // A Service has the labels alone.
    let selector = match *kind {
        "Service" => serde_json::json!({ "matchLabels": selector }),
        _ => selector.clone(),
    };
    let selector: LabelSelector = serde_json::from_value(selector)
        .with_context(|| format!("the selector of {kind} {name}.{namespace}"))?;
    Selector::try_from(selector)
        .with_context(|| format!("the selector of {kind} {name}.{namespace}"))
}

/// Kinds that have pods, by the names that users give them; group and kind.
const WORKLOADS: [(&[&str], &str, &str); 6] = [
    (
        &["deploy", "deployment", "deployments", "deployments.apps"],
        "apps",
        "Deployment",
    ),
    (
        &["sts", "statefulset", "statefulsets"],
        "apps",
        "StatefulSet",
    ),
    (&["ds", "daemonset", "daemonsets"], "apps", "DaemonSet"),
    (&["rs", "replicaset", "replicasets"], "apps", "ReplicaSet"),
    (&["job", "jobs"], "batch", "Job"),
    (&["svc", "service", "services"], "", "Service"),
];

/// A pod that is on its way out may be gone before it answers.
pub(crate) fn is_running(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
    phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
}
