//! Forwarding a request to a cluster: rewrites, limits, attempts, and what comes back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lateen_balance::{Outcome, Permit, Priority, Resource};
use lateen_core::{Direction, Reason};
use lateen_decode::{Discovery, RouteExtra, UpstreamProtocol};
use lateen_http::{
    Body, Freed, Interim, Known, Lease, Request, RequestHead, Response, SendError, Version,
};
use lateen_route::{
    Forward, HeaderMutations, Host as VirtualHost, HostRewrite, RetryPolicy, Route, RouteTable,
    Target, Weighted, without_port,
};
use tokio::time::Instant;

use super::meter::Meter;
use super::replay::Replay;
use super::reply::{LocalReply, reset};
use super::retry::{Failure, Quiet, pause, request_allows_retry, response_wants_retry};
use super::rewrite::{hash_of, rewrite, timeout};
use super::{Hcm, headers, mirror, upgrade};
use crate::cluster::{
    Cluster, ConnectError, Host, HttpWant, To, Transport, Unresolved, connect_http,
};
use crate::listener::Connection;
use crate::peer::{PEER_METADATA, PEER_METADATA_ID, shared_from_header};
use crate::worker::{PoolKey, Tried, Worker};

/// How often a request that was not processed is sent again outside of any policy. A host may refuse
/// it each time.
const MAX_RESENT: u32 = 3;

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
        upgrade: upgrading,
        wants_local: meter.is_logged() || !headers::is_idle(&mutations, true),
        deadline,
        current: None,
        tried: Vec::new(),
        priorities: Vec::new(),
        left: Vec::new(),
        _permit: permit,
    };
    let mut response = exchange
        .attempts(&mut head, body, host.include_attempt_count, meter)
        .await?;
    if let Some(raw) = raw.filter(|_| response.upgrade.is_some()) {
        upgrade::relay(
            raw,
            &mut response,
            action.idle_timeout.unwrap_or(hcm.spec.stream_idle_timeout),
        );
    } else {
        response.head.headers.remove_hop_by_hop();
    }
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

