//! `lateen cluster serve`: the same clusters on a page, for this machine's user alone.
//!
//! Whoever reaches this can make and delete clusters, so three things are asked of a request: it comes to
//! this machine's own address by name (or a foreign name that resolves to it would do), from this page (or
//! any page that the user looks at could send it), and it brings the token that was printed (or every user
//! of this machine could).

mod jobs;
mod page;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::Context;
use axum::{
    Json, Router,
    extract::{Path, Request, State, rejection::JsonRejection},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get},
};
use clap::Args;
use lateen_local::state::StateDir;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;

use super::{DEFAULT_POOL, Field, check};
use crate::output;
use jobs::Jobs;

/// Bytes of the token, before they are written as hexadecimal digits.
const TOKEN_BYTES: usize = 32;

/// Serve a page that creates, lists and deletes clusters.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  lateen cluster serve --port 8090")]
pub(super) struct Serve {
    /// The port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
}

struct Shared {
    address: SocketAddr,
    token: String,
    jobs: Jobs,
}

impl Serve {
    pub(super) async fn run(&self) -> anyhow::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).await;
        let listener = listener.with_context(|| {
            format!(
                "cannot listen on 127.0.0.1:{}: choose another port with --port",
                self.port
            )
        })?;
        let address = listener.local_addr()?;
        let token = random(TOKEN_BYTES);
        output::line(format_args!("clusters     http://{address}/#token={token}"));
        output::line("stop         Ctrl-C");
        let shared = Arc::new(Shared {
            address,
            token,
            jobs: Jobs::default(),
        });
        let stop = async {
            // Without a handler there is no way to be told, and then it runs on.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        axum::serve(listener, router(shared))
            .with_graceful_shutdown(stop)
            .await?;
        Ok(())
    }
}

/// Random bytes as hexadecimal digits.
fn random(n_bytes: usize) -> String {
    (0..n_bytes)
        .map(|_| format!("{:02x}", rand::random::<u8>()))
        .collect()
}

fn router(shared: Arc<Shared>) -> Router {
    let by_page = middleware::from_fn_with_state(Arc::clone(&shared), from_the_page);
    let by_name = middleware::from_fn_with_state(Arc::clone(&shared), to_this_machine);
    Router::new()
        .route("/api/clusters", get(list).post(create))
        .route("/api/clusters/{name}", delete(remove))
        .route("/api/clusters/{name}/checks", get(checks))
        .route_layer(by_page)
        .route("/", get(page::page))
        .layer(by_name)
        .with_state(shared)
}

/// A refusal, as the page shows it.
fn refusal(code: StatusCode, field: Option<Field>, error: impl std::fmt::Display) -> Response {
    let body = json!({"error": error.to_string(), "field": field});
    (code, Json(body)).into_response()
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// Refuses names that are not this machine's: a page elsewhere may have its own name point here.
async fn to_this_machine(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let host = text(request.headers(), header::HOST.as_str()).unwrap_or_default();
    if !is_own(&shared, host) {
        let why = format!(
            "{host:?} is not this page's address, which is {}",
            shared.address
        );
        return refusal(StatusCode::MISDIRECTED_REQUEST, None, why);
    }
    next.run(request).await
}

fn is_own(shared: &Shared, host: &str) -> bool {
    host == shared.address.to_string() || host == format!("localhost:{}", shared.address.port())
}

/// Refuses what another page sends, and whoever has no token.
async fn from_the_page(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let origin = text(headers, header::ORIGIN.as_str());
    let is_foreign = origin.is_some_and(|origin| {
        !origin
            .strip_prefix("http://")
            .is_some_and(|host| is_own(&shared, host))
    });
    let site = text(headers, "sec-fetch-site");
    if is_foreign || site.is_some_and(|site| site != "same-origin" && site != "none") {
        let why = "the request comes from another page";
        return refusal(StatusCode::FORBIDDEN, None, why);
    }
    let token = text(headers, header::AUTHORIZATION.as_str())
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default();
    if !is_same(token, &shared.token) {
        let why =
            "the token is missing or wrong; open the address that `lateen cluster serve` printed";
        return refusal(StatusCode::UNAUTHORIZED, None, why);
    }
    next.run(request).await
}

/// Takes as long whatever is wrong, so that nobody can find a token byte by byte.
fn is_same(given: &str, token: &str) -> bool {
    let pairs = given.bytes().zip(token.bytes());
    let differ = pairs.fold(0, |differ, (a, b)| differ | (a ^ b));
    given.len() == token.len() && differ == 0
}

async fn list(State(shared): State<Arc<Shared>>) -> Response {
    let rows = shared.jobs.merge(super::rows().await);
    Json(json!({"clusters": rows, "vipPool": DEFAULT_POOL})).into_response()
}

/// What the page sends.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct New {
    name: String,
    #[serde(default)]
    istio: bool,
    vip_pool: String,
    /// Whether to check alone.
    #[serde(default)]
    dry_run: bool,
}

