//! Finding the cluster that a command means, and reaching a pod's ports through its API server.

use std::path::PathBuf;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, Client, Config,
    api::{ApiResource, DynamicObject, ListParams, TypeMeta},
    config::{KubeConfigOptions, Kubeconfig},
    core::Selector,
};

use lateen_local::state::{self, DEFAULT_NAME, StateDir};

use crate::cli::Global;

/// A client for the cluster that the flags, the environment or the local mesh name.
pub(crate) async fn connect(global: &Global) -> anyhow::Result<Client> {
    let options = KubeConfigOptions {
        context: global.context.clone(),
        ..KubeConfigOptions::default()
    };
    let config = match kubeconfig(global) {
        Some(path) => {
            let file = Kubeconfig::read_from(&path)
                .with_context(|| format!("cannot read kubeconfig {}", path.display()))?;
            Config::from_custom_kubeconfig(file, &options).await?
        }
        None => Config::from_kubeconfig(&options).await.context(
            "no cluster to talk to: start one with `lateen up`, or name one with --kubeconfig",
        )?,
    };
    Ok(Client::try_from(config)?)
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
    let all: Vec<StateDir> = state::names()
        .iter()
        .filter_map(|name| running(name))
        .collect();
    match &all[..] {
        [only] => Some(only.kubeconfig()),
        _ => None,
    }
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

/// A client from a kubeconfig file alone.
pub(crate) async fn from_file(path: &std::path::Path) -> anyhow::Result<Client> {
    let file = Kubeconfig::read_from(path)
        .with_context(|| format!("cannot read kubeconfig {}", path.display()))?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
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
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut forward = pods
        .portforward(pod, &[port])
        .await
        .with_context(|| format!("cannot reach port {port} of pod {pod}.{namespace}"))?;
    let stream = forward
        .take_stream(port)
        .context("the API server forwarded no port")?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = hyper::Request::get(path)
        .header("host", "localhost")
        .body(Empty::<Bytes>::new())?;
    let response = sender
        .send_request(request)
        .await
        .with_context(|| format!("no answer from port {port} of pod {pod}.{namespace}"))?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    connection.abort();
    let text = String::from_utf8_lossy(&body).into_owned();
    if !status.is_success() {
        bail!("{path} on pod {pod}.{namespace} answered {status}: {text}");
    }
    Ok(text)
}

/// The running pods of the control plane.
pub(crate) async fn control_plane_pods(
    client: &Client,
    global: &Global,
) -> anyhow::Result<Vec<String>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &global.istio_namespace);
    let list = pods
        .list(&ListParams::default().labels("app=istiod"))
        .await?;
    let running = list
        .into_iter()
        .filter(is_running)
        .filter_map(|pod| pod.metadata.name)
        .collect::<Vec<_>>();
    if running.is_empty() {
        bail!(
            "no control plane runs in namespace {}",
            global.istio_namespace
        );
    }
    Ok(running)
}

/// The pod that a user names, with its namespace: `name[.namespace]`, or `deploy/name[.namespace]`
/// for a running pod of a Deployment, as `istioctl` takes them.
pub(crate) async fn find_pod<'a>(
    client: &Client,
    name: &'a str,
    global: &'a Global,
) -> anyhow::Result<(String, &'a str)> {
    let (kind, bare) = name.split_once('/').unwrap_or(("pod", name));
    let (bare, namespace) = split_namespace(bare, global);
    let pod = match kind {
        "pod" | "pods" | "po" => bare.to_owned(),
        "deploy" | "deployment" | "deployments" | "deployments.apps" => {
            pod_of_deployment(client, namespace, bare).await?
        }
        _ => bail!("{kind}/{bare} is not supported: name a pod, or deploy/NAME"),
    };
    Ok((pod, namespace))
}

fn split_namespace<'a>(name: &'a str, global: &'a Global) -> (&'a str, &'a str) {
    name.split_once('.').unwrap_or((name, &global.namespace))
}

async fn pod_of_deployment(
    client: &Client,
    namespace: &str,
    deployment: &str,
) -> anyhow::Result<String> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let selector = deployments
        .get(deployment)
        .await
        .with_context(|| format!("cannot read deployment {deployment}.{namespace}"))?
        .spec
        .selector;
    let selector = Selector::try_from(selector).context("the deployment's selector")?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    pods.list(&ListParams::default().labels_from(&selector))
        .await?
        .into_iter()
        .filter(is_running)
        .find_map(|pod| pod.metadata.name)
        .with_context(|| format!("deployment {deployment}.{namespace} has no running pod"))
}

/// A pod that is on its way out may be gone before it answers.
fn is_running(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
    phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
}
