//! `lateen up`: a mesh with Bookinfo on this machine.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::Child,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::Args;
use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration, apps::v1::Deployment,
};
use kube::{Api, Client, api::ListParams};
use lateen_install::Layers;
use lateen_local::{
    launch::Launch,
    state::{DEFAULT_NAME, StateDir},
};
use serde_json::json;

use super::install::is_ready;
use crate::{
    apply::{self, Applier},
    client, output,
    progress::Progress,
};

/// How long a step may take before `up` gives up and says what it waited for.
/// Generous, because a loaded machine is no error.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What is deployed of the sample: the services, and their way in.
const BOOKINFO: [&str; 2] = ["bookinfo.yaml", "bookinfo-gateway.yaml"];

/// What the mesh of a tenants' cluster has besides the default profile: an egress gateway, and TCP at 31400.
const CLUSTER: &str = "
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
spec:
  components:
    egressGateways:
    - {name: istio-egressgateway, enabled: true}
    ingressGateways:
    - name: istio-ingressgateway
      enabled: true
      k8s:
        service:
          ports:
          - {name: status-port, port: 15021, targetPort: 15021}
          - {name: http2, port: 80, targetPort: 8080}
          - {name: https, port: 443, targetPort: 8443}
          - {name: tcp, port: 31400, targetPort: 31400}
";

/// Start a mesh with Bookinfo on this machine.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen up\n  lateen up --detach\n  lateen up --name other --http-port 9080"
)]
pub(crate) struct Up {
    /// The mesh's name; several run side by side under different names.
    #[arg(long, default_value = DEFAULT_NAME)]
    name: String,
    /// The port on 127.0.0.1 that leads to the ingress gateway.
    #[arg(long, default_value_t = 8080)]
    http_port: u16,
    /// The port on 127.0.0.1 of the API server; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    api_port: u16,
    /// Return once the mesh is ready instead of running until Ctrl-C.
    #[arg(short, long)]
    detach: bool,
    /// Addresses for services of type LoadBalancer: `first-last`.
    #[arg(
        long,
        default_value = "10.10.99.148-10.10.99.155",
        value_name = "RANGE"
    )]
    vip_pool: String,
    /// Start the mesh without Bookinfo.
    #[arg(long)]
    no_bookinfo: bool,
    /// Start the platform alone, for `lateen install`.
    #[arg(long)]
    no_mesh: bool,
    /// Whether this is `lateen cluster create`.
    #[arg(skip)]
    is_cluster: bool,
}

impl Up {
    /// A cluster without a mesh, which goes on by itself.
    pub(crate) fn cluster(name: &str, http_port: u16, api_port: u16, vip_pool: &str) -> Self {
        Up {
            name: name.to_owned(),
            http_port,
            api_port,
            detach: true,
            vip_pool: vip_pool.to_owned(),
            no_bookinfo: true,
            no_mesh: true,
            is_cluster: true,
        }
    }

