//! A mirror of one watched collection that survives broken watches.

use std::collections::{BTreeMap, BTreeSet};

/// Namespace (empty for what is cluster wide) and name.
pub(crate) type Key = (String, String);

/// What a watch says.
#[derive(Clone, Debug)]
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
    /// As [`Event::Init`], for what one namespace holds.
    InitIn(String),
    /// As [`Event::InitDone`], for what one namespace holds.
    InitDoneIn(String),
    /// From now on the collection is what these namespaces hold; `None` is all of them.
    Scope(Option<BTreeSet<String>>),
}

impl<T> Event<T> {
    /// Whether it only says that a list is asked for.
    pub(crate) fn is_init(&self) -> bool {
        matches!(self, Event::Init | Event::InitIn(_) | Event::Scope(_))
    }

    /// The same of a watch of one namespace.
    pub(crate) fn within(self, namespace: Option<&str>) -> Self {
        match (self, namespace) {
            (Event::Init, Some(namespace)) => Event::InitIn(namespace.to_owned()),
            (Event::InitDone, Some(namespace)) => Event::InitDoneIn(namespace.to_owned()),
            (event, _) => event,
        }
    }

    fn namespace(&self) -> Option<&str> {
        match self {
            Event::Apply((namespace, _), _)
            | Event::Delete((namespace, _))
            | Event::InitApply((namespace, _), _)
            | Event::InitIn(namespace)
            | Event::InitDoneIn(namespace) => Some(namespace),
            Event::Init | Event::InitDone | Event::Scope(_) => None,
        }
    }
}

/// A collection, and the list that will replace it.
#[derive(Debug)]
pub(crate) struct Store<T> {
    items: BTreeMap<Key, T>,
    pending: Option<BTreeMap<Key, T>>,
    scope: Option<Scope<T>>,
    synced: bool,
}

/// The namespaces that a collection is restricted to.
#[derive(Debug)]
struct Scope<T> {
    namespaces: BTreeSet<String>,
    /// Those whose list is complete.
    listed: BTreeSet<String>,
    /// Lists that will replace what their namespaces hold.
    pending: BTreeMap<String, BTreeMap<Key, T>>,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self {
            items: BTreeMap::new(),
            pending: None,
            scope: None,
            synced: false,
        }
    }
}

/// What was there before, by key.
pub(crate) type Changes<T> = Vec<(Key, Option<T>)>;

impl<T: PartialEq> Store<T> {
    /// Folds an event in; returns the keys whose item changed, with the item before.
    pub(crate) fn apply(&mut self, event: Event<T>) -> Changes<T> {
        // A watch of a namespace that is out of scope may have said something before it was stopped.
        let scope = self.scope.as_ref();
        if let (Some(scope), Some(namespace)) = (scope, event.namespace())
            && !scope.namespaces.contains(namespace)
        {
            return Vec::new();
        }
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
                let scope = self.scope.as_mut();
                match scope.and_then(|scope| scope.pending.get_mut(&key.0)) {
                    Some(pending) => pending.insert(key, item),
                    None => self.pending.get_or_insert_default().insert(key, item),
                };
                Vec::new()
            }
            Event::InitDone => {
                self.synced = true;
                let fresh = self.pending.take().unwrap_or_default();
                self.swap(fresh, |_| true)
            }
            Event::InitIn(namespace) => {
                if let Some(scope) = &mut self.scope {
                    scope.pending.insert(namespace, BTreeMap::new());
                }
                Vec::new()
            }
            Event::InitDoneIn(namespace) => {
                let Some(scope) = &mut self.scope else {
                    return Vec::new();
                };
                let fresh = scope.pending.remove(&namespace).unwrap_or_default();
                scope.listed.insert(namespace.clone());
                self.synced |= scope.listed == scope.namespaces;
                self.swap(fresh, |key| key.0 == namespace)
            }
            Event::Scope(namespaces) => self.restrict(namespaces),
        }
    }

    /// Lets what is no longer in scope go. What the whole collection held stays until its list, or
    /// that of each namespace, takes its place.
    fn restrict(&mut self, namespaces: Option<BTreeSet<String>>) -> Changes<T> {
        let Some(namespaces) = namespaces else {
            self.scope = None;
            return Vec::new();
        };
        self.pending = None;
        let before = self.scope.take();
        let (mut listed, mut pending) =
            before.map_or_else(Default::default, |scope| (scope.listed, scope.pending));
        listed.retain(|namespace| namespaces.contains(namespace));
        pending.retain(|namespace, _| namespaces.contains(namespace));
        self.synced |= listed == namespaces;
        let changes = self.swap(BTreeMap::new(), |key| !namespaces.contains(&key.0));
        self.scope = Some(Scope {
            namespaces,
            listed,
            pending,
        });
        changes
    }

    fn put(&mut self, key: Key, item: T) -> Option<(Key, Option<T>)> {
        if self.items.get(&key) == Some(&item) {
            return None;
        }
        let old = self.items.insert(key.clone(), item);
        Some((key, old))
    }

    /// Puts a list in the place of what there was of a part of the collection.
    fn swap(&mut self, fresh: BTreeMap<Key, T>, part: impl Fn(&Key) -> bool) -> Changes<T> {
        let gone: Vec<Key> = self
            .items
            .keys()
            .filter(|key| part(key) && !fresh.contains_key(*key))
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
    fn namespaces_come_into_scope_and_leave_it() {
        let of = |namespace: &str, name: &str| (namespace.to_owned(), name.to_owned());
        let scope = |namespaces: &[&str]| {
            Event::<u8>::Scope(Some(namespaces.iter().map(|n| (*n).to_owned()).collect()))
        };
        let mut store = Store::default();
        store.apply(scope(&["a", "b"]));
        store.apply(Event::InitIn("a".into()));
        store.apply(Event::InitApply(of("a", "x"), 1));
        assert_eq!(store.apply(Event::InitDoneIn("a".into())).len(), 1);
        assert!(!store.is_synced(), "b is still to come");
        store.apply(Event::InitIn("b".into()));
        store.apply(Event::InitApply(of("b", "y"), 1));
        assert_eq!(store.apply(Event::InitDoneIn("b".into())).len(), 1);
        assert!(store.is_synced());

        assert_eq!(names(store.apply(scope(&["a", "c"]))), ["y"]);
        assert!(store.apply(Event::Apply(of("b", "late"), 1)).is_empty());
        assert!(store.is_synced(), "what is there is good while c is read");
        store.apply(Event::InitIn("c".into()));
        store.apply(Event::InitApply(of("c", "z"), 1));
        assert_eq!(names(store.apply(Event::InitDoneIn("c".into()))), ["z"]);

        // The whole takes the place of its parts when it is complete.
        store.apply(Event::Scope(None));
        store.apply(Event::Init);
        store.apply(Event::InitApply(of("a", "x"), 1));
        assert_eq!(store.iter().count(), 2);
        assert_eq!(names(store.apply(Event::InitDone)), ["z"]);
        // And the other way round.
        assert_eq!(names(store.apply(scope(&["c"]))), ["x"]);
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
