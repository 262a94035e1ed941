//! One stream: requests in, responses out, and a round of pushes per snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tonic::{Status, Streaming};
use tracing::{debug, info, warn};

use super::connections::Connection;
use super::protocol::{Incoming, Outgoing, Protocol};
use super::watched::{Difference, Reply, Watched};
use super::{Ads, Event, Names, Peer, ResourceSource};
use crate::TypeUrl;

/// How long the next stage waits for answers to the last one. A client holds back the answer for
/// clusters until they are warm, which a dead name server or a missing secret can delay for ever.
const PATIENCE: Duration = Duration::from_secs(3);

/// Resource types that one stream may ask for: more than there are.
const MAX_TYPES: usize = 32;
/// Names of one type that one stream may ask for or hold: more than a large mesh has, and a bound to
/// what a client can make us remember.
const MAX_NAMES: usize = 250_000;

type Responses<R> = mpsc::Sender<Result<R, Status>>;

/// Serves one stream until either side ends it.
pub(super) async fn serve<S: ResourceSource, P: Protocol>(
    ads: &Ads<S>,
    peer: Peer,
    mut requests: Streaming<P::Request>,
    responses: &Responses<P::Response>,
) -> Result<(), Status> {
    let Some(first) = requests.message().await? else {
        return Ok(());
    };
    let first = P::read(first);
    let node = first
        .node
        .clone()
        .ok_or_else(|| Status::invalid_argument("the first request has no node"))?;
    let client = ads
        .source
        .connect(&node, &peer)
        .await
        .inspect_err(|status| {
            warn!(
                node = node.id,
                reason = status.message(),
                "refused a client"
            );
        })?;
    info!(node = node.id, protocol = P::NAME, "client connected");
    let guard = ads.connections.open(node, client, peer.address, P::NAME);
    ads.source.observe(Event::Connected);
    let ended = Ended {
        source: &*ads.source,
    };
    let mut snapshots = ads.source.snapshots();
    let snapshot = snapshots.borrow_and_update().clone();
    let mut stream = Stream::<S, P> {
        source: &ads.source,
        connection: guard.connection.clone(),
        snapshot,
        snapshots,
        outdated: false,
        responses,
        types: BTreeMap::new(),
        round: None,
        n_sent: 0,
        last_sent: Instant::now(),
    };
    let result = stream.run(first, requests).await;
    info!(node = guard.connection.node.id, "client gone");
    drop(ended);
    result
}

/// Reports the end of a stream, also when its task is dropped.
struct Ended<'a, S: ResourceSource> {
    source: &'a S,
}

impl<S: ResourceSource> Drop for Ended<'_, S> {
    fn drop(&mut self) {
        self.source.observe(Event::Disconnected);
    }
}

struct Stream<'a, S: ResourceSource, P: Protocol> {
    source: &'a Arc<S>,
    connection: Arc<Connection<S::Client>>,
    snapshot: S::Snapshot,
    snapshots: watch::Receiver<S::Snapshot>,
    /// There is a newer snapshot than `snapshot`.
    outdated: bool,
    responses: &'a Responses<P::Response>,
    types: BTreeMap<TypeUrl, Watched>,
    round: Option<Round>,
    n_sent: u64,
    last_sent: Instant,
}

/// A snapshot on its way to the client.
struct Round {
    stage: Stage,
    started: Instant,
    removed: Vec<(TypeUrl, Vec<String>)>,
}

/// Make before break.
#[derive(Clone, Copy)]
enum Stage {
    /// New clusters, and their endpoints.
    Make,
    /// What leads traffic to them.
    Use,
    /// What nothing leads to any more.
    Break,
    /// Only answers are missing.
    Done,
}

/// The lifetime of a stream, less up to a tenth: those that came together do not leave together.
fn lifetime(most: Duration, id: u64) -> Duration {
    let part = u32::try_from(id % 100).unwrap_or_default();
    most - most / 1000 * part
}

fn too_much(of: &str) -> Status {
    Status::resource_exhausted(format!("too many {of} on one stream"))
}

