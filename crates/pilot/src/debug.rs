//! What the control plane knows and what each proxy has of it, as JSON over HTTP.

mod dump;
mod state;

use std::collections::HashMap;

use axum::Json;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};

use crate::discovery::Discovery;

type Parameters = Query<HashMap<String, String>>;

impl Discovery {
    /// `/ready` and `/debug/*`, for port 8080.
    pub fn debug_router(&self) -> Router {
        Router::new()
            .route("/ready", get(async || "ready"))
            .route("/debug", get(index))
            .route("/debug/list", get(index))
            .route("/debug/syncz", get(syncz))
            .route("/debug/configz", get(configz))
            .route("/debug/endpointz", get(endpointz))
            .route("/debug/edsz", get(edsz))
            .route("/debug/adsz", get(adsz))
            .route("/debug/registryz", get(registryz))
            .route("/debug/connections", get(connections))
            .route("/debug/cachez", get(cachez))
            .route("/debug/mesh", get(mesh))
            .route("/debug/patchz", get(patchz))
            .route("/debug/config_dump", get(config_dump))
            .with_state(self.clone())
    }

    /// `/metrics` and `/version`, for port 15014.
    pub fn metrics_router(&self) -> Router {
        Router::new()
            .route("/metrics", get(metrics))
            .route("/version", get(async || env!("CARGO_PKG_VERSION")))
            .with_state(self.clone())
    }
}

async fn index() -> Json<Value> {
    Json(json!([
        "/debug/adsz",
        "/debug/cachez",
        "/debug/config_dump?proxyID=",
        "/debug/configz",
        "/debug/connections",
        "/debug/edsz?proxyID=",
        "/debug/endpointz",
        "/debug/mesh",
        "/debug/patchz",
        "/debug/registryz",
        "/debug/syncz",
    ]))
}

async fn syncz(State(discovery): State<Discovery>) -> Json<Value> {
    Json(state::syncz(&discovery))
}

async fn configz(State(discovery): State<Discovery>) -> Json<Value> {
    Json(state::configz(&discovery.snapshot()))
}

async fn endpointz(State(discovery): State<Discovery>) -> Json<Value> {
    Json(state::endpointz(&discovery.snapshot()))
}

async fn registryz(State(discovery): State<Discovery>) -> Json<Value> {
    Json(state::registryz(&discovery.snapshot()))
}

async fn adsz(State(discovery): State<Discovery>) -> Json<Value> {
    Json(state::adsz(&discovery))
}

async fn connections(State(discovery): State<Discovery>) -> Json<Value> {
    Json(state::connections(&discovery))
}

async fn cachez(State(discovery): State<Discovery>) -> Json<Value> {
    let (entries, hits, misses) = discovery.core.engine.cache.counts();
    let counts = discovery.counts();
    Json(json!({
        "entries": entries,
        "hits": hits,
        "misses": misses,
        "proxies": counts.members,
        "workloads": counts.vantages,
        "scopes": counts.scopes,
        "named": counts.named,
    }))
}

/// What became of each patch of an EnvoyFilter.
async fn patchz(State(discovery): State<Discovery>) -> Json<Value> {
    let patch = |report: crate::PatchReport| {
        json!({
            "namespace": &*report.object.namespace,
            "name": &*report.object.name,
            "field": report.field,
            "applied": report.applied,
            "fault": report.fault,
        })
    };
    Json(discovery.patches().into_iter().map(patch).collect())
}

async fn mesh(State(discovery): State<Discovery>) -> Response {
    match serde_json::to_value(&*discovery.snapshot().config.mesh) {
        Ok(mesh) => Json(mesh).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn config_dump(State(discovery): State<Discovery>, parameters: Parameters) -> Response {
    respond(&discovery, &parameters, dump::config_dump)
}

async fn edsz(State(discovery): State<Discovery>, parameters: Parameters) -> Response {
    respond(&discovery, &parameters, dump::endpoints)
}

type Dump = fn(
    &Discovery,
    &lateen_xds::server::Connection<crate::Client>,
) -> Result<Value, lateen_xds::Error>;

/// Answers about the proxy that `proxyID` names: by its node id, or `name.namespace`.
fn respond(discovery: &Discovery, parameters: &Parameters, dump: Dump) -> Response {
    let Some(wanted) = parameters.get("proxyID") else {
        let help = "name a proxy with ?proxyID=NAME.NAMESPACE (see /debug/connections)";
        return (StatusCode::BAD_REQUEST, help).into_response();
    };
    let connections = discovery.connections.list();
    let found = connections.iter().rev().find(|connection| {
        let proxy = &connection.client.proxy;
        proxy.id == *wanted || format!("{}.{}", proxy.name, proxy.namespace) == *wanted
    });
    let Some(connection) = found else {
        let reason = format!("no proxy {wanted:?} is connected (see /debug/connections)");
        return (StatusCode::NOT_FOUND, reason).into_response();
    };
    match dump(discovery, connection) {
        Ok(value) => Json(value).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn metrics(State(discovery): State<Discovery>) -> Response {
    let text = discovery.core.metrics.expose(&discovery.core.engine.cache);
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, text).into_response()
}
