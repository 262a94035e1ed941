//! Forwarding a request to a cluster: rewrites, limits, attempts, and what comes back.

mod host;
mod send;
mod tries;

use std::sync::Arc;
use std::time::Duration;

use lateen_balance::{Permit, Priority, Resource};
use lateen_core::{Direction, Reason};
use lateen_decode::RouteExtra;
use lateen_http::{Headers, Interim, Known, Request, RequestHead, Response};
use lateen_route::{
    Forward, HeaderMutations, Host as VirtualHost, Route, RouteTable, Target, Weighted,
};
use tokio::time::Instant;

use super::meter::Meter;
use super::reply::{LocalReply, reset};
use super::rewrite::{hash_of, rewrite, timeout};
use super::session::Session;
use super::{Hcm, headers, mirror, upgrade};
use crate::cluster::{Cluster, Host, Transport};
use crate::listener::Connection;
use crate::peer::{PEER_METADATA, PEER_METADATA_ID};
use crate::worker::Worker;

/// Where a request was routed.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub table: &'a RouteTable<RouteExtra>,
    pub host: &'a VirtualHost<RouteExtra>,
    pub route: &'a Route<RouteExtra>,
    pub action: &'a Forward,
}

/// A response with the bounds on the rest of it.
pub(crate) struct Answer {
    pub response: Response,
    pub deadline: Option<Instant>,
    pub idle: Duration,
}

impl Answer {
    /// A response of our own.
    pub(crate) fn local(response: Response) -> Self {
        Answer {
            response,
            deadline: None,
            idle: Duration::ZERO,
        }
    }
}

/// A request on its way to one cluster.
struct Exchange<'a> {
    interim: Option<Interim>,
    worker: &'a Arc<Worker>,
    connection: &'a Connection,
    cluster: Arc<Cluster>,
    action: &'a Forward,
    priority: Priority,
    hash: Option<u64>,
    /// The host that it should stay with.
    session: Option<Session>,
    is_retry: bool,
    upgrade: bool,
    /// Somebody will read the address that we speak from.
    wants_local: bool,
    deadline: Option<Instant>,
    /// The host of the try under way.
    current: Option<usize>,
    /// The hosts of former tries, where the next one should avoid them.
    tried: Vec<usize>,
    /// The priorities of former tries, where the next ones should leave them.
    priorities: Vec<u32>,
    /// Those that are left.
    left: Vec<u32>,
    _permit: Permit,
}

