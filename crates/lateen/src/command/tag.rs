//! `lateen tag`: other names of revisions.

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    core::v1::{Namespace, Service},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams},
};
use lateen_install::{REVISION, TAG, TagRequest};
use serde::Serialize;

use super::{consent, layers::refuse_manifests, manifest::yaml};
use crate::{
    apply::Applier,
    cli::Global,
    client,
    output::{self, Format},
    table::Table,
};

/// Give revisions other names, by which namespaces can be labelled.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen tag set prod --revision canary\n  lateen tag list\n  lateen tag set default --revision canary --overwrite\n  lateen tag generate prod --revision canary > prod.yaml\n  lateen tag remove prod"
)]
pub(crate) struct Tag {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a tag, or lead it to another revision
    Set(Set),
    /// Write the objects of a tag instead of applying them
    Generate(Set),
    /// List the tags and the namespaces that use them
    List {
        /// How to write the result.
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Remove a tag
    #[command(alias = "delete")]
    Remove {
        /// Which.
        tag: String,
        /// Ask nothing, though namespaces use it.
        #[arg(short = 'y', long)]
        skip_confirmation: bool,
    },
}

/// Make a tag.
#[derive(Debug, Args)]
struct Set {
    /// The tag; `default` is what namespaces with istio-injection=enabled mean.
    tag: String,
    /// The revision that it stands for.
    #[arg(short, long)]
    revision: String,
    /// Lead a tag that is there to another revision.
    #[arg(long)]
    overwrite: bool,
    /// The name of its webhook.
    #[arg(long)]
    webhook_name: Option<String>,
    /// Inject also into namespaces that say nothing.
    #[arg(long)]
    auto_inject_namespaces: bool,
    /// Not supported: the manifests are part of the program.
    #[arg(short = 'd', long, value_name = "DIRECTORY", hide = true)]
    manifests: Option<PathBuf>,
    /// Ask nothing.
    #[arg(short = 'y', long)]
    skip_confirmation: bool,
}

/// A tag as `list` shows it.
#[derive(Debug, Serialize)]
struct Row {
    tag: String,
    revision: String,
    namespaces: Vec<String>,
}

impl Tag {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let client = client::connect(global).await?;
        match &self.command {
            Command::Set(set) => set.run(&client).await,
            Command::Generate(set) => output_objects(&set.objects(&client).await?),
            Command::List { output } => list(&client, *output).await,
            Command::Remove {
                tag,
                skip_confirmation,
            } => remove(&client, tag, *skip_confirmation).await,
        }
    }
}

fn output_objects(objects: &[serde_json::Value]) -> anyhow::Result<()> {
    output::print(yaml(objects)?);
    Ok(())
}

impl Set {
    async fn run(&self, client: &Client) -> anyhow::Result<()> {
        let objects = self.objects(client).await?;
        // Two webhooks for one name would inject twice, and whichever is asked last would win.
        if injectors(client).await?.contains(&self.tag) {
            bail!(
                "{} is a revision, which its name means already; choose another tag, or remove the revision first with `lateen uninstall --revision {0}`",
                self.tag
            );
        }
        let held = tags(client)
            .await?
            .into_iter()
            .find(|row| row.tag == self.tag);
        if let Some(held) = held.filter(|held| held.revision != self.revision) {
            if !self.overwrite {
                bail!(
                    "tag {} stands for revision {} already; lead it to {} with --overwrite",
                    self.tag,
                    held.revision,
                    self.revision
                );
            }
            let users = held.namespaces.join(", ");
            let question = format!(
                "Pods of these namespaces will be injected by revision {}: {users}. Proceed?",
                self.revision
            );
            if !users.is_empty() && !self.skip_confirmation {
                consent::ask(&question)?;
            }
        }
        Applier::new(client.clone()).apply_all(&objects).await?;
        output::line(format_args!(
            "Revision tag \"{tag}\" created, referencing control plane revision \"{}\". To enable injection using this\nrevision tag, use 'kubectl label namespace <NAMESPACE> istio.io/rev={tag}'",
            self.revision,
            tag = self.tag
        ));
        Ok(())
    }

