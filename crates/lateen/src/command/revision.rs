//! `lateen x revision`: the revisions of the control plane that a cluster has.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Pod},
};
use kube::{Api, Client, ResourceExt, api::ListParams};
use lateen_api::annotations;
use lateen_install::{COMPONENT, OWNER, REVISION};
use serde::Serialize;
use serde_json::Value;

use super::hooks::{Map, hooks};
use crate::{
    cli::Global,
    client,
    output::{self, Format},
    table::Table,
};

/// Look at the revisions of the control plane.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen experimental revision list\n  lateen experimental revision describe canary -o json"
)]
pub(crate) struct Revision {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the revisions with their tags and components
    #[command(after_help = "Example:\n  lateen experimental revision list")]
    List {
        /// How to write the result.
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Show what belongs to a revision
    #[command(after_help = "Example:\n  lateen experimental revision describe default")]
    Describe {
        /// Which.
        revision: String,
        /// How to write the result.
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
}

/// A revision, and what belongs to it.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    revision: String,
    tags: BTreeSet<String>,
    webhooks: BTreeSet<String>,
    /// Names of the installations that made its components.
    installations: BTreeSet<String>,
    components: BTreeSet<String>,
    /// `name.namespace`, with the phase.
    control_plane_pods: BTreeMap<String, String>,
    gateways: BTreeSet<String>,
    /// Namespaces whose pods it injects.
    namespaces: BTreeSet<String>,
    /// Injected pods by namespace.
    proxies: BTreeMap<String, usize>,
}

impl Revision {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let client = client::connect(global).await?;
        let found = found(&client).await?;
        match &self.what {
            What::List { output } if *output == Format::Short => list(&found),
            What::List { output } => output::structured(&serde_json::to_value(&found)?, *output),
            What::Describe { revision, output } => {
                let Some(found) = found.iter().find(|of| of.revision == *revision) else {
                    let names: Vec<&str> = found.iter().map(|of| of.revision.as_str()).collect();
                    bail!(
                        "there is no revision {revision}; {}",
                        match names.is_empty() {
                            true => "no control plane is installed".to_owned(),
                            false => format!("these are there: {}", names.join(", ")),
                        }
                    );
                };
                match output {
                    Format::Short => describe(found),
                    format => output::structured(&serde_json::to_value(found)?, *format),
                }
            }
        }
    }
}

/// All revisions, in the order of the alphabet.
async fn found(client: &Client) -> anyhow::Result<Vec<Found>> {
    let deployments: Api<Deployment> = Api::all(client.clone());
    let labelled = ListParams::default().labels(&format!("{REVISION},{COMPONENT}"));
    let deployments = deployments.list(&labelled).await;
    let deployments = deployments.context("cannot list deployments")?.items;
    let pods: Api<Pod> = Api::all(client.clone());
    let pods = pods.list(&ListParams::default()).await;
    let pods = pods.context("cannot list pods")?.items;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespaces = namespaces.list(&ListParams::default()).await;
    let namespaces = namespaces.context("cannot list namespaces")?.items;
    let mut all = All::default();
    for hook in hooks(client).await? {
        let found = all.of(&hook.revision);
        found.webhooks.insert(hook.name.clone());
        if !hook.tag.is_empty() {
            found.tags.insert(hook.tag.clone());
        }
        let own = namespaces.iter();
        let own = own.filter(|space| hook.injects(space.labels(), &Map::new()).is_some());
        found.namespaces.extend(own.map(ResourceExt::name_any));
    }
    for deployment in &deployments {
        let label = |name: &str| deployment.labels().get(name).cloned().unwrap_or_default();
        let (component, owner) = (label(COMPONENT), label(OWNER));
        let found = all.of(&label(REVISION));
        if component.ends_with("Gateways") {
            found.gateways.insert(named(deployment));
        }
        found.components.insert(component);
        if !matches!(owner.as_str(), "" | "unknown") {
            found.installations.insert(owner);
        }
    }
    for pod in &pods {
        all.note(pod);
    }
    Ok(all.0.into_values().collect())
}

/// Who relies on a revision, in words.
pub(crate) async fn users(client: &Client, revision: &str) -> anyhow::Result<Vec<String>> {
    let found = found(client).await?;
    let found = found.iter().find(|of| of.revision == revision);
    Ok(found.map(Found::users).unwrap_or_default())
}

impl Found {
    fn users(&self) -> Vec<String> {
        let mut users = Vec::new();
        if !self.namespaces.is_empty() {
            let names = joined(&self.namespaces, "");
            users.push(format!("namespaces whose new pods it injects: {names}"));
        }
        let proxies = self.proxies.iter();
        let proxies: Vec<_> = proxies
            .map(|(space, n)| format!("{n} in {space}"))
            .collect();
        if !proxies.is_empty() {
            let where_they_are = proxies.join(", ");
            users.push(format!(
                "pods whose proxies it configures: {where_they_are}"
            ));
        }
        users
    }
}

/// Revisions by name.
#[derive(Default)]
struct All(BTreeMap<String, Found>);

impl All {
    fn of(&mut self, revision: &str) -> &mut Found {
        let found = self.0.entry(revision.to_owned()).or_default();
        found.revision = revision.to_owned();
        found
    }

