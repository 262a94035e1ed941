//! Gives the API server the root that the webhooks' certificate chains to, and closes those that judge
//! objects: until there was somebody to ask, they let everything pass.

use std::{fmt::Debug, time::Duration};

use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{
        MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
    },
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use lateen_core::Backoff;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tracing::{info, warn};

/// How often the configurations are looked at again, since others may overwrite them.
const RECHECK: Duration = Duration::from_secs(30);

/// The Service that webhooks of ours name.
pub(super) struct Service {
    /// Its name, which has the revision in it.
    pub(super) name: String,
    /// Its namespace.
    pub(super) namespace: String,
}

/// Keeps `caBundle` of every webhook of ours equal to the root, and no object unjudged.
pub(super) async fn keep_trusted(client: Client, service: Service, root_pem: String) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    loop {
        match patch_all(&client, &service, &root_pem).await {
            Ok(()) => {
                backoff.reset();
                tokio::time::sleep(RECHECK).await;
            }
            Err(error) => {
                warn!(%error, "cannot give the webhooks their root certificate; trying again");
                tokio::time::sleep(backoff.next_delay()).await;
            }
        }
    }
}

async fn patch_all(client: &Client, service: &Service, root: &str) -> Result<(), kube::Error> {
    let wanted = Wanted {
        service,
        bundle: ByteString(root.as_bytes().to_vec()),
    };
    let all: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    for config in all.list(&ListParams::default()).await? {
        let hooks = config.webhooks.iter().flatten();
        let hooks = hooks.map(|hook| Hook {
            name: &hook.name,
            client: &hook.client_config,
            is_open: false,
        });
        trust(&all, &config.name_any(), wanted.patch(hooks)).await?;
    }
    let all: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    for config in all.list(&ListParams::default()).await? {
        let hooks = config.webhooks.iter().flatten();
        let hooks = hooks.map(|hook| Hook {
            name: &hook.name,
            client: &hook.client_config,
            is_open: hook.failure_policy.as_deref() == Some("Ignore"),
        });
        trust(&all, &config.name_any(), wanted.patch(hooks)).await?;
    }
    Ok(())
}

/// Patches a configuration, where there is something to patch.
async fn trust<K>(all: &Api<K>, name: &str, patch: Option<Patch<Value>>) -> Result<(), kube::Error>
where
    K: Clone + Debug + DeserializeOwned,
{
    if let Some(patch) = patch {
        all.patch(name, &PatchParams::default(), &patch).await?;
        info!(webhook = name, "webhook trusts the root certificate");
    }
    Ok(())
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
