//! A signal that something ends: its connections finish what they are doing and take nothing new.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// The signal of one listener or chain.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    set: AtomicBool,
    notify: Notify,
}

impl Drain {
    /// Gives the signal.
    pub(crate) fn start(&self) {
        self.set.store(true, Ordering::Release);
        self.notify.notify_waiters();
    }

    /// True once it was given.
    pub(crate) fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    /// Waits for it.
    pub(crate) async fn wait(&self) {
        let notified = self.notify.notified();
        tokio::pin!(notified);
        // Registered before the flag is read, so that a signal in between is not lost.
        notified.as_mut().enable();
        if !self.is_set() {
            notified.await;
        }
    }
}
