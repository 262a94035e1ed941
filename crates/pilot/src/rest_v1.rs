//! The discovery API of Istio up to 0.8, as Envoy's first API polled it: JSON over GET, read from the
//! same state as xDS.
//!
//! Clusters, listeners and routes are what the node would be served over xDS, said in the words of
//! Envoy's first API. What that API has no words for is left out, which its readers are told by the
//! documentation; nothing is served by it but people and scripts of old.

mod cluster;
mod key;
mod listener;
mod registration;
mod route;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use lateen_xds::TypeUrl;
use lateen_xds::server::{Name, NameSet, Names, Resource};
use lateen_xds::types::core::Node;
use prost::Message;
use serde::Serialize;
use serde_json::ser::PrettyFormatter;
use serde_json::{Value, json};

use crate::auth::Authenticate;
use crate::debug;
use crate::discovery::Discovery;
use crate::proxy::Proxy;

/// URLs that are counted; more than the nodes of a mesh of that time ask for.
const COUNTED_MAX: usize = 10_000;

/// Why there is no answer.
type Refusal = (StatusCode, String);

struct Rest {
    discovery: Discovery,
    auth: Arc<dyn Authenticate>,
    /// By URL: for which generation it was asked last, and how often it was the same and another one.
    counts: Mutex<BTreeMap<String, Count>>,
}

#[derive(Clone, Copy, Default)]
struct Count {
    generation: u64,
    hit: u64,
    miss: u64,
}

impl Discovery {
    /// `/v1/*` and the counts of its answers, for port 8080. Who may ask is as for the debug pages:
    /// anybody from this machine, else the control plane's own namespace.
    pub fn rest_v1_router(&self, auth: impl Authenticate) -> Router {
        let rest = Arc::new(Rest {
            discovery: self.clone(),
            auth: Arc::new(auth),
            counts: Mutex::default(),
        });
        Router::new()
            .route("/v1/registration", get(registrations))
            .route("/v1/registration/{key}", get(registration_of))
            .route("/v1/clusters/{cluster}/{node}", get(clusters))
            .route("/v1/listeners/{cluster}/{node}", get(listeners))
            .route("/v1/routes/{name}/{cluster}/{node}", get(routes))
            .route("/v1/az/{cluster}/{node}", get(zone))
            .route("/cache_stats", get(cache_stats))
            .route("/cache_stats_delete", post(cache_stats_delete))
            .layer(middleware::from_fn_with_state(rest.clone(), checked))
            .with_state(rest)
    }
}

/// Lets in who may read configuration, and counts what is asked.
async fn checked(State(rest): State<Arc<Rest>>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let (uri, asking) = (head.uri.clone(), head.clone());
    let (discovery, auth) = (&rest.discovery, &*rest.auth);
    if let Err(refusal) = debug::may_see_all(discovery, auth, asking, uri.path()).await {
        return refusal;
    }
    if uri.path().starts_with("/v1/") {
        rest.count(&uri);
    }
    next.run(Request::from_parts(head, body)).await
}

impl Rest {
    /// An answer is the same until the state is another one. The reference kept answers; here only
    /// the counts of that are kept.
    fn count(&self, uri: &Uri) {
        let generation = self.discovery.snapshot().generation;
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= COUNTED_MAX && !counts.contains_key(uri.path()) {
            return;
        }
        let count = counts.entry(uri.path().to_owned()).or_default();
        if count.generation == generation {
            count.hit += 1;
        } else {
            count.miss += 1;
            count.generation = generation;
        }
    }

    /// The node that a path names.
    fn node(&self, id: &str) -> Result<Proxy, Refusal> {
        let node = Node {
            id: id.to_owned(),
            ..Node::default()
        };
        let read = Proxy::from_node(&node);
        read.map_err(|error| (StatusCode::NOT_FOUND, format!("{error}\n")))
    }

