//! `install-cni`: keeps the plugin on a node for as long as it runs.

use std::{
    ffi::OsString,
    net::Ipv6Addr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use axum::{Router, http::StatusCode, routing::get};
use clap::{ArgAction, Parser};
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::{Api, Client};
use lateen_telemetry::{
    Scope,
    metrics::{Counter, Family, Gauge, Registry},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::MissedTickBehavior,
};
use tracing::{error, info, warn};

use super::{kubeconfig::Access, node::Node, repair};

/// The DaemonSet that this is a pod of.
const DAEMON: &str = "istio-cni-node";
/// How often what is on the node is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long the API server is asked at the end, of the few seconds that there are.
const LAST_WORD: Duration = Duration::from_secs(2);

const SCOPES: &[Scope] = &[Scope {
    name: "default",
    about: "everything",
    targets: &[],
}];

/// Keep the plugin that captures traffic on this node.
#[derive(Debug, Parser)]
#[command(name = "install-cni", disable_version_flag = true)]
struct Options {
    /// The node
    #[arg(long, env = "KUBERNETES_NODE_NAME")]
    node_name: String,
    /// The namespace of this pod, whose pods are left alone
    #[arg(long, env = "POD_NAMESPACE")]
    namespace: String,
    /// Folder of networks, as the container runtime sees it
    #[arg(long, env = "CNI_NET_DIR", default_value = "/etc/cni/net.d")]
    cni_net_dir: PathBuf,
    /// The same folder, as this container sees it
    #[arg(
        long,
        env = "MOUNTED_CNI_NET_DIR",
        default_value = "/host/etc/cni/net.d"
    )]
    mounted_cni_net_dir: PathBuf,
    /// Folder of plugins, as this container sees it
    #[arg(long, env = "MOUNTED_CNI_BIN_DIR", default_value = "/host/opt/cni/bin")]
    mounted_cni_bin_dir: PathBuf,
    /// File of the network; empty is the one that the container runtime takes
    #[arg(long, env = "CNI_CONF_NAME", default_value = "")]
    cni_conf_name: String,
    /// Whether the plugin comes behind those of the file, rather than being a network by itself
    #[arg(long, env = "CHAINED_CNI_PLUGIN", default_value_t = true, action = ArgAction::Set)]
    chained_cni_plugin: bool,
    /// Namespaces whose pods are left alone
    #[arg(
        long,
        env = "EXCLUDE_NAMESPACES",
        value_delimiter = ',',
        default_value = "kube-system"
    )]
    exclude_namespaces: Vec<String>,
    /// Whether capture is set up in pods that were there before the plugin
    #[arg(long, env = "REPAIR_ENABLED", default_value_t = true, action = ArgAction::Set)]
    repair_enabled: bool,
    /// Processes of the node, as this container sees them
    #[arg(long, env = "MOUNTED_PROC", default_value = "/proc")]
    mounted_proc: PathBuf,
    /// Where the token and the root of the API server are
    #[arg(long, default_value = "/var/run/secrets/kubernetes.io/serviceaccount")]
    account: PathBuf,
    /// What is logged
    #[arg(long, env = "LOG_LEVEL", default_value = "default:info")]
    log_level: String,
    /// Port of /healthz and /readyz
    #[arg(long, env = "HEALTH_PORT", default_value_t = 8000)]
    health_port: u16,
    /// Port of /metrics and /version
    #[arg(long, env = "MONITORING_PORT", default_value_t = 15014)]
    monitoring_port: u16,
}

impl Options {
    fn node(&self) -> Node {
        let mut excluded = self.exclude_namespaces.clone();
        // Where this runs, a pod must come up without it: after the node was started anew, say.
        excluded.push(self.namespace.clone());
        excluded.retain(|namespace| !namespace.is_empty());
        excluded.sort();
        excluded.dedup();
        let file = Some(self.cni_conf_name.clone()).filter(|name| !name.is_empty());
        Node {
            programs: self.mounted_cni_bin_dir.clone(),
            networks: self.mounted_cni_net_dir.clone(),
            networks_of_node: self.cni_net_dir.clone(),
            file,
            is_chained: self.chained_cni_plugin,
            excluded,
        }
    }
}

