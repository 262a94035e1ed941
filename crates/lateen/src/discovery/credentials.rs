//! Certificates of gateways, from Secrets of the cluster.

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use lateen_pilot::{Credential, CredentialSource};
use tokio::sync::watch;
use tracing::warn;

/// Where each part stands: in Secrets of type `kubernetes.io/tls`, and in Istio's generic ones.
const CERTIFICATE: [&str; 2] = ["tls.crt", "cert"];
const KEY: [&str; 2] = ["tls.key", "key"];
const ROOTS: [&str; 2] = ["ca.crt", "cacert"];
/// A Secret of this ending holds the roots of the one without it.
const ROOTS_SUFFIX: &str = "-cacert";

/// The Secrets of an API server, as they change.
pub(super) struct Credentials {
    secrets: Store<Secret>,
    changes_rx: watch::Receiver<u64>,
}

impl Credentials {
    /// Starts to follow them.
    pub(super) fn follow(client: Client) -> Self {
        let (secrets, writer) = reflector::store();
        let (changes_tx, changes_rx) = watch::channel(0);
        tokio::spawn(async move {
            let events = watcher(Api::<Secret>::all(client), watcher::Config::default());
            let events = reflector::reflector(writer, events.default_backoff());
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                match event {
                    Ok(_) => changes_tx.send_modify(|n| *n += 1),
                    Err(error) => warn!(%error, "the watch of Secrets broke; it starts again"),
                }
            }
        });
        Credentials {
            secrets,
            changes_rx,
        }
    }

    fn part(&self, namespace: &str, name: &str, keys: [&str; 2]) -> Vec<u8> {
        let Some(secret) = self.secrets.get(&ObjectRef::new(name).within(namespace)) else {
            return Vec::new();
        };
        let data = secret.data.as_ref();
        let found = keys.iter().find_map(|key| data?.get(*key));
        found.map(|bytes| bytes.0.clone()).unwrap_or_default()
    }
}

impl CredentialSource for Credentials {
    fn credential(&self, namespace: &str, name: &str) -> Option<Credential> {
        let mut roots = self.part(namespace, &format!("{name}{ROOTS_SUFFIX}"), ROOTS);
        if roots.is_empty() {
            roots = self.part(namespace, name, ROOTS);
        }
        let credential = Credential {
            certificate: self.part(namespace, name, CERTIFICATE),
            key: self.part(namespace, name, KEY),
            roots,
        };
        (credential != Credential::default()).then_some(credential)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes_rx.clone()
    }
}
