//! Which names a client has, in which versions: one copy for all clients that have the same.
//!
//! Thousands of clients hold the same thousands of resources. What one holds is a sorted list that
//! never changes; a change makes the list that follows, and looks first whether somebody has made
//! it already. Lists are told apart by a digest that is a sum over the entries, so that the digest
//! of the list that follows is known before there is one.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::Resource;
use super::name::Name;

/// A list of names and versions. Cheap to clone; equal lists are mostly one allocation.
#[derive(Clone, Default)]
pub(super) struct Versions(Option<Arc<List>>);

struct List {
    digest: u128,
    /// By the address of the name.
    entries: Box<[Entry]>,
}

/// One name and what the client has of it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: Name,
    pub(super) version: u64,
    /// Kept only where a response must list everything.
    pub(super) resource: Option<Arc<Resource>>,
}

/// What becomes of a name: another version, or nothing.
pub(super) enum Change {
    Set(Entry),
    Remove(Name),
}

impl Change {
    fn name(&self) -> &Name {
        match self {
            Change::Set(entry) => &entry.name,
            Change::Remove(name) => name,
        }
    }
}

/// Fewer lists than this are not worth a look.
const FEW: usize = 1024;

/// The lists that are in use, and some that are not any more.
#[derive(Default)]
struct Lists {
    by_digest: HashMap<u128, Weak<List>>,
    /// How many there may be before the unused ones are dropped.
    enough: usize,
}

static LISTS: LazyLock<Mutex<Lists>> = LazyLock::new(Mutex::default);
/// Digests differ from process to process, so that nobody can make two lists that have the same.
static SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));

/// Nothing under the lock can panic half way.
fn lists() -> MutexGuard<'static, Lists> {
    LISTS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Entry {
    fn digest(&self) -> u128 {
        let mut bytes = [0; 17];
        bytes[..8].copy_from_slice(&self.name.address().to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.version.to_ne_bytes());
        bytes[16] = u8::from(self.resource.is_some());
        xxh3_128_with_seed(&bytes, *SEED)
    }
}

impl Versions {
    /// A number that lists with other entries do not have.
    pub(super) fn digest(&self) -> u128 {
        self.0.as_ref().map_or(0, |list| list.digest)
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.entries().iter()
    }

    pub(super) fn len(&self) -> usize {
        self.entries().len()
    }

    pub(super) fn get(&self, name: &Name) -> Option<&Entry> {
        let entries = self.entries();
        position(entries, name).ok().map(|at| &entries[at])
    }

    fn entries(&self) -> &[Entry] {
        self.0.as_ref().map_or(&[], |list| &list.entries)
    }

    /// The list after some changes. The last of several changes to one name counts.
    pub(super) fn after(&self, mut changes: Vec<Change>) -> Versions {
        changes.reverse();
        changes.sort_by_key(|change| change.name().address());
        changes.dedup_by(|a, b| a.name() == b.name());
        let mut digest = self.digest();
        for change in &changes {
            if let Some(old) = self.get(change.name()) {
                digest = digest.wrapping_sub(old.digest());
            }
            if let Change::Set(entry) = change {
                digest = digest.wrapping_add(entry.digest());
            }
        }
        if digest == self.digest() {
            return self.clone();
        }
        if let Some(made) = lists().by_digest.get(&digest).and_then(Weak::upgrade) {
            return Versions(Some(made));
        }
        let entries = merge(self.entries(), changes);
        if entries.is_empty() {
            return Versions(None);
        }
        let list = Arc::new(List { digest, entries });
        lists().insert(&list);
        Versions(Some(list))
    }
}

/// Both are sorted by the names' addresses.
fn merge(old: &[Entry], changes: Vec<Change>) -> Box<[Entry]> {
    let mut entries = Vec::with_capacity(old.len() + changes.len());
    let mut rest = old;
    for change in changes {
        let (at, replaced) = match position(rest, change.name()) {
            Ok(at) => (at, 1),
            Err(at) => (at, 0),
        };
        entries.extend_from_slice(&rest[..at]);
        rest = &rest[at + replaced..];
        if let Change::Set(entry) = change {
            entries.push(entry);
        }
    }
    entries.extend_from_slice(rest);
    entries.into_boxed_slice()
}

fn position(entries: &[Entry], name: &Name) -> Result<usize, usize> {
    entries.binary_search_by_key(&name.address(), |entry| entry.name.address())
}

impl Lists {
    fn insert(&mut self, list: &Arc<List>) {
        if self.by_digest.len() >= self.enough {
            self.by_digest.retain(|_, list| list.strong_count() > 0);
            self.enough = (self.by_digest.len() * 2).max(FEW);
        }
        self.by_digest.insert(list.digest, Arc::downgrade(list));
    }
}

impl fmt::Debug for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.iter().map(|entry| (&entry.name, entry.version));
        f.debug_map().entries(entries).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn set(name: &str, version: u64) -> Change {
        Change::Set(Entry {
            name: Name::new(name),
            version,
            resource: None,
        })
    }

    fn of(entries: &BTreeMap<String, u64>) -> Versions {
        let changes = entries.iter().map(|(name, version)| set(name, *version));
        Versions::default().after(changes.collect())
    }

    fn texts(versions: &Versions) -> BTreeMap<String, u64> {
        let entry = |e: &Entry| (e.name.to_string(), e.version);
        versions.iter().map(entry).collect()
    }

    proptest! {
        /// As a map does it, and by whatever way it comes to be, one content is one allocation.
        #[test]
        fn lists_are_as_maps_and_equal_lists_are_one(
            steps in prop::collection::vec((0..12u8, prop::option::of(1..4u64)), 0..40)
        ) {
            let mut map = BTreeMap::new();
            let mut versions = Versions::default();
            for step in steps.chunks(3) {
                let mut changes = Vec::new();
                for (name, version) in step {
                    let name = format!("versions {name}");
                    match version {
                        Some(version) => {
                            map.insert(name.clone(), *version);
                            changes.push(set(&name, *version));
                        }
                        None => {
                            map.remove(&name);
                            changes.push(Change::Remove(Name::new(&name)));
                        }
                    }
                }
                versions = versions.after(changes);
                prop_assert_eq!(&texts(&versions), &map);
                let fresh = of(&map);
                prop_assert_eq!(fresh.digest(), versions.digest());
                match (&fresh.0, &versions.0) {
                    (Some(a), Some(b)) => prop_assert!(Arc::ptr_eq(a, b)),
                    (None, None) => {}
                    _ => prop_assert!(false, "{fresh:?} {versions:?}"),
                }
            }
        }
    }
}