    /// The same with a mesh.
    pub(crate) fn with_mesh(self) -> Self {
        Up {
            no_mesh: false,
            ..self
        }
    }

    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        let state = StateDir::of(&self.name)?;
        self.check_is_not_running(&state)?;
        let api = bind(self.api_port, "--api-port")?;
        let http = bind(self.http_port, "--http-port")?;
        let http_address = http.local_addr()?;
        // What a mesh that was killed left is its state, which a failed start must not cost.
        let resumed = state.path().exists();
        let _claim = match state.claim() {
            Err(lateen_local::Error::Taken) => {
                bail!("{} is being started by another command", self.noun())
            }
            claim => claim?,
        };
        // Another command may just have been done.
        self.check_is_not_running(&state)?;
        forget_status(&state)?;
        let mut progress = Progress::new();
        progress.step("Start the platform");
        let mut platform = self.launch(&state, api, http)?;
        let started = tokio::select! {
            started = self.start(&state, &mut platform, http_address, &mut progress) => started,
            () = interrupted() => Err(anyhow::anyhow!("interrupted")),
        };
        if let Err(error) = started {
            if resumed {
                state.stop()?;
            } else {
                lateen_local::state::stop_and_clean(&self.name)?;
            }
            return Err(error);
        }
        progress.finish();
        self.say_where(&state, http_address);
        if self.detach {
            return Ok(());
        }
        self.stay(&state, platform).await
    }

    /// What the user calls it.
    fn noun(&self) -> String {
        match self.is_cluster {
            true => format!("cluster {}", self.name),
            false => format!("mesh {}", self.name),
        }
    }

    fn check_is_not_running(&self, state: &StateDir) -> anyhow::Result<()> {
        if state.running().is_none() {
            return Ok(());
        }
        let name = &self.name;
        if self.is_cluster {
            bail!(
                "there is a cluster {name} already, see `lateen cluster list`; choose another name, or remove it with `lateen cluster delete {name}`"
            );
        }
        bail!(
            "a mesh named {name} runs already: stop it with `lateen down --name {name}`, or start another with --name"
        );
    }

    fn launch(
        &self,
        state: &StateDir,
        api: TcpListener,
        http: TcpListener,
    ) -> anyhow::Result<Child> {
        let launch = Launch {
            name: self.name.clone(),
            state: state.clone(),
            api,
            http,
            vip_pool: self.vip_pool.clone(),
        };
        Ok(launch.spawn()?)
    }

    async fn start(
        &self,
        state: &StateDir,
        platform: &mut Child,
        http: SocketAddr,
        progress: &mut Progress,
    ) -> anyhow::Result<()> {
        platform_runs(state, platform).await?;
        let client = client::from_file(&state.kubeconfig()).await?;
        let mut applier = Applier::new(client.clone());
        if self.no_mesh {
            return Ok(());
        }
        progress.step("Install the control plane");
        let mut layers = Layers::default();
        if self.is_cluster {
            let file = ("the cluster's own".to_owned(), CLUSTER.to_owned());
            layers.files.push(file);
        }
        let installation = lateen_install::Installation::of(&layers)?;
        applier
            .apply_missing(&lateen_install::gateway_api_definitions())
            .await?;
        for part in lateen_install::recorded_parts(&installation)? {
            applier.apply_all(&part.objects).await?;
        }
        control_plane_is_ready(&client, progress).await?;
        if !self.no_bookinfo {
            progress.step("Deploy Bookinfo");
            applier.apply_all(&[inject_default()]).await?;
            for name in BOOKINFO {
                let yaml = lateen_bookinfo::manifest(name)
                    .context("the sample is part of this program")?;
                applier.apply_all(&apply::documents(yaml)?).await?;
            }
            deployments_are_ready(&client, "default", progress).await?;
        }
        deployments_are_ready(&client, "istio-system", progress).await?;
        if !self.no_bookinfo {
            progress.step("Wait for the productpage");
            productpage_answers(http, progress).await?;
        }
        Ok(())
    }

    fn say_where(&self, state: &StateDir, http: SocketAddr) {
        let down = match self.name == DEFAULT_NAME {
            _ if self.is_cluster => format!("lateen cluster delete {}", self.name),
            true => "lateen down".to_owned(),
            false => format!("lateen down --name {}", self.name),
        };
        let stop = if self.detach {
            down
        } else {
            format!("Ctrl-C, or: {down}")
        };
        output::line("");
        if !self.no_bookinfo && !self.no_mesh {
            output::line(format_args!("Bookinfo     http://{http}/productpage"));
        }
        output::line(format_args!(
            "kubectl      export KUBECONFIG={}",
            state.kubeconfig().display()
        ));
        output::line(format_args!("stop         {stop}"));
    }

    /// Runs until Ctrl-C or until the platform ends, then leaves nothing behind.
    async fn stay(&self, state: &StateDir, mut platform: Child) -> anyhow::Result<()> {
        let ended = tokio::task::spawn_blocking(move || platform.wait());
        tokio::select! {
            () = interrupted() => {
                eprintln!("Stopping");
                lateen_local::state::stop_and_clean(&self.name)?;
                Ok(())
            }
            status = ended => {
                let status = status??;
                // Somebody ran `lateen down`, which has removed the files, or the platform died.
                if !state.path().exists() || status.success() {
                    return Ok(());
                }
                bail!("the platform ended ({status}):\n{}", log_tail(&state.log_file()));
            }
        }
    }
}

/// Removes the last word of a platform that was killed, which would be taken for the new one's.
fn forget_status(state: &StateDir) -> anyhow::Result<()> {
    match std::fs::remove_file(state.status_file()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context("cannot remove the old status")
        }
        _ => Ok(()),
    }
}

