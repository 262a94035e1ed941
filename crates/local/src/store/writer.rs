//! The one thread that writes: batches what has queued up into one transaction.

use std::collections::HashMap;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, RwLock};

use serde_json::Value;
use tokio::sync::oneshot;

use super::disk::{Disk, Row};
use super::state::State;
use super::{Change, Event, Expect, Key, Object, StoreError};

/// Operations in one transaction at most; bounds how long the first of them waits.
const MAX_BATCH: usize = 256;

type Reply = oneshot::Sender<Result<Arc<Object>, StoreError>>;

/// One queued write.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) key: Key,
    pub(super) action: Action,
    pub(super) reply: Reply,
}

#[derive(Debug)]
pub(super) enum Action {
    Put { value: Value, expect: Expect },
    Delete { revision: Option<u64> },
}

/// Runs until every [`super::Store`] handle is gone.
pub(super) fn run(queue: &Receiver<Command>, state: &RwLock<State>, mut disk: Disk) {
    while let Ok(first) = queue.recv() {
        let mut batch = vec![first];
        batch.extend(queue.try_iter().take(MAX_BATCH - 1));
        write_batch(batch, state, &mut disk);
    }
}

fn write_batch(batch: Vec<Command>, state: &RwLock<State>, disk: &mut Disk) {
    let mut staged = {
        let state = state
            .read()
            .expect("no reader panics while it holds the lock");
        let mut staged = Staged {
            state: &state,
            revision: state.revision(),
            overlay: HashMap::new(),
            events: Vec::new(),
        };
        let replies: Vec<_> = batch
            .into_iter()
            .filter_map(|command| staged.apply(command))
            .collect();
        (staged.revision, staged.events, replies)
    };
    let (revision, events, replies) = (staged.0, std::mem::take(&mut staged.1), staged.2);
    if events.is_empty() {
        return;
    }
    let rows: Vec<_> = events
        .iter()
        .map(|event| Row {
            key: &event.object.key,
            value: (event.change != Change::Deleted).then_some(&event.object.value),
        })
        .collect();
    match disk.commit(&rows, revision) {
        Ok(()) => {
            let answers: Vec<_> = events
                .iter()
                .map(|event| Arc::clone(&event.object))
                .collect();
            state
                .write()
                .expect("no reader panics while it holds the lock")
                .publish(events);
            for (reply, object) in replies.into_iter().zip(answers) {
                let _ = reply.send(Ok(object));
            }
        }
        Err(error) => {
            tracing::error!(%error, "a commit failed; nothing of it was applied");
            for reply in replies {
                let _ = reply.send(Err(error.clone()));
            }
        }
    }
}

/// The state as it will be once the batch is committed.
struct Staged<'a> {
    state: &'a State,
    revision: u64,
    overlay: HashMap<Key, Option<Arc<Object>>>,
    events: Vec<Arc<Event>>,
}

impl Staged<'_> {
    fn current(&self, key: &Key) -> Option<Arc<Object>> {
        match self.overlay.get(key) {
            Some(staged) => staged.clone(),
            None => self.state.get(key),
        }
    }

    /// Stages one command; its reply is kept until the commit, or answered now if refused.
    fn apply(&mut self, command: Command) -> Option<Reply> {
        let Command { key, action, reply } = command;
        let current = self.current(&key);
        let staged = match action {
            Action::Put { value, expect } => self.put(&key, current, value, expect),
            Action::Delete { revision } => self.delete(&key, current, revision),
        };
        match staged {
            Ok(()) => Some(reply),
            Err(error) => {
                let _ = reply.send(Err(error));
                None
            }
        }
    }

    fn put(
        &mut self,
        key: &Key,
        current: Option<Arc<Object>>,
        value: Value,
        expect: Expect,
    ) -> Result<(), StoreError> {
        match (expect, &current) {
            (Expect::Absent, Some(_)) => return Err(StoreError::Exists),
            (Expect::Revision(_), None) => return Err(StoreError::NotFound),
            (Expect::Revision(expected), Some(object)) if object.revision != expected => {
                return Err(StoreError::Conflict);
            }
            _ => {}
        }
        let change = if current.is_some() {
            Change::Modified
        } else {
            Change::Added
        };
        self.push(key, change, value, current);
        Ok(())
    }

    fn delete(
        &mut self,
        key: &Key,
        current: Option<Arc<Object>>,
        revision: Option<u64>,
    ) -> Result<(), StoreError> {
        let object = current.ok_or(StoreError::NotFound)?;
        if revision.is_some_and(|expected| expected != object.revision) {
            return Err(StoreError::Conflict);
        }
        self.push(key, Change::Deleted, object.value.clone(), Some(object));
        Ok(())
    }

    fn push(&mut self, key: &Key, change: Change, mut value: Value, previous: Option<Arc<Object>>) {
        self.revision += 1;
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert(
                "resourceVersion".into(),
                Value::String(self.revision.to_string()),
            );
        }
        let object = Arc::new(Object {
            key: key.clone(),
            revision: self.revision,
            value,
        });
        let now = (change != Change::Deleted).then(|| Arc::clone(&object));
        self.overlay.insert(key.clone(), now);
        self.events.push(Arc::new(Event {
            change,
            object,
            previous,
        }));
    }
}
