//! What the control plane knows and what each proxy has of it, under Istio's names and with its JSON
//! keys: over HTTP, and as the type `istio.io/debug` over xDS.
//!
//! One table lists the pages. A page is a function of a question, which does not know how it was
//! asked; who may ask for what is decided in one place (`access`).

mod access;
mod config;
mod dump;
mod registry;
mod streams;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use lateen_xds::server::{Connection, Name, Resource};
use lateen_xds::{Error, TypeUrl};
use serde_json::{Value, json};

use crate::auth::Authenticate;
use crate::discovery::Discovery;
use crate::snapshot::Snapshot;
use crate::source::Client;
pub(crate) use access::Caller;

/// A question to a page.
struct Ask<'a> {
    discovery: &'a Discovery,
    snapshot: Arc<Snapshot>,
    query: &'a BTreeMap<String, String>,
}

/// What a page says.
enum Page {
    Json(Value),
    Text(String),
}

/// Why a page says nothing.
#[derive(Debug)]
struct Fault(StatusCode, String);

type Answer = Result<Page, Fault>;

/// A page.
struct Entry {
    name: &'static str,
    help: &'static str,
    answer: fn(&Ask<'_>) -> Answer,
}

const fn page(name: &'static str, help: &'static str, answer: fn(&Ask<'_>) -> Answer) -> Entry {
    Entry { name, help, answer }
}

#[rustfmt::skip]
const PAGES: &[Entry] = &[
    page("adsz", "streams, and what each asks for; ?push=true makes everything anew and sends what differs", streams::adsz),
    page("ambientz", "workloads of ambient mode, of which there are none", config::ambientz),
    page("authorizationz", "authorization policies", config::authorizationz),
    page("cachez", "resources in the cache; ?sizes=true in bytes, ?clear=true drops them", registry::cachez),
    page("clusterz", "clusters that services are read from", registry::clusterz),
    page("config_dump", "?proxyID= what a proxy is served, in the form of Envoy's config dump", dump::config_dump),
    page("configz", "objects in force", config::configz),
    page("connections", "streams", streams::connections),
    page("distributionz", "on how many proxies each object is; ?kind=&namespace=&name=", streams::distributionz),
    page("ecdsz", "?proxyID= extension configuration that a proxy is served", dump::ecdsz),
    page("edsz", "?proxyID= endpoints that a proxy is served", dump::edsz),
    page("endpointShardz", "endpoints by service and registry", registry::endpoint_shardz),
    page("endpointz", "endpoints by service; ?brief for one line each", registry::endpointz),
    page("force_disconnect", "?proxyID= ends a proxy's stream; only with UNSAFE_ENABLE_ADMIN_ENDPOINTS=true", streams::force_disconnect),
    page("inject", "what is injected", config::inject),
    page("instancesz", "services that each proxy's workload serves", registry::instancesz),
    page("mcsz", "services of the multi-cluster API, of which there are none", registry::none),
    page("mesh", "the mesh's configuration", config::mesh),
    page("ndsz", "?proxyID= names that a proxy answers", dump::ndsz),
    page("networkz", "gateways between networks", registry::networkz),
    page("patchz", "what became of each patch of an EnvoyFilter", config::patchz),
    page("push_status", "what objects do to each other", config::push_status),
    page("pushcontext", "the state that is pushed", config::push_context),
    page("registryz", "services", registry::registryz),
    page("resourcesz", "kinds that are read", config::resourcesz),
    page("sidecarz", "?proxyID= what a proxy sees of the mesh", registry::sidecarz),
    page("syncz", "how far each proxy got", streams::syncz),
    page("telemetryz", "telemetry configuration", config::telemetryz),
];

impl Ask<'_> {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// Whether a parameter is given, and not as `false`.
    fn is_set(&self, name: &str) -> bool {
        self.parameter(name).is_some_and(|value| value != "false")
    }

    /// The newest stream of the proxy that `proxyID` names: by its node id, by `name.namespace`, or by
    /// a part of its connection's id, as Istio does.
    fn proxy(&self) -> Result<Arc<Connection<Client>>, Fault> {
        let Some(wanted) = self.parameter("proxyID") else {
            let help = "name a proxy with ?proxyID=NAME.NAMESPACE (see /debug/connections)";
            return Err(Fault(StatusCode::BAD_REQUEST, help.to_owned()));
        };
        find(self.discovery, wanted).ok_or_else(|| {
            let reason = format!(
                "no proxy {wanted:?} is connected to this replica (see /debug/connections)"
            );
            Fault(StatusCode::NOT_FOUND, reason)
        })
    }
}

fn find(discovery: &Discovery, wanted: &str) -> Option<Arc<Connection<Client>>> {
    let connections = discovery.proxies();
    let is = |connection: &&Arc<Connection<Client>>| {
        let proxy = &connection.client.proxy;
        proxy.id == wanted || format!("{}.{}", proxy.name, proxy.namespace) == wanted
    };
    let mut newest = connections.iter().rev();
    let has_part = |c: &&Arc<Connection<Client>>| streams::connection_id(c).contains(wanted);
    let found = newest.clone().find(is).or_else(|| newest.find(has_part));
    found.cloned()
}

fn failed(error: &Error) -> Fault {
    Fault(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

/// What cannot be had, and why.
fn refused(name: &str) -> Option<&'static str> {
    match name.split('/').next() {
        Some("pprof") => {
            Some("profiles of Go's runtime do not exist here; use perf on the process")
        }
        Some("krtz") => Some("there are no krt collections here; see configz and registryz"),
        _ => None,
    }
}

/// Answers one question of a caller.
fn answer(
    discovery: &Discovery,
    caller: &Caller,
    name: &str,
    query: &BTreeMap<String, String>,
) -> Answer {
    access::check(discovery, caller, name, query)?;
    if name == "list" {
        let names = PAGES.iter().map(|page| page.name);
        return Ok(Page::Json(names.collect()));
    }
    let ask = Ask {
        discovery,
        snapshot: discovery.snapshot(),
        query,
    };
    if let Some(page) = PAGES.iter().find(|page| page.name == name) {
        return (page.answer)(&ask);
    }
    let (code, why) = match refused(name) {
        Some(why) => (StatusCode::NOT_IMPLEMENTED, format!("/debug/{name}: {why}")),
        None => {
            let why = format!("there is no page {name:?}; /debug/list names those there are");
            (StatusCode::NOT_FOUND, why)
        }
    };
    Err(Fault(code, why))
}

/// Whether a type is asked for the pages over xDS.
pub(crate) fn is_page_type(type_url: &TypeUrl) -> bool {
    *type_url == TypeUrl::DEBUG || type_url.debug_page().is_some()
}

/// A page as a resource: of type `istio.io/debug` by its name (`config_dump?proxyID=…`), of type
/// `istio.io/debug/PAGE` by the proxy that it is about. A refusal is a resource too: a stream that
/// waits would never know why.
pub(crate) fn resource(
    discovery: &Discovery,
    caller: &Caller,
    type_url: &TypeUrl,
    name: &Name,
) -> Resource {
    let name = name.as_str();
    let (page, rest) = match type_url.debug_page() {
        Some(page) if name.is_empty() => (page, String::new()),
        Some(page) => (page, format!("proxyID={name}")),
        None => {
            let (page, rest) = name.split_once('?').unwrap_or((name, ""));
            (page, rest.to_owned())
        }
    };
    let query = query(&rest);
    let text = match answer(discovery, caller, page, &query) {
        Ok(Page::Json(value)) => value.to_string(),
        Ok(Page::Text(text)) | Err(Fault(_, text)) => text,
    };
    Resource::of_bytes(name, &type_url.to_string(), text.as_bytes())
}

fn query(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.to_owned(), value.to_owned())
    };
    pairs.map(pair).collect()
}

