//! Tries of a request: how many there are, how long each may take, and what is told of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lateen_balance::{Outcome, Resource};
use lateen_core::{Direction, Reason};
use lateen_http::{Body, Known, RequestHead, Response};
use lateen_route::{HostRewrite, RetryPolicy};
use tokio::time::Instant;

use super::{Exchange, add_peer};
use crate::cluster::Cluster;
use crate::http::meter::Meter;
use crate::http::replay::Replay;
use crate::http::reply::{LocalReply, reset};
use crate::http::retry::{Failure, Quiet, pause, request_allows_retry, response_wants_retry};
use crate::peer::{PEER_METADATA, PEER_METADATA_ID, shared_from_header};

impl Exchange<'_> {
    /// Tries until there is an answer or nothing more to try.
    pub(super) async fn attempts(
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
        self.is_retry = true;
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
    pub(super) fn bounds_of_try(&self) -> (Duration, Duration) {
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
            true => Ok((None, Box::pin(self.named_host(head)).await?)),
        };
        let (index, host) = chosen.map_err(|nobody| Box::new(nobody.reply()))?;
        meter.entry.host = Some(host.address.clone());
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
}

async fn sleep_until(bound: Option<Instant>) {
    match bound {
        Some(bound) => tokio::time::sleep_until(bound).await,
        None => std::future::pending().await,
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
