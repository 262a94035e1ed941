//! Where objects come from, and how fresh what each source says is.

use std::time::Instant;

use tokio::{sync::mpsc, task::JoinSet};

use crate::state::Update;

/// Something that tells of objects. Each source owns the kinds that it tells of, so that two never
/// write to one collection; whatever one says of them takes the place of what it said before.
pub(crate) trait Source {
    /// Starts the tasks that carry what the source says, until nobody listens.
    fn start(self, tasks: &mut JoinSet<()>, updates_tx: mpsc::Sender<Update>);
}

/// How fresh a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// It has not delivered its first list.
    Waiting,
    /// It is heard.
    Fresh,
    /// It has not delivered its first list in good time, and the world is published without it if it
    /// can be. It is heard as soon as it speaks.
    Late,
    /// It was heard and is no more. What it said last holds.
    Stale,
}

/// One source of the registry, for logs, metrics and people.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceStatus {
    /// What it tells of: the kind of the objects.
    pub name: &'static str,
    /// How fresh it is.
    pub freshness: Freshness,
    /// Since when it is so.
    pub since: Instant,
    /// Why it is not heard, where that is known.
    pub reason: Option<String>,
}

impl SourceStatus {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            freshness: Freshness::Waiting,
            since: Instant::now(),
            reason: None,
        }
    }

    /// Takes in that the source delivered something, or all of its first list.
    pub(crate) fn heard(&mut self, synced: bool) {
        self.reason = None;
        if synced {
            if matches!(self.freshness, Freshness::Late | Freshness::Stale) {
                tracing::info!(source = self.name, "heard again");
            }
            self.turn(Freshness::Fresh);
        }
    }

    pub(crate) fn failed(&mut self, reason: String) {
        self.reason = Some(reason);
        if self.freshness == Freshness::Fresh {
            self.turn(Freshness::Stale);
        }
    }

    /// Takes in that nobody waits any longer for the first list.
    pub(crate) fn late(&mut self, needed: bool) {
        if self.freshness != Freshness::Waiting {
            return;
        }
        let reason = self.reason.as_deref().unwrap_or("no answer");
        if needed {
            tracing::error!(
                source = self.name,
                reason,
                "late, and nothing can be published without it"
            );
        } else {
            tracing::error!(source = self.name, reason, "late, going on without it");
        }
        self.turn(Freshness::Late);
    }

    fn turn(&mut self, freshness: Freshness) {
        if self.freshness != freshness {
            self.freshness = freshness;
            self.since = Instant::now();
        }
    }
}
