//! `lateen x injector list`: which namespaces are injected by which revision, and with which image.

use std::collections::BTreeMap;

use anyhow::Context;
use clap::{Args, Subcommand};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::{Api, Client, ResourceExt, api::ListParams};
use lateen_api::{annotations, labels};
use lateen_install::REVISION;
use serde_json::Value;

use super::hooks::{Hook, Map, hooks};
use crate::{cli::Global, client, output, table::Table};

/// Look at the injectors.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  lateen experimental injector list")]
pub(crate) struct Injector {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the namespaces that are injected, and what injects
    #[command(after_help = "Example:\n  lateen experimental injector list")]
    List,
}

impl Injector {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let What::List = self.what;
        let client = client::connect(global).await?;
        let hooks = hooks(&client).await?;
        if hooks.is_empty() {
            output::line("No Istio injectors present");
            return Ok(());
        }
        let all: Api<Namespace> = Api::all(client.clone());
        let namespaces = all.list(&ListParams::default()).await;
        let namespaces = namespaces.context("cannot list namespaces")?.items;
        let pods: Api<Pod> = Api::all(client.clone());
        let pods = pods.list(&ListParams::default()).await;
        let pods = pods.context("cannot list pods")?.items;
        let injected = injected(&namespaces, &hooks);
        output::print(of_namespaces(&injected, &pods));
        output::print("\n");
        let mut images = BTreeMap::new();
        for hook in &hooks {
            let image = image(&client, global, &hook.revision).await?;
            images.insert(hook.revision.clone(), image);
        }
        output::print(of_hooks(&injected, &hooks, &images));
        Ok(())
    }
}

/// Namespaces that say they are injected, each with the place of the webhook that does it, if any does.
type Injected = Vec<(String, Map, Option<usize>)>;

fn injected(namespaces: &[Namespace], hooks: &[Hook]) -> Injected {
    let each = namespaces.iter().filter_map(|namespace| {
        let own = namespace.labels();
        let by = hooks
            .iter()
            .position(|hook| hook.injects(own, &Map::new()).is_some());
        let asks = own.contains_key(labels::INJECTION) || own.contains_key(REVISION);
        (by.is_some() || asks).then(|| (namespace.name_any(), own.clone(), by))
    });
    each.collect()
}

/// What a namespace says of its revision.
fn revision(labels_: &Map) -> &str {
    let of = |key: &str| labels_.get(key).map(String::as_str);
    match (of(labels::INJECTION), of(REVISION)) {
        (Some("enabled"), _) => "default",
        (Some(_), _) => "(disabled)",
        (None, Some(revision)) => revision,
        (None, None) => "(by the webhook)",
    }
}

fn of_namespaces(injected: &Injected, pods: &[Pod]) -> Table {
    let mut table = Table::new(["NAMESPACE", "ISTIO-REVISION", "POD-REVISIONS"]).padded(1);
    for (name, labels, _) in injected {
        let own = pods
            .iter()
            .filter(|pod| pod.namespace().as_deref() == Some(name));
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for pod in own {
            *counts.entry(revision_of_pod(pod)).or_default() += 1;
        }
        let counts = counts.into_iter();
        let counts: Vec<String> = counts
            .map(|(revision, n)| format!("{revision}: {n}"))
            .collect();
        table.row([name.clone(), revision(labels).to_owned(), counts.join(", ")]);
    }
    table
}

/// The revision that injected a pod.
fn revision_of_pod(pod: &Pod) -> String {
    let status = pod.annotations().get(annotations::STATUS);
    let Some(status) = status else {
        return "<non-Istio>".to_owned();
    };
    let status: Value = serde_json::from_str(status).unwrap_or_default();
    let said = status["revision"].as_str().filter(|text| !text.is_empty());
    let label = pod.labels().get(REVISION).map(String::as_str);
    said.or(label).unwrap_or("default").to_owned()
}

