//! `lateen x precheck`: whether a cluster can have the mesh, before anything is installed.

mod policies;

use std::collections::BTreeSet;

use anyhow::{Context, bail};
use clap::Args;
use k8s_openapi::api::{
    admissionregistration::v1::{
        MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
    },
    core::v1::Service,
};
use kube::{Api, Client, ResourceExt, api::ListParams};
use lateen_galley::analyze::{Code, Level, Message, Settings, analyze, untold_changes};
use serde_json::{Value, json};

use super::{
    analyze::{Output, Threshold, line, mesh_of_map, of_cluster},
    install::{AddonArgs, Goal, Plan},
    layers::LayerArgs,
};
use crate::{
    apply::{Applier, Named},
    cli::Global,
    client,
    output::{self, Format},
};

pub(crate) use policies::not_enforced;

/// The first minor version of Kubernetes 1 that has every kind that an installation makes.
const LEAST_MINOR: u32 = 23;

/// Check whether the mesh can be installed or upgraded.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen x precheck\n  lateen x precheck --set revision=canary\n  lateen x precheck --from-version 1.20     What an earlier Istio did otherwise, too\n  lateen x precheck -o json --output-threshold Warning"
)]
pub(crate) struct Precheck {
    #[command(flatten)]
    layers: LayerArgs,
    /// The version of Istio that runs now, `1.20`: objects that do something else under this one are named.
    #[arg(long, value_name = "VERSION", value_parser = minor)]
    from_version: Option<u32>,
    /// Leave out the cluster and its control plane; only what is asked by --from-version is looked at.
    #[arg(long = "skip-controlplane", requires = "from_version")]
    skip_controlplane: bool,
    /// The level from which on messages are reported.
    #[arg(long, value_enum, default_value_t = Threshold::Info, ignore_case = true)]
    output_threshold: Threshold,
    /// How to write messages.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// The 20 of `1.20` or `1.20.3`.
fn minor(text: &str) -> Result<u32, String> {
    let rest = text.strip_prefix("1.");
    let minor = rest.and_then(|rest| rest.split('.').next()?.parse().ok());
    minor.ok_or_else(|| format!("{text:?} is no version of Istio; write it as 1.20"))
}

/// What was found.
#[derive(Debug, Default)]
struct Found {
    /// What has no code.
    faults: Vec<String>,
    messages: Vec<Message>,
}

impl Precheck {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let mut found = Found::default();
        if !self.skip_controlplane {
            self.of_cluster(global, &mut found).await?;
        }
        self.of_objects(global, &mut found).await?;
        self.print(&found)?;
        let messages = found.messages.iter();
        let bad = messages.filter(|message| message.code.level() >= Level::Warning);
        match found.faults.len() + bad.count() {
            0 => Ok(()),
            1 => bail!("the cluster has 1 issue"),
            count => bail!("the cluster has {count} issues"),
        }
    }

    /// Whether an installation would go through.
    async fn of_cluster(&self, global: &Global, found: &mut Found) -> anyhow::Result<()> {
        let installation = self.layers.installation(global)?;
        let goal = Goal::of_mesh(installation)?;
        let client = client::connect(global).await?;
        let mut applier = Applier::new(client.clone());
        found.messages.extend(of_version(&client).await?);
        let Found { faults, messages } = found;
        faults.extend(of_kinds(&mut applier, &goal).await?);
        let rights = goal.rights(&mut applier).await?;
        if let Err(error) = rights.check(&client, "installing").await {
            let code = Code::InsufficientPermissions;
            messages.push(Message::of_cluster(code, format!("{error:#}")));
        }
        faults.extend(of_webhooks(&client).await?);
        faults.extend(not_enforced(&mut applier).await?);
        // What cannot be read is among the faults already.
        if faults.is_empty()
            && messages.is_empty()
            && let Err(error) = Plan::of(&mut applier, &goal, &AddonArgs::default(), false).await
        {
            faults.push(format!("{error:#}"));
        }
        Ok(())
    }

