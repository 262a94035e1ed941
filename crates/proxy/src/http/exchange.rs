//! One exchange from its request to its response.
//!
//! The order of policies is that of `run` and `respond`, and it is the same for every connection
//! manager, whatever the order of its filter list:
//!
//! 1. the edge: address, scheme, identifier, certificate header, path
//! 2. peer metadata is taken out of the request
//! 3. virtual host and route
//! 4. cross-origin resource sharing
//! 5. fault injection
//! 6. the route's action: a direct answer, a redirect, or forwarding (see `forward`)
//! 7. the response's headers
//! 8. metrics and access log, when the last byte is out

use std::sync::Arc;

use lateen_core::{Direction, Reason};
use lateen_decode::{RouteExtra, Routes, ServerHeader};
use lateen_http::{Abort, Handler, Known, Request, RequestHead, Response, Value};
use lateen_route::{Action, HeaderMutations, PathRedirect, Redirect, Route, RouteTable};

use super::edge::{Malformed, prepare};
use super::forward::{Answer, forward};
use super::log::Entry;
use super::meter::Meter;
use super::reply::LocalReply;
use super::view::HeadView;
use super::{Hcm, cors, fault};
use crate::listener::Connection;
use crate::peer::{PEER_METADATA, PEER_METADATA_ID, shared_from_header};
use crate::worker::Worker;

/// Answers the requests of one connection.
#[derive(Clone)]
pub(crate) struct Service {
    pub worker: Arc<Worker>,
    pub hcm: Arc<Hcm>,
    pub connection: Arc<Connection>,
}

impl Handler for Service {
    async fn handle(&self, request: Request) -> Result<Response, Abort> {
        Ok(run(self, request).await)
    }
}

async fn run(service: &Service, mut request: Request) -> Response {
    let Service {
        worker,
        hcm,
        connection,
    } = service;
    let shared = &worker.shared;
    let version = request.head.version;
    let mut meter = Meter::new(worker.clone(), hcm.clone(), connection, version);
    let is_grpc = request.head.is_grpc();
    meter.facts.grpc = is_grpc;
    let prepared = prepare(shared, hcm, connection, &mut request.head);
    let request_id = if hcm.spec.request_id_in_response {
        request.head.headers.value(Known::X_REQUEST_ID)
    } else {
        None
    };
    let exchanged = take_peer(connection, &mut request.head, &mut meter);
    if meter.is_logged() || hcm.spec.local_reply.is_some() {
        meter.entry.head = Some(Box::new(request.head.clone()));
    }
    let answer = match prepared {
        Ok(()) => respond(service, request, &mut meter).await,
        Err(Malformed::NoAuthority) => Err(LocalReply::plain(
            400,
            "missing_host_header",
            "missing host header",
        )),
        Err(Malformed::Path) => Err(LocalReply::plain(400, "path_normalization_failed", "")),
    };
    let mut answer = answer.unwrap_or_else(|reply| {
        meter.entry.reasons.extend(reply.reason);
        meter.entry.details = reply.details;
        Answer::local(local(hcm, reply, is_grpc, &mut meter.entry, &[]))
    });
    decorate(service, &mut answer.response, exchanged, request_id);
    let head = &answer.response.head;
    meter.entry.status = head.status;
    if is_grpc {
        meter.entry.grpc_status = head
            .headers
            .get(Known::GRPC_STATUS)
            .and_then(|status| status.parse().ok());
    }
    if meter.is_logged() {
        meter.entry.response_headers = Some(head.headers.clone());
    }
    let mut response = answer.response;
    if response.head.status == 101 {
        meter.finish();
    } else {
        let body = std::mem::take(&mut response.body);
        response.body = meter.count_response(body, answer.deadline, answer.idle, is_grpc);
    }
    response
}

/// An answer of our own, with these changes of its headers, and as the configuration has such answers.
fn local(
    hcm: &Hcm,
    reply: LocalReply,
    is_grpc: bool,
    entry: &mut Entry,
    changes: &[&HeaderMutations],
) -> Response {
    reply.into_response(is_grpc, hcm.spec.local_reply.as_ref(), entry, changes)
}

/// Takes the client's metadata out of a request; true where it expects ours.
fn take_peer(connection: &Connection, head: &mut RequestHead, meter: &mut Meter) -> bool {
    if connection.listener.direction != Some(Direction::Inbound) {
        return false;
    }
    let metadata = head.headers.bytes(PEER_METADATA);
    meter.facts.peer = metadata.and_then(shared_from_header);
    let named = head.headers.remove(PEER_METADATA);
    head.headers.remove(PEER_METADATA_ID) || named
}

