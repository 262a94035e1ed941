//! A sorted map whose copies share what they have in common.
//!
//! A world is published after every change, and most changes are about one service. The entries
//! stand in chunks behind an `Arc` each: a copy costs one pointer, a change afterwards costs one
//! chunk and the list of chunks, and what two states differ in is found by comparing the pointers of
//! chunks instead of all entries.

use std::{
    borrow::Borrow,
    cmp::Ordering,
    collections::BTreeSet,
    fmt,
    ops::{Index, RangeFrom},
    sync::Arc,
};

/// Most entries of a chunk. A larger one costs more to copy at a change, a smaller one makes the list
/// of chunks longer; both are read in one go by the processor at this size.
const CHUNK: usize = 64;

type Chunk<K, V> = Arc<Vec<(K, V)>>;

/// A sorted map with cheap copies. See the module.
pub struct SharedMap<K, V> {
    /// No chunk is empty; keys grow within a chunk and from chunk to chunk.
    chunks: Arc<Vec<Chunk<K, V>>>,
    len: usize,
}

impl<K, V> SharedMap<K, V> {
    /// An empty map.
    pub fn new() -> Self {
        Self {
            chunks: Arc::default(),
            len: 0,
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entries, sorted by key.
    pub fn iter(&self) -> Iter<'_, K, V> {
        self.iter_at(0, 0)
    }

    /// The keys, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// The values, sorted by key.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The entry with the smallest key.
    pub fn first_key_value(&self) -> Option<(&K, &V)> {
        self.iter().next()
    }

    fn iter_at(&self, chunk: usize, within: usize) -> Iter<'_, K, V> {
        Iter {
            chunks: &self.chunks,
            chunk,
            within,
        }
    }
}

impl<K: Ord, V> SharedMap<K, V> {
    /// The chunk that a key belongs to, and where in it the key is or would be.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> (usize, Result<usize, usize>)
    where
        K: Borrow<Q>,
    {
        self.find_by(|held| held.borrow().cmp(key))
    }

    /// The same of the key that compares as equal.
    fn find_by(&self, compare: impl Fn(&K) -> Ordering) -> (usize, Result<usize, usize>) {
        let after = self.chunks.partition_point(|c| compare(&c[0].0).is_le());
        let Some(chunk) = after.checked_sub(1) else {
            return (0, Err(0));
        };
        let entries = &self.chunks[chunk];
        (chunk, entries.binary_search_by(|entry| compare(&entry.0)))
    }

    /// The value of the key for which `compare` says that it is equal to the one that is looked for,
    /// in the order of the keys: for who would have to make a key to look it up.
    pub fn get_by(&self, compare: impl Fn(&K) -> Ordering) -> Option<&V> {
        let (chunk, within) = self.find_by(compare);
        let within = within.ok()?;
        Some(&self.chunks[chunk][within].1)
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let (chunk, within) = self.find(key);
        let within = within.ok()?;
        Some(&self.chunks[chunk][within].1)
    }

    /// Whether the key has a value.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).1.is_ok()
    }

    /// The entries from a key on.
    pub fn range(&self, from: RangeFrom<K>) -> Iter<'_, K, V> {
        let (chunk, Ok(within) | Err(within)) = self.find(&from.start);
        self.iter_at(chunk, within)
    }
}

impl<K: Ord + Clone, V: Clone> SharedMap<K, V> {
    fn chunk_mut(&mut self, chunk: usize) -> &mut Vec<(K, V)> {
        Arc::make_mut(&mut Arc::make_mut(&mut self.chunks)[chunk])
    }