/// The pages behind one port.
struct Pages {
    discovery: Discovery,
    auth: Arc<dyn Authenticate>,
}

impl Discovery {
    /// `/ready` and `/debug/*`, for port 8080, and for TLS beside xDS. Whoever does not ask from this
    /// very machine (a pod's network is one) has to prove who it is; the service must be made with
    /// the peer's address (`into_make_service_with_connect_info`), without which nobody counts as
    /// local.
    pub fn debug_router(&self, auth: impl Authenticate) -> Router {
        let pages = Arc::new(Pages {
            discovery: self.clone(),
            auth: Arc::new(auth),
        });
        Router::new()
            .route("/ready", get(async || "ready"))
            .route("/debug", get(index))
            .route("/debug/", get(index))
            .route("/debug/{*page}", get(debug).post(debug))
            .with_state(pages)
    }

    /// `/metrics` and `/version`, for port 15014.
    pub fn metrics_router(&self) -> Router {
        Router::new()
            .route("/metrics", get(metrics))
            .route("/version", get(async || env!("CARGO_PKG_VERSION")))
            .with_state(self.clone())
    }
}

async fn caller(pages: &Pages, request: Request) -> Result<Caller, Fault> {
    access::caller(&*pages.auth, request.into_parts().0).await
}

/// Lets in who may see everything.
///
/// # Errors
/// The answer to everybody else.
pub(crate) async fn may_see_all(
    discovery: &Discovery,
    auth: &dyn Authenticate,
    head: Parts,
    page: &str,
) -> Result<(), Response> {
    let caller = access::caller(auth, head).await;
    let may = caller.and_then(|caller| access::check(discovery, &caller, page, &BTreeMap::new()));
    may.map_err(|Fault(code, why)| (code, why + "\n").into_response())
}

async fn debug(
    State(pages): State<Arc<Pages>>,
    Path(name): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    request: Request,
) -> Response {
    let answered = match caller(&pages, request).await {
        Ok(caller) => answer(&pages.discovery, &caller, &name, &query),
        Err(fault) => Err(fault),
    };
    match answered {
        Ok(Page::Json(value)) => {
            let text = match query.contains_key("pretty") {
                true => format!("{value:#}"),
                false => value.to_string(),
            };
            ([(header::CONTENT_TYPE, "application/json")], text).into_response()
        }
        Ok(Page::Text(text)) => text.into_response(),
        Err(Fault(code, why)) => (code, why + "\n").into_response(),
    }
}

/// All pages with what they show, for people.
async fn index(State(pages): State<Arc<Pages>>, request: Request) -> Response {
    if let Err(Fault(code, why)) = caller(&pages, request).await {
        return (code, why + "\n").into_response();
    }
    let mut html = "<!doctype html><title>istiod</title><h1>Debug pages</h1><dl>\n".to_owned();
    for Entry { name, help, .. } in PAGES {
        html += &format!("<dt><a href=\"/debug/{name}\">/debug/{name}</a><dd>{help}\n");
    }
    (
        [(header::CONTENT_TYPE, "text/html; charset=utf-8")],
        html + "</dl>\n",
    )
        .into_response()
}

async fn metrics(State(discovery): State<Discovery>) -> Response {
    let text = discovery.core.metrics.expose(&discovery.core.engine.cache);
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, text).into_response()
}

/// An empty list.
fn empty() -> Answer {
    Ok(Page::Json(json!([])))
}

#[cfg(test)]
mod tests;
