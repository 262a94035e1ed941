//! `lateen x precheck`: whether a cluster can have the mesh, before anything is installed.

mod policies;

use anyhow::{Context, bail};
use clap::Args;
use k8s_openapi::api::{
    admissionregistration::v1::{
        MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
    },
    core::v1::Service,
};
use kube::{Api, Client, ResourceExt, api::ListParams, core::TypeMeta};
use lateen_galley::analyze::{Settings, analyze};
use lateen_install::KINDS;
use lateen_registry::Written;

use super::{
    install::{AddonArgs, Plan, may_install},
    layers::LayerArgs,
};
use crate::{apply::Applier, cli::Global, client, output};

pub(crate) use policies::not_enforced;

/// The first minor version of Kubernetes 1 that has every kind that an installation makes.
const LEAST_MINOR: u32 = 23;

/// Check whether the mesh can be installed or upgraded.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  lateen x precheck\n  lateen x precheck --set revision=canary")]
pub(crate) struct Precheck {
    #[command(flatten)]
    layers: LayerArgs,
    /// The version that runs now; nothing that later versions changed depends on it yet.
    #[arg(long, hide = true)]
    from_version: Option<String>,
}

impl Precheck {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let installation = self.layers.installation()?;
        let parts = lateen_install::parts(&installation)?;
        let client = client::connect(global).await?;
        let mut applier = Applier::new(client.clone());
        let mut faults = Vec::new();
        faults.extend(of_version(&client).await?);
        faults.extend(of_kinds(&mut applier).await);
        if let Err(error) = may_install(&client).await {
            faults.push(format!("[IST0141] {error:#}"));
        }
        faults.extend(of_webhooks(&client).await?);
        faults.extend(of_gateway_api(&mut applier).await);
        faults.extend(not_enforced(&mut applier).await?);
        // What cannot be read is among the faults already.
        if faults.is_empty()
            && let Err(error) = Plan::of(
                &mut applier,
                &installation,
                &parts,
                &AddonArgs::default(),
                false,
            )
            .await
        {
            faults.push(format!("{error:#}"));
        }
        if faults.is_empty() {
            output::line(
                "✔ No issues found when checking the cluster. Istio is safe to install or upgrade!",
            );
            return Ok(());
        }
        for fault in &faults {
            output::line(format_args!("✘ {fault}"));
        }
        bail!("the cluster has {} issues", faults.len())
    }
}

async fn of_version(client: &Client) -> anyhow::Result<Option<String>> {
    let version = client.apiserver_version().await;
    let version = version.context("the API server does not say its version")?;
    // Some platforms write `27+`.
    let minor: String = version
        .minor
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    let is_old = version.major == "1" && minor.parse().is_ok_and(|minor: u32| minor < LEAST_MINOR);
    Ok(is_old.then(|| {
        format!(
            "[IST0142] the API server is Kubernetes {}; 1.{LEAST_MINOR} or newer is needed: upgrade it",
            version.git_version
        )
    }))
}

async fn of_kinds(applier: &mut Applier) -> Vec<String> {
    let mut faults = Vec::new();
    for (api_version, kind) in KINDS {
        let types = TypeMeta {
            api_version: (*api_version).to_owned(),
            kind: (*kind).to_owned(),
        };
        if let Err(error) = applier.knows(&types).await {
            faults.push(format!("{api_version}: {error:#}"));
        }
    }
    faults
}

/// Definitions of the Gateway API of which no version is read. What may not be read is among the
/// faults already.
async fn of_gateway_api(applier: &mut Applier) -> Vec<String> {
    let definition = TypeMeta {
        api_version: "apiextensions.k8s.io/v1".to_owned(),
        kind: "CustomResourceDefinition".to_owned(),
    };
    let found = applier.list(&definition, "").await.unwrap_or_default();
    let written = found.iter().filter_map(|it| serde_json::to_value(it).ok());
    let written: Vec<_> = written.map(Written::stored).collect();
    let settings = Settings {
        only: vec!["k8sgateway.CRDVersionAnalyzer".to_owned()],
        ..Settings::default()
    };
    let messages = analyze(&written, &settings).into_iter();
    let in_words = messages.map(|message| format!("[{}] {}", message.code, message.text));
    in_words.collect()
}

/// A webhook whose Service is gone refuses everything that it should judge.
async fn of_webhooks(client: &Client) -> anyhow::Result<Vec<String>> {
    let mut asked: Vec<(String, WebhookClientConfig)> = Vec::new();
    let all = ListParams::default();
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    for config in mutating.list(&all).await?.items {
        let name = format!("MutatingWebhookConfiguration {}", config.name_any());
        let hooks = config.webhooks.into_iter().flatten();
        asked.extend(hooks.map(|hook| (name.clone(), hook.client_config)));
    }
    let validating: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    for config in validating.list(&all).await?.items {
        let name = format!("ValidatingWebhookConfiguration {}", config.name_any());
        let hooks = config.webhooks.into_iter().flatten();
        asked.extend(hooks.map(|hook| (name.clone(), hook.client_config)));
    }
    let mut faults = Vec::new();
    for (name, config) in asked {
        let Some(service) = config.service else {
            continue;
        };
        let services: Api<Service> = Api::namespaced(client.clone(), &service.namespace);
        if services.get_opt(&service.name).await?.is_none() {
            let fault = format!(
                "{name} asks Service {}/{}, which is not there: whatever it should judge is refused; install what it belongs to, or delete it",
                service.namespace, service.name
            );
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
    }
    Ok(faults)
}