/// A host port, or who to ask when it is taken.
fn bind(port: u16, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).with_context(|| {
        format!("cannot listen on 127.0.0.1:{port}: choose another port with {flag} (`ss -ltnp` shows who has it)")
    })
}

/// Ctrl-C, or a polite kill.
async fn interrupted() {
    let terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
    match terminate {
        Ok(mut terminate) => tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        },
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}

async fn platform_runs(state: &StateDir, platform: &mut Child) -> anyhow::Result<()> {
    wait("the platform to start", async || {
        if let Some(status) = platform.try_wait()? {
            return Ok(Err(Stop::Never(format!(
                "the platform ended at once ({status}):\n{}",
                log_tail(&state.log_file())
            ))));
        }
        let running = state
            .status()?
            .is_some_and(|status| status.state == "running");
        Ok(if running {
            Ok(())
        } else {
            Err(Stop::Wait("starting".to_owned()))
        })
    })
    .await
}

async fn control_plane_is_ready(client: &Client, progress: &Progress) -> anyhow::Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "istio-system");
    let webhooks: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    wait("the control plane", async || {
        let deployment = deployments.get("istiod").await?;
        if !is_ready(&deployment) {
            progress.detail("istiod is not ready");
            return Ok(Err(Stop::Wait("deployment istiod is not ready".to_owned())));
        }
        let list = webhooks.list(&ListParams::default()).await?;
        let hooks: Vec<_> = list
            .iter()
            .flat_map(|config| config.webhooks.iter().flatten())
            .collect();
        let trusted = hooks
            .iter()
            .all(|hook| hook.client_config.ca_bundle.is_some());
        let why = || Stop::Wait("the injector's webhook has no certificate yet".to_owned());
        Ok(if trusted && !hooks.is_empty() {
            Ok(())
        } else {
            Err(why())
        })
    })
    .await
}

async fn deployments_are_ready(
    client: &Client,
    namespace: &str,
    progress: &Progress,
) -> anyhow::Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    wait(&format!("deployments in {namespace}"), async || {
        let list = deployments.list(&ListParams::default()).await?;
        let missing = list.iter().filter(|deployment| !is_ready(deployment));
        let names: Vec<_> = missing.filter_map(|d| d.metadata.name.as_deref()).collect();
        progress.detail(&names.join(", "));
        if names.is_empty() {
            return Ok(Ok(()));
        }
        Ok(Err(Stop::Wait(format!("not ready: {}", names.join(", ")))))
    })
    .await
}

async fn productpage_answers(http: SocketAddr, progress: &Progress) -> anyhow::Result<()> {
    use hyper_util::{client::legacy::Client, rt::TokioExecutor};
    let client = Client::builder(TokioExecutor::new())
        .build_http::<http_body_util::Empty<hyper::body::Bytes>>();
    let uri: hyper::Uri = format!("http://{http}/productpage").parse()?;
    wait("the productpage", async || {
        let why = match client.get(uri.clone()).await {
            Ok(response) if response.status().is_success() => return Ok(Ok(())),
            Ok(response) => format!("{uri} answers {}", response.status()),
            Err(error) => format!("{uri}: {error}"),
        };
        progress.detail(&why);
        Ok(Err(Stop::Wait(why)))
    })
    .await
}

/// Why a condition does not hold.
enum Stop {
    /// It may soon.
    Wait(String),
    /// It will not.
    Never(String),
}

/// Looks again until the condition holds. An error of the API server counts as "not yet".
async fn wait(
    what: &str,
    mut look: impl AsyncFnMut() -> anyhow::Result<Result<(), Stop>>,
) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        let why = match look().await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(Stop::Never(why))) => bail!("{why}"),
            Ok(Err(Stop::Wait(why))) => why,
            Err(error) => format!("{error:#}"),
        };
        if start.elapsed() > PATIENCE {
            bail!("waited {} s for {what}: {why}", PATIENCE.as_secs());
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn inject_default() -> serde_json::Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "default", "labels": {"istio-injection": "enabled"}},
    })
}

/// The last lines of a log, for an error.
fn log_tail(path: &Path) -> String {
    const LINES: usize = 20;
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