async fn respond(
    service: &Service,
    request: Request,
    meter: &mut Meter,
) -> Result<Answer, LocalReply> {
    let Service {
        worker,
        hcm,
        connection,
    } = service;
    let not_found = || LocalReply::new(Reason::NoRouteFound, "route_not_found", "");
    let table: Arc<RouteTable<RouteExtra>> = match &hcm.spec.routes {
        Routes::Inline(table) => table.clone(),
        Routes::Named(name) => worker.shared.routes(name).await.ok_or_else(not_found)?,
    };
    let host = table.host(request.head.authority()).ok_or_else(not_found)?;
    if host.require_tls && request.head.headers.get(Known::X_FORWARDED_PROTO) != Some("https") {
        let location = format!(
            "https://{}{}",
            request.head.authority(),
            request.head.target()
        );
        let reply = LocalReply::plain(301, "http_to_https_redirect", "");
        return Err(reply.with_header(Known::LOCATION, &location));
    }
    let route = host
        .route(&HeadView::new(&request.head), fastrand::u64(..))
        .ok_or_else(not_found)?;
    meter.entry.route = route.name.clone();

    let sharing = route.extra.cors.as_ref().or(host.extra.cors.as_ref());
    let sharing = sharing.filter(|cors| hcm.spec.filters.cors_enabled && cors.enabled);
    let origin = sharing.and_then(|cors| cors::allowed_origin(cors, &request.head));
    if let Some(cors) = sharing.filter(|_| cors::is_preflight(&request.head)) {
        match &origin {
            Some(origin) => {
                let answer = cors::preflight(cors, origin, &request.head);
                return Ok(Answer::local(answer));
            }
            None if !cors.forward_unmatched => return Ok(Answer::local(Response::new(200, ""))),
            None => {}
        }
    }

    if hcm.spec.filters.fault_enabled {
        let fault = route.extra.fault.as_ref().or(host.extra.fault.as_ref());
        if let Some(fault) = fault.or(hcm.spec.filters.fault.as_ref()) {
            let cluster = only_cluster(route);
            // Most requests meet no fault, and need no room for the pause of one.
            let reasons = &mut meter.entry.reasons;
            Box::pin(fault::inject(fault, &request.head, cluster, reasons)).await?;
        }
    }

    let mut answer = match &route.action {
        Action::Direct(direct) => {
            meter.entry.details = "direct_response";
            let is_grpc = request.head.is_grpc();
            let list = [&route.headers, &host.headers, &table.headers];
            let body = direct.body.clone();
            let reply = LocalReply::plain(direct.status, "direct_response", body);
            Answer::local(local(hcm, reply, is_grpc, &mut meter.entry, &list))
        }
        Action::Redirect(redirect) => {
            let is_grpc = request.head.is_grpc();
            meter.entry.details = "direct_response";
            let list = [&route.headers, &host.headers, &table.headers];
            let reply = redirect_to(redirect, route, &request.head);
            Answer::local(local(hcm, reply, is_grpc, &mut meter.entry, &list))
        }
        Action::Forward(action) => {
            let place = super::forward::Place {
                table: &table,
                host,
                route,
                action,
            };
            forward(worker, hcm, connection, place, request, meter).await?
        }
    };
    if let (Some(cors), Some(origin)) = (sharing, &origin) {
        cors::decorate(cors, origin, &mut answer.response.head);
    }
    Ok(answer)
}

fn only_cluster(route: &Route<RouteExtra>) -> Option<&str> {
    match &route.action {
        Action::Forward(forward) => match &forward.target {
            lateen_route::Target::Cluster(cluster) => Some(cluster),
            _ => None,
        },
        _ => None,
    }
}

fn redirect_to(redirect: &Redirect, route: &Route<RouteExtra>, head: &RequestHead) -> LocalReply {
    let old_scheme = head.headers.get(Known::X_FORWARDED_PROTO).unwrap_or("http");
    let scheme = redirect.scheme.as_deref().unwrap_or(old_scheme);
    let authority = head.authority();
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (name, Some(port)),
        _ => (authority, None),
    };
    let host = redirect.host.as_deref().unwrap_or(name);
    // The old port means nothing under another host, and nor does that of a scheme under another one.
    let is_schemes = |port: &str| scheme != old_scheme && is_default(old_scheme, port);
    let kept = port.filter(|port| redirect.host.is_none() && !is_schemes(port));
    let port = redirect
        .port
        .map(|port| port.to_string())
        .or(kept.map(str::to_owned));
    let port = port.filter(|port| !is_default(scheme, port));
    let query = head.query().filter(|_| !redirect.strip_query);
    let mut path = match &redirect.path {
        None => head.path().to_owned(),
        Some(PathRedirect::Full(path)) => path.clone(),
        Some(PathRedirect::Rewrite(rewrite)) => {
            rewrite.apply(&route.matcher.path, head.path(), None)
        }
    };
    if let Some(query) = query.filter(|_| !path.contains('?')) {
        path = format!("{path}?{query}");
    }
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    let location = format!("{scheme}://{host}{port}{path}");
    let reply = LocalReply::plain(redirect.status, "direct_response", "");
    reply.with_header(Known::LOCATION, &location)
}

fn is_default(scheme: &str, port: &str) -> bool {
    matches!((scheme, port), ("http", "80") | ("https", "443"))
}

/// The headers that every response carries.
fn decorate(
    service: &Service,
    response: &mut Response,
    exchanged: bool,
    request_id: Option<Value>,
) {
    let Service {
        worker,
        hcm,
        connection,
    } = service;
    let headers = &mut response.head.headers;
    match hcm.spec.server_header {
        ServerHeader::Keep => {}
        ServerHeader::IfAbsent if headers.contains(Known::SERVER) => {}
        _ => headers.set_value(Known::SERVER, &hcm.server_name),
    }
    if !headers.contains(Known::DATE) {
        headers.set_value(Known::DATE, &worker.shared.date());
    }
    if let Some(id) = request_id {
        headers.set_value(Known::X_REQUEST_ID, &id);
    }
    if exchanged {
        headers.set_value(PEER_METADATA, &worker.shared.node.peer_header);
        headers.set_value(PEER_METADATA_ID, &worker.shared.node.id_header);
    }
    let draining = connection.chain.drain.is_set()
        || worker.shared.drain.is_set()
        || connection.is_last_request(hcm.spec.max_requests);
    if draining && response.head.status != 101 {
        headers.set_value(Known::CONNECTION, &Value::from_static("close"));
    }
}
