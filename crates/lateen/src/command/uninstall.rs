//! `lateen uninstall`: takes away what installations made, and nothing else.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::bail;
use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams},
    discovery::{Scope, verbs},
};
use lateen_install::{TAG, is_owned, owned as installed, owned_by};
use serde_json::json;

use super::{
    consent,
    install::{AddonArgs, Lock, Removal, holding, owned, revisions, spread},
    layers::LayerArgs,
    rights::Rights,
};
use crate::{apply::Applier, cli::Global, client, output, progress::Progress};

/// A kind that goes last, if it goes.
const NAMESPACE: &str = "Namespace";
/// How long the control plane may take to end.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Remove a revision of the mesh, or all of it.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen uninstall --purge\n  lateen uninstall --revision canary -y\n  lateen uninstall --addon grafana"
)]
pub(crate) struct Uninstall {
    /// Everything, the resource definitions and with them all objects of the mesh's kinds included.
    #[arg(long, conflicts_with_all = ["revision", "files", "addons"])]
    purge: bool,
    #[command(flatten)]
    layers: LayerArgs,
    #[command(flatten)]
    addons: AddonArgs,
    /// Remove a revision though tags lead to it; the tags go with it.
    #[arg(long)]
    force: bool,
    /// Ask nothing.
    #[arg(short = 'y', long)]
    skip_confirmation: bool,
    /// Show what would be removed, and remove nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Uninstall {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let client = client::connect(global).await?;
        let mut applier = Applier::new(client.clone());
        let mut all = Vec::new();
        let (selectors, revision) = self.selectors(&mut applier, global).await?;
        for selector in selectors {
            all.extend(owned(&mut applier, &selector).await?);
        }
        if all.is_empty() {
            output::line("There is nothing to remove.");
            return Ok(());
        }
        output::line("This will remove:");
        for removal in &all {
            output::line(format_args!("  - {removal}"));
        }
        let homes = homes(&all);
        if self.purge {
            for removal in spread(&mut applier, &homes).await? {
                output::line(format_args!("  - {removal}"));
            }
        }
        if let Some(revision) = revision {
            let users = super::revision::users(&client, &revision).await?;
            for user in &users {
                output::line(format_args!("Revision {revision} is used: {user}"));
            }
            if !users.is_empty() {
                output::line(
                    "Lead them to another revision first: proxies keep what they have, and their certificates run out.",
                );
            }
        }
        if self.dry_run {
            return Ok(());
        }
        let rights = Rights::to_uninstall(&mut applier, &all, &homes).await;
        let rights = match self.purge {
            true => rights.clearing(),
            false => rights,
        };
        rights.check(&client, "uninstalling").await?;
        if !self.skip_confirmation {
            consent::ask("Proceed?")?;
        }
        let mut locks = Vec::new();
        for home in &homes {
            locks.push(Lock::take(&client, home).await?);
        }
        let work = self.remove(&client, &mut applier, &all, &homes);
        let removed = holding(&locks, work).await;
        for lock in locks {
            lock.release().await;
        }
        let mut namespaces = Vec::new();
        for removal in all.iter().filter(|removal| removal.kind() == NAMESPACE) {
            namespaces.push(removal.name());
        }
        removed?;
        // The locks were in them.
        for namespace in namespaces {
            remove_namespace(&client, &mut applier, namespace).await?;
        }
        output::line("✔ Uninstall complete");
        Ok(())
    }

    /// Selects what goes: everything, a revision, or the addons that are named and nothing else. The
    /// revision is told as well.
    async fn selectors(
        &self,
        applier: &mut Applier,
        global: &Global,
    ) -> anyhow::Result<(Vec<String>, Option<String>)> {
        let namespace = &global.istio_namespace;
        if self.purge {
            return Ok((vec![installed()], None));
        }
        let addons = self.addons.addons().iter();
        let mut selectors: Vec<_> = addons.map(|addon| addon.selector(namespace)).collect();
        let mut named = None;
        if self.addons.is_empty() || !self.layers.is_empty() {
            let (revision, is_last) = self.revision(applier, global).await?;
            let selector = owned_by(namespace, &revision);
            if !self.force {
                without_tags(applier, &selector, &revision, is_last).await?;
            }
            selectors.push(selector);
            named = Some(revision);
        }
        Ok((selectors, named))
    }

    /// Everything but the namespaces.
    async fn remove(
        &self,
        client: &Client,
        applier: &mut Applier,
        all: &[Removal],
        homes: &BTreeSet<String>,
    ) -> anyhow::Result<()> {
        let mut progress = Progress::new();
        progress.step("Remove the mesh");
        for removal in all.iter().filter(|removal| removal.kind() != NAMESPACE) {
            progress.detail(&removal.to_string());
            applier.delete(&removal.manifest()).await?;
        }
        if self.purge {
            progress.detail("the control plane ends");
            for home in homes {
                ended(client, home).await?;
            }
            for removal in spread(applier, homes).await? {
                applier.delete(&removal.manifest()).await?;
            }
        }
        progress.finish();
        Ok(())
    }

    /// The revision that is meant, which must be named, and whether there is no other.
    async fn revision(
        &self,
        applier: &mut Applier,
        global: &Global,
    ) -> anyhow::Result<(String, bool)> {
        let installed = revisions(applier, &global.istio_namespace).await?;
        let known: Vec<&str> = installed.iter().map(String::as_str).collect();
        let there = match known.is_empty() {
            true => format!("nothing is installed in {}", global.istio_namespace),
            false => format!("these are: {}", known.join(", ")),
        };
        if self.layers.is_empty() {
            bail!(
                "say what to remove: --purge for everything, --revision for one revision, or --addon for an addon; {there}"
            );
        }
        let named = self.layers.installation()?.revision().to_owned();
        match installed.contains(&named) {
            true => Ok((named, installed.len() == 1)),
            false => bail!("revision {named} is not installed; {there}"),
        }
    }
}

