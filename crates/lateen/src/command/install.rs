//! `lateen install`: brings a cluster to what an installation says.

mod accounts;
mod addon;
mod handover;
mod lock;
mod plan;
mod ready;
mod replicas;

use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::{Api, Client, api::ListParams};
use lateen_install::{Installation, Part, TAG, file_of_record, is_record};
use serde_json::Value;

use super::{consent, layers::LayerArgs, manifest::diff, precheck, rights::Rights, verify_install};
use crate::{apply::Applier, cli::Global, client, output, progress::Progress};

pub(crate) use addon::{AddonArgs, parse as parse_addon};
pub(crate) use lock::{Lock, holding};
pub(crate) use plan::{INJECTOR, Plan, Removal, owned, revisions};
pub(crate) use ready::{DEFINITION, ending, is_ready, missing};

/// Install the mesh, or change what is installed.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen install\n  lateen install --set profile=demo -y\n  lateen install -f mesh.yaml --dry-run\n  lateen install --set revision=canary\n  lateen install -f mesh.yaml --addon prometheus --addon grafana\n  lateen install --addon kiali                     Beside the mesh that is there"
)]
pub(crate) struct Install {
    #[command(flatten)]
    layers: LayerArgs,
    #[command(flatten)]
    addons: AddonArgs,
    /// Ask nothing.
    #[arg(short = 'y', long)]
    skip_confirmation: bool,
    /// Show what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Take over objects that somebody else made.
    #[arg(long)]
    force: bool,
    /// Look at everything once more when it is installed.
    #[arg(long)]
    verify: bool,
    /// How long to wait until everything is ready.
    #[arg(long, default_value = "5m", value_parser = super::wait::duration)]
    readiness_timeout: Duration,
}

/// What is to be there.
pub(crate) struct Goal {
    installation: Installation,
    parts: Vec<Part>,
    /// Whether the mesh is among it, rather than addons alone.
    is_mesh: bool,
}

impl Goal {
    /// A mesh without addons.
    pub(crate) fn of_mesh(installation: Installation) -> anyhow::Result<Self> {
        Ok(Goal {
            parts: lateen_install::recorded_parts(&installation)?,
            installation,
            is_mesh: true,
        })
    }

    /// The rights that it takes.
    pub(crate) async fn rights(&self, applier: &mut Applier) -> anyhow::Result<Rights> {
        Rights::to_install(applier, &self.parts, self.installation.namespace()).await
    }

    pub(crate) fn objects(&self) -> impl Iterator<Item = &Value> {
        self.parts.iter().flat_map(|part| &part.objects)
    }
}

