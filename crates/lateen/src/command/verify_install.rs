//! `lateen verify-install`: whether everything of an installation is there and ready, and does its work.

mod steps;

use anyhow::bail;
use clap::Args;
use lateen_install::Part;

use super::{install::missing, layers::LayerArgs};
use crate::{
    apply::{Applier, Named},
    cli::Global,
    client, output,
};

/// Check that everything of an installation is there and ready.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen verify-install\n  lateen verify-install --set profile=demo\n  lateen verify-install -f mesh.yaml"
)]
pub(crate) struct VerifyInstall {
    #[command(flatten)]
    layers: LayerArgs,
}

impl VerifyInstall {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let installation = self.layers.installation()?;
        let parts = lateen_install::parts(&installation)?;
        let client = client::connect(global).await?;
        verify(&mut Applier::new(client), &parts, installation.namespace()).await
    }
}

/// Looks at each object, says what of it is missing, goes through the steps by which one finds out why the
/// mesh does not run, and fails if anything is wrong.
pub(crate) async fn verify(
    applier: &mut Applier,
    parts: &[Part],
    namespace: &str,
) -> anyhow::Result<()> {
    let mut bad = 0;
    for part in parts {
        for object in &part.objects {
            let name = Named::of(object)?.to_string();
            let fault = match applier.get(object).await? {
                None => Some("is not there".to_owned()),
                Some(_) => missing(applier.client(), object).await?,
            };
            match fault {
                None => output::line(format_args!("✔ {name} checked successfully")),
                Some(fault) => {
                    bad += 1;
                    output::line(format_args!("✘ {name}: {fault}"));
                }
            }
        }
    }
    let mut failed = Vec::new();
    for (index, step) in steps::all(applier.client(), namespace)
        .await?
        .iter()
        .enumerate()
    {
        output::print(step.lines(index + 1));
        if step.failed() {
            failed.push(format!("{} ({})", index + 1, step.title));
        }
    }
    let failed = failed.join(", ");
    match (bad, failed.is_empty()) {
        (0, true) => {
            output::line("✔ Istio is installed and verified successfully");
            Ok(())
        }
        (0, false) => bail!("everything is there, but it does not work: see step {failed}"),
        (_, true) => bail!(
            "{bad} objects of the installation are missing or not ready; `lateen install` mends it"
        ),
        (_, false) => bail!(
            "{bad} objects of the installation are missing or not ready; see step {failed} for the cause, or let `lateen install` mend it"
        ),
    }
}
