//! `--addon`: servers beside the mesh, which are installed with it and stay until they are named to
//! `lateen uninstall --addon`.

use std::collections::BTreeSet;

use anyhow::{Context, bail};
use clap::Args;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::{Api, Client, ResourceExt, api::ListParams};
use lateen_install::{Addon, Installation, Layers, OWNER, OWNER_NAMESPACE, Part, addon_parts};

use super::{Removal, owned};
use crate::apply::{Applier, Named};

/// Which addons.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct AddonArgs {
    /// A server beside the mesh: prometheus, grafana, tracing (Jaeger), zipkin, kiali or servicegraph.
    /// Can be said several times.
    #[arg(long = "addon", value_name = "NAME", value_parser = parse, help_heading = "Installation")]
    addons: Vec<Addon>,
}

/// For the command line.
pub(crate) fn parse(name: &str) -> Result<Addon, String> {
    Addon::named(name).map_err(|error| error.to_string())
}

impl AddonArgs {
    pub(crate) fn is_empty(&self) -> bool {
        self.addons.is_empty()
    }

    pub(crate) fn addons(&self) -> &[Addon] {
        &self.addons
    }

    /// The parts of an installation, and behind them those of the addons.
    pub(crate) fn parts(&self, installation: &Installation) -> anyhow::Result<Vec<Part>> {
        let mut parts = lateen_install::recorded_parts(installation)?;
        parts.extend(addon_parts(installation, &self.addons)?);
        Ok(parts)
    }

    /// An installation of nothing but these, for whoever names nothing else: the mesh in a namespace
    /// stays as it is.
    ///
    /// # Errors
    /// No mesh is there, beside which they could be.
    pub(super) async fn beside(
        &self,
        client: &Client,
        namespace: &str,
    ) -> anyhow::Result<(Installation, Vec<Part>)> {
        let meshes = meshes(client).await?;
        if !meshes.contains(namespace) {
            let elsewhere = match meshes.is_empty() {
                true => String::new(),
                false => {
                    let all: Vec<&str> = meshes.iter().map(String::as_str).collect();
                    format!(
                        ", or name the one there is with --istioNamespace ({})",
                        all.join(", ")
                    )
                }
            };
            let flags = self
                .addons
                .iter()
                .map(|addon| format!(" --addon {}", addon.name()));
            bail!(
                "there is no mesh in namespace {namespace}, and addons alone are installed beside one: install both with `lateen install --set profile=default{}`{elsewhere}",
                flags.collect::<String>()
            );
        }
        let installation = Installation::of(&Layers {
            sets: vec![format!("namespace={namespace}")],
            ..Layers::default()
        })?;
        let parts = addon_parts(&installation, &self.addons)?;
        Ok((installation, parts))
    }

    /// Objects of these addons that an earlier version of them made and this one does not.
    pub(super) async fn surplus(
        &self,
        applier: &mut Applier,
        installation: &Installation,
        wanted: impl Fn(&Removal) -> bool,
    ) -> anyhow::Result<Vec<Removal>> {
        let mut surplus = Vec::new();
        for addon in &self.addons {
            let selector = addon.selector(installation.namespace());
            let found = owned(applier, &selector).await?;
            surplus.extend(found.into_iter().filter(|removal| !wanted(removal)));
        }
        Ok(surplus)
    }

    /// Two addons may want the same Service, and the one that is there keeps it.
    pub(super) async fn refuse_clash(
        &self,
        applier: &mut Applier,
        installation: &Installation,
    ) -> anyhow::Result<()> {
        for addon in &self.addons {
            let objects = addon_parts(installation, &[*addon])?;
            for object in objects.iter().flat_map(|part| &part.objects) {
                let Some(held) = applier.get(object).await? else {
                    continue;
                };
                let labels = held.metadata.labels.unwrap_or_default();
                let owner = labels.get(OWNER).cloned().unwrap_or_default();
                let other = Addon::all().find(|other| other != addon && other.owner() == owner);
                if let Some(other) = other {
                    bail!(
                        "{} belongs to the addon {}, and {} wants it too: remove the one with `lateen uninstall --addon {}` first",
                        Named::of(object)?,
                        other.name(),
                        addon.name(),
                        other.name(),
                    );
                }
            }
        }
        Ok(())
    }

    /// Addons that are installed and not named, which stay as they are.
    pub(super) async fn others(
        &self,
        applier: &mut Applier,
        installation: &Installation,
    ) -> anyhow::Result<Vec<Addon>> {
        let mut others = Vec::new();
        for addon in Addon::all().filter(|addon| !self.addons.contains(addon)) {
            let selector = addon.selector(installation.namespace());
            if !owned(applier, &selector).await?.is_empty() {
                others.push(addon);
            }
        }
        Ok(others)
    }
}

/// Namespaces of the meshes, whoever installed them: where their injectors are.
async fn meshes(client: &Client) -> anyhow::Result<BTreeSet<String>> {
    let hooks: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let injectors = ListParams::default().labels("app=sidecar-injector");
    let found = hooks.list(&injectors).await;
    let mut meshes = BTreeSet::new();
    for injector in found.context("cannot list webhooks")? {
        // One whose control plane is elsewhere has no Service here.
        meshes.extend(injector.labels().get(OWNER_NAMESPACE).cloned());
        let hooks = injector.webhooks.into_iter().flatten();
        let services = hooks.filter_map(|hook| hook.client_config.service);
        meshes.extend(services.map(|service| service.namespace));
    }
    Ok(meshes)
}

/// Their names, for a sentence.
pub(super) fn names(addons: &[Addon]) -> String {
    let names: Vec<&str> = addons.iter().map(|addon| addon.name()).collect();
    names.join(", ")
}
