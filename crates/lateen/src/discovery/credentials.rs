//! Certificates of gateways, from Secrets of the cluster.

use std::{
    collections::HashSet,
    sync::{Arc, OnceLock},
    time::Duration,
};

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
use lateen_core::SpiffeId;
use lateen_galley::{CredentialFault, GatewayState};
use lateen_pilot::{Credential, CredentialSource, Leave};
use tokio::sync::watch;
use tracing::warn;

/// Where each part stands: in Secrets of type `kubernetes.io/tls`, and in Istio's generic ones.
const CERTIFICATE: [&str; 2] = ["tls.crt", "cert"];
const KEY: [&str; 2] = ["tls.key", "key"];
const ROOTS: [&str; 2] = ["ca.crt", "cacert"];
/// How long the first list may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// A Secret of this ending holds the roots of the one without it.
const ROOTS_SUFFIX: &str = "-cacert";

/// The Secrets of an API server, as they change.
pub(super) struct Credentials {
    secrets: Store<Secret>,
    changes_rx: watch::Receiver<u64>,
    /// Which proxies may have which, once that is known.
    gateways: OnceLock<watch::Receiver<Arc<GatewayState>>>,
}

impl Credentials {
    /// Starts to follow them.
    pub(super) fn follow(client: Client) -> Self {
        let (secrets, writer) = reflector::store();
        let (changes_tx, changes_rx) = watch::channel(0);
        tokio::spawn(async move {
            let events = watcher(Api::<Secret>::all(client), watcher::Config::default());
            let events = events.default_backoff().modify(keep_parts);
            let events = reflector::reflector(writer, events);
            let mut events = std::pin::pin!(events);
            let mut known = Known::default();
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) if known.concerns(&event) => changes_tx.send_modify(|n| *n += 1),
                    Ok(_) => {}
                    Err(error) => warn!(%error, "the watch of Secrets broke; it starts again"),
                }
            }
        });
        Credentials {
            secrets,
            changes_rx,
            gateways: OnceLock::new(),
        }
    }

    /// Waits until the first list is there, but not without an end: without a right to Secrets,
    /// gateways go on without certificates.
    pub(super) async fn ready(&self) {
        let ready = tokio::time::timeout(PATIENCE, self.secrets.wait_until_ready());
        if ready.await.is_err() {
            warn!("Secrets are late, going on without certificates of gateways");
        }
    }

    /// From now on, proxies may have what their Gateways name.
    pub(super) fn grant(&self, gateways: watch::Receiver<Arc<GatewayState>>) {
        // There is one galley, so it is set once.
        let _ = self.gateways.set(gateways);
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

/// Other secrets of the cluster are none of ours, and are not kept.
fn keep_parts(secret: &mut Secret) {
    let parts = [CERTIFICATE, KEY, ROOTS].concat();
    if let Some(data) = &mut secret.data {
        data.retain(|key, _| parts.contains(&key.as_str()));
    }
}

/// Secrets that hold a credential. Others change all the time (tokens, releases), and what proxies
/// are sent does not depend on them.
#[derive(Default)]
struct Known(HashSet<ObjectRef<Secret>>);

impl Known {
    /// Whether an event may change a credential.
    fn concerns(&mut self, event: &watcher::Event<Secret>) -> bool {
        let holds_parts = |secret: &Secret| secret.data.as_ref().is_some_and(|d| !d.is_empty());
        match event {
            watcher::Event::Apply(secret) if holds_parts(secret) => {
                self.0.insert(ObjectRef::from_obj(secret));
                true
            }
            watcher::Event::Apply(secret) | watcher::Event::Delete(secret) => {
                self.0.remove(&ObjectRef::from_obj(secret))
            }
            watcher::Event::InitApply(secret) => {
                if holds_parts(secret) {
                    self.0.insert(ObjectRef::from_obj(secret));
                }
                false
            }
            watcher::Event::Init => false,
            // Some may have gone while nobody watched.
            watcher::Event::InitDone => !self.0.is_empty(),
        }
    }
}

impl lateen_galley::Credentials for Credentials {
    fn check(&self, namespace: &str, name: &str) -> Result<(), CredentialFault> {
        let reference = ObjectRef::new(name).within(namespace);
        if self.secrets.get(&reference).is_none() {
            return Err(CredentialFault::Missing);
        }
        let text = |keys| String::from_utf8(self.part(namespace, name, keys)).unwrap_or_default();
        let (chain, key) = (text(CERTIFICATE), text(KEY));
        match lateen_tls::Identity::from_pem(&chain, &key, "") {
            Ok(_) => Ok(()),
            Err(error) => Err(CredentialFault::Malformed(error.to_string())),
        }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes_rx.clone()
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

    fn leave(&self, identity: &SpiffeId, namespace: &str, name: &str) -> Leave {
        let Some(gateways) = self.gateways.get() else {
            return Leave::None;
        };
        let gateways = gateways.borrow();
        let granted = gateways.granted.iter().filter(|granted| {
            *granted.to == *identity.namespace
                && granted.namespace == namespace
                && granted.name == name
        });
        let mut leave = Leave::None;
        for granted in granted {
            match &granted.account {
                Some(account) if **account == *identity.service_account => return Leave::Given,
                Some(_) => {}
                None => leave = Leave::ToReaders,
            }
        }
        leave
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes_rx.clone()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use kube::api::ObjectMeta;
    use watcher::Event;

    use super::*;

    fn secret(name: &str, keys: &[&str]) -> Secret {
        let value = |key: &&str| ((*key).to_owned(), ByteString(b"x".to_vec()));
        let mut secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some("ns".to_owned()),
                ..ObjectMeta::default()
            },
            data: Some(keys.iter().map(value).collect()),
            ..Secret::default()
        };
        keep_parts(&mut secret);
        secret
    }

    #[test]
    fn only_credentials_count_as_changes() {
        let mut known = Known::default();
        let mut check = |event, expect: bool| {
            assert_eq!(known.concerns(&event), expect, "{event:?}");
        };
        check(Event::Init, false);
        check(Event::InitDone, false);
        check(
            Event::Apply(secret("token", &["token", "namespace"])),
            false,
        );
        check(Event::Delete(secret("token", &["token"])), false);
        check(Event::Apply(secret("a", &["tls.crt", "tls.key"])), true);
        check(Event::Init, false);
        check(Event::InitApply(secret("a", &["tls.crt"])), false);
        check(Event::InitDone, true);
        // It no longer is one, which gateways must hear.
        check(Event::Apply(secret("a", &["other"])), true);
        check(Event::Apply(secret("a", &["another"])), false);
        check(Event::Apply(secret("b", &["cert", "key", "cacert"])), true);
        check(Event::Delete(secret("b", &[])), true);
    }

    #[test]
    fn nothing_else_of_a_secret_is_kept() {
        let kept = secret("istio-ca-secret", &["ca-key.pem", "tls.crt"]);
        let kept: Vec<_> = kept
            .data
            .into_iter()
            .flatten()
            .map(|(key, _)| key)
            .collect();
        assert_eq!(kept, ["tls.crt"]);
    }
}
