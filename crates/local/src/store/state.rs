//! What readers see: the objects and the event log, changed only by the writer after a commit.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use arcstr::ArcStr;
use tokio::sync::watch;

use super::{Change, Event, Key, Object, StoreError};

/// All resources at one revision.
#[derive(Debug)]
pub(super) struct State {
    revision: u64,
    window: usize,
    tables: HashMap<ArcStr, Table>,
    /// The revision at which the file was opened: the log knows nothing older.
    opened_at: u64,
}

#[derive(Debug)]
struct Table {
    objects: BTreeMap<(String, String), Arc<Object>>,
    log: VecDeque<Arc<Event>>,
    compacted: u64,
    changed: watch::Sender<u64>,
}

impl Table {
    fn new(compacted: u64) -> Self {
        let (changed, _) = watch::channel(compacted);
        Self {
            objects: BTreeMap::new(),
            log: VecDeque::new(),
            compacted,
            changed,
        }
    }
}

impl State {
    pub(super) fn new(revision: u64, window: usize, objects: Vec<Object>) -> Self {
        let mut state = Self {
            revision,
            window,
            tables: HashMap::new(),
            opened_at: revision,
        };
        for object in objects {
            let place = (object.key.namespace.clone(), object.key.name.clone());
            let table = state.table(&object.key.resource.clone());
            table.objects.insert(place, Arc::new(object));
        }
        state
    }

    fn table(&mut self, resource: &ArcStr) -> &mut Table {
        let opened_at = self.opened_at;
        self.tables
            .entry(resource.clone())
            .or_insert_with(|| Table::new(opened_at))
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Object>> {
        let table = self.tables.get(&key.resource)?;
        table
            .objects
            .get(&(key.namespace.clone(), key.name.clone()))
            .cloned()
    }

    pub(super) fn list(&self, resource: &str, namespace: Option<&str>) -> Vec<Arc<Object>> {
        let Some(table) = self.tables.get(resource) else {
            return Vec::new();
        };
        match namespace {
            None => table.objects.values().cloned().collect(),
            Some(namespace) => table
                .objects
                .range((namespace.to_owned(), String::new())..)
                .take_while(|((of, _), _)| of == namespace)
                .map(|(_, object)| Arc::clone(object))
                .collect(),
        }
    }

    pub(super) fn events_after(
        &self,
        resource: &str,
        revision: u64,
    ) -> Result<Vec<Arc<Event>>, StoreError> {
        let Some(table) = self.tables.get(resource) else {
            return self
                .check_reach(revision, self.opened_at)
                .map(|()| Vec::new());
        };
        self.check_reach(revision, table.compacted)?;
        let first = table
            .log
            .partition_point(|event| event.object.revision <= revision);
        Ok(table.log.iter().skip(first).cloned().collect())
    }

    /// A revision that has not been yet is of another store, one that was here before: whoever knows
    /// it must begin anew, or would wait and miss all that happens until then.
    fn check_reach(&self, asked: u64, oldest: u64) -> Result<(), StoreError> {
        if asked < oldest || asked > self.revision {
            Err(StoreError::Gone { asked, oldest })
        } else {
            Ok(())
        }
    }

    pub(super) fn changes(&self, resource: &str) -> Option<watch::Receiver<u64>> {
        Some(self.tables.get(resource)?.changed.subscribe())
    }

    pub(super) fn changes_or_create(&mut self, resource: &str) -> watch::Receiver<u64> {
        self.table(&ArcStr::from(resource)).changed.subscribe()
    }

    /// Shows a committed batch to readers and wakes the watchers.
    pub(super) fn publish(&mut self, events: Vec<Arc<Event>>) {
        let mut touched = Vec::new();
        for event in events {
            let window = self.window;
            self.revision = event.object.revision;
            let key = &event.object.key;
            let table = self.table(&key.resource);
            let place = (key.namespace.clone(), key.name.clone());
            match event.change {
                Change::Deleted => table.objects.remove(&place),
                Change::Added | Change::Modified => {
                    table.objects.insert(place, Arc::clone(&event.object))
                }
            };
            touched.push(key.resource.clone());
            table.log.push_back(Arc::clone(&event));
            if table.log.len() > window
                && let Some(dropped) = table.log.pop_front()
            {
                table.compacted = dropped.object.revision;
            }
        }
        let revision = self.revision;
        for resource in touched {
            self.table(&resource).changed.send_replace(revision);
        }
    }
}
