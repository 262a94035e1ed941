//! Which names a client has, in which versions: one copy for all clients that have the same.
//!
//! Thousands of clients hold the same thousands of resources, and most of what others hold. What one
//! holds is a sorted list that never changes, in chunks that lists share: where a chunk ends is
//! decided by the name there, so that lists which differ in a few names (each workload has clusters
//! of its own) differ in a few chunks, and so does a list from the one before it. A change makes the
//! list that follows, and looks first whether somebody has made it already. Lists and chunks are told
//! apart by a digest that is a sum over the entries, so that the digest of the list that follows is
//! known before there is one.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::Resource;
use super::name::Name;

/// A list of names and versions. Cheap to clone; equal lists are mostly one allocation.
#[derive(Clone, Default)]
pub(super) struct Versions(Option<Arc<List>>);

struct List {
    digest: u128,
    len: usize,
    /// None is empty.
    chunks: Box<[Arc<Chunk>]>,
}

struct Chunk {
    /// By the address of the name, from chunk to chunk too.
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

/// A chunk ends after one name in so many.
const NAMES_PER_CHUNK: u32 = 32;

/// Whether a chunk ends with a name.
fn ends_chunk(name: &Name) -> bool {
    // Addresses are multiples of something; what is multiplied has its best bits on top.
    let mixed = (name.address() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed >> (64 - NAMES_PER_CHUNK.ilog2()) == 0
}

/// Fewer than this are not worth a look.
const FEW: usize = 1024;

/// What is in use, by its digest, and some that is not any more.
struct Known<T> {
    by_digest: HashMap<u128, Weak<T>, FixedState>,
    /// How many there may be before the unused ones are dropped.
    enough: usize,
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Known {
            by_digest: HashMap::default(),
            enough: FEW,
        }
    }
}

static LISTS: LazyLock<Mutex<Known<List>>> = LazyLock::new(Mutex::default);
static CHUNKS: LazyLock<Mutex<Known<Chunk>>> = LazyLock::new(Mutex::default);
/// Digests differ from process to process, so that nobody can make two lists that have the same.
static SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));

/// Nothing under the locks can panic half way.
fn lock<T>(known: &Mutex<Known<T>>) -> MutexGuard<'_, Known<T>> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Known<T> {
    fn get(&self, digest: u128) -> Option<Arc<T>> {
        self.by_digest.get(&digest).and_then(Weak::upgrade)
    }

    /// The one that is known of those with a digest, made where there is none.
    fn get_or_insert(&mut self, digest: u128, make: impl FnOnce() -> T) -> Arc<T> {
        if let Some(known) = self.get(digest) {
            return known;
        }
        if self.by_digest.len() >= self.enough {
            self.by_digest.retain(|_, made| made.strong_count() > 0);
            self.enough = (self.by_digest.len() * 2).max(FEW);
        }
        let made = Arc::new(make());
        self.by_digest.insert(digest, Arc::downgrade(&made));
        made
    }
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

impl Chunk {
    fn last(&self) -> usize {
        let last = self.entries.last();
        last.map_or(usize::MAX, |entry| entry.name.address())
    }

    /// The chunk of some entries, by all who have it.
    fn of(entries: Vec<Entry>) -> Arc<Chunk> {
        let digests = entries.iter().map(Entry::digest);
        let digest = digests.fold(0, u128::wrapping_add);
        lock(&CHUNKS).get_or_insert(digest, || Chunk {
            entries: entries.into_boxed_slice(),
        })
    }
}

