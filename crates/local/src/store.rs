//! The embedded store behind the API server.
//!
//! Every object is JSON, kept in memory and written through to a redb file. One thread writes:
//! it takes what has queued up, checks each operation's precondition, commits the batch in one
//! transaction and only then shows it to readers and watchers.
//!
//! Invariant: a revision names exactly one write, revisions only grow, and a failed commit leaves
//! neither the file nor the memory changed.

mod disk;
mod state;
mod writer;

use std::path::Path;
use std::sync::{Arc, RwLock};

use arcstr::ArcStr;
use serde_json::Value;
use tokio::sync::{oneshot, watch};

pub use disk::Opener;
use state::State;
use writer::Command;

/// Events kept per resource before a watcher that lags behind gets [`StoreError::Gone`].
pub const DEFAULT_WINDOW: usize = 4096;

/// Where an object lives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// `plural` or `plural.group`, whatever the version.
    pub resource: ArcStr,
    /// Empty for objects that belong to the cluster.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

/// One stored object at one revision.
#[derive(Debug)]
pub struct Object {
    /// Where it lives.
    pub key: Key,
    /// The revision of the write that made it, which is also its `metadata.resourceVersion`.
    pub revision: u64,
    /// The whole object.
    pub value: Value,
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The object is new.
    Added,
    /// The object was there before.
    Modified,
    /// The object is gone; the event carries its last state.
    Deleted,
}

/// One entry of the event log.
#[derive(Debug)]
pub struct Event {
    /// What happened.
    pub change: Change,
    /// The object after the write, or its last state if deleted.
    pub object: Arc<Object>,
    /// The object before the write.
    pub previous: Option<Arc<Object>>,
}

/// What must hold for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// No object has this key.
    Absent,
    /// The object is at this revision.
    Revision(u64),
}

/// Why the store refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// [`Expect::Absent`] did not hold.
    #[error("the object exists")]
    Exists,
    /// The object is not there.
    #[error("the object does not exist")]
    NotFound,
    /// [`Expect::Revision`] did not hold.
    #[error("the object has been modified")]
    Conflict,
    /// The events after this revision are no longer kept, or never were.
    #[error("too old resource version: {asked} ({oldest})")]
    Gone {
        /// The revision asked for.
        asked: u64,
        /// The oldest revision that could have been asked for.
        oldest: u64,
    },
    /// The disk refused.
    #[error("the store cannot write: {0}")]
    Storage(String),
    /// The disk has no room; nothing of the write was applied.
    #[error(
        "the store cannot write: no space left on the disk of {0}; free some and try again \
         (nothing was changed)"
    )]
    Full(String),
    /// The store has been shut down.
    #[error("the store is closed")]
    Closed,
}

/// A handle to the store; clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    state: Arc<RwLock<State>>,
    commands: std::sync::mpsc::Sender<Command>,
}

impl Store {
    /// Opens the file, or makes it, and loads every object.
    ///
    /// # Errors
    /// [`StoreError::Storage`] if the file cannot be opened or holds what cannot be read.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let opener = disk::file_opener(path.to_owned());
        Self::open_at(path.display().to_string(), opener, DEFAULT_WINDOW)
    }

    /// As [`Store::open`], with another way to open the database and another event window.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(opener: Opener, window: usize) -> Result<Self, StoreError> {
        Self::open_at("the store".into(), opener, window)
    }

    fn open_at(place: String, opener: Opener, window: usize) -> Result<Self, StoreError> {
        let mut disk = disk::Disk::open(place, opener)?;
        let state = Arc::new(RwLock::new(disk.load(window)?));
        let (commands, queue) = std::sync::mpsc::channel();
        let shared = Arc::clone(&state);
        std::thread::Builder::new()
            .name("store".into())
            .spawn(move || writer::run(&queue, &shared, disk))
            .map_err(|error| StoreError::Storage(error.to_string()))?;
        Ok(Self { state, commands })
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state
            .read()
            .expect("no writer panics while it holds the lock")
    }

    /// The latest revision.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.read().revision()
    }

    /// One object.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Arc<Object>> {
        self.read().get(key)
    }

    /// The objects of a resource in key order, of one namespace or all, and the revision they are of.
    #[must_use]
    pub fn list(&self, resource: &str, namespace: Option<&str>) -> (Vec<Arc<Object>>, u64) {
        let state = self.read();
        (state.list(resource, namespace), state.revision())
    }

    /// The events of a resource after a revision, and the revision up to which these are all.
    ///
    /// # Errors
    /// [`StoreError::Gone`] if the log no longer reaches back so far.
    pub fn events_after(
        &self,
        resource: &str,
        revision: u64,
    ) -> Result<(Vec<Arc<Event>>, u64), StoreError> {
        let state = self.read();
        Ok((state.events_after(resource, revision)?, state.revision()))
    }

    /// Wakes whenever the resource has new events.
    #[must_use]
    pub fn changes(&self, resource: &str) -> watch::Receiver<u64> {
        if let Some(receiver) = self.read().changes(resource) {
            return receiver;
        }
        let mut state = self
            .state
            .write()
            .expect("no writer panics while it holds the lock");
        state.changes_or_create(resource)
    }

    /// Writes an object; its `metadata.resourceVersion` is set to the new revision.
    ///
    /// # Errors
    /// If the expectation does not hold or the disk refuses; nothing is changed then.
    pub async fn put(
        &self,
        key: Key,
        value: Value,
        expect: Expect,
    ) -> Result<Arc<Object>, StoreError> {
        self.command(|reply| Command {
            key,
            action: writer::Action::Put { value, expect },
            reply,
        })
        .await
    }

    /// Removes an object and returns its last state, at the revision of the removal.
    ///
    /// # Errors
    /// If it is not there, is at another revision than asked, or the disk refuses.
    pub async fn delete(&self, key: Key, revision: Option<u64>) -> Result<Arc<Object>, StoreError> {
        self.command(|reply| Command {
            key,
            action: writer::Action::Delete { revision },
            reply,
        })
        .await
    }

    async fn command(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<Arc<Object>, StoreError>>) -> Command,
    ) -> Result<Arc<Object>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(make(reply))
            .map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

#[cfg(test)]
mod tests;
