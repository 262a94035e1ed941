//! A mirror of one watched collection that survives broken watches.

use std::collections::BTreeMap;

/// Namespace (empty for what is cluster wide) and name.
pub(crate) type Key = (String, String);

/// What a watch says.
#[derive(Debug)]
pub(crate) enum Event<T> {
    /// Added or changed.
    Apply(Key, T),
    /// Gone.
    Delete(Key),
    /// A new list begins; the old one holds until it is complete.
    Init,
    /// Part of the new list.
    InitApply(Key, T),
    /// The new list is complete.
    InitDone,
}

impl<T> Event<T> {
    /// Whether it is [`Event::Init`].
    pub(crate) fn is_init(&self) -> bool {
        matches!(self, Event::Init)
    }
}

/// A collection, and the list that will replace it.
#[derive(Debug)]
pub(crate) struct Store<T> {
    items: BTreeMap<Key, T>,
    pending: Option<BTreeMap<Key, T>>,
    synced: bool,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self {
            items: BTreeMap::new(),
            pending: None,
            synced: false,
        }
    }
}

/// What was there before, by key.
pub(crate) type Changes<T> = Vec<(Key, Option<T>)>;

impl<T: PartialEq> Store<T> {
    /// Folds an event in; returns the keys whose item changed, with the item before.
    pub(crate) fn apply(&mut self, event: Event<T>) -> Changes<T> {
        match event {
            Event::Apply(key, item) => self.put(key, item).into_iter().collect(),
            Event::Delete(key) => self
                .items
                .remove_entry(&key)
                .map(|(k, old)| (k, Some(old)))
                .into_iter()
                .collect(),
            Event::Init => {
                self.pending = Some(BTreeMap::new());
                Vec::new()
            }
            Event::InitApply(key, item) => {
                self.pending.get_or_insert_default().insert(key, item);
                Vec::new()
            }
            Event::InitDone => self.swap(),
        }
    }

    fn put(&mut self, key: Key, item: T) -> Option<(Key, Option<T>)> {
        if self.items.get(&key) == Some(&item) {
            return None;
        }
        let old = self.items.insert(key.clone(), item);
        Some((key, old))
    }

    fn swap(&mut self) -> Changes<T> {
        self.synced = true;
        let fresh = self.pending.take().unwrap_or_default();
        let gone: Vec<Key> = self
            .items
            .keys()
            .filter(|key| !fresh.contains_key(*key))
            .cloned()
            .collect();
        let mut changes: Changes<T> = gone
            .into_iter()
            .filter_map(|key| self.items.remove_entry(&key))
            .map(|(k, v)| (k, Some(v)))
            .collect();
        changes.extend(
            fresh
                .into_iter()
                .filter_map(|(key, item)| self.put(key, item)),
        );
        changes
    }

    /// The collection does not exist on the platform (yet), which is as good as empty.
    pub(crate) fn mark_absent(&mut self) {
        self.synced = true;
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.synced
    }

    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<&T> {
        self.items.get(&(namespace.to_owned(), name.to_owned()))
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &T)> {
        self.items.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        ("ns".into(), name.into())
    }

    fn names(changes: Changes<u8>) -> Vec<String> {
        changes.into_iter().map(|(key, _)| key.1).collect()
    }

    #[test]
    fn a_relist_reports_only_differences() {
        let mut store = Store::default();
        store.apply(Event::Apply(key("same"), 1));
        store.apply(Event::Apply(key("changed"), 1));
        store.apply(Event::Apply(key("gone"), 1));
        assert!(!store.is_synced());
        store.apply(Event::Init);
        store.apply(Event::InitApply(key("same"), 1));
        store.apply(Event::InitApply(key("changed"), 2));
        assert_eq!(
            store.get("ns", "gone"),
            Some(&1),
            "the old list holds until the new is whole"
        );
        assert_eq!(names(store.apply(Event::InitDone)), ["gone", "changed"]);
        assert!(store.is_synced());
        assert_eq!(store.iter().count(), 2);
    }

    #[test]
    fn a_broken_relist_loses_nothing() {
        let mut store = Store::default();
        store.apply(Event::Apply(key("a"), 1));
        store.apply(Event::Init);
        store.apply(Event::Init);
        store.apply(Event::InitApply(key("a"), 1));
        assert!(store.apply(Event::InitDone).is_empty());
        assert_eq!(store.get("ns", "a"), Some(&1));
    }

    #[test]
    fn the_same_item_again_is_no_change() {
        let mut store = Store::default();
        assert_eq!(store.apply(Event::Apply(key("a"), 1)).len(), 1);
        assert!(store.apply(Event::Apply(key("a"), 1)).is_empty());
        assert_eq!(names(store.apply(Event::Delete(key("a")))), ["a"]);
        assert!(store.apply(Event::Delete(key("a"))).is_empty());
    }
}