async fn create(
    State(shared): State<Arc<Shared>>,
    body: Result<Json<New>, JsonRejection>,
) -> Response {
    let new = match body {
        Ok(Json(new)) => new,
        Err(rejection) => return refusal(rejection.status(), None, rejection.body_text()),
    };
    if let Err(refused) = check(&new.name, new.istio, &new.vip_pool) {
        let why = format!("{:#}", refused.why);
        return refusal(StatusCode::UNPROCESSABLE_ENTITY, Some(refused.field), why);
    }
    let is_free = || StateDir::of(&new.name).is_ok_and(|state| !state.path().exists());
    let mut args = vec!["create", &new.name, "--vip-pool", &new.vip_pool];
    if new.istio {
        args.push("--istio");
    }
    let (taken, code) = match new.dry_run {
        true => (
            is_free() && !shared.jobs.is_busy(&new.name),
            StatusCode::NO_CONTENT,
        ),
        false => (
            shared.jobs.start(&new.name, "creating", &args, is_free),
            StatusCode::ACCEPTED,
        ),
    };
    if taken {
        return code.into_response();
    }
    let why = format!("there is a cluster {} already", new.name);
    refusal(StatusCode::CONFLICT, Some(Field::Name), why)
}

async fn remove(State(shared): State<Arc<Shared>>, Path(name): Path<String>) -> Response {
    let state = match StateDir::of(&name) {
        Ok(state) => state,
        Err(error) => return refusal(StatusCode::UNPROCESSABLE_ENTITY, Some(Field::Name), error),
    };
    let is_there = || state.path().exists();
    if shared
        .jobs
        .start(&name, "deleting", &["delete", &name], is_there)
    {
        return StatusCode::ACCEPTED.into_response();
    }
    if shared.jobs.is_busy(&name) {
        let why = format!("cluster {name} is being created or deleted");
        return refusal(StatusCode::CONFLICT, None, why);
    }
    // What could not be created is there no more than its message.
    if shared.jobs.forget(&name) {
        return StatusCode::ACCEPTED.into_response();
    }
    let why = format!("there is no cluster {name}");
    refusal(StatusCode::NOT_FOUND, None, why)
}

/// The checklist of a cluster with a mesh, as `lateen verify-install` goes through it.
async fn checks(State(shared): State<Arc<Shared>>, Path(name): Path<String>) -> Response {
    let state = match StateDir::of(&name) {
        Ok(state) => state,
        Err(error) => return refusal(StatusCode::UNPROCESSABLE_ENTITY, Some(Field::Name), error),
    };
    if state.running().is_none() || shared.jobs.is_busy(&name) {
        let code = match state.path().exists() {
            true => StatusCode::CONFLICT,
            false => StatusCode::NOT_FOUND,
        };
        return refusal(code, None, format!("cluster {name} does not run"));
    }
    let kubeconfig = state.kubeconfig();
    match jobs::verify_install(&kubeconfig).await {
        Ok((passed, text)) => Json(json!({"passed": passed, "text": text})).into_response(),
        Err(why) => refusal(StatusCode::INTERNAL_SERVER_ERROR, None, why),
    }
}

#[cfg(test)]
mod tests;
