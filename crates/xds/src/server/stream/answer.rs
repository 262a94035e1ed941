//! What a client says: what it asks for, and what became of what it was sent.

use tonic::Status;
use tracing::warn;

use super::super::plan::About;
use super::super::protocol::{Incoming, Protocol};
use super::super::resource::NameSet;
use super::super::watched::{Reply, Watched};
use super::super::{Event, MAX_NAMES, ResourceSource, too_much};
use super::Stream;
use super::round::{AT_ONCE, LEADING};
use crate::TypeUrl;

/// Resource types that one stream may ask for: more than there are.
const MAX_TYPES: usize = 32;

impl<S: ResourceSource, P: Protocol> Stream<'_, S, P> {
    pub(super) async fn request(&mut self, incoming: Incoming) -> Result<(), Status> {
        let Incoming {
            type_url,
            nonce,
            refused,
            wants,
            ..
        } = incoming;
        let client = &self.connection.client;
        if self.source.report(client, &type_url, refused.as_deref()) {
            return Ok(());
        }
        let n_types = self.types.len();
        let group = self.group(&type_url);
        let known = self.types.get(&type_url);
        let had_all = known.is_some_and(|watched| watched.is_known_to_have_all_of(group));
        let reply = match self.types.get_mut(&type_url) {
            None if n_types >= MAX_TYPES => return Err(too_much("resource types")),
            None => {
                let (watched, reply) = Watched::open(&type_url, wants);
                self.open(&type_url, watched, reply)
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
                let reply = watched.change(wants);
                watched.now_or_owed(reply)
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

    /// Takes in what a client begins to ask for, and says what of it is to be answered at once.
    fn open(&mut self, type_url: &TypeUrl, mut watched: Watched, reply: Reply) -> Reply {
        if *type_url == TypeUrl::ENDPOINT {
            watched.forget(&std::mem::take(&mut self.rebuilt));
        }
        // Who comes back with routes goes on with them until the clusters of the new ones are ready.
        // The older protocol does not say what is held; who asks for routes before it has accepted
        // the clusters comes back.
        let clusters = self.types.get(&TypeUrl::CLUSTER);
        let comes_back = match P::LISTS_ALL {
            true => clusters.is_some_and(|clusters| clusters.unanswered),
            false => watched.holds_any(),
        };
        let waits = comes_back && LEADING.contains(type_url) && reply != Reply::No;
        let reply = if waits {
            self.again = true;
            watched.owed = Some(reply);
            Reply::No
        } else {
            reply
        };
        self.types.insert(type_url.clone(), watched);
        reply
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

    pub(super) async fn reply(&mut self, type_url: &TypeUrl, reply: Reply) -> Result<(), Status> {
        let is_all = reply == Reply::All;
        let plan = match reply {
            Reply::No => {
                self.note(type_url);
                return Ok(());
            }
            Reply::All => {
                let plan = self.plan(type_url, About::All);
                plan.map(|plan| self.hold_back(type_url, plan, false))
            }
            Reply::Names(names) => {
                let asked = NameSet::of(names);
                self.plan(type_url, About::Asked(&asked))
                    .map(|plan| self.hold_back(type_url, plan, true))
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
                // The endpoints of clusters that changed follow in a round.
                self.again |= *type_url == TypeUrl::CLUSTER
                    && !plan.changed.is_empty()
                    && self.types.get(&TypeUrl::ENDPOINT).is_some();
                self.send(type_url, &plan, with_removed).await
            }
            None => {
                self.note(type_url);
                Ok(())
            }
        }
    }

    pub(super) fn note(&self, type_url: &TypeUrl) {
        if let Some(watched) = self.types.get(type_url) {
            self.connection.update(type_url, watched);
        }
    }
}
