//! Gives the API server the root that the webhooks' certificate chains to.

use std::time::Duration;

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

/// Keeps `caBundle` of every webhook of ours equal to the root.
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
    let params = ListParams::default();
    let wanted = Wanted {
        service,
        bundle: ByteString(root.as_bytes().to_vec()),
    };
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    for config in mutating.list(&params).await? {
        let hooks = config.webhooks.iter().flatten();
        let hooks = hooks.map(|hook| (hook.name.as_str(), &hook.client_config));
        if let Some(patch) = wanted.patch(hooks) {
            mutating
                .patch(&config.name_any(), &PatchParams::default(), &patch)
                .await?;
            info!(
                webhook = config.name_any(),
                "webhook trusts the root certificate"
            );
        }
    }
    let validating: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    for config in validating.list(&params).await? {
        let hooks = config.webhooks.iter().flatten();
        let hooks = hooks.map(|hook| (hook.name.as_str(), &hook.client_config));
        if let Some(patch) = wanted.patch(hooks) {
            validating
                .patch(&config.name_any(), &PatchParams::default(), &patch)
                .await?;
            info!(
                webhook = config.name_any(),
                "webhook trusts the root certificate"
            );
        }
    }
    Ok(())
}

/// What webhooks of ours should hold.
struct Wanted<'a> {
    service: &'a Service,
    bundle: ByteString,
}

impl Wanted<'_> {
    /// A strategic merge by webhook name, or nothing where all are right already.
    fn patch<'a>(
        &self,
        hooks: impl Iterator<Item = (&'a str, &'a WebhookClientConfig)>,
    ) -> Option<Patch<Value>> {
        let stale: Vec<Value> = hooks
            .filter(|(_, config)| {
                self.is_ours(config) && config.ca_bundle.as_ref() != Some(&self.bundle)
            })
            .map(|(name, _)| json!({"name": name, "clientConfig": {"caBundle": self.bundle}}))
            .collect();
        (!stale.is_empty()).then(|| Patch::Strategic(json!({"webhooks": stale})))
    }

    fn is_ours(&self, config: &WebhookClientConfig) -> bool {
        let Service { name, namespace } = self.service;
        let service = config.service.as_ref();
        service.is_some_and(|service| service.name == *name && service.namespace == *namespace)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::admissionregistration::v1::ServiceReference;

    use super::*;

    fn config(namespace: &str, bundle: Option<&str>) -> WebhookClientConfig {
        WebhookClientConfig {
            ca_bundle: bundle.map(|text| ByteString(text.as_bytes().to_vec())),
            service: Some(ServiceReference {
                name: "istiod".to_owned(),
                namespace: namespace.to_owned(),
                ..ServiceReference::default()
            }),
            url: None,
        }
    }

    #[test]
    fn only_stale_webhooks_of_ours_are_patched() {
        let service = Service {
            name: "istiod".to_owned(),
            namespace: "istio-system".to_owned(),
        };
        let wanted = Wanted {
            service: &service,
            bundle: ByteString(b"root".to_vec()),
        };
        let right = config("istio-system", Some("root"));
        let stale = config("istio-system", Some("old"));
        let foreign = config("elsewhere", None);
        assert!(
            wanted
                .patch([("a", &right), ("b", &foreign)].into_iter())
                .is_none()
        );
        let Some(Patch::Strategic(value)) =
            wanted.patch([("a", &right), ("b", &stale)].into_iter())
        else {
            panic!("nothing is patched");
        };
        assert_eq!(value["webhooks"].as_array().unwrap().len(), 1);
        assert_eq!(value["webhooks"][0]["clientConfig"]["caBundle"], "cm9vdA==");
    }
}
