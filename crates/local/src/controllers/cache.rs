//! A kind's objects as last seen, for controllers that look at many at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use futures::{Stream, StreamExt};
use kube::api::{Api, ResourceExt};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use serde::de::DeserializeOwned;
use tracing::warn;

/// Namespace and name.
pub(super) type Key = (String, String);

/// The objects, by namespace and name.
#[derive(Debug)]
pub(super) struct Cache<K> {
    pub(super) objects: BTreeMap<Key, K>,
    listed: BTreeSet<Key>,
    /// Whether a whole listing has been seen.
    pub(super) complete: bool,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            listed: BTreeSet::new(),
            complete: false,
        }
    }
}

impl<K: ResourceExt> Cache<K> {
    /// Takes an event; what it changed, each with the object from before.
    pub(super) fn take(&mut self, event: Event<K>) -> Vec<(Key, Option<K>)> {
        match event {
            Event::Init => {
                self.listed.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                self.listed.insert(key(&object));
                vec![self.put(object)]
            }
            Event::InitDone => {
                self.complete = true;
                let gone: Vec<Key> = self
                    .objects
                    .keys()
                    .filter(|key| !self.listed.contains(key))
                    .cloned()
                    .collect();
                gone.into_iter()
                    .map(|key| (key.clone(), self.objects.remove(&key)))
                    .collect()
            }
            Event::Apply(object) => vec![self.put(object)],
            Event::Delete(object) => {
                let key = key(&object);
                let old = self.objects.remove(&key).or(Some(object));
                vec![(key, old)]
            }
        }
    }

    fn put(&mut self, object: K) -> (Key, Option<K>) {
        let key = key(&object);
        let old = self.objects.insert(key.clone(), object);
        (key, old)
    }

    /// The objects of one namespace.
    pub(super) fn of(&self, namespace: &str) -> impl Iterator<Item = &K> {
        let from = (namespace.to_owned(), String::new());
        self.objects
            .range(from..)
            .take_while(move |((other, _), _)| other == namespace)
            .map(|(_, object)| object)
    }
}

pub(super) fn key<K: ResourceExt>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// All events of a kind; trouble is logged and watched through.
pub(super) fn events<K>(api: Api<K>) -> impl Stream<Item = Event<K>> + Send + Unpin
where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let stream = watcher::watcher(api, watcher::Config::default()).default_backoff();
    Box::pin(stream.filter_map(|event| async {
        event
            .inspect_err(|error| warn!(%error, "a watch broke and is started again"))
            .ok()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn map(namespace: &str, name: &str) -> ConfigMap {
        let mut map = ConfigMap::default();
        map.metadata.namespace = Some(namespace.into());
        map.metadata.name = Some(name.into());
        map
    }

    #[test]
    fn what_a_relist_does_not_hold_is_gone() {
        let mut cache = Cache::default();
        for event in [
            Event::Init,
            Event::InitApply(map("a", "x")),
            Event::InitApply(map("b", "y")),
            Event::InitDone,
        ] {
            cache.take(event);
        }
        assert_eq!(cache.of("a").count(), 1);
        cache.take(Event::Init);
        cache.take(Event::InitApply(map("b", "y")));
        let gone = cache.take(Event::InitDone);
        assert_eq!(gone.len(), 1);
        assert_eq!(gone[0].0, ("a".to_owned(), "x".to_owned()));
        assert_eq!(cache.of("a").count(), 0);
    }
}
