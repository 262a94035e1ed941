//! One stream: requests in, responses out, and a round of pushes per snapshot.
//!
//! What is sent is a [`Plan`], which streams that are alike share. A stream of its own has what it
//! has been sent and asks for (shared lists too), a number for its newest response, and how far the
//! client has answered.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;
use tracing::{debug, info, warn};

use super::body::Responses;
use super::connections::Connection;
use super::doubt::Doubt;
use super::name::Name;
use super::plan::{About, Group, Look, Need, Plan, Step, removal};
use super::protocol::{Incoming, Outgoing, Protocol};
use super::requests::Requests;
use super::resource::NameSet;
use super::watched::{Reply, Watched};
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

/// Types of which what is gone is told with what has changed. Nothing leads to a listener, and a
/// domain may move from a virtual host that goes to one that comes.
const AT_ONCE: [TypeUrl; 2] = [TypeUrl::LISTENER, TypeUrl::VIRTUAL_HOST];

/// Serves one stream until either side ends it.
pub(super) async fn serve<S: ResourceSource, P: Protocol>(
    ads: &Ads<S>,
    peer: Peer,
    mut requests: Requests<P::Request>,
    responses: &Responses,
) -> Result<(), Status> {
    let Some(first) = requests.next().await? else {
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
    let guard = ads.connections.open(node.id, client, peer.address, P::NAME);
    ads.source.observe(Event::Connected);
    let ended = Ended {
        source: &*ads.source,
    };
    let mut snapshots = ads.source.snapshots(&guard.connection.client);
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
        doubt: Doubt::default(),
        again: false,
        n_sent: 0,
        last_sent: Instant::now(),
        protocol: PhantomData,
    };
    let result = stream.run(first, requests).await;
    info!(node = guard.connection.node, "client gone");
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
    responses: &'a Responses,
    types: BTreeMap<TypeUrl, Watched>,
    round: Option<Round>,
    /// Of clusters.
    doubt: Doubt,
    /// There is more to send of the snapshot as it is: what was held back may go now, or what the
    /// client has of an earlier stream is gone.
    again: bool,
    n_sent: u64,
    last_sent: Instant,
    protocol: PhantomData<fn() -> P>,
}

/// A snapshot on its way to the client.
struct Round {
    stage: Stage,
    started: Instant,
    removed: Vec<Removed>,
}

