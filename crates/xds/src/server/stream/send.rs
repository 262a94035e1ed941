//! What is sent: the plan that streams that are alike share, and a response around it.

use std::sync::Arc;

use tokio::time::Instant;
use tonic::Status;
use tracing::debug;

use super::super::name::Name;
use super::super::plan::{About, Group, Look, Need, Plan, Step};
use super::super::protocol::{Outgoing, Protocol};
use super::super::resource::NameSet;
use super::super::{Event, Names, ResourceSource};
use super::Stream;
use crate::TypeUrl;

impl<S: ResourceSource, P: Protocol> Stream<'_, S, P> {
    /// What brings the client from what it has to what there is. `None` for a type that it does not
    /// ask for.
    pub(super) fn plan(&self, type_url: &TypeUrl, about: About<'_>) -> Option<Arc<Plan>> {
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

    pub(super) fn group(&self, type_url: &TypeUrl) -> Option<Group> {
        let client = &self.connection.client;
        self.source.group(&self.snapshot, client, type_url)
    }

    /// The plan that leads to all that the client asks for of a type, if there is anything to do.
    pub(super) fn changes(&mut self, type_url: &TypeUrl) -> Option<Arc<Plan>> {
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

    pub(super) async fn send(
        &mut self,
        type_url: &TypeUrl,
        plan: &Plan,
        with_removed: bool,
    ) -> Result<(), Status> {
        let removed: &[Name] = if with_removed { &plan.removed } else { &[] };
        if *type_url == TypeUrl::CLUSTER {
            self.note_new_clusters(plan);
            self.send_endpoints_of(plan);
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

    /// Takes note of clusters that the client lacks if it refuses them.
    fn note_new_clusters(&mut self, plan: &Plan) {
        let Some(watched) = self.types.get(&TypeUrl::CLUSTER) else {
            return;
        };
        // What a client of the older protocol has of an earlier stream is not known: who refuses the
        // first list may hold all that is in it. If it does not, nothing led there before.
        if P::LISTS_ALL && watched.n_response == 0 {
            return;
        }
        let names = plan.changed.iter().map(|cluster| &cluster.name);
        let is_new = |name: &&Name| watched.sent.get(name).is_none() || self.doubt.is_lacking(name);
        let new = names.filter(is_new).cloned().collect();
        self.doubt.sent(self.n_sent + 1, new);
    }

    /// A client builds a changed cluster anew, and it is not ready, nor its response accepted, before
    /// the endpoints have come, which did not change and would not be sent.
    fn send_endpoints_of(&mut self, clusters: &Plan) {
        let changed = clusters.changed.iter().map(|cluster| &cluster.name);
        if let Some(endpoints) = self.types.get_mut(&TypeUrl::ENDPOINT) {
            endpoints.send_again(&changed.cloned().collect::<Vec<_>>());
        } else if let Some(held) = self.types.get(&TypeUrl::CLUSTER) {
            // Of clusters from an earlier stream the client will say that it holds the endpoints.
            let rebuilt = changed.filter(|name| held.sent.get(name).is_some());
            self.rebuilt.extend(rebuilt.cloned());
        }
    }

    pub(super) async fn send_step(
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
        self.responses.send(message).await;
        self.source.observe(Event::Sent {
            type_url,
            resources: payload.n_resources,
        });
        Ok(())
    }
}
