//! Connections: accept, read requests, find out who asks and what for, and answer.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use super::auth::{MASTERS, User};
use super::core::Core;
use super::error::ApiError;
use super::reply::{self, Reply};
use super::request::{self, Call, Form, Path, Target};
use super::{discovery, logs, port_forward, read, watch, write};

/// Bodies beyond this are refused, as Kubernetes does (3 MiB).
const MAX_BODY: usize = 3 << 20;

/// How long open requests may take to end at shutdown.
const DRAIN: Duration = Duration::from_secs(2);

/// Serves on all listeners until the future ends.
pub(super) async fn run(
    core: Arc<Core>,
    listeners: Vec<std::net::TcpListener>,
    shutdown: impl Future<Output = ()> + Send,
) -> std::io::Result<()> {
    let mut loops = JoinSet::new();
    for listener in listeners {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loops.spawn(accept(Arc::clone(&core), listener));
    }
    shutdown.await;
    core.shutdown.cancel();
    while loops.join_next().await.is_some() {}
    Ok(())
}

async fn accept(core: Arc<Core>, listener: tokio::net::TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = core.shutdown.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _)) => {
                let _ = socket.set_nodelay(true);
                connections.spawn(connection(Arc::clone(&core), socket, Some(plain_user())));
            }
            Err(error) => {
                // Out of descriptors, mostly: others must close some first.
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    let _ = tokio::time::timeout(DRAIN, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
}

/// Whoever reaches a listener without TLS is trusted; only tests have one.
fn plain_user() -> User {
    User::new("kubernetes-admin", [MASTERS.to_owned()])
}

async fn connection<S>(core: Arc<Core>, socket: S, peer: Option<User>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let shutdown = core.shutdown.clone();
    let service = service_fn(move |request| {
        let (core, peer) = (Arc::clone(&core), peer.clone());
        async move { Ok::<_, std::convert::Infallible>(answer(&core, peer, request).await) }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(socket), service);
    tokio::pin!(serving);
    let result = tokio::select! {
        result = serving.as_mut() => result,
        () = shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended");
    }
}

async fn answer(core: &Arc<Core>, peer: Option<User>, request: Request<Incoming>) -> Reply {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    match dispatch(core, peer, request).await {
        Ok(reply) => reply,
        Err(error) => {
            tracing::debug!(%method, path, code = error.code.as_u16(), message = error.message, "refused");
            reply::refusal(&error)
        }
    }
}

async fn dispatch(
    core: &Arc<Core>,
    peer: Option<User>,
    request: Request<Incoming>,
) -> Result<Reply, ApiError> {
    let path = request.uri().path().to_owned();
    if matches!(path.as_str(), "/healthz" | "/livez" | "/readyz") && request.method() == Method::GET
    {
        return Ok(reply::text(StatusCode::OK, "ok"));
    }
    let user = peer.ok_or_else(ApiError::unauthorized)?;
    match request::parse_path(&path, &core.kinds()) {
        Path::Unknown => Err(ApiError::no_such_path()),
        Path::Other => {
            discovery::get(core, &path, request.headers(), &user).ok_or_else(ApiError::no_such_path)
        }
        Path::Resource(target) => {
            let call = call(target, user, request).await?;
            resource(core, &call).await
        }
    }
}

async fn call(
    target: Target,
    user: User,
    mut request: Request<Incoming>,
) -> Result<Call, ApiError> {
    let websocket = match target.subresource.as_str() {
        "portforward" => port_forward::WebSocketRequest::take(&mut request),
        _ => None,
    };
    let (parts, body) = request.into_parts();
    let query = parts
        .uri
        .query()
        .map(request::parse_query)
        .unwrap_or_default();
    let verb = request::verb(&parts.method, &target, &query);
    if verb.is_empty() {
        return Err(ApiError::method_not_allowed(parts.method.as_str()));
    }
    let header = |name| {
        parts
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let form = if matches!(target.subresource.as_str(), "log" | "portforward") {
        Form::Json
    } else {
        request::negotiate(&parts.headers)?
    };
    let content_type = header(CONTENT_TYPE)
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let user_agent = header(http::header::USER_AGENT).to_owned();
    let body = Limited::new(body, MAX_BODY)
        .collect()
        .await
        .map_err(|error| {
            ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestEntityTooLarge",
                format!("cannot read the body: {error}"),
            )
        })?;
    Ok(Call {
        target,
        verb,
        query,
        form,
        user,
        user_agent,
        content_type,
        body: body.to_bytes(),
        websocket: websocket.map(Arc::new),
    })
}

async fn resource(core: &Arc<Core>, call: &Call) -> Result<Reply, ApiError> {
    let target = &call.target;
    match (target.subresource.as_str(), call.verb) {
        ("log", "get") if target.resource.is("", "pods") => {
            let pod = read::object(core, target)?;
            return logs::get(core, call, &pod).await;
        }
        ("portforward", _) if target.resource.is("", "pods") => {
            read::object(core, target)?;
            return port_forward::accept(core, call);
        }
        ("exec" | "attach" | "portforward" | "proxy", _) => {
            return Err(ApiError::new(
                StatusCode::NOT_IMPLEMENTED,
                "NotImplemented",
                format!("{} is not supported by this platform", target.subresource),
            ));
        }
        _ => {}
    }
    match call.verb {
        "get" => read::get(core, call),
        "list" => read::list(core, call),
        "watch" => watch::watch(core, call),
        "create" => write::create(core, call).await.map(|object| {
            reply::formed(
                StatusCode::CREATED,
                &read::present(call, &object),
                call.form,
            )
        }),
        "update" => write::update(core, call)
            .await
            .map(|object| ok(call, &object)),
        "patch" => write::patch(core, call).await.map(|(object, created)| {
            let code = if created {
                StatusCode::CREATED
            } else {
                StatusCode::OK
            };
            reply::formed(code, &read::present(call, &object), call.form)
        }),
        "delete" => write::delete(core, call)
            .await
            .map(|object| reply::formed(StatusCode::OK, &object, call.form)),
        "deletecollection" => write::delete_collection(core, call)
            .await
            .map(|object| reply::formed(StatusCode::OK, &object, call.form)),
        other => Err(ApiError::method_not_allowed(other)),
    }
}

fn ok(call: &Call, object: &serde_json::Value) -> Reply {
    reply::formed(StatusCode::OK, &read::present(call, object), call.form)
}

/// A `Status` that says that something was done.
pub(super) fn success(details: serde_json::Value) -> serde_json::Value {
    let mut status =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
    if !details.is_null() {
        status["details"] = details;
    }
    status
}
