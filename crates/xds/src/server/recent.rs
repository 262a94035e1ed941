//! What was made of late and may be asked for again at once: a change reaches thousands of streams
//! in a second, and then nobody for hours.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::{Duration, Instant, sleep_until};

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
    /// When what was new became old.
    turned: Instant,
}

impl<K, V> Inner<K, V> {
    /// Drops what was not asked for since the last time, when it is time. When the next time is.
    fn turn(&mut self) -> Instant {
        let now = Instant::now();
        if now >= self.turned + KEPT {
            self.old = std::mem::take(&mut self.new);
            self.turned = now;
        }
        self.turned + KEPT
    }
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

    /// Drops what was not asked for of late. When there will be more to drop; `None` where nothing is
    /// left.
    fn turn(&self) -> Option<Instant> {
        let mut inner = self.lock();
        let held = inner.as_mut()?;
        let next = held.turn();
        if held.new.is_empty() && held.old.is_empty() {
            *inner = None;
            return None;
        }
        Some(next)
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
                turned: Instant::now(),
            });
            // The task that does this may be gone with its runtime again and again.
            held.turn();
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

    /// One task for as long as there is anything to drop, also when nobody asks any more.
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
            while let Some(next) = self.turn() {
                sleep_until(next).await;
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

    #[tokio::test(start_paused = true)]
    async fn it_does_not_grow_where_no_task_lives_long_enough() {
        static RECENT: Recent<u32, u32> = Recent::new();
        // As if the task were on a runtime that ends.
        RECENT.swept.store(true, Ordering::Release);
        for n in 0..50 {
            RECENT.get(n, || n);
            tokio::time::advance(KEPT / 5).await;
        }
        let kept = RECENT
            .lock()
            .as_ref()
            .map(|held| held.new.len() + held.old.len());
        assert!(kept.is_some_and(|kept| kept <= 10), "{kept:?}");
    }
}
