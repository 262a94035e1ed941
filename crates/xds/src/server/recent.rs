//! What was made of late and may be asked for again at once: a change reaches thousands of streams
//! in a second, and then nobody for hours.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Duration;

/// What was not asked for during this time, and for at most twice as long, is dropped.
const KEPT: Duration = Duration::from_secs(5);

/// Values by key, dropped when they are not asked for any more.
pub(super) struct Recent<K, V> {
    inner: Mutex<Option<Inner<K, V>>>,
    swept: AtomicBool,
}

struct Inner<K, V> {
    new: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K, V> Recent<K, V> {
    pub(super) const fn new() -> Self {
        Recent {
            inner: Mutex::new(None),
            swept: AtomicBool::new(false),
        }
    }

    /// Nothing under the lock can panic half way.
    fn lock(&self) -> MutexGuard<'_, Option<Inner<K, V>>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops what was not asked for since the last time. Whether anything is left.
    fn turn(&self) -> bool {
        let mut inner = self.lock();
        let Some(held) = &mut *inner else {
            return false;
        };
        held.old = std::mem::take(&mut held.new);
        let is_left = !held.old.is_empty();
        if !is_left {
            *inner = None;
        }
        is_left
    }
}

impl<K: Hash + Eq + Send, V: Clone + Send> Recent<K, V> {
    /// The value of a key, made if there is none. Two may make it at the same time; they then get
    /// the same one, so what is expensive is a cell to be filled.
    pub(super) fn get(&'static self, key: K, make: impl FnOnce() -> V) -> V {
        if let Some(value) = self.find(&key) {
            return value;
        }
        let made = make();
        let value = {
            let mut inner = self.lock();
            let held = inner.get_or_insert_with(|| Inner {
                new: HashMap::new(),
                old: HashMap::new(),
            });
            held.new.entry(key).or_insert(made).clone()
        };
        self.sweep();
        value
    }

    fn find(&self, key: &K) -> Option<V> {
        let mut inner = self.lock();
        let held = inner.as_mut()?;
        if let Some(value) = held.new.get(key) {
            return Some(value.clone());
        }
        let (key, value) = held.old.remove_entry(key)?;
        held.new.insert(key, value.clone());
        Some(value)
    }

    /// One task for as long as there is anything to drop.
    fn sweep(&'static self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if self.swept.swap(true, Ordering::AcqRel) {
            return;
        }
        // The task may be dropped with its runtime; the next value then starts another one.
        let sweeping = Sweeping(&self.swept);
        runtime.spawn(async move {
            let _sweeping = sweeping;
            loop {
                tokio::time::sleep(KEPT).await;
                if !self.turn() {
                    return;
                }
            }
        });
    }
}

struct Sweeping(&'static AtomicBool);

impl Drop for Sweeping {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static RECENT: Recent<u32, u32> = Recent::new();

    #[tokio::test(start_paused = true)]
    async fn what_is_not_asked_for_is_dropped() {
        let age = async || tokio::time::sleep(KEPT).await;
        assert_eq!(RECENT.get(1, || 10), 10);
        assert_eq!(RECENT.get(2, || 20), 20);
        // Not to look at the very moment of a turn.
        tokio::time::sleep(KEPT / 2).await;
        age().await;
        assert_eq!(RECENT.get(1, || 11), 10, "kept, and wanted again");
        age().await;
        assert_eq!(RECENT.get(1, || 12), 10);
        assert_eq!(RECENT.get(2, || 21), 21, "made anew");
        for _ in 0..4 {
            age().await;
        }
        assert!(RECENT.lock().is_none());
        assert!(!RECENT.swept.load(Ordering::Acquire), "nothing left to do");
    }
}
