//! Certificates of gateways and what they trust, from Secrets and ConfigMaps of the cluster.

use std::{
    collections::HashSet,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Client, Resource,
    runtime::{
        WatchStreamExt,
        reflector::{self, Lookup, ObjectRef, Store},
        watcher,
    },
};
use lateen_core::SpiffeId;
use lateen_galley::{CredentialFault, GatewayState, RootsKind};
use lateen_pilot::{Credential, CredentialSource, Leave};
use tokio::sync::watch;
use tracing::warn;

/// Where each part stands: in Secrets of type `kubernetes.io/tls`, and in Istio's generic ones.
const CERTIFICATE: [&str; 2] = ["tls.crt", "cert"];
const KEY: [&str; 2] = ["tls.key", "key"];
const ROOTS: [&str; 2] = ["ca.crt", "cacert"];
const REVOKED: [&str; 2] = ["ca.crl", "crl"];
/// How long the first list may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// A Secret of this ending holds the roots of the one without it.
const ROOTS_SUFFIX: &str = "-cacert";

/// Where the roots stand that others than the certificate's owner name.
const SHARED_ROOTS: &str = "ca.crt";

/// The Secrets of an API server, and its ConfigMaps with roots, as they change.
pub(super) struct Credentials {
    secrets: Store<Secret>,
    config_maps: Store<ConfigMap>,
    changes_rx: watch::Receiver<u64>,
    /// Which proxies may have which, once that is known.
    gateways: OnceLock<watch::Receiver<Arc<GatewayState>>>,
}

impl Credentials {
    /// Starts to follow them.
    pub(super) fn follow(client: Client) -> Self {
        let (changes_tx, changes_rx) = watch::channel(0);
        Credentials {
            secrets: follow(Api::all(client.clone()), keep_parts, changes_tx.clone()),
            config_maps: follow(Api::all(client), keep_roots, changes_tx),
            changes_rx,
            gateways: OnceLock::new(),
        }
    }

    /// Waits until the first list is there, but not without an end: without a right to Secrets,
    /// gateways go on without certificates.
    pub(super) async fn ready(&self) {
        let ready = async {
            let (secrets, config_maps) = tokio::join!(
                self.secrets.wait_until_ready(),
                self.config_maps.wait_until_ready(),
            );
            secrets.and(config_maps)
        };
        if tokio::time::timeout(PATIENCE, ready).await.is_err() {
            warn!("Secrets or ConfigMaps are late, going on without certificates of gateways");
        }
    }

