//! A mesh of the test's own, started and stopped by the real binary.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
    core::GroupVersionKind,
    discovery::{self, Scope},
};
use serde::Deserialize as _;
use serde_json::Value;

use crate::{Kubectl, eventually, http::Http};

/// A running mesh. `stop` ends it; dropping it does too, so that a failed test leaves nothing.
#[derive(Debug)]
pub struct Mesh {
    /// The name given to `--name`.
    pub name: String,
    /// Where Bookinfo answers.
    pub http: SocketAddr,
    binary: PathBuf,
    state: tempfile::TempDir,
    stopped: bool,
}

impl Mesh {
    /// `lateen up --detach` with a name, a state folder and a port of its own.
    pub fn start(prefix: &str) -> anyhow::Result<Mesh> {
        let mut mesh = Mesh::prepare(prefix)?;
        mesh.up()?;
        Ok(mesh)
    }

    /// Starts the mesh, for the first time or again.
    pub fn up(&mut self) -> anyhow::Result<()> {
        self.up_with(&[])
    }

    /// A platform of its own without a mesh, for those who install one.
    pub fn platform(prefix: &str) -> anyhow::Result<Mesh> {
        let mut mesh = Mesh::prepare(prefix)?;
        mesh.up_with(&["--no-mesh"])?;
        Ok(mesh)
    }

    /// Starts it with more flags.
    pub fn up_with(&mut self, more: &[&str]) -> anyhow::Result<()> {
        let port = self.http.port().to_string();
        self.stopped = false;
        let args = ["up", "--detach", "--name", &self.name, "--http-port", &port];
        let output = self.lateen(&[&args, more].concat())?;
        if !output.status.success() {
            self.stopped = true;
            bail!("lateen up failed:\n{}", text(&output));
        }
        Ok(())
    }

    /// The binary under test.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Where the mesh keeps its files.
    pub fn state_folder(&self) -> &Path {
        self.state.path()
    }

