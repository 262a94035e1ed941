//! Names of resources: one allocation for each, whoever refers to it.
//!
//! Thousands of streams know the same thousands of names. A name is kept once in the process, so
//! that it costs a stream a pointer, and two names are equal when their pointers are.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use arcstr::ArcStr;

/// The name of a resource. Cheap to clone and to compare.
#[derive(Clone)]
pub struct Name(ArcStr);

/// All names that somebody holds, and some that nobody does any more.
#[derive(Default)]
struct Known {
    names: HashSet<ArcStr>,
    /// How many there may be before the unused ones are dropped.
    enough: usize,
}

/// Fewer than this are not worth a look.
const FEW: usize = 1024;

static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// Nothing under the lock can panic half way.
fn known() -> MutexGuard<'static, Known> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Known {
    fn name(&mut self, text: &str) -> Name {
        if let Some(known) = self.names.get(text) {
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
        self.names.insert(name.clone());
        Name(name)
    }
}

impl Name {
    /// The name with this text.
    pub fn new(text: impl AsRef<str>) -> Name {
        known().name(text.as_ref())
    }

    /// The names with these texts.
    pub(super) fn all<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Vec<Name> {
        let mut known = known();
        let texts = texts.into_iter();
        texts.map(|text| known.name(text.as_ref())).collect()
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
        for i in 0..20 * FEW {
            Name::new(format!("in passing {i}"));
        }
        assert_eq!(Name::new("held through the sweep").address(), address);
        let names = &known().names;
        let kept = names.iter().filter(|n| n.starts_with("in passing"));
        assert!(kept.count() < 10 * FEW);
    }
}
