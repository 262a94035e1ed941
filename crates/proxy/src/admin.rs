//! The admin interface, with the paths and shapes that Envoy's users and tools know.

mod clusters;
mod config_dump;
mod logging;
mod prometheus;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use lateen_telemetry::admin::{Router, serve};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::state::RawStore;
use crate::worker::Shared;

/// What the handlers use.
#[derive(Clone)]
struct Context {
    shared: Arc<Shared>,
    raw: Arc<Mutex<RawStore>>,
    shutdown: CancellationToken,
}

type Params = Query<HashMap<String, String>>;

/// Binds and serves.
pub(crate) async fn start(
    address: SocketAddr,
    shared: Arc<Shared>,
    raw: Arc<Mutex<RawStore>>,
    shutdown: CancellationToken,
) -> Result<JoinHandle<()>, Error> {
    let fault = |source| Error::Io {
        what: format!("admin address {address}"),
        source,
    };
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(fault)?;
    let context = Context {
        shared,
        raw,
        shutdown,
    };
    let router = router(context);
    Ok(tokio::spawn(async move {
        if let Err(error) = serve(listener, router, std::future::pending()).await {
            tracing::error!(%error, "the admin interface ended");
        }
    }))
}

fn router(context: Context) -> Router {
    Router::new()
        .route("/", get(help))
        .route("/help", get(help))
        .route("/config_dump", get(config_dump::handle))
        .route("/clusters", get(clusters::handle))
        .route("/listeners", get(listeners))
        .route("/certs", get(certs))
        .route("/stats", get(stats))
        .route("/stats/prometheus", get(prometheus::handle))
        .route("/ready", get(ready))
        .route("/unread", get(unread))
        .route("/server_info", get(server_info))
        .route("/logging", post(logging::handle))
        .route("/quitquitquit", post(quit))
        .route("/healthcheck/fail", post(fail))
        .route("/healthcheck/ok", post(recover))
        .route("/drain_listeners", post(drain_listeners))
        .route("/reset_counters", post(async || "OK\n"))
        .with_state(context)
}

async fn help() -> &'static str {
    "admin commands are:\n  /certs\n  /clusters\n  /config_dump\n  /drain_listeners (POST)\n  \
     /healthcheck/fail (POST)\n  /healthcheck/ok (POST)\n  /listeners\n  /logging (POST)\n  \
     /quitquitquit (POST)\n  /ready\n  /server_info\n  /stats\n  /stats/prometheus\n  /unread\n"
}

async fn ready(State(context): State<Context>) -> Response {
    let state = state_of(&context.shared);
    let code = if state == "LIVE" {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, format!("{state}\n")).into_response()
}

/// Fields that resources set and nothing reads, by kind and name.
async fn unread(State(context): State<Context>) -> Json<serde_json::Value> {
    let raw = context.raw.lock().unwrap_or_else(PoisonError::into_inner);
    let entries = raw.unread().into_iter().map(|(kind, name, fields)| {
        json!({ "kind": format!("{kind:?}"), "name": name.as_str(), "fields": fields })
    });
    Json(json!({ "unread": entries.collect::<Vec<_>>() }))
}

fn n_unread(context: &Context) -> usize {
    let raw = context.raw.lock().unwrap_or_else(PoisonError::into_inner);
    raw.n_unread()
}

/// Envoy's names for where a server stands.
fn state_of(shared: &Shared) -> &'static str {
    if shared.is_live() {
        "LIVE"
    } else if shared.ready.load(Ordering::Relaxed) {
        "DRAINING"
    } else {
        "PRE_INITIALIZING"
    }
}

async fn server_info(State(context): State<Context>) -> Json<serde_json::Value> {
    let shared = &context.shared;
    let uptime = format!("{}s", shared.uptime().as_secs());
    Json(json!({
        "version": format!("lateen/{}", env!("CARGO_PKG_VERSION")),
        "state": state_of(shared),
        "uptime_current_epoch": uptime,
        "uptime_all_epochs": uptime,
        "hot_restart_version": "disabled",
        "command_line_options": { "log_level": lateen_telemetry::level() },
        "node": shared.node.json,
    }))
}