/// Forwards a request.
pub(crate) async fn forward(
    worker: &Arc<Worker>,
    hcm: &Hcm,
    connection: &Arc<Connection>,
    place: Place<'_>,
    request: Request,
    meter: &mut Meter,
) -> Result<Answer, LocalReply> {
    let Place {
        action,
        host,
        route,
        table,
    } = place;
    let Request {
        mut head,
        body,
        upgrade: raw,
        interim,
    } = request;
    let (cluster, weighted) = choose(worker, action, &head, meter).await?;
    let upgrading = upgrade::wanted(hcm, action, &head)?;
    let priority = match action.high_priority {
        true => Priority::High,
        false => Priority::Default,
    };
    let permit = cluster
        .acquire(Resource::Request, priority)
        .map_err(|_| reset(Reason::UpstreamOverflow, ""))?;

    let empty = HeaderMutations::default();
    let by_weight = weighted.map_or(&empty, |weighted| &weighted.headers);
    let mutations = [by_weight, &route.headers, &host.headers, &table.headers];
    let (hash, cookies) = hash_of(action, &head, connection);
    let session = Session::of(hcm, host, route, &head);
    rewrite(
        &mut head,
        place,
        weighted.and_then(|weighted| weighted.host.as_deref()),
    );
    if !upgrading {
        head.headers.remove_hop_by_hop();
    }
    if !headers::is_idle(&mutations, false) {
        headers::request(&mut head.headers, &mutations, &meter.entry);
    }
    let body = meter.count_request(body);
    let body = mirror::mirror(worker, connection, action, &head, body);

    let deadline = timeout(action, &head).map(|timeout| Instant::now() + timeout);
    let mut exchange = Exchange {
        interim,
        worker,
        connection,
        cluster,
        action,
        priority,
        hash,
        session,
        is_retry: false,
        upgrade: upgrading,
        wants_local: meter.is_logged() || !headers::is_idle(&mutations, true),
        deadline,
        current: None,
        tried: Vec::new(),
        priorities: Vec::new(),
        left: Vec::new(),
        _permit: permit,
    };
    let answer = exchange
        .attempts(&mut head, body, host.include_attempt_count, meter)
        .await;
    // Also where it did not answer: a client that comes back is to meet the same host.
    let tell = |headers: &mut Headers| {
        if let (Some(session), Some(host)) = (&exchange.session, &meter.entry.host) {
            session.tell(host, headers);
        }
    };
    let mut response = answer.map_err(|mut reply| {
        tell(reply.headers_mut());
        reply
    })?;
    if let Some(raw) = raw.filter(|_| response.upgrade.is_some()) {
        upgrade::relay(
            raw,
            &mut response,
            action.idle_timeout.unwrap_or(hcm.spec.stream_idle_timeout),
        );
    } else {
        response.head.headers.remove_hop_by_hop();
    }
    tell(&mut response.head.headers);
    meter.entry.status = response.head.status;
    for cookie in &cookies {
        // What the configuration says may be no header text.
        let _ = response.head.headers.append(Known::SET_COOKIE, cookie);
    }
    if !headers::is_idle(&mutations, true) {
        headers::response(&mut response.head.headers, &mutations, &meter.entry);
    }
    let idle = action.idle_timeout.unwrap_or(hcm.spec.stream_idle_timeout);
    let idle = match exchange.bounds_of_try() {
        (_, own) if !own.is_zero() && (idle.is_zero() || own < idle) => own,
        _ => idle,
    };
    Ok(Answer {
        response,
        deadline,
        idle,
    })
}

/// The cluster that the route names, and what it says of it.
async fn choose<'a>(
    worker: &Worker,
    action: &'a Forward,
    head: &RequestHead,
    meter: &mut Meter,
) -> Result<(Arc<Cluster>, Option<&'a Weighted>), LocalReply> {
    let (name, weighted) = match &action.target {
        Target::Header(header) => (head.headers.get(header).ok_or_else(no_cluster)?, None),
        target => {
            let choice = target.choose(fastrand::u64(..), |_| None);
            let choice = choice.ok_or_else(no_cluster)?;
            (choice.cluster, choice.weighted)
        }
    };
    let Some(cluster) = worker.shared.cluster(name).await else {
        meter.entry.cluster = name.into();
        return Err(no_cluster());
    };
    meter.entry.cluster = cluster.spec.name.clone();
    meter.facts.cluster = Some(cluster.clone());
    Ok((cluster, weighted))
}

fn no_cluster() -> LocalReply {
    LocalReply::new(Reason::NoClusterFound, "cluster_not_found", "")
}

/// Tells a workload of the mesh who is calling. Nobody else is told.
pub(super) fn add_peer(
    worker: &Worker,
    connection: &Connection,
    cluster: &Cluster,
    host: &Host,
    head: &mut RequestHead,
) {
    let transport = &cluster.transports[host.transport];
    let mesh = matches!(transport, Transport::Tls(tls) if tls.mesh);
    let outbound = connection.listener.direction == Some(Direction::Outbound);
    if outbound && (mesh || host.workload.is_some()) {
        let node = &worker.shared.node;
        head.headers.set_value(PEER_METADATA, &node.peer_header);
        head.headers.set_value(PEER_METADATA_ID, &node.id_header);
    } else if outbound {
        // What an application claims to be, or what the try before said, is nobody's business.
        head.headers.remove(PEER_METADATA);
        head.headers.remove(PEER_METADATA_ID);
    }
}