    /// Sets the value of a key; the value before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let (chunk, within) = self.find(&key);
        match within {
            Ok(within) => {
                let held = &mut self.chunk_mut(chunk)[within].1;
                return Some(std::mem::replace(held, value));
            }
            Err(_) if self.chunks.is_empty() => {
                Arc::make_mut(&mut self.chunks).push(Arc::new(vec![(key, value)]));
            }
            Err(within) => {
                self.chunk_mut(chunk).insert(within, (key, value));
                self.split(chunk);
            }
        }
        self.len += 1;
        None
    }

    /// Halves a chunk that has grown too large. The last one is left full instead, as keys that come
    /// in order only ever meet that one.
    fn split(&mut self, chunk: usize) {
        if self.chunks[chunk].len() <= CHUNK {
            return;
        }
        let last = chunk + 1 == self.chunks.len();
        let at = if last { CHUNK } else { CHUNK / 2 };
        let rest = self.chunk_mut(chunk).split_off(at);
        Arc::make_mut(&mut self.chunks).insert(chunk + 1, Arc::new(rest));
    }

    /// Takes a key out; the value it had.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (chunk, within) = self.find(key);
        let within = within.ok()?;
        let (_, value) = self.chunk_mut(chunk).remove(within);
        self.len -= 1;
        self.join(chunk);
        Some(value)
    }

    /// Removes an empty chunk, and joins a small one with the next.
    fn join(&mut self, chunk: usize) {
        let size = |at: usize| self.chunks.get(at).map_or(CHUNK, |c| c.len());
        let size_here = size(chunk);
        if size_here == 0 {
            Arc::make_mut(&mut self.chunks).remove(chunk);
        } else if size_here + size(chunk + 1) <= CHUNK / 2 {
            let next = Arc::make_mut(&mut self.chunks).remove(chunk + 1);
            self.chunk_mut(chunk).extend(Arc::unwrap_or_clone(next));
        }
    }

    /// The value of a key, to be changed.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let (chunk, within) = self.find(key);
        let within = within.ok()?;
        Some(&mut self.chunk_mut(chunk)[within].1)
    }

    /// Takes out the entries that `keep` does not want.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        let kept = self.iter().filter(|(key, value)| keep(key, value));
        *self = kept.map(|(k, v)| (k.clone(), v.clone())).collect();
    }
}

impl<K: Ord + Clone, T: ?Sized> SharedMap<K, Arc<T>> {
    /// The keys whose value is not the same allocation in both maps, or in one of them only. Chunks
    /// that both share are passed over.
    pub fn changed(&self, other: &Self) -> BTreeSet<K> {
        let mut changed = BTreeSet::new();
        if Arc::ptr_eq(&self.chunks, &other.chunks) {
            return changed;
        }
        let (mut ours, mut theirs) = (self.iter(), other.iter());
        loop {
            ours.skip_shared(&mut theirs);
            match (ours.peek(), theirs.peek()) {
                (None, None) => return changed,
                (Some((a, x)), Some((b, y))) if a == b => {
                    if !Arc::ptr_eq(x, y) {
                        changed.insert(a.clone());
                    }
                    ours.next();
                    theirs.next();
                }
                (Some((a, _)), Some((b, _))) if b < a => {
                    changed.insert(b.clone());
                    theirs.next();
                }
                (Some((a, _)), _) => {
                    changed.insert(a.clone());
                    ours.next();
                }
                (None, Some((b, _))) => {
                    changed.insert(b.clone());
                    theirs.next();
                }
            }
        }
    }
}

/// The entries of a [`SharedMap`], sorted by key.
pub struct Iter<'a, K, V> {
    chunks: &'a [Chunk<K, V>],
    chunk: usize,
    within: usize,
}

impl<'a, K, V> Iter<'a, K, V> {
    fn peek(&self) -> Option<(&'a K, &'a V)> {
        let mut at = (self.chunk, self.within);
        if self.chunks.get(at.0)?.len() == at.1 {
            at = (at.0 + 1, 0);
        }
        let (key, value) = &self.chunks.get(at.0)?[at.1];
        Some((key, value))
    }

    /// Where both stand at the beginning of the same chunk, both go on behind it.
    fn skip_shared(&mut self, other: &mut Self) {
        self.settle();
        other.settle();
        while self.within == 0
            && other.within == 0
            && let (Some(a), Some(b)) = (self.chunks.get(self.chunk), other.chunks.get(other.chunk))
            && Arc::ptr_eq(a, b)
        {
            self.chunk += 1;
            other.chunk += 1;
        }
    }

    /// The end of a chunk is the beginning of the next.
    fn settle(&mut self) {
        if self
            .chunks
            .get(self.chunk)
            .is_some_and(|c| c.len() == self.within)
        {
            self.chunk += 1;
            self.within = 0;
        }
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        self.settle();
        let (key, value) = self.chunks.get(self.chunk)?.get(self.within)?;
        self.within += 1;
        Some((key, value))
    }
}

impl<'a, K, V> IntoIterator for &'a SharedMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K, V> Clone for SharedMap<K, V> {
    fn clone(&self) -> Self {
        Self {
            chunks: self.chunks.clone(),
            len: self.len,
        }
    }
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

impl<K: Ord + Clone, V: Clone> FromIterator<(K, V)> for SharedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::new();
        map.extend(entries);
        map
    }
}

impl<K: Ord + Clone, V: Clone> Extend<(K, V)> for SharedMap<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

