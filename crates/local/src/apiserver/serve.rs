//! Connections: accept, read requests, find out who asks and what for, and answer.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use lateen_tls::https::Listener;
use lateen_tls::{CertInfo, ClientAuth, PeerRule};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use super::admission::warnings;
use super::auth::{self, MASTERS, User, reviews};
use super::core::Core;
use super::error::ApiError;
use super::reply::{self, Reply};
use super::request::{self, Call, Form, Path, Target};
use super::upgrade::UpgradeRequest;
use super::{discovery, exec, logs, port_forward, read, strategy, watch, write};

/// Bodies beyond this are refused, as Kubernetes does (3 MiB).
const MAX_BODY: usize = 3 << 20;

/// How much of a body that is too large is read before the connection is closed on it.
const MAX_DISCARDED: usize = 64 << 20;

/// The addresses under which clients know us: this machine, and the `kubernetes` service.
const WELL_KNOWN: [Ipv4Addr; 2] = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(10, 96, 0, 1)];

/// How long open requests may take to end at shutdown.
const DRAIN: Duration = Duration::from_secs(2);

/// Serves on all listeners until the future ends.
pub(super) async fn run(
    core: Arc<Core>,
    listeners: Vec<std::net::TcpListener>,
    shutdown: impl Future<Output = ()> + Send,
) -> std::io::Result<()> {
    let mut addresses: Vec<IpAddr> = WELL_KNOWN.map(IpAddr::V4).to_vec();
    let mut tokio_listeners = Vec::new();
    for listener in listeners {
        listener.set_nonblocking(true)?;
        addresses.push(listener.local_addr()?.ip());
        tokio_listeners.push(tokio::net::TcpListener::from_std(listener)?);
    }
    let mut loops = JoinSet::new();
    match &core.pki {
        Some(pki) => {
            let identity = pki.serving(&addresses).map_err(std::io::Error::other)?;
            let auth = ClientAuth::Optional(PeerRule::AnyTrusted);
            let listener = Listener::http(tokio_listeners, identity, auth)?;
            loops.spawn(accept_tls(Arc::clone(&core), listener));
        }
        None => {
            for listener in tokio_listeners {
                loops.spawn(accept(Arc::clone(&core), listener));
            }
        }
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
    drain(connections).await;
}

async fn drain(mut connections: JoinSet<()>) {
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(DRAIN, all).await;
}

async fn accept_tls(core: Arc<Core>, mut listener: Listener) {
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            () = core.shutdown.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            (stream, _) = listener.next() => stream,
        };
        let peer = stream.info().peer.as_deref().and_then(certificate_user);
        connections.spawn(connection(Arc::clone(&core), stream, peer));
    }
    drain(connections).await;
}