impl<S: ResourceSource, P: Protocol> Stream<'_, S, P> {
    async fn run(
        &mut self,
        first: Incoming,
        mut requests: Streaming<P::Request>,
    ) -> Result<(), Status> {
        self.request(first).await?;
        let end = Instant::now() + lifetime(self.source.stream_lifetime(), self.connection.id);
        loop {
            self.advance().await?;
            let patience = self.last_sent + PATIENCE;
            tokio::select! {
                request = requests.message() => match request? {
                    Some(request) => self.request(P::read(request)).await?,
                    None => return Ok(()),
                },
                changed = self.snapshots.changed(), if !self.outdated => {
                    // The source ends only with the process; the client may then reconnect.
                    changed.map_err(|_| Status::unavailable("shutting down"))?;
                    self.outdated = true;
                }
                () = tokio::time::sleep_until(patience), if !self.settled() => self.go_on(),
                // What the client holds it names when it comes back, and is not sent again.
                () = tokio::time::sleep_until(end) => {
                    return Err(Status::unavailable("the stream is of age, open another one"));
                }
            }
        }
    }

    /// Whether the client has answered everything.
    fn settled(&self) -> bool {
        self.types.values().all(|watched| !watched.unanswered)
    }

    /// Stops waiting for answers.
    fn go_on(&mut self) {
        for (type_url, watched) in &mut self.types {
            if std::mem::take(&mut watched.unanswered) {
                debug!(
                    node = self.connection.node.id,
                    ?type_url,
                    "no answer, going on"
                );
            }
        }
    }

    async fn request(&mut self, incoming: Incoming) -> Result<(), Status> {
        let Incoming {
            type_url,
            nonce,
            refused,
            wants,
            ..
        } = incoming;
        let n_types = self.types.len();
        let reply = match self.types.get_mut(&type_url) {
            None if n_types >= MAX_TYPES => return Err(too_much("resource types")),
            None => {
                let (watched, reply) = Watched::open(&type_url, wants);
                self.types.insert(type_url.clone(), watched);
                reply
            }
            Some(watched) => {
                if !nonce.is_empty() {
                    let answered = watched.answer(&nonce, refused.clone());
                    if let Some(reason) = refused.as_deref().filter(|_| answered) {
                        self.refused(&type_url, reason);
                    }
                }
                let Some(watched) = self.types.get_mut(&type_url) else {
                    return Ok(());
                };
                // In state-of-the-world a request about an older response is void: the client
                // will answer the newer one with all it wants by then.
                if P::LISTS_ALL && nonce != watched.nonce {
                    return Ok(());
                }
                watched.change(wants)
            }
        };
        let known = self.types.get(&type_url).map_or(0, Watched::n_known);
        if known > MAX_NAMES {
            return Err(too_much("resource names"));
        }
        self.reply(&type_url, reply).await
    }

    fn refused(&self, type_url: &TypeUrl, reason: &str) {
        let node = &self.connection.node.id;
        warn!(node, ?type_url, reason, "client refused a response");
        self.source.observe(Event::Refused {
            type_url,
            node,
            reason,
        });
    }

    async fn reply(&mut self, type_url: &TypeUrl, reply: Reply) -> Result<(), Status> {
        let difference = match reply {
            Reply::No => {
                self.note(type_url);
                return Ok(());
            }
            Reply::All => self.difference(type_url),
            Reply::Names(names) => {
                let existing = self.generate(type_url, Names::Only(&names));
                let Some(watched) = self.types.get(type_url) else {
                    return Ok(());
                };
                let difference = watched.difference_of(names, existing);
                if difference == Difference::default() {
                    self.note(type_url);
                    return Ok(());
                }
                difference
            }
        };
        self.send(type_url, difference).await
    }

    fn note(&self, type_url: &TypeUrl) {
        if let Some(watched) = self.types.get(type_url) {
            self.connection.update(type_url, watched);
        }
    }

    fn generate(&self, type_url: &TypeUrl, names: Names<'_>) -> Vec<Arc<super::Resource>> {
        let client = &self.connection.client;
        self.source
            .generate(&self.snapshot, client, type_url, names)
    }

    fn difference(&self, type_url: &TypeUrl) -> Difference {
        let Some(watched) = self.types.get(type_url) else {
            return Difference::default();
        };
        watched.difference(self.generate(type_url, watched.subscription()))
    }

    /// Runs the round as far as the client's answers allow, and starts the next one.
    async fn advance(&mut self) -> Result<(), Status> {
        while self.settled() {
            let Some(mut round) = self.round.take() else {
                if !std::mem::take(&mut self.outdated) {
                    self.converged(None);
                    return Ok(());
                }
                self.snapshot = self.snapshots.borrow_and_update().clone();
                self.round = Some(Round {
                    stage: Stage::Make,
                    started: Instant::now(),
                    removed: Vec::new(),
                });
                continue;
            };
            match round.stage {
                Stage::Make => {
                    self.make(&mut round).await?;
                    round.stage = Stage::Use;
                }
                Stage::Use => {
                    self.make_use(&mut round).await?;
                    round.stage = Stage::Break;
                }
                Stage::Break => {
                    self.break_old(&mut round).await?;
                    round.stage = Stage::Done;
                }
                Stage::Done => {
                    self.converged(Some(round.started));
                    continue;
                }
            }
            self.round = Some(round);
        }
        Ok(())
    }

    fn converged(&self, started: Option<Instant>) {
        if self.types.values().any(|watched| watched.refused.is_some()) {
            return;
        }
        let generation = self.source.generation(&self.snapshot);
        self.connection.acked(generation);
        if let Some(started) = started {
            let after = started.elapsed();
            self.source.observe(Event::Converged { after });
        }
    }

    async fn make(&mut self, round: &mut Round) -> Result<(), Status> {
        let clusters = self.difference(&TypeUrl::CLUSTER);
        // A changed cluster is built anew and waits for endpoints, which did not change and would
        // not be sent.
        if let Some(endpoints) = self.types.get_mut(&TypeUrl::ENDPOINT) {
            for cluster in &clusters.changed {
                endpoints.forget(&cluster.name);
            }
        }
        self.send_changed(TypeUrl::CLUSTER, clusters, round).await?;
        let endpoints = self.difference(&TypeUrl::ENDPOINT);
        self.send_changed(TypeUrl::ENDPOINT, endpoints, round).await
    }

    async fn make_use(&mut self, round: &mut Round) -> Result<(), Status> {
        let listeners = self.difference(&TypeUrl::LISTENER);
        if listeners != Difference::default() {
            self.send(&TypeUrl::LISTENER, listeners).await?;
        }
        let first = [TypeUrl::CLUSTER, TypeUrl::ENDPOINT, TypeUrl::LISTENER];
        let mut rest: Vec<TypeUrl> = self.types.keys().cloned().collect();
        rest.retain(|type_url| !first.contains(type_url));
        rest.sort_by_key(|url| TypeUrl::PUSH_ORDER.iter().position(|known| known == url));
        for type_url in rest {
            let difference = self.difference(&type_url);
            self.send_changed(type_url, difference, round).await?;
        }
        Ok(())
    }

    async fn break_old(&mut self, round: &mut Round) -> Result<(), Status> {
        for (type_url, removed) in std::mem::take(&mut round.removed) {
            let changed = Vec::new();
            self.send(&type_url, Difference { changed, removed })
                .await?;
        }
        Ok(())
    }

    /// Sends what is new and keeps what is gone for the end of the round.
    async fn send_changed(
        &mut self,
        type_url: TypeUrl,
        mut difference: Difference,
        round: &mut Round,
    ) -> Result<(), Status> {
        let removed = std::mem::take(&mut difference.removed);
        if !difference.changed.is_empty() {
            self.send(&type_url, difference).await?;
        }
        if !removed.is_empty() {
            round.removed.push((type_url, removed));
        }
        Ok(())
    }

    async fn send(&mut self, type_url: &TypeUrl, difference: Difference) -> Result<(), Status> {
        let Some(watched) = self.types.get_mut(type_url) else {
            return Ok(());
        };
        let list_all = P::LISTS_ALL && type_url.is_wildcard();
        watched.record(&difference, list_all);
        let resources: Vec<_> = if list_all {
            watched.all_sent().collect()
        } else {
            difference.changed.iter().map(|r| &**r).collect()
        };
        // There is no way to say that a route or an endpoint is gone, and nothing else to say.
        if P::LISTS_ALL && !list_all && resources.is_empty() {
            self.note(type_url);
            return Ok(());
        }
        self.n_sent += 1;
        let nonce = format!("{}-{}", self.connection.id, self.n_sent);
        let n_resources = resources.len();
        debug!(
            node = self.connection.node.id,
            ?type_url,
            resources = n_resources,
            removed = difference.removed.len(),
            nonce,
            "push"
        );
        let response = P::write(Outgoing {
            type_url,
            nonce: nonce.clone(),
            version: self.source.generation(&self.snapshot).to_string(),
            resources,
            removed: difference.removed,
        });
        watched.nonce = nonce;
        watched.unanswered = true;
        self.last_sent = Instant::now();
        self.note(type_url);
        let sent = self.responses.send(Ok(response)).await;
        sent.map_err(|_| Status::cancelled("the client is gone"))?;
        self.source.observe(Event::Sent {
            type_url,
            resources: n_resources,
        });
        Ok(())
    }
}
