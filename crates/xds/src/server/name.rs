//! Names of resources: one allocation for each, whoever refers to it.
//!
//! Thousands of streams know the same thousands of names. A name is kept once in the process, so
//! that it costs a stream a pointer, and two names are equal when their pointers are.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use arcstr::ArcStr;
use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// The name of a resource. Cheap to clone and to compare.
#[derive(Clone)]
pub struct Name(ArcStr);

/// Some of all names that somebody holds, and some that nobody does any more.
#[derive(Default)]
struct Known {
    names: HashTable<ArcStr>,
    /// How many there may be before the unused ones are dropped.
    enough: usize,
}

/// Fewer than this are not worth a look.
const FEW: usize = 128;

/// Streams that open at the same time look up thousands of names each, and seldom want the same lock.
const SHARDS: usize = 16;

/// By hash.
static KNOWN: LazyLock<[Mutex<Known>; SHARDS]> = LazyLock::new(Default::default);
/// Seeded anew in each process: clients choose names.
static HASH: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// The part in which a hash is. Nothing under the lock can panic half way.
fn shard(hash: u64) -> MutexGuard<'static, Known> {
    // The table goes by the lowest bits and by the highest ones.
    let at = usize::try_from(hash >> 32).unwrap_or_default() % SHARDS;
    KNOWN[at].lock().unwrap_or_else(PoisonError::into_inner)
}

impl Known {
    fn name(&mut self, text: &str, hash: u64) -> Name {
        if let Some(known) = self.names.find(hash, |known| *known == text) {
            return Name(known.clone());
        }
        if self.names.len() >= self.enough {
            // Who holds a name other than through here has cloned it, and whoever wants one of
            // those that are held here alone must wait for this lock.
            self.names
                .retain(|name| ArcStr::strong_count(name).is_none_or(|holders| holders > 1));
            self.enough = (self.names.len() * 2).max(FEW);
        }
        let name = ArcStr::from(text);
        let again = |known: &ArcStr| HASH.hash_one(known.as_str());
        self.names.insert_unique(hash, name.clone(), again);
        Name(name)
    }
}

impl Name {
    /// The name with this text.
    pub fn new(text: impl AsRef<str>) -> Name {
        let text = text.as_ref();
        let hash = HASH.hash_one(text);
        shard(hash).name(text, hash)
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A number that no other name has as long as this one is held.
    pub(super) fn address(&self) -> usize {
        self.0.as_ptr().addr()
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.address() == other.address()
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.address().hash(state);
    }
}

/// By their texts.
impl Ord for Name {
    fn cmp(&self, other: &Name) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_is_one_name() {
        let made = Name::new(String::from("outbound|80||a"));
        assert_eq!(made, Name::new("outbound|80||a"));
        assert_ne!(made, Name::new("outbound|80||b"));
        assert_eq!(Name::new(""), Name::new(String::new()));
    }

    #[test]
    fn what_nobody_holds_is_dropped_and_what_somebody_holds_stays() {
        let held = Name::new("held through the sweep");
        let address = held.address();
        for i in 0..20 * SHARDS * FEW {
            Name::new(format!("in passing {i}"));
        }
        assert_eq!(Name::new("held through the sweep").address(), address);
        let kept = KNOWN.iter().map(|shard| {
            let known = shard.lock().expect("no panic");
            let kept = known.names.iter().filter(|n| n.starts_with("in passing"));
            kept.count()
        });
        assert!(kept.sum::<usize>() < 10 * SHARDS * FEW);
    }
}
