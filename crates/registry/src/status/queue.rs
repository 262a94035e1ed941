//! Which objects are to be looked at next, and when.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lateen_core::Backoff;
use tokio::{sync::Notify, time::Instant};

use super::{StatusOwner, StatusPace, StatusTarget, WantedStatus};

/// What is wanted of each object, and the objects that are due.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Something is due, or something is wanted that is not due yet.
    changed: Notify,
    pace: StatusPace,
}

#[derive(Debug)]
struct State {
    objects: BTreeMap<StatusTarget, Entry>,
    /// In the order in which they are due.
    due: BTreeSet<(Instant, StatusTarget)>,
    /// When the next write would keep to the pace, if none came in a burst.
    next: Instant,
}

#[derive(Debug)]
struct Entry {
    wanted: Arc<BTreeMap<StatusOwner, WantedStatus>>,
    /// When it is due, if it is.
    due: Option<Instant>,
    /// A worker is at it.
    busy: bool,
    /// When it may be written again.
    rest: Instant,
    backoff: Backoff,
}

impl Queue {
    pub(super) fn new(pace: StatusPace) -> Self {
        Queue {
            state: Mutex::new(State {
                objects: BTreeMap::new(),
                due: BTreeSet::new(),
                next: Instant::now(),
            }),
            changed: Notify::new(),
            pace,
        }
    }

    /// Nothing under the lock can panic half way.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, owner: StatusOwner, target: StatusTarget, wanted: WantedStatus) {
        let mut state = self.lock();
        let now = Instant::now();
        let entry = state
            .objects
            .entry(target.clone())
            .or_insert_with(|| Entry {
                wanted: Arc::default(),
                due: None,
                busy: false,
                rest: now,
                backoff: Backoff::new(self.pace.retry_first, self.pace.retry_most),
            });
        if entry.wanted.get(&owner) == Some(&wanted) {
            return;
        }
        Arc::make_mut(&mut entry.wanted).insert(owner, wanted);
        entry.backoff.reset();
        let at = entry.rest.max(now);
        state.make_due(&target, at);
        drop(state);
        self.changed.notify_one();
    }

    pub(super) fn forget(&self, owner: StatusOwner, target: &StatusTarget) {
        let mut state = self.lock();
        let Some(entry) = state.objects.get_mut(target) else {
            return;
        };
        Arc::make_mut(&mut entry.wanted).remove(&owner);
        if entry.wanted.is_empty() {
            state.drop_entry(target);
        }
    }

    /// Every object is due again.
    pub(super) fn renew(&self) {
        let mut state = self.lock();
        let targets: Vec<_> = state.objects.keys().cloned().collect();
        let now = Instant::now();
        for target in targets {
            state.make_due(&target, now);
        }
        drop(state);
        self.changed.notify_waiters();
        self.changed.notify_one();
    }

    /// The next object that is due, at a moment when the pace allows for a write.
    pub(super) async fn next(queue: &Arc<Queue>) -> Job {
        loop {
            // Before the look, so that what comes after it is not missed.
            let changed = queue.changed.notified();
            let wait = match queue.lock().take(queue.pace) {
                Ok((target, wanted)) => {
                    // There may be more for another worker.
                    queue.changed.notify_one();
                    return Job {
                        queue: queue.clone(),
                        target,
                        wanted,
                        is_settled: false,
                    };
                }
                Err(wait) => wait,
            };
            let due = async {
                match wait {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = changed => {}
                () = due => {}
            }
        }
    }
}

impl State {
    /// Makes an object due, not before it was due already unless that is later.
    fn make_due(&mut self, target: &StatusTarget, at: Instant) {
        let Some(entry) = self.objects.get_mut(target) else {
            return;
        };
        if let Some(before) = entry.due.replace(at) {
            self.due.remove(&(before, target.clone()));
        }
        // While a worker is at it, it waits for that one to end.
        if !entry.busy {
            self.due.insert((at, target.clone()));
        }
    }

    fn drop_entry(&mut self, target: &StatusTarget) {
        if let Some(entry) = self.objects.remove(target)
            && let Some(at) = entry.due
        {
            self.due.remove(&(at, target.clone()));
        }
    }

    /// The first object that is due now, or when to look again.
    #[expect(clippy::type_complexity, reason = "a job in parts")]
    fn take(
        &mut self,
        pace: StatusPace,
    ) -> Result<(StatusTarget, Arc<BTreeMap<StatusOwner, WantedStatus>>), Option<Instant>> {
        let now = Instant::now();
        let Some((at, _)) = self.due.first() else {
            return Err(None);
        };
        if *at > now {
            return Err(Some(*at));
        }
        let credit = pace.each * pace.burst.saturating_sub(1);
        let earliest = now.checked_sub(credit).unwrap_or(now);
        let slot = self.next.max(earliest);
        if slot > now {
            return Err(Some(slot));
        }
        let Some((_, target)) = self.due.pop_first() else {
            return Err(None);
        };
        let Some(entry) = self.objects.get_mut(&target) else {
            return Err(Some(now));
        };
        self.next = slot + pace.each;
        entry.due = None;
        entry.busy = true;
        Ok((target, entry.wanted.clone()))
    }
}

/// An object that a worker is at. Dropped without an end, it is due again.
pub(super) struct Job {
    queue: Arc<Queue>,
    pub(super) target: StatusTarget,
    pub(super) wanted: Arc<BTreeMap<StatusOwner, WantedStatus>>,
    is_settled: bool,
}

impl Job {
    /// What is stored is right.
    pub(super) fn done(self) {
        let rest = self.queue.pace.per_object;
        self.settle(|entry, now| {
            entry.backoff.reset();
            entry.rest = now + rest;
            None
        });
    }

    /// To be tried again, later each time.
    pub(super) fn failed(self) {
        self.settle(|entry, now| {
            let wait: Duration = entry.backoff.next_delay();
            entry.rest = now + wait;
            Some(entry.rest)
        });
    }

    /// There is no such object. Should it come back, its owners will say something new.
    pub(super) fn gone(mut self) {
        self.is_settled = true;
        let mut state = self.queue.lock();
        let is_as_taken = state
            .objects
            .get(&self.target)
            .is_some_and(|entry| Arc::ptr_eq(&entry.wanted, &self.wanted));
        if is_as_taken {
            state.drop_entry(&self.target);
            return;
        }
        drop(state);
        self.release(|_, now| Some(now));
    }

    fn settle(mut self, then: impl FnOnce(&mut Entry, Instant) -> Option<Instant>) {
        self.is_settled = true;
        self.release(then);
    }

    fn release(&self, then: impl FnOnce(&mut Entry, Instant) -> Option<Instant>) {
        let mut state = self.queue.lock();
        let Some(entry) = state.objects.get_mut(&self.target) else {
            return;
        };
        entry.busy = false;
        let again = then(entry, Instant::now());
        // Something new came meanwhile, or it is to be tried again.
        let due = entry.due.take().map(|at| at.max(entry.rest)).or(again);
        if let Some(at) = due {
            state.make_due(&self.target, at);
        }
        drop(state);
        self.queue.changed.notify_one();
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if !self.is_settled {
            self.release(|_, now| Some(now));
        }
    }
}
