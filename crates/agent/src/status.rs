//! The agent's HTTP interface on 15020: readiness, the application's probes, merged metrics, drain.

mod health;
mod metrics;
pub(crate) mod probe;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use lateen_tls::IdentityStore;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

use crate::cli::Role;
use crate::config::AgentConfig;
use crate::dns::Table;
use crate::{Error, http};

/// How long the proxy may take to say whether it is ready; the kubelet's probe waits 3 s.
const READY_LIMIT: Duration = Duration::from_secs(2);
/// How long a hook of the application may take, which Kubernetes does not say: the kubelet hangs up when
/// the pod's grace is over. This is far longer.
const HOOK_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// What the status interface knows and tells.
pub(crate) struct Status {
    config: Arc<AgentConfig>,
    identity: Arc<IdentityStore>,
    /// The names of the mesh, where they are answered.
    names: Option<watch::Receiver<Arc<Table>>>,
    draining: AtomicBool,
    drain_asked: Notify,
    quit_asked: Notify,
}

impl Status {
    pub(crate) fn new(
        config: Arc<AgentConfig>,
        identity: Arc<IdentityStore>,
        names: Option<watch::Receiver<Arc<Table>>>,
    ) -> Self {
        Self {
            config,
            identity,
            names,
            draining: AtomicBool::new(false),
            drain_asked: Notify::new(),
            quit_asked: Notify::new(),
        }
    }

    /// From now on the pod is not ready, whatever the proxy says.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.drain_asked.notify_one();
    }

    /// Resolves when somebody asked for a drain.
    pub(crate) async fn drain_asked(&self) {
        self.drain_asked.notified().await;
    }

    /// Resolves when somebody posted `/quitquitquit`.
    pub(crate) async fn quit_asked(&self) {
        self.quit_asked.notified().await;
    }

    /// Whether traffic may be sent here; if not, why.
    pub(crate) async fn ready(&self) -> Result<(), String> {
        if self.draining.load(Ordering::Acquire) {
            return Err("draining".to_owned());
        }
        self.identity.current().map_err(|e| e.to_string())?;
        if self.config.proxyless {
            return Ok(());
        }
        if self.lacks_names() {
            return Err("names: the control plane has sent no table of them yet".to_owned());
        }
        let url = format!("http://127.0.0.1:{}/ready", self.config.ports.admin);
        match http::get(&url, READY_LIMIT).await {
            Ok(answer) if answer.status.is_success() => Ok(()),
            Ok(answer) => {
                let text = String::from_utf8_lossy(&answer.body);
                Err(format!("proxy: {} {}", answer.status, text.trim()))
            }
            Err(error) => Err(format!("proxy: {error}")),
        }
    }

    /// Whether an application's queries are still answered as if the mesh had no names.
    fn lacks_names(&self) -> bool {
        let beside_application = self.config.role == Role::Sidecar;
        let names = self.names.as_ref().filter(|_| beside_application);
        // Where nobody sends any, none are waited for.
        names.is_some_and(|names| matches!(names.has_changed(), Ok(false)))
    }
}

/// Listens on the status port of all addresses.
pub(crate) async fn bind(port: u16) -> Result<TcpListener, Error> {
    // One socket for both families where there is IPv6.
    let address = match TcpListener::bind((std::net::Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => return Ok(listener),
        Err(_) => SocketAddr::from(([0, 0, 0, 0], port)),
    };
    TcpListener::bind(address)
        .await
        .map_err(|source| Error::Listen {
            address: address.to_string(),
            source,
        })
}

/// Serves the interface; never returns unless accepting fails.
pub(crate) async fn serve(listener: TcpListener, status: Arc<Status>) {
    let service = router(status).into_make_service_with_connect_info::<SocketAddr>();
    if let Err(error) = axum::serve(listener, service).await {
        tracing::error!(%error, "the status interface ended");
    }
}

fn router(status: Arc<Status>) -> Router {
    Router::new()
        .route("/healthz/ready", get(ready))
        .route("/app-health/{container}/{probe}", get(app_health))
        .route("/app-lifecycle/{container}/{hook}", get(app_lifecycle))
        .route("/stats/prometheus", get(merged_metrics))
        .route("/metrics", get(merged_metrics))
        .route("/quitquitquit", post(quit))
        .route("/drain", post(drain))
        .route("/debug/ndsz", get(ndsz))
        .with_state(status)
}

async fn ready(State(status): State<Arc<Status>>) -> Response {
    match status.ready().await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why).into_response(),
    }
}

async fn app_health(
    State(status): State<Arc<Status>>,
    Path((container, probe)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let key = format!("/app-health/{container}/{probe}");
    let Some(original) = status.config.app_probers.get(&key) else {
        return (StatusCode::NOT_FOUND, format!("no probe {key}\n")).into_response();
    };
    let limit = probe::limit(original);
    probe::run(original, status.config.ips[0], &headers, limit).await
}

/// The kubelet does not look at what comes of an HTTP hook, so that is told here too.
async fn app_lifecycle(
    State(status): State<Arc<Status>>,
    Path((container, hook)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let key = format!("/app-lifecycle/{container}/{hook}");
    let Some(original) = status.config.app_probers.get(&key) else {
        return (StatusCode::NOT_FOUND, format!("no hook {key}\n")).into_response();
    };
    let answer = probe::run(original, status.config.ips[0], &headers, HOOK_LIMIT).await;
    if !answer.status().is_success() {
        tracing::warn!(hook = key, status = %answer.status(), "the application's hook failed");
    }
    answer
}

async fn merged_metrics(State(status): State<Arc<Status>>) -> Response {
    metrics::merged(&status.config, &status.identity).await
}

async fn quit(State(status): State<Arc<Status>>, from: ConnectInfo<SocketAddr>) -> Response {
    local_only(from, || status.quit_asked.notify_one())
}

async fn drain(State(status): State<Arc<Status>>, from: ConnectInfo<SocketAddr>) -> Response {
    local_only(from, || status.drain())
}

/// The names that are answered, as the control plane told them.
async fn ndsz(State(status): State<Arc<Status>>, from: ConnectInfo<SocketAddr>) -> Response {
    if !is_local(from) {
        return (StatusCode::FORBIDDEN, "only from within the pod\n").into_response();
    }
    match &status.names {
        Some(names) => {
            let table = names.borrow().clone();
            Json(table.told()).into_response()
        }
        None => {
            let why = "names are not answered here: ISTIO_META_DNS_CAPTURE is not \"true\"\n";
            (StatusCode::NOT_FOUND, why).into_response()
        }
    }
}

/// Only this pod may end or drain its proxy.
fn local_only(from: ConnectInfo<SocketAddr>, act: impl FnOnce()) -> Response {
    if !is_local(from) {
        return (StatusCode::FORBIDDEN, "only from within the pod\n").into_response();
    }
    act();
    (StatusCode::OK, "OK\n").into_response()
}

fn is_local(ConnectInfo(from): ConnectInfo<SocketAddr>) -> bool {
    from.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests;