impl Exchange<'_> {
    /// Tries until there is an answer or nothing more to try.
    async fn attempts(
        &mut self,
        head: &mut RequestHead,
        body: Body,
        count_attempts: bool,
        meter: &mut Meter,
    ) -> Result<Response, LocalReply> {
        let policy = self.action.retry.as_ref().filter(|_| !self.upgrade);
        let policy = policy.filter(|policy| request_allows_retry(policy, head));
        let replay = Replay::new(body);
        let mut tries = 0;
        let mut fresh_try = true;
        loop {
            tries += 1;
            let last = policy.is_none_or(|policy| tries > policy.attempts);
            if last {
                replay.seal();
            }
            if count_attempts {
                let count = u64::from(tries);
                head.headers.set_number(Known::X_ENVOY_ATTEMPT_COUNT, count);
            }
            let body = replay.attempt();
            let result = self.bounded(head, body, policy, meter).await?;
            let again = !last && replay.is_possible();
            match result {
                Ok(response) => {
                    let policy =
                        policy.filter(|policy| again && response_wants_retry(policy, &response));
                    match policy {
                        Some(policy) if self.may_retry(policy, tries).await => self.refresh(),
                        _ => return Ok(response),
                    }
                }
                Err(failure) => {
                    // The reuse race: a connection that was closing takes no blame, and a request
                    // that may be repeated is sent once more on another one.
                    let raced = matches!(&failure, Failure::Exchange { reused: true, error }
                        if matches!(error, lateen_http::Error::Closed(_)))
                        && head.method.is_idempotent()
                        && replay.is_possible();
                    if raced && fresh_try {
                        fresh_try = false;
                        tries -= 1;
                        continue;
                    }
                    meter.entry.failure = failure.text();
                    let policy = policy.filter(|policy| again && failure.wants_retry(policy));
                    match policy {
                        Some(policy) if self.may_retry(policy, tries).await => self.refresh(),
                        _ => {
                            if tries > 1 && last {
                                meter.entry.reasons.push(Reason::UpstreamRetryLimitExceeded);
                            }
                            return Err(reset(failure.reason(), &failure.text()));
                        }
                    }
                }
            }
        }
    }

    /// Waits before the next try; false where the limit on retries is reached.
    async fn may_retry(&self, policy: &RetryPolicy, tries: u32) -> bool {
        let Ok(_permit) = self.cluster.acquire(Resource::Retry, self.priority) else {
            return false;
        };
        self.cluster.stats.rq_retry.inc();
        tokio::time::sleep(pause(policy, tries)).await;
        true
    }

    /// Hosts may have come and gone since the try before.
    fn refresh(&mut self) {
        let snapshot = self.worker.shared.snapshot.load();
        if let Some(found) = snapshot.clusters.get(&self.cluster.spec.name)
            && found.warm
            && !Arc::ptr_eq(found, &self.cluster)
        {
            self.cluster = found.clone();
            self.current = None;
            self.tried.clear();
        }
    }

    /// How long a try may take, and how long it may be quiet; zero is without a bound.
    fn bounds_of_try(&self) -> (Duration, Duration) {
        let policy = self.action.retry.as_ref().filter(|_| !self.upgrade);
        policy.map_or_else(Default::default, |policy| {
            (policy.per_try_timeout, policy.per_try_idle)
        })
    }

    /// One try within the bounds of the try and of the exchange.
    async fn bounded(
        &mut self,
        head: &mut RequestHead,
        body: Body,
        policy: Option<&RetryPolicy>,
        meter: &mut Meter,
    ) -> Result<Result<Response, Failure>, LocalReply> {
        let (per_try, idle) = self.bounds_of_try();
        let try_deadline = (!per_try.is_zero()).then(|| Instant::now() + per_try);
        let bound = [self.deadline, try_deadline].into_iter().flatten().min();
        let deadline = self.deadline;
        let result = if idle.is_zero() {
            let attempt = self.attempt(head, body, policy, meter);
            match bound {
                None => Some(attempt.await),
                Some(bound) => tokio::time::timeout_at(bound, attempt).await.ok(),
            }
        } else {
            // Boxed, since hardly any policy asks for it.
            Box::pin(async {
                let (quiet, body) = Quiet::new(idle, body);
                let attempt = self.attempt(head, body, policy, meter);
                tokio::select! {
                    biased;
                    result = attempt => Some(result),
                    () = quiet.lasts_too_long() => None,
                    () = sleep_until(bound) => None,
                }
            })
            .await
        };
        match result {
            Some(result) => Ok(result.map_err(|error| *error)?),
            None => {
                self.cluster.stats.rq_timeout.inc();
                self.cluster.stats.response(504);
                // The try was cut off before it could report how it went.
                if let Some(index) = self.current {
                    let outcome = Outcome::LocalFailure;
                    self.worker.shared.report(&self.cluster, index, outcome);
                }
                if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                    return Err(reset(Reason::UpstreamRequestTimeout, ""));
                }
                Ok(Err(Failure::PerTryTimeout))
            }
        }
    }

    /// One try: choose a host, send, and report how it went.
    async fn attempt(
        &mut self,
        head: &mut RequestHead,
        body: Body,
        policy: Option<&RetryPolicy>,
        meter: &mut Meter,
    ) -> Result<Result<Response, Failure>, Box<LocalReply>> {
        let chosen = match self.cluster.is_dynamic() {
            false => self.choose(head, policy),
            // Boxed, since few clusters are of that kind.
            true => Some((None, Box::pin(self.named_host(head)).await?)),
        };
        let Some((index, host)) = chosen else {
            return Err(Box::new(reset(Reason::NoHealthyUpstream, "")));
        };
        meter.entry.host = Some(host.address);
        meter.facts.host = Some(host.clone());
        if matches!(self.action.host, Some(HostRewrite::Auto)) && !host.hostname.is_empty() {
            // A name that DNS resolved is header text.
            let _ = head.set_authority(&host.hostname);
        }
        let (worker, cluster) = (self.worker, &self.cluster);
        add_peer(worker, self.connection, cluster, &host, head);
        let stats = &self.cluster.stats;
        let _active = Active::new(&self.cluster, index);
        stats.rq_total.inc();
        let started = Instant::now();
        let local = self.wants_local.then_some(&mut meter.entry.upstream_local);
        let result = self.send(&host, head, body, local).await;
        let outlier = |outcome| {
            if let Some(index) = index {
                self.worker.shared.report(&self.cluster, index, outcome);
            }
        };
        match result {
            Ok(mut response) => {
                stats.response(response.head.status);
                outlier(Outcome::Status(self.judged_status(&response)));
                let elapsed = crate::cluster::millis(started.elapsed());
                let headers = &mut response.head.headers;
                headers.set_number(Known::X_ENVOY_UPSTREAM_SERVICE_TIME, elapsed);
                self.take_peer(&mut response, meter);
                meter.entry.details = "via_upstream";
                Ok(Ok(response))
            }
            Err(failure) => {
                if !matches!(failure.reason(), Reason::DownstreamConnectionTermination) {
                    outlier(Outcome::LocalFailure);
                }
                stats.response(503);
                Ok(Err(failure))
            }
        }
    }

    /// The host that the request names. Its port is the one of the scheme that the cluster speaks,
    /// where the request names none.
    async fn named_host(&self, head: &RequestHead) -> Result<Arc<Host>, Box<LocalReply>> {
        let authority = head.authority();
        let name = without_port(authority);
        let port = match authority[name.len()..].strip_prefix(':') {
            Some(port) => port.parse().ok(),
            None => Some(match &self.cluster.transports[0] {
                Transport::Raw => 80,
                Transport::Tls(_) => 443,
            }),
        };
        // A port that is none makes the whole a name that nobody has.
        let found = match port {
            Some(port) => {
                let now = self.worker.shared.now();
                self.cluster.named_host(name, port, now).await
            }
            None => Err(Unresolved::Failed),
        };
        found.map_err(|error| {
            let (reason, details) = match error {
                Unresolved::Full => (Reason::UpstreamOverflow, "dns_cache_overflow"),
                Unresolved::Failed => (Reason::DnsResolutionFailed, "dns_resolution_failure"),
            };
            Box::new(LocalReply::new(reason, details, error.to_string()))
        })
    }

    /// The status that outlier detection is told: of what the cluster calls a failure, where it
    /// says so.
    fn judged_status(&self, response: &Response) -> u16 {
        let head = &response.head;
        match &self.cluster.spec.errors {
            None => head.status,
            Some(errors) if errors.matches(head.status, &|name| head.headers.joined(name)) => 500,
            Some(_) => 200,
        }
    }

    fn choose(
        &mut self,
        head: &RequestHead,
        policy: Option<&RetryPolicy>,
    ) -> Option<(Option<usize>, Arc<Host>)> {
        if let Discovery::OriginalDst { header, port } = &self.cluster.spec.discovery {
            let named = header
                .as_ref()
                .and_then(|name| head.headers.get(name)?.parse().ok());
            let mut address = named.unwrap_or(self.connection.local);
            if let Some(port) = port {
                address.set_port(*port);
            }
            return Some((None, Arc::new(Host::at(address))));
        }
        let attempts = policy.map_or(1, |policy| policy.host_attempts);
        let avoid = policy.is_some_and(|policy| policy.avoid_previous_hosts);
        if avoid {
            self.tried.extend(self.current);
        }
        let leave_after = policy.map_or(0, |policy| policy.leave_priorities_after as usize);
        if leave_after > 0
            && !self.priorities.is_empty()
            && self.priorities.len().is_multiple_of(leave_after)
        {
            self.left.clone_from(&self.priorities);
        }
        let tried = Tried {
            hosts: &self.tried,
            draws: attempts,
            priorities: &self.left,
        };
        let index = self.worker.shared.pick(&self.cluster, self.hash, tried)?;
        if leave_after > 0 {
            self.priorities
                .push(self.cluster.hosts.specs[index].priority);
        }
        self.current = Some(index);
        Some((Some(index), self.cluster.hosts.hosts[index].clone()))
    }

    /// Takes the answering workload's metadata out of a response.
    fn take_peer(&self, response: &mut Response, meter: &mut Meter) {
        if self.connection.listener.direction != Some(Direction::Outbound) {
            return;
        }
        let headers = &mut response.head.headers;
        let metadata = headers.bytes(PEER_METADATA);
        if let Some(workload) = metadata.and_then(shared_from_header) {
            meter.facts.peer = Some(workload);
        }
        headers.remove(PEER_METADATA);
        headers.remove(PEER_METADATA_ID);
    }

    fn want(&self, head: &RequestHead) -> HttpWant {
        match (self.cluster.spec.http.protocol, head.version) {
            (UpstreamProtocol::Http1, _) => HttpWant::Http1,
            // Every server of HTTP/1 may switch protocols; few of HTTP/2 do (RFC 8441).
            (UpstreamProtocol::Auto, _) if self.upgrade => HttpWant::Http1,
            (UpstreamProtocol::Http2, _) => HttpWant::Http2,
            (UpstreamProtocol::Auto, _) => HttpWant::Auto,
            (UpstreamProtocol::Downstream, Version::Http2) => HttpWant::Http2,
            (UpstreamProtocol::Downstream, _) => HttpWant::Http1,
        }
    }

    /// Sends on a connection of the pool, or on a new one, whose address becomes `local`.
    async fn send(
        &self,
        host: &Host,
        head: &RequestHead,
        mut body: Body,
        mut local: Option<&mut Option<SocketAddr>>,
    ) -> Result<Response, Failure> {
        let want = self.want(head);
        let key = PoolKey {
            cluster: self.cluster.id,
            address: host.address,
            transport: host.transport,
            want,
            priority: self.priority,
            sni: self.sni_of(host, head),
            client: self.cluster.client_of(host, self.connection),
        };
        let mut resent = 0;
        loop {
            let pooled = match resent {
                0 => self.worker.pool.checkout(&key),
                _ => None,
            };
            let lease = match pooled {
                Some(lease) => lease,
                None => {
                    // Boxed, since most requests find a connection and need no room for this.
                    let obtaining = Box::pin(self.obtain(host, head, &key));
                    obtaining.await.map_err(Failure::Connect)?
                }
            };
            if let Some(local) = &mut local {
                **local = lease.local_addr();
            }
            match lease.send(head, body, self.interim.as_ref()).await {
                Ok(response) => return Ok(response),
                // Not one byte went out: no policy is needed to send it elsewhere.
                Err(SendError {
                    unsent: Some(unsent),
                    reused: true,
                    ..
                }) if resent < MAX_RESENT => {
                    body = unsent;
                    resent += 1;
                }
                Err(SendError { error, reused, .. }) => {
                    return Err(Failure::Exchange { error, reused });
                }
            }
        }
    }

    /// A new connection; where the cluster may have no more, one that another request gives back. A
    /// host to which there is none gets one all the same, as Envoy has it: it would starve beside
    /// others.
    async fn obtain(
        &self,
        host: &Host,
        head: &RequestHead,
        key: &PoolKey,
    ) -> Result<Lease, ConnectError> {
        let (cluster, priority) = (&self.cluster, self.priority);
        let _pending = cluster.acquire(Resource::Pending, priority)?;
        let permit = loop {
            if let Ok(permit) = cluster.acquire(Resource::Connection, priority) {
                break permit;
            }
            match self.worker.pool.freed(key).await {
                Freed::Lease(lease) => return Ok(lease),
                Freed::Ended => {}
                Freed::None => {
                    let breaker = &cluster.breaker;
                    break breaker.acquire_anyway(Resource::Connection, priority);
                }
            }
        };
        self.connect(host, head, key, permit).await
    }

    /// A new connection for the pool.
    async fn connect(
        &self,
        host: &Host,
        head: &RequestHead,
        key: &PoolKey,
        permit: Permit,
    ) -> Result<Lease, ConnectError> {
        let (cluster, authority) = (&self.cluster, head.authority());
        let to = To {
            address: host.address,
            name: &host.hostname,
            transport: host.transport,
            client: self.connection.between(),
        };
        let connecting = connect_http(cluster, to, authority, key.want, permit);
        let multiplexed = key.want == HttpWant::Http2;
        self.worker.pool.connect(key, multiplexed, connecting).await
    }

    /// Connections that asked for different names are not interchangeable.
    fn sni_of(&self, host: &Host, head: &RequestHead) -> Option<String> {
        match &self.cluster.transports[host.transport] {
            Transport::Tls(tls) if tls.auto_sni => Some(head.authority().to_owned()),
            _ => None,
        }
    }
}

async fn sleep_until(bound: Option<Instant>) {
    match bound {
        Some(bound) => tokio::time::sleep_until(bound).await,
        None => std::future::pending().await,
    }
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

/// Counts a request to a host while it waits for the response's head.
struct Active<'a> {
    cluster: &'a Cluster,
    index: Option<usize>,
}

impl<'a> Active<'a> {
    fn new(cluster: &'a Cluster, index: Option<usize>) -> Self {
        cluster.stats.rq_active.add(1);
        if let Some(index) = index {
            cluster.hosts.specs[index]
                .state
                .active
                .fetch_add(1, Ordering::Relaxed);
        }
        Active { cluster, index }
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.cluster.stats.rq_active.add(-1);
        if let Some(index) = self.index {
            self.cluster.hosts.specs[index]
                .state
                .active
                .fetch_sub(1, Ordering::Relaxed);
        }
    }
}
