//! `lateen uninstall`: takes away what installations made, and nothing else.

mod spread;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::bail;
use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, ListParams},
    discovery::{Scope, verbs},
};
use lateen_install::{
    Installation, REVISION, TAG, is_owned, owned as installed, owned_alike, owned_by,
};
use serde_json::json;

use self::spread::{Others, spread};
use super::{
    consent,
    install::{AddonArgs, DEFINITION, INJECTOR, Lock, Removal, ending, holding, owned, revisions},
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
    after_help = "Examples:\n  lateen uninstall --purge\n  lateen uninstall --revision canary -y\n  lateen uninstall -f gateway.yaml               What that file installed\n  lateen uninstall --addon grafana"
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

/// What goes.
#[derive(Debug, Default)]
struct Doomed {
    /// What was installed.
    all: Vec<Removal>,
    /// What control planes made by themselves.
    spread: Vec<Removal>,
    /// The namespaces of the control planes that this was made for.
    homes: BTreeSet<String>,
    /// The revision whose control plane goes, where not all of them do.
    revision: Option<String>,
    /// Control planes that stay, as others made them.
    others: Others,
}

impl Doomed {
    fn removals(&self) -> impl Iterator<Item = &Removal> {
        self.all.iter().chain(&self.spread)
    }
}

impl Uninstall {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let client = client::connect(global).await?;
        let mut applier = Applier::new(client.clone());
        let doomed = self.doomed(&mut applier, global).await?;
        if doomed.removals().next().is_none() {
            output::line("There is nothing to remove.");
            return Ok(());
        }
        say(&client, &doomed).await?;
        if self.dry_run {
            return Ok(());
        }
        let removals: Vec<Removal> = doomed.removals().cloned().collect();
        let rights = Rights::to_uninstall(&mut applier, &removals, &doomed.homes).await?;
        rights.check(&client, "uninstalling").await?;
        if !self.skip_confirmation {
            consent::ask("Proceed?")?;
        }
        let locks = Lock::take_all(&client, &doomed.homes).await?;
        let work = async {
            // While the question was open, somebody else may have installed something.
            let now = self.doomed(&mut applier, global).await?;
            // What went meanwhile is none of it: of a removal that was cut off, much goes by itself.
            let mut new = now.removals().filter(|it| !removals.contains(it));
            if new.next().is_some() || now.others != doomed.others {
                bail!(
                    "the cluster is no longer what it was when you were asked; run the command again"
                );
            }
            self.remove(&client, &mut applier, &now).await
        };
        let removed = holding(&locks, work).await;
        for lock in locks {
            lock.release().await;
        }
        removed?;
        // The locks were in them.
        for namespace in doomed.all.iter().filter(|it| it.kind() == NAMESPACE) {
            remove_namespace(&client, &mut applier, namespace.name()).await?;
        }
        output::line("✔ Uninstall complete");
        Ok(())
    }

    /// Finds what goes: everything, an installation, or the addons that are named and nothing else.
    async fn doomed(&self, applier: &mut Applier, global: &Global) -> anyhow::Result<Doomed> {
        let namespace = &global.istio_namespace;
        let mut doomed = Doomed::default();
        if self.purge {
            doomed.all = owned(applier, &installed()).await?;
        }
        for addon in self.addons.addons() {
            let of_addon = owned(applier, &addon.selector(namespace)).await?;
            doomed.all.extend(of_addon);
        }
        if !self.purge && (self.addons.is_empty() || !self.layers.is_empty()) {
            self.installation(applier, global, &mut doomed).await?;
        }
        let homes = doomed.all.iter().filter_map(Removal::home);
        let mut homes: BTreeSet<String> = homes.map(str::to_owned).collect();
        if self.purge {
            // Of a removal that was cut off, labels may say nothing more.
            homes.insert(namespace.clone());
        }
        for home in homes {
            let object = json!({"apiVersion": "v1", "kind": NAMESPACE, "metadata": {"name": home}});
            let held = applier.get(&object).await?;
            // Nothing can be made any more in one that ends, a lock neither.
            if held.is_some_and(|held| held.metadata.deletion_timestamp.is_none()) {
                doomed.homes.insert(home);
            }
        }
        if self.purge {
            doomed.others = Others::find(applier).await?;
            if !doomed.others.is_empty() {
                // With them, all objects of the other mesh would go.
                doomed.all.retain(|removal| removal.kind() != DEFINITION);
            }
            doomed.spread = spread(applier, &doomed.homes, &doomed.others).await?;
        }
        Ok(doomed)
    }

    /// Finds what the installation of the flags made, with the tags of a control plane that goes.
    async fn installation(
        &self,
        applier: &mut Applier,
        global: &Global,
        doomed: &mut Doomed,
    ) -> anyhow::Result<()> {
        let (installation, is_last) = self.named(applier, global).await?;
        let (namespace, revision) = (installation.namespace(), installation.revision());
        let of_revision = owned_by(namespace, revision);
        // Files are of one installation of a revision, and there may be others of it.
        let is_one = !self.layers.names_at_most_a_revision();
        let selector = match is_one {
            true => owned_alike(&installation),
            false => of_revision.clone(),
        };
        let own = owned(applier, &format!("{selector},!{TAG}")).await?;
        if !is_one || own.iter().any(|removal| removal.kind() == INJECTOR) {
            if !self.force {
                without_tags(applier, &of_revision, revision, is_last).await?;
            }
            let tags = owned(applier, &format!("{of_revision},{TAG}")).await?;
            doomed.all.extend(tags);
            doomed.revision = Some(revision.to_owned());
        }
        doomed.all.extend(own);
        Ok(())
    }

    /// Everything but the namespaces. What says where all of this was goes last: who is cut off begins again
    /// with it.
    async fn remove(
        &self,
        client: &Client,
        applier: &mut Applier,
        doomed: &Doomed,
    ) -> anyhow::Result<()> {
        let mut progress = Progress::new();
        progress.step("Remove the mesh");
        let is_early = |it: &&Removal| it.kind() != NAMESPACE && !it.is_record();
        for removal in doomed.all.iter().filter(is_early) {
            progress.detail(&removal.to_string());
            applier.delete(&removal.manifest()).await?;
        }
        if self.purge {
            progress.detail("the control plane ends");
            for home in &doomed.homes {
                ended(client, home, &doomed.others).await?;
            }
            for removal in spread(applier, &doomed.homes, &doomed.others).await? {
                applier.delete(&removal.manifest()).await?;
            }
            for removal in doomed.all.iter().filter(|it| it.kind() == DEFINITION) {
                progress.detail(&format!("{removal} ends"));
                gone(applier, removal).await?;
            }
        }
        for record in doomed.all.iter().filter(|it| it.is_record()) {
            applier.delete(&record.manifest()).await?;
        }
        progress.finish();
        Ok(())
    }

    /// The installation that is meant, whose revision must be named, and whether there is no other revision.
    async fn named(
        &self,
        applier: &mut Applier,
        global: &Global,
    ) -> anyhow::Result<(Installation, bool)> {
        let there = |namespace: &str, installed: &BTreeSet<String>| {
            let known: Vec<&str> = installed.iter().map(String::as_str).collect();
            match known.is_empty() {
                true => format!("nothing is installed in {namespace}"),
                false => format!("these are: {}", known.join(", ")),
            }
        };
        if self.layers.is_empty() {
            let namespace = &global.istio_namespace;
            let installed = revisions(applier, namespace).await?;
            bail!(
                "say what to remove: --purge for everything, --revision for one revision, -f for what a file installed, or --addon for an addon; {}",
                there(namespace, &installed)
            );
        }
        let named = self.layers.installation(global)?;
        let installed = revisions(applier, named.namespace()).await?;
        if !installed.contains(named.revision()) {
            bail!(
                "revision {} is not installed; {}",
                named.revision(),
                there(named.namespace(), &installed)
            );
        }
        Ok((named, installed.len() == 1))
    }
}

