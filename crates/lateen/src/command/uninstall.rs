//! `lateen uninstall`: takes away what installations made, and nothing else.

use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::ListParams};
use lateen_install::owned_by;

use super::{
    install::{Lock, agreed, owned, revisions, spread},
    layers::LayerArgs,
};
use crate::{apply::Applier, cli::Global, client, output, progress::Progress};

/// How long the control plane may take to end.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Remove a revision of the mesh, or all of it.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen uninstall --purge\n  lateen uninstall --revision canary -y"
)]
pub(crate) struct Uninstall {
    /// Everything, the resource definitions and with them all objects of the mesh's kinds included.
    #[arg(long, conflicts_with_all = ["revision", "files"])]
    purge: bool,
    #[command(flatten)]
    layers: LayerArgs,
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
        let selector = match self.purge {
            true => owned_by(None),
            false => owned_by(Some(&self.revision(&mut applier).await?)),
        };
        let all = owned(&mut applier, &selector).await?;
        if all.is_empty() {
            output::line("There is nothing to remove.");
            return Ok(());
        }
        output::line("This will remove:");
        for removal in &all {
            output::line(format_args!("  - {removal}"));
        }
        if self.dry_run {
            return Ok(());
        }
        if !self.skip_confirmation && !agreed("Proceed?")? {
            output::line("Cancelled.");
            return Ok(());
        }
        // Where the namespace is gone already, an installation that was cut short is finished off.
        let lock = match all
            .iter()
            .any(|removal| removal.is_in(&global.istio_namespace))
        {
            true => Some(Lock::take(&client, &global.istio_namespace).await?),
            false => None,
        };
        let mut progress = Progress::new();
        progress.step("Remove the mesh");
        let mut removed = Ok(());
        for removal in &all {
            progress.detail(&removal.to_string());
            if let Err(error) = applier.delete(&removal.manifest()).await {
                removed = Err(error);
                break;
            }
        }
        if self.purge && removed.is_ok() {
            progress.detail("the control plane ends");
            ended(&client).await?;
            for removal in spread(&mut applier).await? {
                applier.delete(&removal.manifest()).await?;
            }
        }
        progress.finish();
        if let Some(lock) = lock {
            lock.release().await;
        }
        removed?;
        output::line("✔ Uninstall complete");
        Ok(())
    }

    /// The revision that is meant: the one that is named, or the only one.
    async fn revision(&self, applier: &mut Applier) -> anyhow::Result<String> {
        let named = match self.layers.is_empty() {
            true => None,
            false => Some(self.layers.installation()?.revision().to_owned()),
        };
        let installed = revisions(applier).await?;
        let known: Vec<&str> = installed.keys().map(String::as_str).collect();
        match named {
            Some(named) if installed.contains_key(&named) => Ok(named),
            Some(named) if known.is_empty() => {
                bail!("revision {named} is not installed, and no other is")
            }
            Some(named) => bail!(
                "revision {named} is not installed; these are: {}",
                known.join(", ")
            ),
            None => bail!(
                "say what to remove: --purge for everything, or --revision with one of: {}",
                known.join(", ")
            ),
        }
    }
}

/// Waits until no pod of a control plane is left, which would make again what is taken away.
async fn ended(client: &Client) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::all(client.clone());
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