fn of_hooks(injected: &Injected, hooks: &[Hook], images: &BTreeMap<String, String>) -> Table {
    let header = [
        "NAMESPACES",
        "INJECTOR-HOOK",
        "ISTIO-REVISION",
        "SIDECAR-IMAGE",
    ];
    let mut table = Table::new(header).padded(1);
    for (at, hook) in hooks.iter().enumerate() {
        let own = injected.iter().filter(|(.., by)| *by == Some(at));
        let names: Vec<&str> = own.map(|(name, ..)| name.as_str()).collect();
        let revision = match hook.tag.as_str() {
            "" => hook.revision.clone(),
            tag => format!("{} (tag {tag})", hook.revision),
        };
        let image = images.get(&hook.revision).cloned().unwrap_or_default();
        let names = match names.is_empty() {
            true => "DOES NOT AUTOINJECT".to_owned(),
            false => names.join(","),
        };
        table.row([names, hook.name.clone(), revision, image]);
    }
    table
}

/// The image that a revision injects, as its ConfigMap says.
async fn image(client: &Client, global: &Global, revision: &str) -> anyhow::Result<String> {
    let name = match revision {
        "default" => "istio-sidecar-injector".to_owned(),
        revision => format!("istio-sidecar-injector-{revision}"),
    };
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &global.istio_namespace);
    let map = maps.get_opt(&name).await;
    let map = map.with_context(|| format!("cannot read ConfigMap {name}"))?;
    let data = map.and_then(|map| map.data).unwrap_or_default();
    let values = data.get("values").map_or("", String::as_str);
    Ok(image_of(&serde_json::from_str(values).unwrap_or_default()))
}

/// `docker.io/istio/proxyv2:1.0`, where hub and tag are known.
fn image_of(values: &Value) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    let global = &values["global"];
    let image = text(&global["proxy"]["image"]);
    let (hub, tag) = (text(&global["hub"]), text(&global["tag"]));
    match (hub.as_str(), tag.as_str()) {
        _ if image.contains('/') => image,
        ("", "") => image,
        (hub, tag) => format!("{hub}/{image}:{tag}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::command::hooks::tests::of_profile;

    #[test]
    fn namespaces_and_hooks_are_listed() {
        let namespace = |name: &str, labels: Value| -> Namespace {
            let meta = json!({"name": name, "labels": labels});
            serde_json::from_value(json!({"metadata": meta})).expect("a Namespace")
        };
        let namespaces = [
            namespace("default", json!({"istio-injection": "enabled"})),
            namespace("other", json!({"istio.io/rev": "canary"})),
            namespace("plain", json!({})),
        ];
        let pod = |status: Option<&str>| -> Pod {
            let annotations = status.map(|text| json!({"sidecar.istio.io/status": text}));
            let meta = json!({"namespace": "default", "annotations": annotations});
            serde_json::from_value(json!({"metadata": meta})).expect("a Pod")
        };
        let pods = [
            pod(Some("{\"revision\": \"default\"}")),
            pod(Some("{}")),
            pod(None),
        ];
        let hooks = [of_profile()];
        let found = injected(&namespaces, &hooks);
        assert_eq!(
            of_namespaces(&found, &pods).to_string(),
            "NAMESPACE ISTIO-REVISION POD-REVISIONS\n\
             default   default        <non-Istio>: 1, default: 2\n\
             other     canary         \n"
        );
        let images = BTreeMap::from([("default".to_owned(), "hub/proxyv2:1".to_owned())]);
        assert_eq!(
            of_hooks(&found, &hooks, &images).to_string(),
            "NAMESPACES INJECTOR-HOOK          ISTIO-REVISION SIDECAR-IMAGE\n\
             default    istio-sidecar-injector default        hub/proxyv2:1\n"
        );
    }

    #[test]
    fn images_are_whole_or_put_together() {
        let of = |hub: &str, tag: Value, image: &str| {
            image_of(&json!({"global": {"hub": hub, "tag": tag, "proxy": {"image": image}}}))
        };
        assert_eq!(of("h", json!("1"), "proxyv2"), "h/proxyv2:1");
        assert_eq!(of("h", json!(2), "proxyv2"), "h/proxyv2:2");
        assert_eq!(of("h", json!("1"), "r/own:3"), "r/own:3");
        assert_eq!(of("", json!(""), "proxyv2"), "proxyv2");
    }
}