impl<K: Ord + Clone, V: Clone, const N: usize> From<[(K, V); N]> for SharedMap<K, V> {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

/// Panics where the key has no value, as with other maps.
impl<K: Ord + Borrow<Q>, Q: Ord + ?Sized, V> Index<&Q> for SharedMap<K, V> {
    type Output = V;

    fn index(&self, key: &Q) -> &V {
        self.get(key).expect("the key has a value")
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, collections::BTreeMap};

    use proptest::prelude::*;

    use super::*;

    fn chunks_are_sound(map: &SharedMap<u16, Arc<u8>>) {
        assert!(map.chunks.iter().all(|c| !c.is_empty() && c.len() <= CHUNK));
        assert_eq!(map.chunks.iter().map(|c| c.len()).sum::<usize>(), map.len);
    }

    proptest! {
        #[test]
        fn is_a_sorted_map(
            steps in prop::collection::vec((0..600u16, prop::option::of(any::<u8>())), 0..2000),
            look in 0..2000usize,
        ) {
            let (mut map, mut plain) = (SharedMap::new(), BTreeMap::new());
            let mut before = map.clone();
            for (n, (key, value)) in steps.iter().enumerate() {
                let (new, old) = match value {
                    Some(value) => {
                        let value = Arc::new(*value);
                        (map.insert(*key, value.clone()), plain.insert(*key, value))
                    }
                    None => (map.remove(key), plain.remove(key)),
                };
                prop_assert_eq!(new, old);
                if n == look {
                    before = map.clone();
                }
            }
            chunks_are_sound(&map);
            prop_assert_eq!(map.len(), plain.len());
            prop_assert!(map.iter().eq(plain.iter()));
            prop_assert!(map.range(300..).eq(plain.range(300..)));
            prop_assert!((0..600).all(|key| map.get(&key) == plain.get(&key)));
            prop_assert!((0..600).all(|key| map.get_by(|k| k.cmp(&key)) == plain.get(&key)));
            let all: BTreeSet<u16> = before.keys().chain(map.keys()).copied().collect();
            let differs = |key: &u16| match (before.get(key), map.get(key)) {
                (Some(a), Some(b)) => !Arc::ptr_eq(a, b),
                (a, b) => a.is_some() != b.is_some(),
            };
            let want: BTreeSet<u16> = all.into_iter().filter(differs).collect();
            prop_assert_eq!(map.changed(&before), want.clone());
            prop_assert_eq!(before.changed(&map), want);
        }
    }

    #[test]
    fn one_change_copies_one_chunk() {
        let map: SharedMap<u16, Arc<u8>> = (0..10_000).map(|n| (n, Arc::new(0))).collect();
        assert_eq!(
            map.chunks.len(),
            10_000 / CHUNK + 1,
            "sorted input fills its chunks"
        );
        let mut next = map.clone();
        next.insert(5000, Arc::new(1));
        let shared = |(a, b): (&Chunk<_, _>, &Chunk<_, _>)| Arc::ptr_eq(a, b);
        let pairs = map.chunks.iter().zip(next.chunks.iter());
        assert_eq!(pairs.filter(|pair| !shared(*pair)).count(), 1);
        assert_eq!(next.changed(&map), [5000].into());
        assert_eq!((*map[&5000], *next[&5000]), (0, 1));
        next.retain(|key, _| key % 2 == 0);
        assert_eq!(next.len(), 5000);
        assert!(next.remove(&9999).is_none());
    }

    /// A key that counts how often it is compared.
    #[derive(Clone, Debug)]
    struct Counted(usize);

    thread_local! {
        static COMPARED: Cell<usize> = const { Cell::new(0) };
    }

    impl Ord for Counted {
        fn cmp(&self, other: &Self) -> Ordering {
            COMPARED.set(COMPARED.get() + 1);
            self.0.cmp(&other.0)
        }
    }

    impl PartialOrd for Counted {
        fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }

    impl PartialEq for Counted {
        fn eq(&self, other: &Self) -> bool {
            self.cmp(other).is_eq()
        }
    }

    impl Eq for Counted {}

    #[test]
    fn finding_a_change_compares_one_chunk() {
        for n in [100, 10_000] {
            let map: SharedMap<Counted, Arc<u8>> =
                (0..n).map(|i| (Counted(i), Arc::new(0))).collect();
            let mut next = map.clone();
            next.insert(Counted(50), Arc::new(1));
            next.remove(&Counted(n - 1));
            COMPARED.set(0);
            assert_eq!(next.changed(&map).len(), 2);
            let compared = COMPARED.take();
            assert!(compared <= 6 * CHUNK, "{compared} of {n}");
        }
    }
}