    /// What a node would be served of a type: all, or one by name.
    fn served<M: Message + Default>(
        &self,
        proxy: &Proxy,
        type_url: &TypeUrl,
        name: Option<&str>,
    ) -> Result<Vec<M>, Refusal> {
        let core = &self.discovery.core;
        let served = core.engine.served(proxy);
        let named = NameSet::of(name.map(Name::new));
        let names = match name {
            Some(_) => Names::Only(&named),
            None => Names::All(&named),
        };
        let resources = served.resources(&core.engine.cache, type_url, names);
        let decode = |resource: &Arc<Resource>| {
            M::decode(resource.value())
                .map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")))
        };
        resources.iter().map(decode).collect()
    }
}

/// As Go's encoder writes with a prefix and an indent of one space each.
fn written(value: &impl Serialize) -> Response {
    let mut bytes = Vec::new();
    let formatter = PrettyFormatter::with_indent(b" ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    if let Err(error) = value.serialize(&mut serializer) {
        return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response();
    }
    // No string has a bare line break in JSON.
    let text = String::from_utf8_lossy(&bytes).replace('\n', "\n ");
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

async fn registrations(State(rest): State<Arc<Rest>>) -> Response {
    written(&registration::all(&rest.discovery.snapshot().world))
}

async fn registration_of(State(rest): State<Arc<Rest>>, Path(key): Path<String>) -> Response {
    written(&registration::of(&rest.discovery.snapshot().world, &key))
}

async fn clusters(
    State(rest): State<Arc<Rest>>,
    Path((_, node)): Path<(String, String)>,
) -> Response {
    let clusters = rest
        .node(&node)
        .and_then(|proxy| rest.served(&proxy, &TypeUrl::CLUSTER, None));
    let snapshot = rest.discovery.snapshot();
    match clusters {
        Ok(all) => written(&json!({"clusters": cluster::all(&snapshot, &all)})),
        Err(refusal) => refusal.into_response(),
    }
}

async fn listeners(
    State(rest): State<Arc<Rest>>,
    Path((_, node)): Path<(String, String)>,
) -> Response {
    let listeners = rest
        .node(&node)
        .and_then(|proxy| rest.served(&proxy, &TypeUrl::LISTENER, None));
    let snapshot = rest.discovery.snapshot();
    match listeners {
        Ok(all) => written(&json!({"listeners": listener::all(&snapshot, &all)})),
        Err(refusal) => refusal.into_response(),
    }
}

async fn routes(
    State(rest): State<Arc<Rest>>,
    Path((name, _, node)): Path<(String, String, String)>,
) -> Response {
    // Envoys of 0.8 put a colon before the name.
    let name = name.strip_prefix(':').unwrap_or(&name);
    let tables = rest
        .node(&node)
        .and_then(|proxy| rest.served(&proxy, &TypeUrl::ROUTE, Some(name)));
    let snapshot = rest.discovery.snapshot();
    match tables {
        Ok(tables) => written(&route::table(&snapshot, tables.first())),
        Err(refusal) => refusal.into_response(),
    }
}

async fn zone(State(rest): State<Arc<Rest>>, Path((_, node)): Path<(String, String)>) -> Response {
    let proxy = match rest.node(&node) {
        Ok(proxy) => proxy,
        Err(refusal) => return refusal.into_response(),
    };
    let world = &rest.discovery.snapshot().world;
    match world.workload(proxy.ip) {
        Some(workload) => registration::zone(&workload.locality).into_response(),
        None => (StatusCode::NOT_FOUND, "no workload has this address\n").into_response(),
    }
}

async fn cache_stats(State(rest): State<Arc<Rest>>) -> Response {
    let counts = rest.counts.lock().unwrap_or_else(PoisonError::into_inner);
    let each = counts
        .iter()
        .map(|(url, count)| (url.clone(), json!({"hit": count.hit, "miss": count.miss})));
    let stats: serde_json::Map<String, Value> = each.collect();
    written(&json!({"cache_stats": stats}))
}

async fn cache_stats_delete(State(rest): State<Arc<Rest>>) -> StatusCode {
    let mut counts = rest.counts.lock().unwrap_or_else(PoisonError::into_inner);
    counts.clear();
    StatusCode::OK
}

#[cfg(test)]
mod tests;
