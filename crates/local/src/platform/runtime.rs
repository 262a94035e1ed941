//! The platform proper, once it is alone in its namespaces: starts its parts, and stops them in order.

use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use nix::mount::{MsFlags, mount};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::{HostResources, Options, forward, status};
use crate::Error;
use crate::apiserver::pki::Pki;
use crate::apiserver::{ApiServer, Config};
use crate::controllers;
use crate::dns::{self, Upstream};
use crate::events::Recorder;
use crate::kubelet::{self, ContainerLogs, Dialer, Executor, Kubelet};
use crate::net::{DNS_IP, LocalRoutes, NODE_IP, NodeNet, Pool};
use crate::services;
use crate::state::StateDir;

/// Where the platform's own parts reach the API server.
const LOCAL_API: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 6443);
/// Longest wait for the parts at the end.
const STOP: Duration = Duration::from_secs(8);

/// Runs until SIGTERM.
pub(super) fn run(options: Options, host: HostResources) -> Result<ExitCode, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Error::io("start the runtime"))?;
    let state = StateDir::at(&options.state_dir);
    let result = runtime.block_on(serve(&options, host, &state));
    runtime.shutdown_timeout(Duration::from_secs(1));
    match result {
        Ok(()) => {
            status::write_stopped(&state, &options);
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            status::write_failed(&state, &options.name, &error);
            Err(error)
        }
    }
}