/// The user whom a client certificate names.
fn certificate_user(certificate: &CertInfo) -> Option<User> {
    let name = certificate.common_name.clone()?;
    Some(User::new(name, certificate.organizations.iter().cloned()))
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
        async move {
            let answer = warnings::gather(answer(&core, peer, request));
            Ok::<_, std::convert::Infallible>(answer.await)
        }
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
    let user = auth::authenticate(core, peer, request.headers())?;
    match request::parse_path(&path, &core.kinds()) {
        Path::Unknown => Err(ApiError::no_such_path()),
        Path::Other => {
            auth::authorize_path(core, &user, &path)?;
            discovery::get(core, &path, request.headers()).ok_or_else(ApiError::no_such_path)
        }
        Path::Resource(target) => {
            let query = request
                .uri()
                .query()
                .map(request::parse_query)
                .unwrap_or_default();
            let verb = match target.subresource.as_str() {
                // A WebSocket is opened by GET, but who may look at pods may not run programs in them, nor
                // connect to them.
                "exec" | "portforward" => "create",
                _ => request::verb(request.method(), &target, &query),
            };
            auth::authorize(core, &user, &target, verb)?;
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
    let upgrade = match target.subresource.as_str() {
        "portforward" | "exec" => UpgradeRequest::take(&mut request),
        _ => None,
    };
    let (parts, body) = request.into_parts();
    let query = parts
        .uri
        .query()
        .map(request::parse_query)
        .unwrap_or_default();
    let command = match target.subresource.as_str() {
        "exec" => request::values(parts.uri.query().unwrap_or_default(), "command"),
        _ => Vec::new(),
    };
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
    let form = if matches!(target.subresource.as_str(), "log" | "portforward" | "exec") {
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
    let body = read_body(body).await?;
    Ok(Call {
        target,
        verb,
        query,
        command,
        form,
        user,
        user_agent,
        content_type,
        body,
        upgrade: upgrade.map(Arc::new),
    })
}

/// Reads a body whole. One that is too large is read to its end and thrown away, since many clients
/// look for an answer only once they have sent everything.
async fn read_body(mut body: Incoming) -> Result<Bytes, ApiError> {
    let broken = |error| ApiError::bad_request(format!("cannot read the body: {error}"));
    let (mut bytes, mut length) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(broken)?.into_data() else {
            continue;
        };
        length += data.len();
        match length {
            0..=MAX_BODY => bytes.extend_from_slice(&data),
            _ if length > MAX_DISCARDED => break,
            _ => bytes = Vec::new(),
        }
    }
    if length <= MAX_BODY {
        return Ok(bytes.into());
    }
    Err(ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "RequestEntityTooLarge",
        format!("the request is too large: the limit is {MAX_BODY} bytes; make it smaller"),
    ))
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
        ("exec", _) if target.resource.is("", "pods") => {
            read::object(core, target)?;
            return exec::accept(core, call);
        }
        ("exec" | "attach" | "portforward" | "proxy", _) => {
            return Err(ApiError::new(
                StatusCode::NOT_IMPLEMENTED,
                "NotImplemented",
                format!("{} is not supported by this platform", target.subresource),
            ));
        }
        ("token", "create") if target.resource.is("", "serviceaccounts") => {
            let token = reviews::token_request(core, call)?;
            return Ok(reply::formed(StatusCode::CREATED, &token, call.form));
        }
        ("", "create") if target.resource.virtual_only => {
            let review = reviews::create(core, call)?;
            return Ok(reply::formed(StatusCode::CREATED, &review, call.form));
        }
        ("eviction", "create") if target.resource.is("", "pods") => {
            let status = write::evict(core, call).await?;
            return Ok(reply::formed(StatusCode::CREATED, &status, call.form));
        }
        _ => {}
    }
    if target.resource.read_only && !matches!(call.verb, "get" | "list" | "watch") {
        let what = format!(
            "{} of {}, which this platform does not enforce,",
            call.verb,
            target.resource.qualified()
        );
        return Err(ApiError::method_not_allowed(&what));
    }
    match call.verb {
        "get" => read::get(core, call),
        "list" => read::list(core, call),
        "watch" => watch::watch(core, call),
        "create" => {
            let object = write::create(core, call).await?;
            written(call, StatusCode::CREATED, &object)
        }
        "update" => {
            let object = write::update(core, call).await?;
            written(call, StatusCode::OK, &object)
        }
        "patch" => {
            let (object, created) = write::patch(core, call).await?;
            let code = if created {
                StatusCode::CREATED
            } else {
                StatusCode::OK
            };
            written(call, code, &object)
        }
        "delete" => write::delete(core, call)
            .await
            .map(|object| reply::formed(StatusCode::OK, &object, call.form)),
        "deletecollection" => write::delete_collection(core, call)
            .await
            .map(|object| reply::formed(StatusCode::OK, &object, call.form)),
        other => Err(ApiError::method_not_allowed(other)),
    }
}

/// An object after a write, or its scale if that is what was written.
fn written(call: &Call, code: StatusCode, object: &serde_json::Value) -> Result<Reply, ApiError> {
    let shown = match call.target.subresource.as_str() {
        "scale" => strategy::scale::of(&call.target.resource, object)?,
        _ => read::present(call, object),
    };
    Ok(reply::formed(code, &shown, call.form))
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
