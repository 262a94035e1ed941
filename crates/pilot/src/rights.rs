//! Whether proxies may read Secrets, asked again for as long as they are there.
//!
//! A proxy is asked about when it comes. Its right may come or go after that, and a sidecar may come
//! just while the rule that names a credential for it is published, so that neither of the two sees
//! the other. Whoever was told wrongly comes back by a new stream, which asks as the first one did.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use lateen_core::SpiffeId;
use lateen_xds::server::Connections;
use tokio::time::MissedTickBehavior;
use tracing::{debug, info};

use crate::auth::Authenticate;
use crate::proxy::Proxy;
use crate::snapshot::Snapshot;
use crate::source::{Client, Core};

/// How often it is asked again whether those who use Secrets may read them. One question a minute
/// for each service account is nothing to an API server, and who gives a right and looks at what
/// comes of it waits so long.
pub const ASK_AGAIN: Duration = Duration::from_secs(60);

/// Whether it counts for a proxy if it may read Secrets: gateways and sidecars that rules name
/// credentials for. That it is a gateway is only what its node says.
pub(crate) fn count(proxy: &Proxy, snapshot: &Snapshot) -> bool {
    let is_named = || snapshot.names_credentials(&proxy.namespace, &proxy.labels);
    !proxy.is_agent && (proxy.is_router() || is_named())
}

/// Lets sidecars come back for which their rights count from now on.
pub(crate) fn let_come_back(connections: &Connections<Client>, before: &Snapshot, now: &Snapshot) {
    if Arc::ptr_eq(&before.config, &now.config) || !now.names_any_credentials() {
        return;
    }
    for connection in connections.list() {
        let client = &connection.client;
        if !client.is_asked && count(&client.proxy, now) {
            connection.disconnect();
        }
    }
}

/// Asks again. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rights {
    core: Arc<Core>,
    connections: Arc<Connections<Client>>,
    /// Whom each port asks.
    asked: Arc<Mutex<Vec<Weak<dyn Authenticate>>>>,
}

impl Rights {
    pub(crate) fn new(core: Arc<Core>, connections: Arc<Connections<Client>>) -> Rights {
        Rights {
            core,
            connections,
            asked: Arc::default(),
        }
    }

    /// Asks the one of another port as well.
    pub(crate) fn ask_too(&self, auth: &Arc<dyn Authenticate>) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.retain(|auth| auth.strong_count() > 0);
        asked.push(Arc::downgrade(auth));
    }

    /// Goes on until no more snapshots come.
    pub(crate) async fn run(self, every: Duration) {
        let mut snapshots = self.core.snapshots.clone();
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = snapshots.changed() => if changed.is_err() {
                    return;
                },
                _ = ticks.tick() => self.ask_again().await,
            }
        }
    }

    async fn ask_again(&self) {
        let snapshot = self.core.snapshots.borrow().clone();
        let mut known: HashMap<SpiffeId, Option<bool>> = HashMap::new();
        for connection in self.connections.list() {
            let client = &connection.client;
            let Some(identity) = &client.identity else {
                continue;
            };
            if !count(&client.proxy, &snapshot) {
                continue;
            }
            if client.is_asked {
                let reads = match known.get(identity) {
                    Some(reads) => *reads,
                    None => {
                        let reads = self.reads_secrets(identity).await;
                        known.insert(identity.clone(), reads);
                        reads
                    }
                };
                if reads.is_none_or(|reads| reads == client.reads_secrets) {
                    continue;
                }
            }
            info!(
                node = connection.node, %identity,
                "comes back, as it counts whether it may read Secrets, and that has changed"
            );
            connection.disconnect();
        }
    }

    /// `None` where nobody could be asked: nothing is to change by that.
    async fn reads_secrets(&self, identity: &SpiffeId) -> Option<bool> {
        let mut reads = false;
        for auth in self.whom_to_ask() {
            match auth.reads_secrets(identity).await {
                Ok(may) => reads |= may,
                Err(error) => {
                    debug!(%identity, %error, "who reads Secrets could not be asked");
                    return None;
                }
            }
        }
        Some(reads)
    }

    fn whom_to_ask(&self) -> Vec<Arc<dyn Authenticate>> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().filter_map(Weak::upgrade).collect()
    }
}