async fn serve(options: &Options, host: HostResources, state: &StateDir) -> Result<(), Error> {
    let mut term = signal(SignalKind::terminate()).map_err(Error::io("handle SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::io("handle SIGINT"))?;
    let shutdown = CancellationToken::new();
    let (api, http) = (inherit(options.api_fd)?, inherit(options.http_fd)?);
    private_tmpfs(state)?;
    let net = NodeNet::prepare().await?;
    let pool = Pool::parse(&options.vip_pool).ok_or_else(|| {
        Error::Option(format!(
            "address pool {:?} is not first-last",
            options.vip_pool
        ))
    })?;
    net.route_pool(&pool).await?;
    let api_stop = CancellationToken::new();
    let dialer = Dialer::default();
    let executor = Executor::default();
    let (client, api_server, api_ca) =
        start_api(state, api, (&dialer, &executor), &api_stop).await?;
    let events = Recorder::start(client.clone());
    kubelet::register_node(&client, &options.vip_pool).await?;
    start_network(&client, host, net.local_routes(), &shutdown);
    let context = controllers::Context {
        client: client.clone(),
        events: events.clone(),
        api_ca,
    };
    controllers::start(&context, pool, &shutdown);
    let kubelet = Arc::new(Kubelet::new(
        client.clone(),
        net,
        state.clone(),
        events.clone(),
        dialer,
        executor,
    ));
    let node = tokio::spawn(Arc::clone(&kubelet).run(shutdown.clone()));
    tokio::spawn(kubelet::renew_lease(client.clone(), shutdown.clone()));
    tokio::spawn(kubelet::schedule(client.clone(), events, shutdown.clone()));
    tokio::spawn(forward::serve(http, forward::ingress(client)));
    let reporter = tokio::spawn(status::keep(
        state.clone(),
        options.clone(),
        Arc::clone(&kubelet),
    ));
    info!(name = options.name, "the platform is up");
    tokio::select! {
        _ = term.recv() => info!("stopping"),
        _ = interrupt.recv() => info!("stopping"),
    }
    reporter.abort();
    status::write_stopping(state, options);
    shutdown.cancel();
    if tokio::time::timeout(STOP, node).await.is_err() {
        error!("the node did not stop in time");
    }
    api_stop.cancel();
    let _ = tokio::time::timeout(STOP, api_server).await;
    Ok(())
}

/// DNS and the services' addresses.
fn start_network(
    client: &kube::Client,
    host: HostResources,
    routes: LocalRoutes,
    shutdown: &CancellationToken,
) {
    let services = services::run(client.clone(), NODE_IP.into(), routes, shutdown.clone());
    tokio::spawn(services);
    let upstream = Upstream::new(host.dns, host.resolvers);
    let listen = vec![SocketAddr::from((DNS_IP, 53))];
    let dns = dns::run(client.clone(), listen, upstream, shutdown.clone());
    tokio::spawn(async move {
        if let Err(error) = dns.await {
            error!(%error, "the cluster's DNS does not run");
        }
    });
}

/// Volumes and container roots live on a tmpfs that only this mount namespace has.
fn private_tmpfs(state: &StateDir) -> Result<(), Error> {
    let run = state.run_dir();
    std::fs::create_dir_all(&run).map_err(Error::io("create the run directory"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), &run, Some("tmpfs"), flags, Some("mode=0755"))
        .map_err(Error::sys("mount a tmpfs"))
}

async fn start_api(
    state: &StateDir,
    host: tokio::net::TcpListener,
    (dialer, executor): (&Dialer, &Executor),
    stop: &CancellationToken,
) -> Result<(kube::Client, tokio::task::JoinHandle<()>, String), Error> {
    let host = host.into_std().map_err(Error::io("take the API socket"))?;
    let local = StdTcpListener::bind(LOCAL_API)
        .map_err(Error::io("listen for the platform's own parts"))?;
    let pods =
        StdTcpListener::bind((crate::net::API_IP, 443)).map_err(Error::io("listen for pods"))?;
    let pki = Pki::load_or_create(&state.api_dir().join("pki")).map_err(api_error)?;
    let address = host
        .local_addr()
        .map_err(Error::io("name the API socket"))?;
    let kubeconfig = pki
        .admin_kubeconfig("lateen", &format!("https://{address}"))
        .map_err(api_error)?;
    write_secret(&state.kubeconfig(), &kubeconfig)?;
    let own = pki
        .admin_kubeconfig("lateen", &format!("https://{LOCAL_API}"))
        .map_err(api_error)?;
    let root = pki.root_pem().to_owned();
    let config = Config {
        store: state.api_dir(),
        listeners: vec![host, local, pods],
        pki: Some(Arc::new(pki)),
        logs: Some(Arc::new(ContainerLogs::new(state.clone()))),
        dialer: Some(Arc::new(dialer.clone())),
        executor: Some(Arc::new(executor.clone())),
    };
    let server = ApiServer::new(config).await.map_err(api_error)?;
    let stop = stop.clone();
    let task = tokio::spawn(async move {
        if let Err(error) = server.serve(stop.cancelled_owned()).await {
            error!(%error, "the API server ended");
        }
    });
    lateen_tls::install_provider();
    let own = Kubeconfig::from_yaml(&own).map_err(api_error)?;
    let mut config = kube::Config::from_custom_kubeconfig(own, &KubeConfigOptions::default())
        .await
        .map_err(api_error)?;
    // Watches are quiet for long.
    config.read_timeout = None;
    Ok((kube::Client::try_from(config)?, task, root))
}

fn api_error(error: impl std::fmt::Display) -> Error {
    Error::Container(format!("API server: {error}"))
}

/// Writes a file that only its owner may read.
fn write_secret(path: &std::path::Path, text: &str) -> Result<(), Error> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options
        .open(path)
        .map_err(Error::io("write the kubeconfig"))?;
    file.write_all(text.as_bytes())
        .map_err(Error::io("write the kubeconfig"))
}

/// Takes over a listening socket of the launcher.
fn inherit(fd: RawFd) -> Result<tokio::net::TcpListener, Error> {
    let listener = StdTcpListener::from(owned(fd)?);
    listener
        .set_nonblocking(true)
        .map_err(Error::io("use an inherited socket"))?;
    tokio::net::TcpListener::from_std(listener).map_err(Error::io("use an inherited socket"))
}

#[allow(unsafe_code, reason = "a descriptor number is all that survives exec")]
fn owned(fd: RawFd) -> Result<OwnedFd, Error> {
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    if fd <= 2 {
        return Err(Error::Option(format!("{fd} is not an inherited socket")));
    }
    // SAFETY: the launcher passed this descriptor for this process alone, and it is taken once.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    fcntl(&owned, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
        .map_err(Error::sys("use an inherited socket"))?;
    Ok(owned)
}