impl Install {
    /// Begins with what is installed, unless something else is named to begin with.
    pub(crate) async fn upgrade(mut self, global: &Global) -> anyhow::Result<()> {
        let is_of_addons = self.layers.is_empty() && !self.addons.is_empty();
        if self.layers.says_no_profile() && !is_of_addons {
            let mut applier = Applier::new(client::connect(global).await?);
            let namespace = &global.istio_namespace;
            let revision = self.layers.revision.as_deref();
            let records = verify_install::records(&mut applier, namespace, revision).await?;
            let recorded = recorded(&records, namespace)?;
            self.layers.begin_with(recorded);
        }
        self.run(global).await
    }

    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        // Whoever only names addons has a mesh with settings of its own.
        let is_mesh = self.addons.is_empty() || !self.layers.is_empty();
        // What is wrong with files and flags is told before a cluster is asked for.
        let mesh = match is_mesh {
            true => {
                let installation = self.layers.installation(global)?;
                let parts = self.addons.parts(&installation)?;
                Some((installation, parts))
            }
            false => None,
        };
        let client = client::connect(global).await?;
        let mut applier = Applier::new(client.clone());
        let (installation, parts) = match mesh {
            Some(mesh) => mesh,
            None => self.addons.beside(&client, &global.istio_namespace).await?,
        };
        let mut goal = Goal {
            installation,
            parts,
            is_mesh,
        };
        let rights = goal.rights(&mut applier).await?;
        rights.check(&client, "installing").await?;
        self.addons
            .refuse_clash(&mut applier, &goal.installation)
            .await?;
        if is_mesh {
            for warning in precheck::not_enforced(&mut applier).await? {
                eprintln!("Warning: {warning}");
            }
            if is_first(&client).await? {
                lateen_install::add_default_tag(&goal.installation, &mut goal.parts)
                    .map_err(anyhow::Error::msg)?;
            }
        }
        self.bring_about(global, &client, &mut applier, &goal).await
    }

    /// Says what is about to happen, asks, and does it.
    async fn bring_about(
        &self,
        global: &Global,
        client: &Client,
        applier: &mut Applier,
        goal: &Goal,
    ) -> anyhow::Result<()> {
        let plan = self.plan(applier, goal).await?;
        if self.dry_run {
            output::print(&plan);
            return Ok(());
        }
        let mut rights = Rights::to_remove(applier, plan.removals()).await?;
        if !plan.tags().is_empty() {
            rights = rights.taking_over();
        }
        let what = "removing what is no longer wanted";
        rights.check(client, what).await?;
        say(goal, &plan);
        for line in changed_settings(applier, goal).await? {
            output::print(line);
        }
        let others = self.addons.others(applier, &goal.installation).await?;
        if !others.is_empty() {
            output::line(format_args!(
                "Addons that stay as they are: {}; --addon brings one up to date, `lateen uninstall --addon` removes it.",
                addon::names(&others)
            ));
        }
        if !self.skip_confirmation {
            consent::ask("Proceed?")?;
        }
        let namespace = goal.installation.namespace();
        let lock = Lock::take(client, namespace).await?;
        let work = async {
            // While the question was open, somebody else may have installed something.
            let now = self.plan(applier, goal).await?;
            if now.removals() != plan.removals() {
                bail!(
                    "the cluster is no longer what it was when you were asked; run the command again"
                );
            }
            self.carry_out(client, applier, &goal.parts, &now).await
        };
        let done = holding(std::slice::from_ref(&lock), work).await;
        lock.release().await;
        done?;
        if self.verify {
            let addons = self.addons.addons().iter();
            let addons = addons.map(|addon| format!(" --addon {}", addon.name()));
            let again = self.layers.again(global) + &addons.collect::<String>();
            let wanted = verify_install::Wanted {
                parts: &goal.parts,
                again,
            };
            verify_install::verify(applier, &[wanted], namespace).await?;
        }
        output::line("✔ Installation complete");
        Ok(())
    }

    async fn plan(&self, applier: &mut Applier, goal: &Goal) -> anyhow::Result<Plan> {
        Plan::of(applier, goal, &self.addons, self.force).await
    }

    async fn carry_out(
        &self,
        client: &Client,
        applier: &mut Applier,
        parts: &[Part],
        plan: &Plan,
    ) -> anyhow::Result<()> {
        let mut progress = Progress::new();
        for part in parts {
            progress.step(format!("Install {}", part.title));
            let ready = async |objects: &[Value], progress: &Progress| {
                ready::wait(client, objects, self.readiness_timeout, progress)
                    .await
                    .with_context(|| format!("{} is not ready", part.title))
            };
            let injector = part
                .objects
                .iter()
                .position(|it| it["kind"] == plan::INJECTOR);
            let takes_over = injector.filter(|_| !plan.tags().is_empty());
            for (n, object) in part.objects.iter().enumerate() {
                progress.detail(&crate::apply::Named::of(object)?.to_string());
                if takes_over == Some(n) {
                    ready(&part.objects[..n], &progress).await?;
                    handover::take_over(client, &part.objects[n..]).await?;
                }
                if !plan.is_kept(object)? {
                    ready::vacant(applier, object, self.readiness_timeout, &progress).await?;
                    replicas::hand_over(client, object).await?;
                    applier.apply(object).await?;
                    accounts::renew(client, object).await?;
                }
            }
            ready(&part.objects, &progress).await?;
            if takes_over.is_some() {
                remove(applier, plan.tags(), &progress).await?;
            }
        }
        let is_tag = |removal: &&Removal| plan.tags().contains(removal);
        let rest: Vec<Removal> = plan
            .removals()
            .iter()
            .filter(|it| !is_tag(it))
            .cloned()
            .collect();
        if !rest.is_empty() {
            progress.step("Remove what is no longer wanted");
            remove(applier, &rest, &progress).await?;
        }
        progress.finish();
        Ok(())
    }
}