/// What is about to happen.
async fn say(client: &Client, doomed: &Doomed) -> anyhow::Result<()> {
    output::line("This will remove:");
    for removal in doomed.removals() {
        output::line(format_args!("  - {removal}"));
    }
    if !doomed.others.is_empty() {
        output::line(format_args!(
            "Another control plane is in {}: definitions with their objects, the root certificates of namespaces and what else both use stay.",
            doomed.others.namespaces()
        ));
    }
    let Some(revision) = &doomed.revision else {
        return Ok(());
    };
    let users = super::revision::users(client, revision).await?;
    for user in &users {
        output::line(format_args!("Revision {revision} is used: {user}"));
    }
    if !users.is_empty() {
        output::line(
            "Lead them to another revision first: proxies keep what they have, and their certificates run out.",
        );
    }
    Ok(())
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

/// Waits until no pod of a control plane is left, which would make again what is taken away.
async fn ended(client: &Client, namespace: &str, others: &Others) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let start = Instant::now();
    loop {
        let listed = pods
            .list(&ListParams::default().labels("app=istiod"))
            .await?;
        let mut left = listed.items.into_iter().filter(|pod| {
            let revision = pod.labels().get(REVISION);
            !others.have(namespace, revision.map(String::as_str))
        });
        let Some(pod) = left.next() else {
            return Ok(());
        };
        if start.elapsed() > PATIENCE {
            bail!(
                "pod {} does not end; run the command again when it has",
                pod.name_any()
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until a definition is gone: what is installed anew before would go with it.
async fn gone(applier: &mut Applier, definition: &Removal) -> anyhow::Result<()> {
    let start = Instant::now();
    while applier.get(&definition.manifest()).await?.is_some() {
        if start.elapsed() > PATIENCE {
            bail!("{}; then run the command again", ending(definition.name()));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
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
        ("ServiceAccount", "default" | "builder" | "deployer")
            | ("ConfigMap", "kube-root-ca.crt" | "openshift-service-ca.crt")
    ) || kind == "Secret" && is_of_account(object);
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

/// Whether a platform made the Secret for a service account, as old ones and OpenShift do.
fn is_of_account(secret: &DynamicObject) -> bool {
    matches!(
        secret.data["type"].as_str(),
        Some("kubernetes.io/service-account-token" | "kubernetes.io/dockercfg")
    ) && secret
        .annotations()
        .keys()
        .any(|key| key.ends_with("/service-account.name"))
}