    fn roots_in(&self, of: RootsKind, namespace: &str, name: &str) -> Option<Vec<u8>> {
        match of {
            RootsKind::Secret => {
                let roots = self.part(namespace, name, [SHARED_ROOTS; 2]);
                (!roots.is_empty()).then_some(roots)
            }
            RootsKind::ConfigMap => {
                let object = self
                    .config_maps
                    .get(&ObjectRef::new(name).within(namespace))?;
                let text = object.data.as_ref()?.get(SHARED_ROOTS)?;
                Some(text.clone().into_bytes())
            }
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

/// Keeps a kind of objects, of each what `keep` leaves, and tells of changes.
fn follow<K: Holds>(api: Api<K>, keep: fn(&mut K), changes_tx: watch::Sender<u64>) -> Store<K> {
    let (store, writer) = reflector::store();
    tokio::spawn(async move {
        let events = watcher(api, watcher::Config::default());
        let events = events.default_backoff().modify(keep);
        let events = reflector::reflector(writer, events);
        let mut events = std::pin::pin!(events);
        let mut known = Known::default();
        while let Some(event) = events.next().await {
            match event {
                Ok(event) if known.concerns(&event) => changes_tx.send_modify(|n| *n += 1),
                Ok(_) => {}
                Err(error) => {
                    let kind = <K as Resource>::kind(&());
                    warn!(%kind, %error, "a watch of credentials broke; it starts again");
                }
            }
        }
    });
    store
}

/// Objects that may hold credentials.
trait Holds:
    Resource<DynamicType = ()>
    + Lookup<DynamicType = ()>
    + Clone
    + std::fmt::Debug
    + serde::de::DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// Whether anything of this one was kept.
    fn holds_parts(&self) -> bool;
}

impl Holds for Secret {
    fn holds_parts(&self) -> bool {
        self.data.as_ref().is_some_and(|data| !data.is_empty())
    }
}

impl Holds for ConfigMap {
    fn holds_parts(&self) -> bool {
        self.data.as_ref().is_some_and(|data| !data.is_empty())
    }
}

/// Of ConfigMaps nothing is kept but roots.
fn keep_roots(object: &mut ConfigMap) {
    object.binary_data = None;
    if let Some(data) = &mut object.data {
        data.retain(|key, _| key == SHARED_ROOTS);
    }
}

/// Other secrets of the cluster are none of ours, and are not kept.
fn keep_parts(secret: &mut Secret) {
    let parts = [CERTIFICATE, KEY, ROOTS, REVOKED].concat();
    if let Some(data) = &mut secret.data {
        data.retain(|key, _| parts.contains(&key.as_str()));
    }
}

/// Objects that hold a credential. Others change all the time (tokens, releases), and what proxies
/// are sent does not depend on them.
struct Known<K: Holds>(HashSet<ObjectRef<K>>);

impl<K: Holds> Default for Known<K> {
    fn default() -> Self {
        Known(HashSet::new())
    }
}

impl<K: Holds> Known<K> {
    /// Whether an event may change a credential.
    fn concerns(&mut self, event: &watcher::Event<K>) -> bool {
        match event {
            watcher::Event::Apply(object) if object.holds_parts() => {
                self.0.insert(ObjectRef::from_obj(object));
                true
            }
            watcher::Event::Apply(object) | watcher::Event::Delete(object) => {
                self.0.remove(&ObjectRef::from_obj(object))
            }
            watcher::Event::InitApply(object) => {
                if object.holds_parts() {
                    self.0.insert(ObjectRef::from_obj(object));
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

    fn check_roots(
        &self,
        of: RootsKind,
        namespace: &str,
        name: &str,
    ) -> Result<(), CredentialFault> {
        let roots = self.roots_in(of, namespace, name);
        let roots = roots.ok_or(CredentialFault::Missing)?;
        let text = String::from_utf8(roots).unwrap_or_default();
        match lateen_tls::Identity::roots_only(&text) {
            Ok(_) if text.trim().is_empty() => {
                Err(CredentialFault::Malformed("ca.crt is empty".to_owned()))
            }
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
        let beside = format!("{name}{ROOTS_SUFFIX}");
        // Lists are those of the roots that they stand beside.
        let mut of = beside.as_str();
        let mut roots = self.part(namespace, of, ROOTS);
        if roots.is_empty() {
            of = name;
            roots = self.part(namespace, of, ROOTS);
        }
        let credential = Credential {
            certificate: self.part(namespace, name, CERTIFICATE),
            key: self.part(namespace, name, KEY),
            roots,
            revoked: self.part(namespace, of, REVOKED),
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
                && granted.roots.is_none()
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

    fn roots(
        &self,
        identity: &SpiffeId,
        of: RootsKind,
        namespace: &str,
        name: &str,
    ) -> Option<Vec<u8>> {
        // Roots are no secret, so that of proxies which the mesh did not make no right is asked.
        let gateways = self.gateways.get()?.borrow().clone();
        let mut granted = gateways.granted.iter();
        granted
            .any(|granted| {
                let account = granted.account.as_deref();
                *granted.to == *identity.namespace
                    && account.is_none_or(|account| *account == *identity.service_account)
                    && granted.roots == Some(of)
                    && granted.namespace == namespace
                    && granted.name == name
            })
            .then(|| self.roots_in(of, namespace, name))?
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
        let kept = secret("istio-ca-secret", &["ca-key.pem", "ca.crl", "tls.crt"]);
        let kept: Vec<_> = kept
            .data
            .into_iter()
            .flatten()
            .map(|(key, _)| key)
            .collect();
        assert_eq!(kept, ["ca.crl", "tls.crt"]);
    }
}
