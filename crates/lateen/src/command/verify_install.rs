//! `lateen verify-install`: whether everything of an installation is there and ready.

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
        verify(&mut Applier::new(client), &parts).await
    }
}

/// Looks at each object, says what of it is missing, and fails if anything is.
pub(crate) async fn verify(applier: &mut Applier, parts: &[Part]) -> anyhow::Result<()> {
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
    if bad > 0 {
        bail!(
            "{bad} objects of the installation are missing or not ready; `lateen install` mends it"
        );
    }
    output::line("✔ Istio is installed and verified successfully");
    Ok(())
}