    /// Everything but the start.
    pub fn prepare(prefix: &str) -> anyhow::Result<Mesh> {
        Ok(Mesh {
            name: format!("{prefix}-{}", std::process::id()),
            http: SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?)),
            binary: binary()?,
            state: tempfile::Builder::new().prefix("lateen-e2e-").tempdir()?,
            stopped: true,
        })
    }

    /// Runs the binary against this mesh's state.
    pub fn lateen(&self, args: &[&str]) -> anyhow::Result<Output> {
        let mut command = Command::new(&self.binary);
        command
            .args(args)
            .env("XDG_STATE_HOME", self.state.path())
            .env_remove("KUBECONFIG");
        command
            .output()
            .with_context(|| format!("cannot run {}", self.binary.display()))
    }

    /// Runs the binary and takes its standard output; a failure carries what it said.
    pub fn lateen_ok(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = self.lateen(args)?;
        if !output.status.success() {
            bail!("lateen {} failed:\n{}", args.join(" "), text(&output));
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Every `kubectl` that there is.
    pub fn kubectls(&self) -> anyhow::Result<Vec<Kubectl>> {
        Kubectl::all(&self.kubeconfig()?)
    }

    /// The same, at least one.
    pub fn needed_kubectls(&self) -> anyhow::Result<Vec<Kubectl>> {
        Kubectl::needed(&self.kubeconfig()?)
    }

    /// `lateen status -o json`.
    pub fn status(&self) -> anyhow::Result<Value> {
        let json = self.lateen_ok(&["status", "--name", &self.name, "-o", "json"])?;
        Ok(serde_json::from_str(&json)?)
    }

    /// The kubeconfig that `status` names.
    pub fn kubeconfig(&self) -> anyhow::Result<PathBuf> {
        let status = self.status()?;
        status["kubeconfig"]
            .as_str()
            .map(PathBuf::from)
            .context("status names no kubeconfig")
    }

    /// The process of a component whose name starts so, as the host numbers it.
    pub fn pid(&self, component: &str) -> anyhow::Result<i32> {
        let status = self.status()?;
        let components = status["components"].as_array().cloned().unwrap_or_default();
        let found = components.iter().find(|c| {
            c["name"]
                .as_str()
                .is_some_and(|name| name.starts_with(component))
                && c["pid"].as_i64() > Some(0)
        });
        let pid = found.and_then(|component| component["pid"].as_i64());
        let pid = pid.with_context(|| format!("no component {component} in {status:#}"))?;
        Ok(i32::try_from(pid)?)
    }

    /// A client of the mesh's API server.
    pub async fn client(&self) -> anyhow::Result<Client> {
        client(&self.kubeconfig()?).await
    }

    /// Requests through the ingress gateway.
    pub fn gateway(&self) -> Http {
        Http::new(self.http)
    }

    /// Applies every document of a YAML text.
    pub async fn apply(&self, yaml: &str) -> anyhow::Result<()> {
        let client = self.client().await?;
        for document in documents(yaml)? {
            let (api, name) = api_for(&client, &document).await?;
            let params = PatchParams::apply("e2e").force();
            api.patch(&name, &params, &Patch::Apply(&document)).await?;
        }
        Ok(())
    }

    /// Deletes every document of a YAML text; what is not there already is fine.
    pub async fn delete(&self, yaml: &str) -> anyhow::Result<()> {
        let client = self.client().await?;
        for document in documents(yaml)? {
            let (api, name) = api_for(&client, &document).await?;
            match api.delete(&name, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Waits until as many pods with these labels are ready, and no other is there.
    pub async fn wait_ready(
        &self,
        namespace: &str,
        labels: &str,
        n_pods: usize,
    ) -> anyhow::Result<Vec<Pod>> {
        let client = self.client().await?;
        let pods: Api<Pod> = Api::namespaced(client, namespace);
        eventually(
            &format!("{n_pods} ready pods {labels} in {namespace}"),
            async || {
                let list = pods
                    .list(&ListParams::default().labels(labels))
                    .await?
                    .items;
                let n_ready = list.iter().filter(|pod| ready(pod)).count();
                if n_ready != n_pods || list.len() != n_pods {
                    bail!("{n_ready} of {} pods are ready", list.len());
                }
                Ok(list)
            },
        )
        .await
    }

    /// GET from a port inside a pod, through the API server.
    pub async fn pod_get(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
        path: &str,
    ) -> anyhow::Result<String> {
        get(
            &Api::namespaced(self.client().await?, namespace),
            pod,
            port,
            path,
        )
        .await
    }

    /// What the control plane has counted.
    pub async fn control_plane_metrics(&self) -> anyhow::Result<String> {
        let pods = self.wait_ready("istio-system", "app=istiod", 1).await?;
        let istiod = pods[0].metadata.name.clone().context("a pod has a name")?;
        self.pod_get("istio-system", &istiod, 15014, "/metrics")
            .await
    }

    /// `lateen down`, which must succeed.
    pub fn stop(mut self) -> anyhow::Result<PathBuf> {
        self.stopped = true;
        self.lateen_ok(&["down", "--name", &self.name])?;
        Ok(self.state.path().to_owned())
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if !self.stopped
            && let Err(error) = self.lateen_ok(&["down", "--name", &self.name])
        {
            eprintln!("{error:#}");
        }
    }
}

/// GET from a port inside one of these pods, through the API server.
pub async fn get(pods: &Api<Pod>, pod: &str, port: u16, path: &str) -> anyhow::Result<String> {
    use http_body_util::{BodyExt, Empty};
    use hyper::body::Bytes;
    let mut forward = pods.portforward(pod, &[port]).await?;
    let stream = forward
        .take_stream(port)
        .context("the API server forwarded no port")?;
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    let connection = tokio::spawn(connection);
    let request = hyper::Request::get(path).header("host", "localhost");
    let answer = sender
        .send_request(request.body(Empty::<Bytes>::new())?)
        .await?;
    let body = answer.into_body().collect().await?.to_bytes();
    connection.abort();
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// Whether a pod's condition `Ready` is true and it is not on its way out.
pub fn ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions
            .is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

/// What a command said.
pub fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A client from a kubeconfig file.
pub async fn client(kubeconfig: &Path) -> anyhow::Result<Client> {
    lateen_tls::install_provider();
    let file = kube::config::Kubeconfig::read_from(kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(file, &Default::default()).await?;
    Ok(Client::try_from(config)?)
}

/// The documents of a YAML text, as JSON.
pub fn documents(yaml: &str) -> anyhow::Result<Vec<Value>> {
    serde_yaml_ng::Deserializer::from_str(yaml)
        .map(|document| Ok(Value::deserialize(document)?))
        .filter(|value| !matches!(value, Ok(Value::Null)))
        .collect()
}

async fn api_for(
    client: &Client,
    document: &Value,
) -> anyhow::Result<(Api<DynamicObject>, String)> {
    let object: DynamicObject = serde_json::from_value(document.clone())?;
    let kind = object.types.as_ref().context("a document has no kind")?;
    let name = object
        .metadata
        .name
        .clone()
        .context("a document has no name")?;
    let (resource, capabilities) =
        discovery::pinned_kind(client, &GroupVersionKind::try_from(kind)?).await?;
    let namespace = object.metadata.namespace.as_deref().unwrap_or("default");
    let api = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => Api::namespaced_with(client.clone(), namespace, &resource),
    };
    Ok((api, name))
}

/// The binary under test: `LATEEN_BIN`, or the one that cargo built beside the tests.
pub fn binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("LATEEN_BIN") {
        return Ok(path.into());
    }
    let exe = std::env::current_exe()?;
    let target = exe
        .parent()
        .and_then(Path::parent)
        .context("tests run in a target folder")?;
    let path = target.join("lateen");
    if !path.exists() {
        bail!(
            "{} is missing: run `cargo test --workspace`, or `cargo build` first",
            path.display()
        );
    }
    Ok(path)
}

/// A port that nothing listens on now.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}
