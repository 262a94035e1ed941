//! The one place where the current identity of a process is kept, and where it is replaced.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use crate::{Error, Identity};

/// Holds the current [`Identity`]. Readers take one `Arc` per handshake; a new identity is used by
/// the next handshake, and established connections live on.
#[derive(Debug)]
pub struct IdentityStore {
    current: ArcSwapOption<Identity>,
    changed_tx: watch::Sender<u64>,
}

impl Default for IdentityStore {
    fn default() -> Self {
        Self::empty()
    }
}

impl IdentityStore {
    /// A store that waits for its first identity; handshakes fail with [`Error::NotReady`] until
    /// then.
    pub fn empty() -> Self {
        Self {
            current: ArcSwapOption::empty(),
            changed_tx: watch::Sender::new(0),
        }
    }

    /// A store that starts with an identity.
    pub fn new(identity: Identity) -> Self {
        let store = Self::empty();
        store.set(identity);
        store
    }

    /// Replaces the identity and wakes subscribers.
    pub fn set(&self, identity: Identity) {
        self.current.store(Some(Arc::new(identity)));
        self.changed_tx.send_modify(|generation| *generation += 1);
    }

    /// The current identity.
    ///
    /// # Errors
    /// [`Error::NotReady`] before the first one.
    pub fn current(&self) -> Result<Arc<Identity>, Error> {
        self.current.load_full().ok_or(Error::NotReady)
    }

    /// Yields the number of identities so far, at each change. Zero means that there is none yet.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed_tx.subscribe()
    }

    /// Waits for the first identity.
    pub async fn ready(&self) -> Arc<Identity> {
        let mut changed_rx = self.subscribe();
        // The sender is ours, so that waiting cannot fail while we are borrowed.
        let _ = changed_rx.wait_for(|generation| *generation > 0).await;
        self.current()
            .expect("an identity is stored before the generation is raised")
    }
}