/// Namespaces whose tags lead to a revision would lose their injector with it. The tag that an
/// installation makes goes with the last revision, since it could lead to no other.
async fn without_tags(
    applier: &mut Applier,
    selector: &str,
    revision: &str,
    is_last: bool,
) -> anyhow::Result<()> {
    let kept = match is_last {
        true => format!("{selector},{TAG},{TAG}!=default"),
        false => format!("{selector},{TAG}"),
    };
    let tagged = owned(applier, &kept).await?;
    let Some(hook) = tagged.first() else {
        return Ok(());
    };
    bail!(
        "{hook} is a tag that leads to revision {revision}: lead it to another with `lateen tag set`, remove it with `lateen tag remove`, or remove both with --force"
    )
}

/// Where control planes and gateways of this are.
fn homes(all: &[Removal]) -> BTreeSet<String> {
    let deployments = all.iter().filter(|removal| removal.kind() == "Deployment");
    let homes = deployments.filter_map(Removal::namespace);
    homes.map(str::to_owned).collect()
}

/// Waits until no pod of a control plane is left, which would make again what is taken away.
async fn ended(client: &Client, namespace: &str) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let start = Instant::now();
    loop {
        let left = pods
            .list(&ListParams::default().labels("app=istiod"))
            .await?;
        let Some(pod) = left.items.first() else {
            return Ok(());
        };
        if start.elapsed() > PATIENCE {
            bail!(
                "pod {} does not end; run the command again when it has",
                pod.metadata.name.as_deref().unwrap_or_default()
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A namespace goes with the mesh only if nothing of anybody else is in it.
async fn remove_namespace(
    client: &Client,
    applier: &mut Applier,
    name: &str,
) -> anyhow::Result<()> {
    if let Some(foreign) = foreign_in(client, name).await? {
        output::line(format_args!(
            "Namespace {name} stays: {foreign} in it is not the mesh's"
        ));
        return Ok(());
    }
    let namespace = json!({"apiVersion": "v1", "kind": NAMESPACE, "metadata": {"name": name}});
    applier.delete(&namespace).await?;
    let mut progress = Progress::new();
    progress.step("The namespace ends");
    let start = Instant::now();
    // Kubernetes empties it afterwards, and until then nothing can be installed into it.
    while applier.get(&namespace).await?.is_some() {
        if start.elapsed() > PATIENCE {
            bail!(
                "namespace {name} is still ending after {} s; see what holds it: kubectl get namespace {name} -o yaml",
                PATIENCE.as_secs()
            );
        }
        tokio::time::sleep(LOOK).await;
    }
    progress.finish();
    Ok(())
}

/// The first object in a namespace that neither an installation, nor the mesh, nor the platform made.
async fn foreign_in(client: &Client, namespace: &str) -> anyhow::Result<Option<String>> {
    let kinds = client::kinds(client).await?;
    for group in kinds.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            let is_listed = capabilities.supports_operation(verbs::LIST);
            let passes = matches!(resource.kind.as_str(), "Event" | "Lease" | "Endpoints");
            if capabilities.scope != Scope::Namespaced || !is_listed || passes {
                continue;
            }
            let api: Api<DynamicObject> =
                Api::namespaced_with(client.clone(), namespace, &resource);
            // A definition that was just deleted may still be spoken of.
            for object in client::list(&api, &resource).await? {
                let name = object.metadata.name.clone().unwrap_or_default();
                if !is_expected(&resource.kind, &name, &object) {
                    return Ok(Some(format!("{} {name}", resource.kind)));
                }
            }
        }
    }
    Ok(None)
}

/// Whether an object is the mesh's or the platform's, or is on its way out with its owner.
fn is_expected(kind: &str, name: &str, object: &DynamicObject) -> bool {
    let meta = &object.metadata;
    let has_owner = meta
        .owner_references
        .as_ref()
        .is_some_and(|all| !all.is_empty());
    let of_platform = matches!(
        (kind, name),
        ("ServiceAccount", "default") | ("ConfigMap", "kube-root-ca.crt")
    );
    let of_mesh = matches!(
        (kind, name),
        ("ConfigMap", "istio-ca-root-cert") | ("Secret", "istio-ca-secret")
    );
    has_owner
        || of_platform
        || of_mesh
        || meta.deletion_timestamp.is_some()
        || meta.labels.as_ref().is_some_and(is_owned)
}
