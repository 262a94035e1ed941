//! Revision `default` takes the place of the tag `default`, while pods are made.
//!
//! Two webhooks cannot be exchanged at once. So the tag is led to the new control plane first, which
//! works already; then the revision's own webhooks come, trusted from the beginning, and the tag goes.
//! In between, a pod is shown to one control plane twice, and the second time nothing is left to do.

use std::fmt::Debug;

use anyhow::{Context, bail};
use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{
        MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
    },
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ListParams, PostParams},
};
use lateen_install::{REVISION, TAG};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::plan::INJECTOR;

/// The field manager of root certificates that are there until the control plane sees to them. What is
/// applied later says nothing of them, and they must not go with it.
const MANAGER: &str = "lateen-handover";
/// How often a tag is written that others write at the same time.
const TRIES: u8 = 5;

/// Leads the tag `default` to the control plane that the injector of a manifest leads to, and makes
/// webhooks with the root certificate that the tag had. `webhooks` begins with the injector.
///
/// # Errors
/// The tag or a webhook cannot be written; the tag still leads to one of the two.
pub(super) async fn take_over(client: &Client, webhooks: &[Value]) -> anyhow::Result<()> {
    let injector = webhooks.first().context("there is no injector")?;
    let injector: MutatingWebhookConfiguration = serde_json::from_value(injector.clone())?;
    let Some(bundle) = lead(client, &injector).await? else {
        return Ok(());
    };
    for manifest in webhooks {
        let manifest = trusting(manifest.clone(), &bundle);
        if manifest["kind"] == INJECTOR {
            create::<MutatingWebhookConfiguration>(client, manifest).await?;
        } else if manifest["kind"] == "ValidatingWebhookConfiguration" {
            create::<ValidatingWebhookConfiguration>(client, manifest).await?;
        }
    }
    Ok(())
}

/// Leads the tag to where an injector leads. Gives the root certificate that it has.
async fn lead(
    client: &Client,
    injector: &MutatingWebhookConfiguration,
) -> anyhow::Result<Option<ByteString>> {
    let hooks = injector.webhooks.iter().flatten().next();
    let to = &hooks.context("the injector has no webhook")?.client_config;
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let selector = ListParams::default().labels(&format!("{TAG}=default"));
    for _ in 0..TRIES {
        let Some(mut tag) = api.list(&selector).await?.items.into_iter().next() else {
            return Ok(None);
        };
        let name = tag.name_any();
        if let Some(revision) = injector.labels().get(REVISION) {
            tag.labels_mut()
                .insert(REVISION.to_owned(), revision.clone());
        }
        let mut bundle = None;
        for hook in tag.webhooks.iter_mut().flatten() {
            bundle = hook.client_config.ca_bundle.clone();
            hook.client_config = led(&hook.client_config, to);
        }
        match api.replace(&name, &PostParams::default(), &tag).await {
            Ok(_) => return Ok(bundle),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot lead {name} to the new revision"));
            }
        }
    }
    bail!("others keep changing the tag default; run the command again")
}

/// Where an injector leads, trusted as before unless it says whom to trust itself.
fn led(held: &WebhookClientConfig, to: &WebhookClientConfig) -> WebhookClientConfig {
    let own = to.ca_bundle.clone();
    WebhookClientConfig {
        ca_bundle: own.or_else(|| held.ca_bundle.clone()),
        ..to.clone()
    }
}

/// A manifest whose webhooks trust a root certificate, where they do not say whom to trust.
fn trusting(mut manifest: Value, bundle: &ByteString) -> Value {
    for hook in manifest["webhooks"].as_array_mut().into_iter().flatten() {
        let config = &mut hook["clientConfig"];
        if config["service"].is_object() && config["caBundle"].is_null() {
            config["caBundle"] = json!(bundle);
        }
    }
    manifest
}

/// Makes an object; one that is there has been made before.
async fn create<K>(client: &Client, manifest: Value) -> anyhow::Result<()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    let object: K = serde_json::from_value(manifest)?;
    let params = PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    };
    match Api::<K>::all(client.clone()).create(&params, &object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot make {}", object.name_any())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webhooks_of_services_trust_what_the_tag_trusted() {
        let bundle = ByteString(b"root".to_vec());
        let manifest = json!({"webhooks": [
            {"clientConfig": {"service": {"name": "istiod"}}},
            {"clientConfig": {"service": {"name": "istiod"}, "caBundle": "b3du"}},
            {"clientConfig": {"url": "https://elsewhere"}},
        ]});
        let hooks = trusting(manifest, &bundle);
        let bundles = |n: usize| hooks["webhooks"][n]["clientConfig"]["caBundle"].clone();
        assert_eq!(
            [bundles(0), bundles(1), bundles(2)],
            [json!("cm9vdA=="), json!("b3du"), json!(null)]
        );
    }
}