/// Runs it until it is told to stop.
pub(crate) fn main(args: &[OsString]) -> ExitCode {
    let options = Options::parse_from(args);
    let log = lateen_telemetry::directives(&options.log_level, SCOPES)
        .and_then(|levels| lateen_telemetry::init(&levels, false));
    if let Err(error) = log {
        eprintln!("install-cni: LOG_LEVEL: {error}");
        return ExitCode::FAILURE;
    }
    lateen_tls::install_provider();
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads");
    match runtime.and_then(|runtime| runtime.block_on(run(options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> anyhow::Result<()> {
    // Before anything is on the node that has to be taken away again.
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let client = Client::try_default().await;
    let client = client.context("cannot find the API server")?;
    let state = State::new();
    serve(options.health_port, health(&state)).await?;
    serve(options.monitoring_port, monitoring(&state)).await?;
    if options.repair_enabled {
        let (node, processes) = (options.node_name.clone(), options.mounted_proc.clone());
        let repaired = state.repaired.clone();
        tokio::spawn(repair::keep(client.clone(), node, processes, repaired));
    }
    let node = Arc::new(options.node());
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Until it is there, what is there may be of another version.
    let mut first = true;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = looks.tick() => {
                let (node, account) = (node.clone(), options.account.clone());
                let done = tokio::task::spawn_blocking(move || look(&node, &account, first)).await;
                let done = done.unwrap_or_else(|panic| Err(anyhow::Error::new(panic)));
                first &= done.is_err();
                state.note(done);
            }
        }
    }
    state.is_ready.store(false, Ordering::Relaxed);
    if has_successor(&client, &options.namespace).await {
        info!("the plugin stays on the node for the one that comes after this");
        return Ok(());
    }
    node.remove()
        .context("the plugin is not gone from the node")?;
    info!("the plugin is gone from the node");
    Ok(())
}

fn look(node: &Node, account: &Path, first: bool) -> anyhow::Result<bool> {
    let program = std::env::current_exe().context("cannot find this program")?;
    node.install(&program, &access(account)?, first)
}

/// As a pod is told it. The token is renewed now and then.
fn access(account: &Path) -> anyhow::Result<Access> {
    let variable = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
    let file = |name: &str| {
        let path = account.join(name);
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let token = String::from_utf8(file("token")?).context("the token is no text")?;
    Ok(Access {
        host: variable("KUBERNETES_SERVICE_HOST")?,
        port: variable("KUBERNETES_SERVICE_PORT")?,
        root: file("ca.crt")?,
        token: token.trim().to_owned(),
    })
}

/// Whether this pod is being replaced, and not the last one of its kind: then pods that are made in
/// between must not come without capture. Where nobody says so, the node is left as it was.
async fn has_successor(client: &Client, namespace: &str) -> bool {
    let daemons: Api<DaemonSet> = Api::namespaced(client.clone(), namespace);
    match tokio::time::timeout(LAST_WORD, daemons.get_opt(DAEMON)).await {
        Ok(Ok(daemon)) => daemon.is_some_and(|it| it.metadata.deletion_timestamp.is_none()),
        Ok(Err(error)) => {
            warn!(%error, "cannot ask whether another one comes after this");
            false
        }
        Err(_) => {
            warn!("the API server does not say whether another one comes after this");
            false
        }
    }
}

/// What others are told.
#[derive(Clone)]
struct State {
    is_ready: Arc<AtomicBool>,
    metrics: Arc<Registry>,
    ready: Arc<Gauge>,
    installs: Arc<Family<Counter>>,
    repaired: Arc<Family<Counter>>,
    /// What was wrong the last time, which is told once.
    fault: Arc<std::sync::Mutex<Option<String>>>,
}

impl State {
    fn new() -> Self {
        let metrics = Arc::new(Registry::new());
        Self {
            is_ready: Arc::default(),
            ready: metrics.single("istio_cni_install_ready"),
            installs: metrics.family("istio_cni_installs_total", &["result"]),
            repaired: metrics.family("istio_cni_repair_pods_repaired_total", &["type", "result"]),
            metrics,
            fault: Arc::default(),
        }
    }

    /// Notes what came of a look at the node.
    fn note(&self, outcome: anyhow::Result<bool>) {
        let is_ready = outcome.is_ok();
        self.is_ready.store(is_ready, Ordering::Relaxed);
        self.ready.set(i64::from(is_ready));
        let fault = outcome.as_ref().err().map(|error| format!("{error:#}"));
        if let Ok(true) = outcome {
            info!("the plugin is on the node");
            self.installs.with(&["SUCCESS".into()]).inc();
        }
        let mut last = self
            .fault
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(fault) = fault.as_ref().filter(|fault| last.as_ref() != Some(fault)) {
            error!("the plugin is not on the node: {fault}");
            self.installs.with(&["FAILURE".into()]).inc();
        }
        *last = fault;
    }
}

fn health(state: &State) -> Router {
    let is_ready = state.is_ready.clone();
    let ready = move || async move {
        match is_ready.load(Ordering::Relaxed) {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        }
    };
    Router::new()
        .route("/healthz", get(|| async { StatusCode::OK }))
        .route("/readyz", get(ready))
}

fn monitoring(state: &State) -> Router {
    let metrics = state.metrics.clone();
    Router::new()
        .route("/metrics", get(move || async move { metrics.expose() }))
        .route("/version", get(|| async { env!("CARGO_PKG_VERSION") }))
}

async fn serve(port: u16, pages: Router) -> anyhow::Result<()> {
    // For IPv4 too, and for nothing else where the node has no IPv6.
    let listener = lateen_xds::server::listen((Ipv6Addr::UNSPECIFIED, port).into());
    let listener = listener.with_context(|| format!("cannot listen on port {port}"))?;
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, pages).await {
            error!(port, %error, "a server ended");
        }
    });
    Ok(())
}