    /// A pod of the control plane, or one that a revision injected.
    fn note(&mut self, pod: &Pod) {
        let label = |name: &str| pod.labels().get(name).map(String::as_str);
        if label("app") == Some("istiod") {
            let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
            let found = self.of(label(REVISION).unwrap_or("default"));
            found
                .control_plane_pods
                .insert(named(pod), phase.unwrap_or_default());
            return;
        }
        let Some(status) = pod.annotations().get(annotations::STATUS) else {
            return;
        };
        let status: Value = serde_json::from_str(status).unwrap_or_default();
        let said = status["revision"].as_str().filter(|text| !text.is_empty());
        let found = self.of(said.or(label(REVISION)).unwrap_or("default"));
        *found
            .proxies
            .entry(pod.namespace().unwrap_or_default())
            .or_default() += 1;
    }
}

/// `name.namespace`.
fn named(object: &impl ResourceExt) -> String {
    format!(
        "{}.{}",
        object.name_any(),
        object.namespace().unwrap_or_default()
    )
}

/// Some words with commas between them, or what stands for none.
fn joined<'a>(words: impl IntoIterator<Item = &'a String>, none: &str) -> String {
    let words: Vec<&str> = words.into_iter().map(String::as_str).collect();
    match words.is_empty() {
        true => none.to_owned(),
        false => words.join(","),
    }
}

fn list(found: &[Found]) -> anyhow::Result<()> {
    if found.is_empty() {
        output::line("No Istio revisions found; install one with `lateen install`");
        return Ok(());
    }
    output::print(table(found));
    Ok(())
}

fn table(found: &[Found]) -> Table {
    let mut table = Table::new(["REVISION", "TAG", "ISTIO-OPERATOR-CR", "REQD-COMPONENTS"]);
    for revision in found {
        table.row([
            revision.revision.clone(),
            joined(&revision.tags, "<no-tag>"),
            joined(&revision.installations, "<no-iop>"),
            joined(&revision.components, "-"),
        ]);
    }
    table
}

fn describe(found: &Found) -> anyhow::Result<()> {
    output::line(format_args!("Revision: {}", found.revision));
    for (title, words) in [
        ("Tags", &found.tags),
        ("Webhooks", &found.webhooks),
        ("Installations", &found.installations),
        ("Components", &found.components),
        ("Gateways", &found.gateways),
        ("Injected namespaces", &found.namespaces),
    ] {
        output::line(format_args!("{title}: {}", joined(words, "none")));
    }
    output::line(format_args!(
        "Control plane pods: {}",
        found.control_plane_pods.len()
    ));
    for (pod, phase) in &found.control_plane_pods {
        output::line(format_args!("   {pod} {phase}"));
    }
    let proxies: usize = found.proxies.values().sum();
    output::line(format_args!("Injected pods: {proxies}"));
    for (namespace, count) in &found.proxies {
        output::line(format_args!("   {namespace}: {count}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_are_counted_for_the_revision_that_injected_them() {
        let pod = |value: Value| -> Pod {
            serde_json::from_value(json!({"metadata": value})).expect("a Pod")
        };
        let status = |revision: &str| json!({annotations::STATUS: json!({"revision": revision}).to_string()});
        let pods = [
            pod(json!({"name": "a", "namespace": "n", "annotations": status("canary")})),
            pod(
                json!({"name": "b", "namespace": "n", "annotations": status(""),
                "labels": {"istio.io/rev": "canary"}}),
            ),
            pod(json!({"name": "c", "namespace": "n"})),
            pod(json!({"name": "istiod", "namespace": "s",
                "labels": {"app": "istiod", "istio.io/rev": "canary"}})),
        ];
        let mut all = All::default();
        pods.iter().for_each(|pod| all.note(pod));
        let mut all = all.0;
        let canary = all.remove("canary").expect("the revision");
        assert_eq!(canary.proxies, BTreeMap::from([("n".to_owned(), 2)]));
        assert!(canary.control_plane_pods.contains_key("istiod.s"));
        assert!(all.is_empty(), "{all:?}");
    }

    #[test]
    fn what_is_missing_has_a_word() {
        let found = Found {
            revision: "default".to_owned(),
            components: BTreeSet::from(["Pilot".to_owned()]),
            ..Found::default()
        };
        assert_eq!(
            table(&[found]).to_string(),
            "REVISION     TAG          ISTIO-OPERATOR-CR     REQD-COMPONENTS\n\
             default      <no-tag>     <no-iop>              Pilot\n"
        );
    }

    #[test]
    fn who_relies_on_a_revision_is_told() {
        let mut found = Found::default();
        assert_eq!(found.users(), [""; 0]);
        found.namespaces = BTreeSet::from(["shop".to_owned(), "web".to_owned()]);
        found.proxies = BTreeMap::from([("istio-system".to_owned(), 1), ("shop".to_owned(), 3)]);
        assert_eq!(
            found.users(),
            [
                "namespaces whose new pods it injects: shop,web",
                "pods whose proxies it configures: 1 in istio-system, 3 in shop",
            ]
        );
    }
}