    /// What the cluster's objects depend on.
    async fn of_objects(&self, global: &Global, found: &mut Found) -> anyhow::Result<()> {
        let read = of_cluster(global)
            .await
            .context("cannot read the cluster")?;
        let mut only = Vec::new();
        if !self.skip_controlplane {
            only.extend(OF_DEFINITIONS);
            only.push("annotations.AlphaAnalyzer");
        }
        if self.from_version.is_some() {
            only.push("upgrade.CompatibilityAnalyzer");
        }
        let mut settings = Settings {
            root_namespace: global.istio_namespace.clone(),
            only: only.into_iter().map(str::to_owned).collect(),
            from_minor: self.from_version,
            ..Settings::default()
        };
        mesh_of_map(&read.objects, "", global, &mut settings)?;
        let messages = analyze(&read.objects, &settings);
        found.messages.extend(without_repetition(messages));
        for kind in &read.unread {
            let changes = self.from_version.map(|from| untold_changes(from, kind));
            let told = changes.into_iter().flatten().map(|change| {
                let what = format!(
                    "{change}; whether it concerns this cluster cannot be told, as you may not list its \
                     objects of kind {kind}"
                );
                Message::of_cluster(Code::UnknownUpgradeCompatibility, what)
            });
            found.messages.extend(told);
        }
        Ok(())
    }

    fn print(&self, found: &Found) -> anyhow::Result<()> {
        let least = self.output_threshold.level();
        let all = found.messages.iter();
        let messages: Vec<_> = all.filter(|of| of.code.level() >= least).collect();
        let json = || {
            let faults = found.faults.iter();
            let faults = faults.map(|fault| json!({"level": "Error", "message": fault}));
            faults
                .chain(messages.iter().map(|message| message.to_json()))
                .collect()
        };
        match self.output {
            Output::Json => output::structured(&Value::Array(json()), Format::Json)?,
            Output::Yaml => output::structured(&Value::Array(json()), Format::Yaml)?,
            Output::Log => {
                let in_color = output::has_colors();
                for fault in &found.faults {
                    output::line(format_args!("✘ {fault}"));
                }
                for message in &messages {
                    output::line(line(message, in_color));
                }
                if found.faults.is_empty() && messages.is_empty() {
                    output::line(
                        "✔ No issues found when checking the cluster. Istio is safe to install or upgrade!",
                    );
                }
            }
        }
        Ok(())
    }
}

/// Analysers of the Gateway API's definitions.
const OF_DEFINITIONS: [&str; 2] = [
    "k8sgateway.ServedVersionAnalyzer",
    "k8sgateway.CRDVersionAnalyzer",
];

/// A definition that serves nothing that is read is too old as well, which need not be said.
fn without_repetition(messages: Vec<Message>) -> Vec<Message> {
    let unread: BTreeSet<String> = messages
        .iter()
        .filter(|message| message.code == Code::UnsupportedGatewayAPIVersion)
        .map(|message| message.name.clone())
        .collect();
    let is_repeated = |message: &Message| {
        message.code == Code::GatewayAPICRDVersionBelowMinimum && unread.contains(&message.name)
    };
    let all = messages.into_iter();
    all.filter(|message| !is_repeated(message)).collect()
}

async fn of_version(client: &Client) -> anyhow::Result<Option<Message>> {
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
        let what = format!(
            "the API server is Kubernetes {}; 1.{LEAST_MINOR} or newer is needed: upgrade it",
            version.git_version
        );
        Message::of_cluster(Code::UnsupportedKubernetesVersion, what)
    }))
}

/// Kinds of what would be installed; not every cluster has DaemonSets, or networks that pods name.
async fn of_kinds(applier: &mut Applier, goal: &Goal) -> anyhow::Result<Vec<String>> {
    let mut kinds = Vec::new();
    for object in goal.objects() {
        let kind = Named::of(object)?.kind;
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let mut faults = Vec::new();
    for kind in kinds {
        if applier.known(&kind).await?.is_none() {
            faults.push(format!(
                "{}: the API server does not know {}",
                kind.api_version, kind.kind
            ));
        }
    }
    Ok(faults)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_istio() {
        for (text, expect) in [
            ("1.20", Some(20)),
            ("1.6.14", Some(6)),
            ("2.1", None),
            ("1", None),
            ("1.x", None),
            ("latest", None),
        ] {
            assert_eq!(minor(text).ok(), expect, "{text}");
        }
    }

    #[test]
    fn definitions_are_named_once() {
        let message = |code, name: &str| Message {
            name: name.to_owned(),
            ..Message::of_cluster(code, String::new())
        };
        let (unread, old) = (
            Code::UnsupportedGatewayAPIVersion,
            Code::GatewayAPICRDVersionBelowMinimum,
        );
        let all = vec![message(unread, "a"), message(old, "a"), message(old, "b")];
        let left = without_repetition(all);
        let left: Vec<_> = left.iter().map(|of| (of.code, of.name.as_str())).collect();
        assert_eq!(left, [(unread, "a"), (old, "b")]);
    }
}
