//! The webhooks that inject, and whom they are for.

use std::collections::BTreeMap;

use anyhow::Context;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{
    Api, Client, ResourceExt,
    api::ListParams,
    core::{Selector, SelectorExt},
};
use lateen_api::labels;
use lateen_install::{REVISION, TAG};

/// Labels of an object.
pub(super) type Map = BTreeMap<String, String>;

/// The webhooks of one revision, or of one tag.
pub(super) struct Hook {
    /// The configuration's name.
    pub(super) name: String,
    /// The revision that injects.
    pub(super) revision: String,
    /// The tag, for a tag's.
    pub(super) tag: String,
    parts: Vec<Part>,
}

/// One webhook.
struct Part {
    namespaces: Selector,
    pods: Selector,
    /// What it asks for: `namespace label istio-injection=enabled`.
    wanted: Vec<String>,
}

/// All of them, in the order of their names.
pub(super) async fn hooks(client: &Client) -> anyhow::Result<Vec<Hook>> {
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let found = api
        .list(&ListParams::default().labels("app=sidecar-injector"))
        .await;
    let found = found.context("cannot list webhooks")?;
    let mut hooks = found
        .items
        .into_iter()
        .map(Hook::of)
        .collect::<anyhow::Result<Vec<Hook>>>()?;
    hooks.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(hooks)
}

impl Hook {
    fn of(configuration: MutatingWebhookConfiguration) -> anyhow::Result<Hook> {
        let name = configuration.name_any();
        let label = |name: &str| configuration.labels().get(name).cloned();
        let revision = label(REVISION).filter(|text| !text.is_empty());
        let (revision, tag) = (
            revision.unwrap_or_else(|| "default".to_owned()),
            label(TAG).unwrap_or_default(),
        );
        let parts = configuration.webhooks.into_iter().flatten().map(Part::of);
        let parts = parts.collect::<anyhow::Result<_>>();
        Ok(Hook {
            parts: parts.with_context(|| format!("webhook configuration {name}"))?,
            name,
            revision,
            tag,
        })
    }

    /// What makes it inject a pod, in words; `None` where it does not.
    pub(super) fn injects(&self, namespace: &Map, pod: &Map) -> Option<String> {
        let mut parts = self.parts.iter();
        let found =
            parts.find(|part| part.namespaces.matches(namespace) && part.pods.matches(pod))?;
        Some(match found.wanted.is_empty() {
            true => "it is for all pods".to_owned(),
            false => found.wanted.join(" and "),
        })
    }

    /// Why it does not inject a pod.
    pub(super) fn why_not(&self, namespace: &Map, pod: &Map) -> String {
        let off = |map: &Map, key: &str, value: &str| map.get(key).is_some_and(|of| of == value);
        if off(namespace, labels::INJECTION, "disabled") {
            return format!("namespace label {}=disabled", labels::INJECTION);
        }
        if off(pod, labels::SIDECAR_INJECT, "false") {
            return format!("pod label {}=false", labels::SIDECAR_INJECT);
        }
        let named = [namespace.get(REVISION), pod.get(REVISION)];
        if let Some(other) = named.into_iter().flatten().next()
            && namespace.get(labels::INJECTION).is_none()
        {
            return format!("{REVISION}={other} is for another");
        }
        let mut wanted: Vec<&str> = self
            .parts
            .iter()
            .map(|part| part.wanted.first().map_or("", String::as_str))
            .collect();
        wanted.retain(|text| !text.is_empty());
        wanted.dedup();
        format!("none of: {}", wanted.join(", "))
    }
}

impl Part {
    fn of(webhook: MutatingWebhook) -> anyhow::Result<Part> {
        let namespaces = webhook.namespace_selector.unwrap_or_default();
        let pods = webhook.object_selector.unwrap_or_default();
        let mut wanted = asked("namespace", &namespaces);
        wanted.extend(asked("pod", &pods));
        Ok(Part {
            wanted,
            namespaces: Selector::try_from(namespaces).context("namespaceSelector")?,
            pods: Selector::try_from(pods).context("objectSelector")?,
        })
    }
}

/// The labels that a selector insists on.
fn asked(whose: &str, selector: &LabelSelector) -> Vec<String> {
    let plain = selector.match_labels.iter().flatten();
    let plain = plain.map(|(key, value)| format!("{whose} label {key}={value}"));
    let listed = selector.match_expressions.iter().flatten();
    let listed = listed.filter(|of| of.operator == "In").map(|of| {
        let values = of.values.clone().unwrap_or_default();
        format!("{whose} label {}={}", of.key, values.join("|"))
    });
    plain.chain(listed).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use lateen_install::{Installation, manifests};

    use super::*;

    /// The webhooks that an installation has.
    pub(in crate::command) fn of_profile() -> Hook {
        let installation = Installation::of_profile("default").expect("the profile");
        let all = manifests(&installation).expect("manifests");
        let hook = all
            .into_iter()
            .find(|of| of["kind"] == "MutatingWebhookConfiguration")
            .expect("the injector's");
        Hook::of(serde_json::from_value(hook).expect("a webhook")).expect("its selectors")
    }

    fn map(pairs: &[(&str, &str)]) -> Map {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn labels_decide_as_the_api_server_would() {
        let hook = of_profile();
        let check =
            |namespace: &[(&str, &str)], pod: &[(&str, &str)], injected: bool, why: &str| {
                let (namespace, pod) = (map(namespace), map(pod));
                let found = hook.injects(&namespace, &pod);
                assert_eq!(found.is_some(), injected, "{namespace:?} {pod:?}");
                let told = found.unwrap_or_else(|| hook.why_not(&namespace, &pod));
                assert!(told.contains(why), "{told}");
            };
        let enabled = [("istio-injection", "enabled")];
        check(
            &enabled,
            &[],
            true,
            "namespace label istio-injection=enabled",
        );
        check(&[], &[], false, "none of: ");
        check(
            &enabled,
            &[("sidecar.istio.io/inject", "false")],
            false,
            "pod label sidecar.istio.io/inject=false",
        );
        check(
            &[],
            &[("sidecar.istio.io/inject", "true")],
            true,
            "pod label sidecar.istio.io/inject=true",
        );
        let other = [("istio.io/rev", "canary")];
        check(&other, &[], false, "istio.io/rev=canary is for another");
        let own = [("istio.io/rev", "default")];
        check(&own, &[], true, "namespace label istio.io/rev=default");
        let disabled = [("istio-injection", "disabled")];
        check(&disabled, &[], false, "istio-injection=disabled");
    }
}
