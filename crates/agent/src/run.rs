//! `pilot-agent proxy`: starts the parts, watches over them, and ends in good order.
//!
//! On SIGTERM readiness fails first, the proxy then drains for `terminationDrainDuration`, and only
//! then it ends. A proxy that ends by itself ends the agent, which the platform restarts.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use lateen_tls::IdentityStore;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::certificates::Certificates;
use crate::config::AgentConfig;
use crate::dns::{Dns, Place, Resolv, Table};
use crate::envoy::Envoy;
use crate::inprocess::InProcess;
use crate::relay::{self, Relay};
use crate::status::{self, Status};
use crate::{Error, bootstrap, grpc, health, http, names, sds};

const ADMIN_LIMIT: Duration = Duration::from_secs(2);
const RESOLV_CONF: &str = "/etc/resolv.conf";

pub(crate) async fn run(config: AgentConfig) -> Result<(), Error> {
    // A signal counts from the first moment on: as the first process of its container the agent would
    // never hear of one that came before.
    let mut signals = Signals::listen()?;
    let config = Arc::new(config);
    let identity = Arc::new(IdentityStore::empty());
    // Dropped, and with it every part aborted, when this function returns.
    let mut parts = JoinSet::new();
    // Captured queries come from now on, ours among them where our user is not known to capture.
    let tables = answer_names(&config, &mut parts).await?;
    let status = Arc::new(Status::new(config.clone(), identity.clone(), tables));
    let listener = status::bind(config.ports.status).await?;
    parts.spawn(status::serve(listener, status.clone()));
    let xds = relay::bind(&config.paths.xds_socket)?;
    parts.spawn(Arc::new(Relay::new(config.clone())).serve(xds));
    if config.envoy.is_some() {
        // Our own proxy is handed its certificate in this process.
        let secrets = relay::bind(&config.paths.sds_socket)?;
        parts.spawn(sds::serve(secrets, identity.clone()));
    }
    if let Some(readiness) = config.readiness.clone() {
        parts.spawn(health::keep(config.clone(), readiness, status.clone()));
    }
    parts.spawn(Certificates::new(config.clone()).keep(identity.clone()));
    grpc::write_bootstrap(&config)?;
    if let Some(folder) = config.grpc.certificates.clone() {
        parts.spawn(grpc::keep_certificates(folder, identity.clone()));
    }
    // The control plane may be waited for.
    let bootstrap = tokio::select! {
        written = bootstrap::write(&config) => written?,
        reason = asked_to_end(&config, &status, &mut signals) => {
            tracing::info!(reason, "asked to end before the proxy was started");
            return Ok(());
        }
    };
    let mut proxy = Proxy::start(&config, &bootstrap, &identity)?;
    tracing::info!(node = config.node_id(), "agent started");
    let reason = tokio::select! {
        error = proxy.ended() => return Err(error),
        reason = asked_to_end(&config, &status, &mut signals) => reason,
    };
    tracing::info!(reason, drain = ?config.termination_drain, "draining");
    status.drain();
    drain_listeners(&config).await;
    tokio::select! {
        error = proxy.ended() => return Err(error),
        () = tokio::time::sleep(config.termination_drain) => {}
    }
    proxy.stop().await;
    Ok(())
}

/// Starts to answer names, where that is asked for, and returns what is known of them.
async fn answer_names(
    config: &Arc<AgentConfig>,
    parts: &mut JoinSet<()>,
) -> Result<Option<watch::Receiver<Arc<Table>>>, Error> {
    let Some(dns) = &config.dns else {
        return Ok(None);
    };
    let resolv = Resolv::read(Path::new(RESOLV_CONF));
    let (tables_tx, tables) = watch::channel(Arc::default());
    let server = Dns::bind(dns, &resolv, tables.clone()).await?;
    parts.spawn(server.serve());
    let place = Place::new(&config.namespace, &config.domain, resolv.search);
    parts.spawn(names::follow(config.clone(), place, tables_tx));
    Ok(Some(tables))
}

/// What the platform tells the agent.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Error> {
        let listen = |kind| signal(kind).map_err(|e| Error::Proxy(format!("no signals: {e}")));
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// The name of the next one.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Resolves when the pod is to end. A drain alone is carried out on the way.
async fn asked_to_end(
    config: &AgentConfig,
    status: &Status,
    signals: &mut Signals,
) -> &'static str {
    loop {
        tokio::select! {
            name = signals.next() => return name,
            () = status.quit_asked() => return "/quitquitquit",
            () = status.drain_asked() => {
                tracing::info!("drain asked for");
                drain_listeners(config).await;
            }
        }
    }
}

/// Tells the proxy to close idle inbound connections and to say goodbye on the others.
async fn drain_listeners(config: &AgentConfig) {
    if config.proxyless {
        return;
    }
    let port = config.ports.admin;
    let url = format!("http://127.0.0.1:{port}/drain_listeners?inboundonly&graceful&skip_exit");
    let request = Request::post(url)
        .header("content-length", "0")
        .body(Default::default());
    let request = request.expect("a well-formed request");
    match http::send(request, ADMIN_LIMIT).await {
        Ok(answer) if answer.status.is_success() => {}
        Ok(answer) => tracing::warn!(status = %answer.status, "the proxy does not drain"),
        Err(error) => tracing::warn!(error, "the proxy does not drain"),
    }
}

/// The proxy, in whichever form.
enum Proxy {
    InProcess(InProcess),
    Envoy(Envoy),
    /// None: the application does it itself.
    Proxyless,
}

impl Proxy {
    fn start(
        config: &AgentConfig,
        bootstrap: &Path,
        identity: &Arc<IdentityStore>,
    ) -> Result<Self, Error> {
        if config.proxyless {
            return Ok(Proxy::Proxyless);
        }
        Ok(match &config.envoy {
            Some(binary) => Proxy::Envoy(Envoy::start(config, binary, bootstrap)?),
            None => Proxy::InProcess(InProcess::start(config, bootstrap, identity)),
        })
    }

    async fn ended(&mut self) -> Error {
        match self {
            Proxy::InProcess(proxy) => proxy.ended().await,
            Proxy::Envoy(envoy) => envoy.ended().await,
            Proxy::Proxyless => std::future::pending().await,
        }
    }

    async fn stop(self) {
        match self {
            Proxy::InProcess(proxy) => proxy.stop().await,
            Proxy::Envoy(envoy) => envoy.stop().await,
            Proxy::Proxyless => {}
        }
    }
}