    async fn objects(&self, client: &Client) -> anyhow::Result<Vec<serde_json::Value>> {
        refuse_manifests(self.manifests.as_deref())?;
        let hooks: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
        let named = format!("{REVISION}={}", self.revision);
        let own = format!("{named},!{TAG}");
        let found = hooks.list(&ListParams::default().labels(&own)).await?;
        let Some(injector) = found.items.into_iter().next() else {
            let known: Vec<_> = injectors(client).await?.into_iter().collect();
            bail!(
                "there is no revision {}; {}",
                self.revision,
                match known.is_empty() {
                    true => "no control plane is installed".to_owned(),
                    false => format!("these are there: {}", known.join(", ")),
                }
            );
        };
        let request = TagRequest {
            tag: &self.tag,
            name: self.webhook_name.as_deref(),
            everywhere: self.auto_inject_namespaces,
            injector: &serde_json::to_value(&injector)?,
        };
        lateen_install::tag(&request).map_err(anyhow::Error::msg)
    }
}

/// The revisions that inject.
async fn injectors(client: &Client) -> anyhow::Result<BTreeSet<String>> {
    let hooks: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let of_revisions = ListParams::default().labels(&format!("{REVISION},!{TAG}"));
    let hooks = hooks
        .list(&of_revisions)
        .await
        .context("cannot list webhooks")?;
    let revision = |hook: MutatingWebhookConfiguration| hook.labels().get(REVISION).cloned();
    Ok(hooks.items.into_iter().filter_map(revision).collect())
}

async fn list(client: &Client, format: Format) -> anyhow::Result<()> {
    let tags = tags(client).await?;
    if format != Format::Short {
        return output::structured(&serde_json::to_value(&tags)?, format);
    }
    if tags.is_empty() {
        output::line("There are no revision tags.");
        return Ok(());
    }
    output::print(table(&tags));
    Ok(())
}

fn table(tags: &[Row]) -> Table {
    let mut table = Table::new(["TAG", "REVISION", "NAMESPACES"]).padded(1);
    for row in tags {
        let namespaces = row.namespaces.join(",");
        table.row([row.tag.clone(), row.revision.clone(), namespaces]);
    }
    table
}

/// All tags, in the order of the alphabet.
async fn tags(client: &Client) -> anyhow::Result<Vec<Row>> {
    let hooks: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let hooks = hooks.list(&ListParams::default().labels(TAG)).await;
    let hooks = hooks.context("cannot list webhooks")?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespaces = namespaces.list(&ListParams::default()).await?;
    let mut rows = Vec::new();
    for hook in hooks.items {
        let label = |name: &str| hook.labels().get(name).cloned().unwrap_or_default();
        let tag = label(TAG);
        let users = namespaces.items.iter().filter(|namespace| {
            let label = |name: &str| namespace.labels().get(name).map(String::as_str);
            let by_injection = tag == "default" && label("istio-injection") == Some("enabled");
            let by_revision = label("istio-injection").is_none() && label(REVISION) == Some(&tag);
            by_injection || by_revision
        });
        rows.push(Row {
            namespaces: users.map(ResourceExt::name_any).collect(),
            revision: label(REVISION),
            tag,
        });
    }
    rows.sort_by(|a, b| a.tag.cmp(&b.tag));
    Ok(rows)
}

async fn remove(client: &Client, tag: &str, quietly: bool) -> anyhow::Result<()> {
    let Some(row) = tags(client).await?.into_iter().find(|row| row.tag == tag) else {
        bail!("there is no tag {tag}; `lateen tag list` shows those that there are");
    };
    if !row.namespaces.is_empty() && !quietly {
        let question = format!(
            "Pods of these namespaces will be injected no more: {}. Proceed?",
            row.namespaces.join(", ")
        );
        consent::ask(&question)?;
    }
    let selector = ListParams::default().labels(&format!("{TAG}={tag}"));
    let params = DeleteParams::default();
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    mutating.delete_collection(&params, &selector).await?;
    let validating: Api<
        k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration,
    > = Api::all(client.clone());
    validating.delete_collection(&params, &selector).await?;
    let services: Api<Service> = Api::all(client.clone());
    for service in services.list(&selector).await? {
        let namespace = service.namespace().unwrap_or_default();
        let own: Api<Service> = Api::namespaced(client.clone(), &namespace);
        own.delete(&service.name_any(), &params).await?;
    }
    output::line(format_args!("Revision tag {tag} removed"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_those_of_istioctl() {
        let row = |tag: &str, revision: &str, namespaces: &[&str]| Row {
            tag: tag.to_owned(),
            revision: revision.to_owned(),
            namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
        };
        let rows = [
            row("default", "stable", &["default", "shop"]),
            row("prod", "canary", &[]),
        ];
        assert_eq!(
            table(&rows).to_string(),
            "TAG     REVISION NAMESPACES\n\
             default stable   default,shop\n\
             prod    canary   \n"
        );
    }
}
