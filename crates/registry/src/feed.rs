//! The newest state, and what changed since its reader last looked.

use std::sync::Arc;

use tokio::sync::watch;

/// A state that can tell what is different from an earlier one.
pub trait Changes {
    /// What may be different.
    type Changes;

    /// What is different from `earlier`: everything that is, and perhaps more.
    fn since(&self, earlier: &Self) -> Self::Changes;
}

/// Hands the newest state to one reader, together with the union of all that changed since the last
/// time. Nothing queues: a reader that is slow finds one larger set of changes, made by comparing the
/// two states, so that it is complete whatever the writer did in between.
#[derive(Clone, Debug)]
pub struct Feed<S> {
    states: watch::Receiver<Arc<S>>,
    seen: Arc<S>,
}

impl<S: Changes + Default> Feed<S> {
    /// Starts from nothing: the first look finds all that there is.
    pub fn new(mut states: watch::Receiver<Arc<S>>) -> Self {
        states.mark_changed();
        Self {
            states,
            seen: Arc::default(),
        }
    }

    /// Waits until there is a state that was not looked at; `None` when its writer is gone and there
    /// is none. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<(Arc<S>, S::Changes)> {
        self.states.changed().await.ok()?;
        Some(self.look())
    }

    /// The newest state and what changed since the last look, which may be nothing.
    pub fn look(&mut self) -> (Arc<S>, S::Changes) {
        let newest = self.states.borrow_and_update().clone();
        let changes = newest.since(&self.seen);
        self.seen = newest.clone();
        (newest, changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Count(i32);

    impl Changes for Count {
        type Changes = i32;

        fn since(&self, earlier: &Self) -> i32 {
            self.0 - earlier.0
        }
    }

    #[tokio::test]
    async fn a_slow_reader_finds_the_union() {
        let (states_tx, states) = watch::channel(Arc::new(Count(3)));
        let mut feed = Feed::new(states);
        let (newest, changes) = feed.next().await.expect("a state");
        assert_eq!((newest.0, changes), (3, 3));
        for n in 4..10 {
            states_tx.send_replace(Arc::new(Count(n)));
        }
        let (newest, changes) = feed.next().await.expect("a state");
        assert_eq!((newest.0, changes), (9, 6));
        assert_eq!(feed.look().1, 0);
        states_tx.send_replace(Arc::new(Count(10)));
        drop(states_tx);
        assert_eq!(feed.look().1, 1);
        assert!(feed.next().await.is_none());
    }
}