async fn listeners(State(context): State<Context>, Query(params): Params) -> Response {
    let snapshot = context.shared.snapshot.load_full();
    let mut list: Vec<_> = snapshot
        .listeners
        .values()
        .filter(|listener| listener.bind)
        .collect();
    list.sort_by(|a, b| a.name.cmp(&b.name));
    if params.get("format").is_some_and(|format| format == "json") {
        let statuses: Vec<_> = list
            .iter()
            .map(|listener| {
                let address = match &listener.pipe {
                    Some(pipe) => pipe_address(&pipe.path),
                    None => socket_address(listener.addresses[0]),
                };
                json!({ "name": &*listener.name, "local_address": address })
            })
            .collect();
        return Json(json!({ "listener_statuses": statuses })).into_response();
    }
    let lines = list.iter().map(|listener| match &listener.pipe {
        Some(pipe) => format!("{}::{}\n", listener.name, pipe.path),
        None => format!("{}::{}\n", listener.name, listener.addresses[0]),
    });
    lines.collect::<String>().into_response()
}

/// An address in the JSON form of Envoy's messages.
fn socket_address(address: SocketAddr) -> serde_json::Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

/// The same of a socket in the file system.
fn pipe_address(path: &str) -> serde_json::Value {
    json!({ "pipe": { "path": path } })
}

async fn certs(State(context): State<Context>) -> Json<serde_json::Value> {
    let identity = context.shared.secrets.identity().current().ok();
    let list: Vec<_> = identity
        .iter()
        .filter_map(|identity| identity.info())
        .map(|info| {
            let time = |time: std::time::SystemTime| {
                jiff::Timestamp::try_from(time)
                    .map(|time| time.to_string())
                    .unwrap_or_default()
            };
            let names: Vec<_> = info.uris.iter().map(|uri| json!({ "uri": uri })).collect();
            json!({ "cert_chain": [{
                "path": "<inline>",
                "serial_number": info.serial,
                "subject_alt_names": names,
                "valid_from": time(info.not_before),
                "expiration_time": time(info.not_after),
            }] })
        })
        .collect();
    Json(json!({ "certificates": list }))
}

async fn stats(State(context): State<Context>, Query(params): Params) -> Response {
    if params
        .get("format")
        .is_some_and(|format| format == "prometheus")
    {
        return prometheus::handle(State(context)).await;
    }
    let shared = &context.shared;
    let mut lines = Vec::new();
    let snapshot = shared.snapshot.load_full();
    for cluster in snapshot
        .clusters
        .values()
        .filter(|cluster| cluster.stats.is_used())
    {
        for (name, value) in cluster.stats.list() {
            lines.push(format!("cluster.{}.{name}: {value}", cluster.spec.name));
        }
        for (name, value) in cluster.stats.udp.list() {
            lines.push(format!("cluster.{}.udp.{name}: {value}", cluster.spec.name));
        }
    }
    for (name, listener) in shared.stats.listeners() {
        lines.push(format!(
            "listener.{name}.downstream_cx_active: {}",
            listener.active.value()
        ));
        lines.push(format!(
            "listener.{name}.downstream_cx_total: {}",
            listener.total.value()
        ));
        lines.push(format!(
            "listener.{name}.udp.downstream_rx_datagram_dropped: {}",
            listener.datagrams_dropped.value()
        ));
    }
    for (prefix, udp) in shared.stats.all_udp() {
        for (name, value) in udp.list() {
            lines.push(format!("udp.{prefix}.{name}: {value}"));
        }
    }
    let [accepted, refused] = &shared.stats.updates;
    lines.push(format!(
        "control_plane.update_success: {}",
        accepted.value()
    ));
    lines.push(format!(
        "control_plane.update_rejected: {}",
        refused.value()
    ));
    lines.push(format!("lateen.unread_fields: {}", n_unread(&context)));
    lines.push(format!("server.live: {}", u8::from(shared.is_live())));
    lines.push(format!("server.uptime: {}", shared.uptime().as_secs()));
    if let Some(filter) = params.get("filter") {
        match regex::Regex::new(filter) {
            Ok(regex) => lines.retain(|line| regex.is_match(line.split(": ").next().unwrap_or(""))),
            Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
        }
    }
    lines.sort();
    lines.push(String::new());
    lines.join("\n").into_response()
}

async fn quit(State(context): State<Context>) -> &'static str {
    context.shutdown.cancel();
    "OK\n"
}

async fn fail(State(context): State<Context>) -> &'static str {
    context.shared.unhealthy.store(true, Ordering::Relaxed);
    "OK\n"
}

async fn recover(State(context): State<Context>) -> &'static str {
    context.shared.unhealthy.store(false, Ordering::Relaxed);
    "OK\n"
}

/// Asks clients to close; new connections are still taken until the process ends, since a client
/// may not have heard yet.
async fn drain_listeners(State(context): State<Context>) -> &'static str {
    context.shared.unhealthy.store(true, Ordering::Relaxed);
    let snapshot = context.shared.snapshot.load_full();
    for listener in snapshot.listeners.values() {
        listener.all_chains().for_each(|chain| chain.drain.start());
    }
    "OK\n"
}
