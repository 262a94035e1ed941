//! A round of pushes: make before break.

use std::sync::Arc;

use tokio::time::Instant;
use tonic::Status;
use tracing::warn;

use super::super::name::Name;
use super::super::plan::{Group, Plan, removal};
use super::super::protocol::Protocol;
use super::super::{Event, Resource, ResourceSource};
use super::Stream;
use crate::TypeUrl;

/// Types of which what is gone is told with what has changed. Nothing leads to a listener, and a
/// domain may move from a virtual host that goes to one that comes.
pub(super) const AT_ONCE: [TypeUrl; 2] = [TypeUrl::LISTENER, TypeUrl::VIRTUAL_HOST];

/// Types whose resources lead to clusters.
pub(super) const LEADING: [TypeUrl; 3] = [TypeUrl::LISTENER, TypeUrl::ROUTE, TypeUrl::VIRTUAL_HOST];

/// A snapshot on its way to the client.
pub(super) struct Round {
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

impl<S: ResourceSource, P: Protocol> Stream<'_, S, P> {
    /// Runs the round as far as the client's answers allow, and starts the next one.
    pub(super) async fn advance(&mut self) -> Result<(), Status> {
        while self.settled() {
            let Some(mut round) = self.round.take() else {
                let again = std::mem::take(&mut self.again);
                if let Some(newest) = self.newest.take() {
                    self.snapshot = newest;
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
                    if !round.removed.is_empty() && self.is_still_opening() {
                        // What is asked for by then has its place in it.
                        round.stage = Stage::Make;
                        round.removed.clear();
                        self.round = Some(round);
                        return Ok(());
                    }
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

    /// Whether something that leads to clusters may not have been asked for yet.
    fn is_still_opening(&mut self) -> bool {
        let mut leading = self.source.leading(&self.connection.client).iter();
        self.is_opening &= leading.any(|type_url| self.types.get(type_url).is_none());
        self.is_opening
    }

    /// Whether a round goes on when the client has asked for more.
    pub(super) fn waits_for_requests(&self) -> bool {
        self.is_opening && self.round.is_some()
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
        let made = [TypeUrl::CLUSTER, TypeUrl::ENDPOINT];
        let mut rest: Vec<TypeUrl> = self.types.keys().cloned().collect();
        rest.retain(|type_url| !made.contains(type_url));
        rest.sort_by_key(|url| TypeUrl::PUSH_ORDER.iter().position(|known| known == url));
        for type_url in rest {
            let watched = self.types.get_mut(&type_url);
            if let Some(owed) = watched.and_then(|watched| watched.owed.take()) {
                self.reply(&type_url, owed).await?;
                continue;
            }
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
        let plan = self.hold_back(type_url, plan, false);
        (!plan.is_empty()).then_some(plan)
    }

    /// Takes out of a plan what names a cluster that the client lacks. It is not counted as sent, so
    /// every later difference has it again. What is asked for `by_name` and not held is answered.
    pub(super) fn hold_back(
        &mut self,
        type_url: &TypeUrl,
        plan: Arc<Plan>,
        by_name: bool,
    ) -> Arc<Plan> {
        let Some(watched) = self.types.get_mut(type_url) else {
            return plan;
        };
        let was_held = std::mem::take(&mut watched.n_held) > 0;
        if !self.doubt.is_any() || !LEADING.contains(type_url) {
            if was_held {
                self.note(type_url);
            }
            return plan;
        }
        let is_kept = |resource: &Resource| !by_name || watched.sent.get(&resource.name).is_some();
        let (usable, held) =
            plan.without(|resource| is_kept(resource) && self.doubt.concerns(resource));
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

    /// What leads somewhere goes before what it leads to. What is held back leads, in its older form,
    /// to where it led, so that then nothing goes: every later difference has it again.
    async fn break_old(&mut self, round: &mut Round) -> Result<(), Status> {
        let holds = |leads: &TypeUrl| self.types.get(leads).is_some_and(|it| it.n_held > 0);
        let holds_back = LEADING.iter().any(holds);
        for removed in std::mem::take(&mut round.removed).into_iter().rev() {
            let Removed {
                type_url,
                names,
                leads_to,
            } = removed;
            if holds_back {
                if let Some(watched) = self.types.get_mut(&type_url) {
                    watched.has_all_of(None);
                }
                continue;
            }
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
}
