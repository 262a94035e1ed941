//! What all requests share.

pub(super) mod bootstrap;

use std::sync::{Arc, RwLock};

use tokio_util::sync::CancellationToken;

use super::exec::PodExec;
use super::kinds::{Kinds, Resource};
use super::logs::LogSource;
use super::pki::Pki;
use super::port_forward::PodDialer;
use crate::store::{Key, Object, Store};

/// Where custom resource definitions are stored.
pub(super) const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";

/// The shared state of the server.
pub(super) struct Core {
    pub(super) store: Store,
    /// Keys; without them there is no TLS and whoever connects is trusted.
    pub(super) pki: Option<Arc<Pki>>,
    pub(super) logs: Option<Arc<dyn LogSource>>,
    pub(super) dialer: Option<Arc<dyn PodDialer>>,
    pub(super) executor: Option<Arc<dyn PodExec>>,
    /// Ends watches and log streams at shutdown.
    pub(super) shutdown: CancellationToken,
    /// Held while a service is given addresses and ports, so that no two get the same.
    pub(super) allocation: tokio::sync::Mutex<()>,
    kinds: RwLock<Arc<Kinds>>,
}

impl Core {
    pub(super) fn new(
        store: Store,
        pki: Option<Arc<Pki>>,
        logs: Option<Arc<dyn LogSource>>,
        dialer: Option<Arc<dyn PodDialer>>,
        executor: Option<Arc<dyn PodExec>>,
    ) -> Arc<Self> {
        let core = Self {
            store,
            pki,
            logs,
            dialer,
            executor,
            shutdown: CancellationToken::new(),
            allocation: tokio::sync::Mutex::default(),
            kinds: RwLock::default(),
        };
        core.reload_kinds();
        Arc::new(core)
    }

    /// The kinds served now.
    pub(super) fn kinds(&self) -> Arc<Kinds> {
        Arc::clone(&self.kinds.read().expect("no panic while held"))
    }

    /// Takes up the stored definitions; called after each write of one.
    pub(super) fn reload_kinds(&self) {
        // Listed under the lock: of two writes at once, the later list must be the one that stays.
        let mut kinds = self.kinds.write().expect("no panic while held");
        let (definitions, _) = self.store.list(DEFINITIONS, None);
        *kinds = Arc::new(Kinds::new(&definitions));
    }

    pub(super) fn key(resource: &Resource, namespace: &str, name: &str) -> Key {
        Key {
            resource: resource.storage.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    pub(super) fn get(&self, storage: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.store.get(&Key {
            resource: storage.into(),
            namespace: namespace.into(),
            name: name.into(),
        })
    }
}
