//! What becomes of the entries of workloads that went: it is noted in them, and they are removed
//! unless the workload comes back in good time.

use std::sync::Weak;

use jiff::Timestamp;
use lateen_api::Meta;
use lateen_core::Backoff;
use serde_json::Value;
use tracing::{info, warn};

use super::{EntriesError, Held, Key, PAUSES, Registering, Registrar, entry};

/// How often the time of grace passes between two looks at what replicas left behind.
pub(super) const SWEEP: u32 = 10;

/// The last stream of a workload that has ended.
#[derive(Clone, Copy, Debug)]
struct Left {
    /// When it came, in the words of the entry.
    since: Timestamp,
    gone: Timestamp,
}

impl Registrar {
    /// Notes that the workload's last stream here has ended, and removes its entry unless it comes
    /// back, here or elsewhere. At most one of these is at work for a workload.
    pub(super) async fn leave(&self, key: &Key) {
        let mut pause = Backoff::new(PAUSES.0, PAUSES.1);
        while let Some(left) = self.next_left(key) {
            match self.note_left(key, left).await {
                Ok(is_noted) => {
                    if is_noted {
                        self.counts.unregistered.inc();
                        self.remove_later(key).await;
                    }
                    self.forget(key, left);
                    pause.reset();
                    continue;
                }
                Err(EntriesError::Changed) => {}
                Err(error) => {
                    self.counts.errors.inc();
                    warn!(namespace = key.0, name = key.1, %error, "that a workload went is not noted yet");
                    let is_refused = matches!(error, EntriesError::Refused(_));
                    if is_refused || entry::is_over(left.gone, Timestamp::now(), self.connected_max)
                    {
                        // The leader finds it, by how long it has been connected.
                        self.forget(key, left);
                        continue;
                    }
                }
            }
            tokio::time::sleep(pause.next_delay()).await;
        }
    }

    /// What is to be noted; nothing any more where the workload has come back.
    fn next_left(&self, key: &Key) -> Option<Left> {
        let mut held = self.lock();
        let own = held.get_mut(key)?;
        own.is_leaving = own.n_streams == 0;
        own.is_leaving.then_some(Left {
            since: own.since,
            gone: own.gone,
        })
    }

    /// Nothing is left to do, unless the workload has come, or has come and gone, in the meantime.
    fn forget(&self, key: &Key, left: Left) {
        let mut held = self.lock();
        let is_same = |own: &Held| own.n_streams == 0 && own.gone == left.gone;
        if held.get(key).is_some_and(is_same) {
            held.remove(key);
        }
    }

    /// Whether the entry says now that its proxy went.
    async fn note_left(&self, key: &Key, left: Left) -> Result<bool, EntriesError> {
        let (entries, replica) = (&self.with.entries, &self.with.replica);
        let Some(mut entry) = entries.entry(&key.0, &key.1).await? else {
            return Ok(false);
        };
        if !entry::disconnect(&mut entry, replica, left.since, left.gone) {
            return Ok(false);
        }
        entries.replace(entry).await.map(|()| true)
    }

    async fn remove_later(&self, key: &Key) {
        tokio::time::sleep(self.with.grace).await;
        self.remove_if_left(key).await;
    }

    async fn remove_if_left(&self, key: &Key) {
        match self.with.entries.entry(&key.0, &key.1).await {
            Ok(Some(entry)) => self.remove_left(&entry).await,
            Ok(None) => {}
            // The leader finds it.
            Err(error) => {
                self.counts.errors.inc();
                warn!(namespace = key.0, name = key.1, %error, "not removed yet");
            }
        }
    }

    /// The entries that seem to be left, as the watch has them. It leaves namespaces out that the mesh does
    /// not select, though workloads may have registered there: then the API server is asked for all.
    async fn seem_left(&self) -> Vec<Key> {
        let config = self.config.borrow().clone();
        if config.mesh.discovery_selectors.is_empty() {
            let metas = config.workload_entries.iter();
            return self.left_of(metas.map(|entry| &entry.meta));
        }
        match self.with.entries.metas().await {
            Ok(metas) => self.left_of(&metas),
            Err(error) => {
                self.counts.errors.inc();
                warn!(%error, "cannot list entries of workloads; those that were left are looked for again soon");
                Vec::new()
            }
        }
    }

    fn left_of<'a>(&self, metas: impl IntoIterator<Item = &'a Meta>) -> Vec<Key> {
        let now = Timestamp::now();
        let (grace, connected_max) = (self.with.grace, self.connected_max);
        let left = metas.into_iter().filter(|meta| {
            let note = |key: &str| meta.annotations.get(key).map(String::as_str);
            entry::is_left(note, now, grace, connected_max)
        });
        let key = |meta: &Meta| (meta.namespace.clone(), meta.name.clone());
        left.map(key).collect()
    }

    /// Removes an entry whose workload has been away for too long.
    async fn remove_left(&self, entry: &Value) {
        let (grace, connected_max) = (self.with.grace, self.connected_max);
        let note = |key: &str| entry::note(entry, key);
        if !entry::is_left(note, Timestamp::now(), grace, connected_max) {
            return;
        }
        let name = |field: &str| entry["metadata"][field].as_str().unwrap_or_default();
        let (namespace, name) = (name("namespace"), name("name"));
        match self.with.entries.remove(entry).await {
            Ok(()) => {
                self.counts.deletes.inc();
                info!(
                    namespace,
                    name, "workload removed that was away for too long"
                );
            }
            // It has come back.
            Err(EntriesError::Changed) => {}
            Err(error) => {
                self.counts.errors.inc();
                warn!(namespace, name, %error, "workload not removed that was away for too long");
            }
        }
    }
}

/// Looks now and then for entries whose replica is gone, while this one leads. The API server is asked
/// for those alone that seem to be left.
pub(super) async fn sweep(registrar: Weak<Registrar>) {
    let Some(with) = registrar.upgrade().map(|registrar| registrar.with.clone()) else {
        return;
    };
    let Registering { grace, leading, .. } = with;
    let mut ticks = tokio::time::interval(grace * SWEEP);
    loop {
        ticks.tick().await;
        let Some(registrar) = registrar.upgrade() else {
            return;
        };
        if !*leading.borrow() {
            continue;
        }
        for key in registrar.seem_left().await {
            registrar.remove_if_left(&key).await;
        }
    }
}