/// What is gone, kept for the end of a round.
struct Removed {
    type_url: TypeUrl,
    names: Arc<[Name]>,
    /// What the client has all of without them.
    leads_to: Option<Group>,
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
        mut requests: Requests<P::Request>,
    ) -> Result<(), Status> {
        self.request(first).await?;
        let end = Instant::now() + lifetime(self.source.stream_lifetime(), self.connection.id);
        loop {
            self.advance().await?;
            let patience = self.last_sent + PATIENCE;
            tokio::select! {
                request = requests.next() => match request? {
                    Some(request) => self.request(P::read(request)).await?,
                    None => return Ok(()),
                },
                changed = self.snapshots.changed(), if !self.outdated => {
                    // The source ends only with the process; the client may then reconnect.
                    changed.map_err(|_| Status::unavailable("shutting down"))?;
                    self.outdated = true;
                }
                () = tokio::time::sleep_until(patience), if !self.settled() => self.go_on(),
                () = self.connection.cut() => {
                    return Err(Status::unavailable("told to connect anew"));
                }
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
                    node = self.connection.node,
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
        let group = self.group(&type_url);
        let known = self.types.get(&type_url);
        let had_all = known.is_some_and(|watched| watched.is_known_to_have_all_of(group));
        let reply = match self.types.get_mut(&type_url) {
            None if n_types >= MAX_TYPES => return Err(too_much("resource types")),
            None => {
                let (watched, reply) = Watched::open(&type_url, wants);
                self.types.insert(type_url.clone(), watched);
                reply
            }
            Some(watched) => {
                let n_response = self.connection.n_response(&nonce);
                if !nonce.is_empty() {
                    if type_url == TypeUrl::CLUSTER {
                        let refused = refused.as_deref();
                        self.again |= self.doubt.answered(n_response, refused, P::LISTS_ALL);
                    }
                    let answered = watched.answer(n_response, refused.clone());
                    if let Some(reason) = refused.as_deref().filter(|_| answered) {
                        self.refused(&type_url, reason);
                    }
                }
                let Some(watched) = self.types.get_mut(&type_url) else {
                    return Ok(());
                };
                // In state-of-the-world a request about an older response is void: the client
                // will answer the newer one with all it wants by then.
                if P::LISTS_ALL && n_response != watched.n_response {
                    return Ok(());
                }
                watched.change(wants)
            }
        };
        let known = self.types.get(&type_url).map_or(0, Watched::n_known);
        if known > MAX_NAMES {
            return Err(too_much("resource names"));
        }
        self.reply(&type_url, reply).await?;
        // What was asked for in addition came from the same group.
        if had_all && let Some(watched) = self.types.get_mut(&type_url) {
            watched.has_all_of(group);
        }
        Ok(())
    }

    fn refused(&self, type_url: &TypeUrl, reason: &str) {
        let node = &self.connection.node;
        warn!(node, ?type_url, reason, "client refused a response");
        self.source.observe(Event::Refused {
            type_url,
            node,
            reason,
        });
    }

    async fn reply(&mut self, type_url: &TypeUrl, reply: Reply) -> Result<(), Status> {
        let is_all = reply == Reply::All;
        let plan = match reply {
            Reply::No => {
                self.note(type_url);
                return Ok(());
            }
            Reply::All => {
                let plan = self.plan(type_url, About::All);
                plan.map(|plan| self.hold_back(type_url, plan))
            }
            Reply::Names(names) => {
                let asked = NameSet::of(names);
                self.plan(type_url, About::Asked(&asked))
                    .filter(|plan| plan.is_late || !plan.is_empty())
            }
        };
        match plan {
            Some(plan) => {
                // Other types may still lead to what is gone; a round tells it at its end.
                let with_removed = !is_all || AT_ONCE.contains(type_url);
                self.again |= plan.is_late || !(with_removed || plan.removed.is_empty());
                if plan.is_empty() && !is_all {
                    self.note(type_url);
                    return Ok(());
                }
                self.send(type_url, &plan, with_removed).await
            }
            None => {
                self.note(type_url);
                Ok(())
            }
        }
    }

    fn note(&self, type_url: &TypeUrl) {
        if let Some(watched) = self.types.get(type_url) {
            self.connection.update(type_url, watched);
        }
    }

    /// What brings the client from what it has to what there is. `None` for a type that it does not
    /// ask for.
    fn plan(&self, type_url: &TypeUrl, about: About<'_>) -> Option<Arc<Plan>> {
        let watched = self.types.get(type_url)?;
        let client = &self.connection.client;
        let need = Need {
            type_url,
            watched,
            about,
            form: P::FORM,
            lists_all: P::LISTS_ALL && type_url.is_wildcard(),
        };
        let (source, snapshot) = (&self.source, &self.snapshot);
        let existing = |names: Names<'_>| source.generate(snapshot, client, type_url, names);
        let all = || Look {
            existing: existing(match (about, watched.wildcard) {
                (About::Asked(asked), _) => Names::Only(asked),
                (_, true) => Names::All(&watched.names),
                (_, false) => Names::Only(&watched.names),
            }),
            names: Vec::new(),
        };
        let group = self.group(type_url);
        let About::Since(before) = about else {
            return Some(need.plan(group, all));
        };
        let mut names = source.since(snapshot, client, type_url, before)?;
        names.extend_from_slice(watched.due());
        names.retain(|name| watched.asks_for(name));
        names.sort_unstable_by_key(Name::address);
        names.dedup();
        let some = || Look {
            existing: existing(Names::Only(&NameSet::of(names.iter().cloned()))),
            names,
        };
        Some(need.plan(group, some))
    }

    fn group(&self, type_url: &TypeUrl) -> Option<Group> {
        let client = &self.connection.client;
        self.source.group(&self.snapshot, client, type_url)
    }

    /// The plan that leads to all that the client asks for of a type, if there is anything to do.
    fn changes(&mut self, type_url: &TypeUrl) -> Option<Arc<Plan>> {
        let group = self.group(type_url);
        let watched = self.types.get(type_url)?;
        if watched.is_known_to_have_all_of(group) {
            return None;
        }
        let before = watched.had_all_of();
        let changes = before.and_then(|group| self.plan(type_url, About::Since(group)));
        let plan = changes.or_else(|| self.plan(type_url, About::All))?;
        if plan.is_empty() {
            self.types.get_mut(type_url)?.has_all_of(group);
            return None;
        }
        Some(plan)
    }

    /// Runs the round as far as the client's answers allow, and starts the next one.
    async fn advance(&mut self) -> Result<(), Status> {
        while self.settled() {
            let Some(mut round) = self.round.take() else {
                let again = std::mem::take(&mut self.again);
                if std::mem::take(&mut self.outdated) {
                    self.snapshot = self.snapshots.borrow_and_update().clone();
                } else if !again {
                    self.converged(None);
                    return Ok(());
                }
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
        let standing = self.source.standing(&self.snapshot);
        self.connection.acked(standing);
        if let Some(started) = started {
            let after = started.elapsed();
            self.source.observe(Event::Converged { after });
        }
    }

    async fn make(&mut self, round: &mut Round) -> Result<(), Status> {
        if let Some(clusters) = self.changes(&TypeUrl::CLUSTER) {
            // A changed cluster is built anew and waits for endpoints, which did not change and
            // would not be sent.
            if let Some(endpoints) = self.types.get_mut(&TypeUrl::ENDPOINT) {
                let changed = clusters.changed.iter().map(|cluster| cluster.name.clone());
                endpoints.send_again(&changed.collect::<Vec<_>>());
            }
            self.send_changed(TypeUrl::CLUSTER, &clusters, round)
                .await?;
            self.doubt.removed(&clusters.removed);
        }
        if let Some(endpoints) = self.changes(&TypeUrl::ENDPOINT) {
            self.send_changed(TypeUrl::ENDPOINT, &endpoints, round)
                .await?;
        }
        Ok(())
    }

    async fn make_use(&mut self, round: &mut Round) -> Result<(), Status> {
        if let Some(listeners) = self.usable_changes(&TypeUrl::LISTENER) {
            self.send(&TypeUrl::LISTENER, &listeners, true).await?;
        }
        let first = [TypeUrl::CLUSTER, TypeUrl::ENDPOINT, TypeUrl::LISTENER];
        let mut rest: Vec<TypeUrl> = self.types.keys().cloned().collect();
        rest.retain(|type_url| !first.contains(type_url));
        rest.sort_by_key(|url| TypeUrl::PUSH_ORDER.iter().position(|known| known == url));
        for type_url in rest {
            let Some(plan) = self.usable_changes(&type_url) else {
                continue;
            };
            if AT_ONCE.contains(&type_url) {
                self.send(&type_url, &plan, true).await?;
            } else {
                self.send_changed(type_url, &plan, round).await?;
            }
        }
        Ok(())
    }

    /// Changes without what names a cluster that the client lacks.
    fn usable_changes(&mut self, type_url: &TypeUrl) -> Option<Arc<Plan>> {
        let plan = self.changes(type_url)?;
        let plan = self.hold_back(type_url, plan);
        (!plan.is_empty()).then_some(plan)
    }

    /// Takes out of a plan what names a cluster that the client lacks. It is not counted as sent, so
    /// every later difference has it again.
    fn hold_back(&mut self, type_url: &TypeUrl, plan: Arc<Plan>) -> Arc<Plan> {
        let leads = [TypeUrl::LISTENER, TypeUrl::ROUTE, TypeUrl::VIRTUAL_HOST];
        let Some(watched) = self.types.get_mut(type_url) else {
            return plan;
        };
        let was_held = std::mem::take(&mut watched.n_held) > 0;
        if !self.doubt.is_any() || !leads.contains(type_url) {
            if was_held {
                self.note(type_url);
            }
            return plan;
        }
        let (usable, held) = plan.without(|resource| self.doubt.concerns(resource));
        watched.n_held = held.len();
        self.note(type_url);
        if held.is_empty() {
            return plan;
        }
        let node = &self.connection.node;
        let resources = held.len();
        warn!(
            node,
            ?type_url,
            ?held,
            "held back until the clusters in it are accepted"
        );
        self.source.observe(Event::HeldBack {
            type_url,
            resources,
        });
        Arc::new(usable)
    }

    /// What leads somewhere goes before what it leads to.
    async fn break_old(&mut self, round: &mut Round) -> Result<(), Status> {
        for removed in std::mem::take(&mut round.removed).into_iter().rev() {
            let Removed {
                type_url,
                names,
                leads_to,
            } = removed;
            let Some(watched) = self.types.get(&type_url) else {
                continue;
            };
            let lists_all = P::LISTS_ALL && type_url.is_wildcard();
            let step = removal(P::FORM, lists_all, &watched.sent, &names);
            self.send_step(&type_url, step, &names).await?;
            if let Some(watched) = self.types.get_mut(&type_url) {
                watched.has_all_of(leads_to);
            }
        }
        Ok(())
    }

    /// Sends what is new and keeps what is gone for the end of the round.
    async fn send_changed(
        &mut self,
        type_url: TypeUrl,
        plan: &Plan,
        round: &mut Round,
    ) -> Result<(), Status> {
        if !plan.changed.is_empty() {
            self.send(&type_url, plan, false).await?;
        }
        if !plan.removed.is_empty() {
            round.removed.push(Removed {
                type_url,
                names: plan.removed.clone(),
                leads_to: plan.leads_to,
            });
        }
        Ok(())
    }

    async fn send(
        &mut self,
        type_url: &TypeUrl,
        plan: &Plan,
        with_removed: bool,
    ) -> Result<(), Status> {
        let removed: &[Name] = if with_removed { &plan.removed } else { &[] };
        if *type_url == TypeUrl::CLUSTER
            && let Some(watched) = self.types.get(type_url)
        {
            let names = plan.changed.iter().map(|cluster| &cluster.name);
            let is_new =
                |name: &&Name| watched.sent.get(name).is_none() || self.doubt.is_lacking(name);
            let new = names.filter(is_new).cloned().collect();
            self.doubt.sent(self.n_sent + 1, new);
        }
        self.send_step(type_url, plan.step(with_removed), removed)
            .await?;
        if (with_removed || plan.removed.is_empty())
            && let Some(watched) = self.types.get_mut(type_url)
        {
            watched.has_all_of(plan.leads_to);
        }
        Ok(())
    }

    async fn send_step(
        &mut self,
        type_url: &TypeUrl,
        step: Step,
        removed: &[Name],
    ) -> Result<(), Status> {
        let Some(watched) = self.types.get_mut(type_url) else {
            return Ok(());
        };
        let Step { payload, after } = step;
        watched.sent = after;
        // There is no way to say that a route or an endpoint is gone, and nothing else to say.
        if P::LISTS_ALL && !type_url.is_wildcard() && payload.n_resources == 0 {
            self.note(type_url);
            return Ok(());
        }
        self.n_sent += 1;
        watched.n_response = self.n_sent;
        watched.unanswered = true;
        let nonce = self.connection.nonce(self.n_sent);
        debug!(
            node = self.connection.node,
            ?type_url,
            resources = payload.n_resources,
            removed = removed.len(),
            nonce,
            "push"
        );
        let message = P::write(Outgoing {
            type_url,
            nonce,
            version: self.source.generation(&self.snapshot).to_string(),
            payload: &payload,
            removed,
        });
        let message = message.ok_or_else(|| Status::out_of_range("too much for one response"))?;
        self.last_sent = Instant::now();
        self.note(type_url);
        let sent = self.responses.send(Ok(message)).await;
        sent.map_err(|_| Status::cancelled("the client is gone"))?;
        self.source.observe(Event::Sent {
            type_url,
            resources: payload.n_resources,
        });
        Ok(())
    }
}
