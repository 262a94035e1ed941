//! Gives the API server the root that the webhooks' certificate chains to, and closes those that judge
//! objects: until there was somebody to ask, they let everything pass.

use std::{fmt::Debug, pin::pin, sync::Arc, time::Duration};

use futures::{FutureExt, Stream, StreamExt, stream};
use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{
        MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
    },
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ListParams, Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use lateen_core::Backoff;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{info, warn};

/// How often the configurations are looked at again where nobody has told that they changed.
const RECHECK: Duration = Duration::from_secs(30);
/// What changes within this time is looked at once.
const TOGETHER: Duration = Duration::from_secs(1);

/// The Service that webhooks of ours name.
pub(super) struct Service {
    /// Its name, which has the revision in it.
    pub(super) name: String,
    /// Its namespace.
    pub(super) namespace: String,
}

/// Keeps `caBundle` of every webhook of ours equal to the roots, and no object unjudged. Whoever installs
/// writes the configurations anew, open and without roots, so that it looks at them whenever one changes.
pub(super) async fn keep_trusted(
    client: Client,
    service: Service,
    mut roots: watch::Receiver<Arc<str>>,
) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    let mut changes = pin!(changes(&client));
    loop {
        let root = roots.borrow_and_update().clone();
        let faults = patch_all(&client, &service, &root).await;
        let wait = match faults.is_empty() {
            true => {
                backoff.reset();
                RECHECK
            }
            false => {
                let faults = faults.join("; ");
                warn!(%faults, "cannot give all webhooks their root certificate; trying again");
                backoff.next_delay()
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            changed = roots.changed() => if changed.is_err() { return },
            Some(()) = changes.next() => {
                // One look is for all that came together, and somebody who writes against this one is no
                // reason to ask without a pause.
                tokio::time::sleep(TOGETHER).await;
                while changes.next().now_or_never().flatten().is_some() {}
            }
        }
    }
}

/// Says each time that a configuration of either kind has changed.
fn changes(client: &Client) -> impl Stream<Item = ()> + use<> {
    let mutating = changes_of(Api::<MutatingWebhookConfiguration>::all(client.clone()));
    let validating = changes_of(Api::<ValidatingWebhookConfiguration>::all(client.clone()));
    stream::select(mutating, validating)
}

fn changes_of<K>(all: Api<K>) -> impl Stream<Item = ()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let events = watcher(all, watcher::Config::default()).default_backoff();
    // A watch that breaks starts again by itself; until then there is the time.
    events.filter_map(async |event| match event {
        Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => None,
        Ok(_) => Some(()),
        Err(error) => {
            let kind = K::kind(&());
            warn!(%kind, %error, "a watch broke; it starts again");
            None
        }
    })
}

/// What could not be done; one that fails keeps nobody from the others.
async fn patch_all(client: &Client, service: &Service, root: &str) -> Vec<String> {
    let wanted = Wanted {
        service,
        bundle: ByteString(root.as_bytes().to_vec()),
    };
    let mut faults = Vec::new();
    let mutating = |config: &MutatingWebhookConfiguration| {
        let hooks = config.webhooks.iter().flatten();
        wanted.patch(hooks.map(|hook| Hook {
            name: &hook.name,
            client: &hook.client_config,
            is_open: false,
        }))
    };
    trust_each(Api::all(client.clone()), mutating, &mut faults).await;
    let validating = |config: &ValidatingWebhookConfiguration| {
        let hooks = config.webhooks.iter().flatten();
        wanted.patch(hooks.map(|hook| Hook {
            name: &hook.name,
            client: &hook.client_config,
            is_open: hook.failure_policy.as_deref() == Some("Ignore"),
        }))
    };
    trust_each(Api::all(client.clone()), validating, &mut faults).await;
    faults
}

/// Patches each configuration of a kind in which there is something to patch.
async fn trust_each<K>(
    all: Api<K>,
    patch: impl Fn(&K) -> Option<Patch<Value>>,
    faults: &mut Vec<String>,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let kind = K::kind(&());
    let configs = match all.list(&ListParams::default()).await {
        Ok(configs) => configs,
        Err(error) => return faults.push(format!("{kind}: {error}")),
    };
    for config in configs {
        let name = config.name_any();
        let Some(patch) = patch(&config) else {
            continue;
        };
        match all.patch(&name, &PatchParams::default(), &patch).await {
            Ok(_) => info!(webhook = name, "webhook trusts the root certificate"),
            // Somebody has removed it since.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => faults.push(format!("{kind} {name}: {error}")),
        }
    }
}

/// A webhook as it is.
struct Hook<'a> {
    name: &'a str,
    client: &'a WebhookClientConfig,
    /// Whether it lets objects pass that nobody has judged.
    is_open: bool,
}

/// What webhooks of ours should hold.
struct Wanted<'a> {
    service: &'a Service,
    bundle: ByteString,
}

impl Wanted<'_> {
    /// A strategic merge by webhook name, or nothing where all are right already.
    fn patch<'a>(&self, hooks: impl Iterator<Item = Hook<'a>>) -> Option<Patch<Value>> {
        let mut stale = Vec::new();
        for hook in hooks.filter(|hook| self.is_ours(hook.client)) {
            if !hook.is_open && hook.client.ca_bundle.as_ref() == Some(&self.bundle) {
                continue;
            }
            let mut right = json!({"name": hook.name, "clientConfig": {"caBundle": self.bundle}});
            if hook.is_open {
                right["failurePolicy"] = json!("Fail");
            }
            stale.push(right);
        }
        (!stale.is_empty()).then(|| Patch::Strategic(json!({"webhooks": stale})))
    }

    fn is_ours(&self, config: &WebhookClientConfig) -> bool {
        let Service { name, namespace } = self.service;
        let service = config.service.as_ref();
        service.is_some_and(|service| service.name == *name && service.namespace == *namespace)
    }
}

#[cfg(test)]
mod tests;