async fn remove(
    applier: &mut Applier,
    removals: &[Removal],
    progress: &Progress,
) -> anyhow::Result<()> {
    for removal in removals {
        progress.detail(&removal.to_string());
        applier.delete(&removal.manifest()).await?;
    }
    Ok(())
}

/// Whether nothing injects yet: the first revision that does is the default one.
async fn is_first(client: &Client) -> anyhow::Result<bool> {
    let hooks: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    // The tag of the first revision is made before its own webhook, and may be all that there is yet.
    let injectors = ListParams::default().labels(&format!("app=sidecar-injector,!{TAG}"));
    let found = hooks.list(&injectors).await;
    let found = found.context("cannot list webhooks")?;
    Ok(found.items.is_empty())
}

/// The one installation that is there, to begin with.
fn recorded(records: &[Value], namespace: &str) -> anyhow::Result<(String, String)> {
    match records {
        [] => bail!(
            "nothing in namespace {namespace} says what is installed, so there is nothing to upgrade; say what there should be with -f or --set profile=NAME, or name another namespace with --istioNamespace"
        ),
        [one] => Ok(file_of_record(one)),
        several => {
            let mut names: Vec<String> = several.iter().map(|it| file_of_record(it).0).collect();
            names.sort();
            bail!(
                "several installations are in namespace {namespace} ({}); name one by --revision, or by its file with -f",
                names.join(", ")
            )
        }
    }
}

/// How the settings differ from those that were installed last, a line each.
async fn changed_settings(applier: &mut Applier, goal: &Goal) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    for object in goal.objects() {
        let labels = &object["metadata"]["labels"];
        let labels = serde_json::from_value(labels.clone()).unwrap_or_default();
        if !is_record(&labels) {
            continue;
        }
        let Some(held) = applier.get(object).await? else {
            continue;
        };
        let (_, before) = file_of_record(&serde_json::to_value(held)?);
        let (_, after) = file_of_record(object);
        if before != after {
            lines.push("Settings that change:\n".to_owned());
            lines.push(diff::lines(&before, &after));
        }
    }
    Ok(lines)
}

/// What is about to happen, in a sentence.
fn say(goal: &Goal, plan: &Plan) {
    let titles: Vec<&str> = goal.parts.iter().map(|part| part.title.as_str()).collect();
    let titles = match titles.is_empty() {
        true => "nothing".to_owned(),
        false => titles.join(", "),
    };
    let installation = &goal.installation;
    let namespace = installation.namespace();
    if goal.is_mesh {
        let revision = match installation.revision() {
            "default" => String::new(),
            revision => format!(" as revision {revision}"),
        };
        output::line(format_args!(
            "This will install the {} profile{revision} into namespace {namespace}: {titles}.",
            installation.profile(),
        ));
    } else {
        output::line(format_args!(
            "This will install {titles} beside the mesh in namespace {namespace}, which stays as it is.",
        ));
    }
    if !plan.removals().is_empty() {
        output::line("It will remove what is no longer wanted:");
        for removal in plan.removals() {
            output::line(format_args!("  - {removal}"));
        }
    }
}
