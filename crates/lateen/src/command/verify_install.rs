//! `lateen verify-install`: whether everything of an installation is there and ready, and does its work.

mod steps;

use anyhow::{Context, bail};
use clap::Args;
use kube::core::TypeMeta;
use lateen_install::{Part, REVISION};
use serde_json::Value;

use super::{install::missing, layers::LayerArgs};
use crate::{
    apply::{Applier, Named},
    cli::Global,
    client, output,
};

/// Check that everything of an installation is there and ready.
///
/// What was installed is read from the cluster, where `install` has written it down. Files and settings
/// count instead where they are given.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen verify-install\n  lateen verify-install --revision canary\n  lateen verify-install --set profile=demo\n  lateen verify-install -f mesh.yaml"
)]
pub(crate) struct VerifyInstall {
    #[command(flatten)]
    layers: LayerArgs,
}

/// What there should be, and the command that brings it back.
pub(crate) struct Wanted<'a> {
    pub(crate) parts: &'a [Part],
    pub(crate) again: String,
}

impl VerifyInstall {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        // Faults of files and flags are told before a cluster is asked.
        let named = self.layers.installation(global)?;
        let mut applier = Applier::new(client::connect(global).await?);
        if self.layers.names_at_most_a_revision() {
            let namespace = &global.istio_namespace;
            let revision = self.layers.revision.as_deref();
            let recorded = recorded(&mut applier, namespace, revision).await?;
            if !recorded.is_empty() {
                let wanted: Vec<Wanted<'_>> = recorded
                    .iter()
                    .map(|(parts, again)| Wanted {
                        parts,
                        again: again.clone(),
                    })
                    .collect();
                return verify(&mut applier, &wanted, namespace).await;
            }
            eprintln!(
                "lateen: nothing in {namespace} says what was installed, so this looks for the profile {}; name another with --set profile=NAME, or another namespace with --istioNamespace",
                named.profile()
            );
        }
        let wanted = Wanted {
            parts: &lateen_install::parts(&named)?,
            again: self.layers.again(global),
        };
        verify(&mut applier, &[wanted], named.namespace()).await
    }
}

/// What was installed with its control plane in a namespace: all revisions, or one.
async fn recorded(
    applier: &mut Applier,
    namespace: &str,
    revision: Option<&str>,
) -> anyhow::Result<Vec<(Vec<Part>, String)>> {
    let mut all = Vec::new();
    for record in records(applier, namespace, revision).await? {
        let installation = lateen_install::of_record(&record)
            .context("cannot read what was installed; say it with -f or --set")?;
        let parts = lateen_install::recorded_parts(&installation)?;
        all.push((parts, lateen_install::again(&record)));
    }
    Ok(all)
}

/// The ConfigMaps that say what was installed with its control plane in a namespace: all revisions, or one.
pub(crate) async fn records(
    applier: &mut Applier,
    namespace: &str,
    revision: Option<&str>,
) -> anyhow::Result<Vec<Value>> {
    let mut selector = lateen_install::records(namespace);
    if let Some(revision) = revision {
        selector.push_str(&format!(",{REVISION}={revision}"));
    }
    let kind = TypeMeta {
        api_version: "v1".to_owned(),
        kind: "ConfigMap".to_owned(),
    };
    let found = applier.list(&kind, &selector).await?;
    let values = found.into_iter().map(serde_json::to_value);
    Ok(values.collect::<Result<_, _>>()?)
}

/// Looks at each object, says what of it is missing, goes through the steps by which one finds out why the
/// mesh does not run, and fails if anything is wrong.
pub(crate) async fn verify(
    applier: &mut Applier,
    wanted: &[Wanted<'_>],
    namespace: &str,
) -> anyhow::Result<()> {
    let mut bad = 0;
    let mut mends = Vec::new();
    for wanted in wanted {
        let lacking = faults(applier, wanted.parts).await?;
        if lacking > 0 {
            bad += lacking;
            mends.push(format!("`{}`", wanted.again));
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
    let (failed, mends) = (failed.join(", "), mends.join(" and "));
    match (bad, failed.is_empty()) {
        (0, true) => {
            output::line("✔ Istio is installed and verified successfully");
            Ok(())
        }
        (0, false) => bail!("everything is there, but it does not work: see step {failed}"),
        (_, true) => {
            bail!("{bad} objects of the installation are missing or not ready; {mends} mends it")
        }
        (_, false) => bail!(
            "{bad} objects of the installation are missing or not ready; see step {failed} for the cause, or let {mends} mend it"
        ),
    }
}

/// Says of each object whether it is there and ready, and how many are not.
async fn faults(applier: &mut Applier, parts: &[Part]) -> anyhow::Result<usize> {
    let mut bad = 0;
    for object in parts.iter().flat_map(|part| &part.objects) {
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
    Ok(bad)
}
