//! Brings the root to every namespace, where agents mount it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lateen_core::Backoff;
use tokio::sync::watch;

use crate::StoreError;

/// Also repairs what somebody deleted or changed.
const RESYNC: Duration = Duration::from_secs(60);
const RETRY_BASE: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Where the root is published: ConfigMap `istio-ca-root-cert`, key `root-cert.pem`.
#[async_trait]
pub trait RootTarget: Send + Sync + 'static {
    /// Makes the namespace's ConfigMap hold this root. Must do nothing when it does, and succeed when
    /// the namespace is gone.
    async fn publish(&self, namespace: &str, root_pem: &str) -> Result<(), StoreError>;
}

/// Keeps every namespace supplied with the root.
#[derive(Debug)]
pub struct RootPublisher<T> {
    roots_rx: watch::Receiver<Arc<str>>,
    namespaces_rx: watch::Receiver<Arc<BTreeSet<String>>>,
    leading_rx: watch::Receiver<bool>,
    target: T,
}

impl<T: RootTarget> RootPublisher<T> {
    /// A publisher of the roots, PEM, for the namespaces of the watch. The target does another thing
    /// where it leads, so that all is published anew when that changes.
    pub fn new(
        roots_rx: watch::Receiver<Arc<str>>,
        namespaces_rx: watch::Receiver<Arc<BTreeSet<String>>>,
        leading_rx: watch::Receiver<bool>,
        target: T,
    ) -> Self {
        Self {
            roots_rx,
            namespaces_rx,
            leading_rx,
            target,
        }
    }

    /// Publishes at once to new namespaces, other roots and from time to time to all; returns when
    /// a watch closes.
    pub async fn run(mut self) {
        let mut done = BTreeSet::new();
        let mut retry = Backoff::new(RETRY_BASE, RETRY_MAX);
        let mut resync = tokio::time::interval(RESYNC);
        loop {
            let namespaces = self.namespaces_rx.borrow_and_update().clone();
            // A namespace that is deleted and comes back needs the root again.
            done.retain(|n| namespaces.contains(n));
            let roots = self.roots_rx.borrow_and_update().clone();
            let failed = self.publish_missing(&roots, &namespaces, &mut done).await;
            if !failed {
                retry.reset();
            }
            tokio::select! {
                changed = self.namespaces_rx.changed() => if changed.is_err() { return },
                changed = self.roots_rx.changed() => match changed {
                    Ok(()) => done.clear(),
                    Err(_) => return,
                },
                () = tokio::time::sleep(retry.next_delay()), if failed => {}
                Ok(()) = self.leading_rx.changed() => done.clear(),
                _ = resync.tick() => done.clear(),
            }
        }
    }

    async fn publish_missing(
        &self,
        roots: &str,
        all: &BTreeSet<String>,
        done: &mut BTreeSet<String>,
    ) -> bool {
        let mut failed = false;
        for namespace in all {
            if done.contains(namespace) {
                continue;
            }
            match self.target.publish(namespace, roots).await {
                Ok(()) => {
                    done.insert(namespace.clone());
                }
                Err(error) => {
                    tracing::warn!(namespace, %error, "root certificate is not published");
                    failed = true;
                }
            }
        }
        failed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::mpsc;

    use super::*;

    struct Recorder {
        /// Namespaces, and the roots where they are not the first ones.
        published_tx: mpsc::UnboundedSender<String>,
        fail_once: Mutex<BTreeSet<String>>,
    }

    #[async_trait]
    impl RootTarget for Recorder {
        async fn publish(&self, namespace: &str, root_pem: &str) -> Result<(), StoreError> {
            if self.fail_once.lock().expect("no panic").remove(namespace) {
                return Err(StoreError("conflict".to_owned()));
            }
            // The test may have seen enough.
            let _ = self.published_tx.send(match root_pem {
                "ROOT" => namespace.to_owned(),
                other => format!("{namespace} {other}"),
            });
            Ok(())
        }
    }

    fn set(names: &[&str]) -> Arc<BTreeSet<String>> {
        Arc::new(names.iter().map(|n| (*n).to_owned()).collect())
    }

    #[tokio::test(start_paused = true)]
    async fn every_namespace_gets_the_root_also_a_later_one_and_after_a_failure() {
        let (published_tx, mut published_rx) = mpsc::unbounded_channel();
        let (namespaces_tx, namespaces_rx) = watch::channel(set(&["a", "b"]));
        let fail_once = Mutex::new(BTreeSet::from(["a".to_owned()]));
        let target = Recorder {
            published_tx,
            fail_once,
        };
        let (leading_tx, leading_rx) = watch::channel(false);
        let (roots_tx, roots_rx) = watch::channel(Arc::from("ROOT"));
        let publisher = RootPublisher::new(roots_rx, namespaces_rx, leading_rx, target);
        tokio::spawn(publisher.run());
        let mut seen = BTreeSet::new();
        while seen.len() < 2 {
            seen.insert(published_rx.recv().await.expect("the publisher runs"));
        }
        namespaces_tx
            .send(set(&["a", "b", "later"]))
            .expect("the publisher watches");
        while published_rx.recv().await.expect("the publisher runs") != "later" {}
        // Whoever begins to lead does not wait for the next look at all.
        tokio::time::sleep(RESYNC / 2).await;
        while published_rx.try_recv().is_ok() {}
        let led = tokio::time::Instant::now();
        leading_tx.send(true).expect("the publisher watches");
        let mut again = BTreeSet::new();
        while again.len() < 3 {
            again.insert(published_rx.recv().await.expect("the publisher runs"));
        }
        assert!(led.elapsed() < RESYNC / 4);
        // Neither do those who are to trust another root.
        tokio::time::sleep(RESYNC / 4).await;
        while published_rx.try_recv().is_ok() {}
        let rotated = tokio::time::Instant::now();
        roots_tx
            .send(Arc::from("BOTH"))
            .expect("the publisher watches");
        let mut again = BTreeSet::new();
        while again.len() < 3 {
            let published = published_rx.recv().await.expect("the publisher runs");
            assert!(published.ends_with(" BOTH"), "{published}");
            again.insert(published);
        }
        assert!(rotated.elapsed() < RESYNC / 4);
    }
}