impl Versions {
    /// A number that lists with other entries do not have.
    pub(super) fn digest(&self) -> u128 {
        self.0.as_ref().map_or(0, |list| list.digest)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.chunks().iter().flat_map(|chunk| &*chunk.entries)
    }

    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |list| list.len)
    }

    pub(super) fn get(&self, name: &Name) -> Option<&Entry> {
        let chunks = self.chunks();
        let at = chunks.partition_point(|chunk| chunk.last() < name.address());
        let entries = &chunks.get(at)?.entries;
        position(entries, name).ok().map(|at| &entries[at])
    }

    fn chunks(&self) -> &[Arc<Chunk>] {
        self.0.as_ref().map_or(&[], |list| &list.chunks)
    }

    /// The list after some changes. The last of several changes to one name counts.
    pub(super) fn after(&self, mut changes: Vec<Change>) -> Versions {
        changes.reverse();
        changes.sort_by_key(|change| change.name().address());
        changes.dedup_by(|a, b| a.name() == b.name());
        let mut digest = self.digest();
        let mut len = self.len();
        for change in &changes {
            if let Some(old) = self.get(change.name()) {
                digest = digest.wrapping_sub(old.digest());
                len -= 1;
            }
            if let Change::Set(entry) = change {
                digest = digest.wrapping_add(entry.digest());
                len += 1;
            }
        }
        if digest == self.digest() {
            return self.clone();
        }
        if len == 0 {
            return Versions(None);
        }
        if let Some(made) = lock(&LISTS).get(digest) {
            return Versions(Some(made));
        }
        let chunks = rechunked(self.chunks(), changes);
        let list = lock(&LISTS).get_or_insert(digest, || List {
            digest,
            len,
            chunks,
        });
        Versions(Some(list))
    }
}

/// Chunks with some changes, both sorted by the names' addresses. Chunks between the changes are
/// shared.
fn rechunked(old: &[Arc<Chunk>], changes: Vec<Change>) -> Box<[Arc<Chunk>]> {
    let mut chunks = Vec::with_capacity(old.len() + 1);
    let mut changes = changes.into_iter().peekable();
    let mut open = Vec::new();
    for (i, chunk) in old.iter().enumerate() {
        let last = match i + 1 == old.len() {
            true => usize::MAX,
            false => chunk.last(),
        };
        let mut here = Vec::new();
        while let Some(change) = changes.next_if(|change| change.name().address() <= last) {
            here.push(change);
        }
        if here.is_empty() && open.is_empty() {
            chunks.push(chunk.clone());
            continue;
        }
        merge(&chunk.entries, here, &mut open);
        cut(&mut open, &mut chunks);
    }
    // Only where there was no chunk at all.
    merge(&[], changes.collect(), &mut open);
    cut(&mut open, &mut chunks);
    if !open.is_empty() {
        chunks.push(Chunk::of(open));
    }
    chunks.into_boxed_slice()
}

/// Takes whole chunks off the beginning.
fn cut(open: &mut Vec<Entry>, chunks: &mut Vec<Arc<Chunk>>) {
    let mut next = Vec::new();
    for entry in std::mem::take(open) {
        let is_end = ends_chunk(&entry.name);
        next.push(entry);
        if is_end {
            chunks.push(Chunk::of(std::mem::take(&mut next)));
        }
    }
    *open = next;
}

/// Adds what some entries are after some changes. Both are sorted by the names' addresses.
fn merge(old: &[Entry], changes: Vec<Change>, entries: &mut Vec<Entry>) {
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
}

fn position(entries: &[Entry], name: &Name) -> Result<usize, usize> {
    entries.binary_search_by_key(&name.address(), |entry| entry.name.address())
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
            steps in prop::collection::vec((0..200u8, prop::option::of(1..4u64)), 0..400)
        ) {
            let mut map = BTreeMap::new();
            let mut versions = Versions::default();
            for step in steps.chunks(30) {
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

    #[test]
    fn lists_that_differ_a_little_share_their_chunks() {
        let n = 4000;
        let names = (0..n).map(|i| set(&format!("chunks {i}"), 1));
        let all = Versions::default().after(names.collect());
        let other = all.after(vec![
            set("chunks 17", 2),
            set("chunks of its own", 1),
            Change::Remove(Name::new("chunks 2000")),
        ]);
        assert_eq!((all.len(), other.len()), (n, n));
        let known: Vec<_> = all.chunks().iter().map(Arc::as_ptr).collect();
        let is_shared = |chunk: &&Arc<Chunk>| known.contains(&Arc::as_ptr(chunk));
        let own = other.chunks().len() - other.chunks().iter().filter(is_shared).count();
        // A removed name may have been between two chunks, and a new one may part one.
        assert!((1..=5).contains(&own), "{own} of {}", known.len());
        assert!(known.len() > n / 100, "{}", known.len());
        let back = other.after(vec![
            set("chunks 17", 1),
            set("chunks 2000", 1),
            Change::Remove(Name::new("chunks of its own")),
        ]);
        assert!(Arc::ptr_eq(
            back.0.as_ref().expect("some"),
            all.0.as_ref().expect("some")
        ));
    }
}
