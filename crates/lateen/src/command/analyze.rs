//! `lateen analyze`: what is wrong with a cluster's objects, or with those of files.

mod cluster;
mod files;
mod suppress;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Parser, ValueEnum};
use lateen_galley::analyze::{ANALYZERS, Level, Message, Settings, analyze};
use lateen_registry::{MESH_CONFIG, Written};
use owo_colors::OwoColorize;
use serde_json::Value;

use crate::cli::Global;
use crate::output::{self, Format};

pub(super) use cluster::objects as of_cluster;
pub(crate) use cluster::{api, kinds};
pub(super) use files::documents;
use suppress::Suppression;

/// Analysis has found something, as `istioctl` tells scripts.
const FOUND_ISSUES: u8 = 79;
/// A file could not be read as objects.
const UNREADABLE: u8 = 65;

/// Say what is wrong with the cluster's objects, with those of files, or with both together.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen analyze                                   The cluster's objects of the namespace\n  lateen analyze -A                                Those of all namespaces\n  lateen analyze -n shop new.yaml                  The cluster as it would be with these files\n  lateen analyze --use-kube=false -R deploy/       Files alone\n  lateen analyze -S 'IST0102=Namespace shop' -A    All but that\n  lateen analyze -A --remote-contexts east,west    With the Services of other clusters\n\nExit status: 79 where a message is at or above --failure-threshold, 65 where a file cannot be read as objects."
)]
pub(crate) struct Analyze {
    /// Files, directories, or `-` for standard input; their objects take the place of the cluster's.
    files: Vec<PathBuf>,
    /// All namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Whether the cluster's objects take part.
    #[arg(short = 'k', long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    use_kube: bool,
    /// Directories with all that is below them.
    #[arg(short = 'R', long)]
    recursive: bool,
    /// A message that is not to be reported: `CODE=KIND NAME.NAMESPACE`, with `*` for anything.
    #[arg(short = 'S', long = "suppress", value_name = "CODE=RESOURCE")]
    suppress: Vec<Suppression>,
    /// Only list what is looked for.
    #[arg(short = 'L', long)]
    list_analyzers: bool,
    /// How to write messages.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// A file with the mesh's configuration, instead of the cluster's.
    #[arg(long = "meshConfigFile", value_name = "FILE")]
    mesh_config_file: Option<PathBuf>,
    /// The revision of the control plane whose objects are looked at.
    #[arg(long, default_value = "")]
    revision: String,
    /// Contexts of the kubeconfig by which the mesh's other clusters are reached: their Services are
    /// compared with those of this one.
    #[arg(long, value_delimiter = ',', value_name = "CONTEXT")]
    remote_contexts: Vec<String>,
    /// Leave out what cannot be read as objects, without a word.
    #[arg(long)]
    ignore_unknown: bool,
    /// The level from which on messages make the command fail.
    #[arg(long, value_enum, default_value_t = Threshold::Error, ignore_case = true)]
    failure_threshold: Threshold,
    /// The level from which on messages are reported.
    #[arg(long, value_enum, default_value_t = Threshold::Info, ignore_case = true)]
    output_threshold: Threshold,
    /// Colours, where a terminal reads.
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    color: bool,
    /// How long reading the cluster may take.
    #[arg(long, default_value = "30s", value_parser = super::wait::duration)]
    timeout: Duration,
}

/// The command with its defaults, for other commands.
#[derive(Debug, Parser)]
struct Whole {
    #[command(flatten)]
    analyze: Analyze,
}

/// How messages are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// A line each.
    #[default]
    Log,
    /// JSON for programs.
    Json,
    /// YAML for both.
    Yaml,
}

/// Levels as `istioctl` has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub(super) enum Threshold {
    Info,
    Warning,
    Error,
}

impl Threshold {
    pub(super) fn level(self) -> Level {
        match self {
            Threshold::Info => Level::Info,
            Threshold::Warning => Level::Warning,
            Threshold::Error => Level::Error,
        }
    }
}

/// What the command ends with, after it has said what there is to say.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Failed {
    text: String,
    /// The status of the process.
    pub(crate) status: u8,
}

impl Analyze {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        if self.list_analyzers {
            output::print(listed());
            return Ok(());
        }
        if self.files.is_empty() && !self.use_kube {
            bail!("nothing to look at: name files, or leave out --use-kube=false");
        }
        if !self.remote_contexts.is_empty() && !self.use_kube {
            bail!("--remote-contexts compares clusters; leave out --use-kube=false");
        }
        let (mut objects, mut settings) = self.of_cluster(global).await?;
        let (written, faults) = self.of_files(global)?;
        objects.extend(written);
        self.mesh_config(&objects, global, &mut settings)?;
        let messages = analyze(&objects, &settings);
        let reported: Vec<_> = messages
            .iter()
            .filter(|message| self.is_reported(message, global))
            .collect();
        self.print(&reported)?;
        self.verdict(&reported, &faults, global)
    }

    /// All that there is to say of a cluster, a line each.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) async fn whole(global: &Global) -> anyhow::Result<String> {
        let Whole { analyze: all } = Whole::parse_from(["analyze", "--all-namespaces"]);
        let (objects, mut settings) = all.of_cluster(global).await?;
        all.mesh_config(&objects, global, &mut settings)?;
        let lines = analyze(&objects, &settings).into_iter();
        Ok(lines.map(|message| format!("{message}\n")).collect())
    }

    async fn of_cluster(&self, global: &Global) -> anyhow::Result<(Vec<Written>, Settings)> {
        let settings = Settings {
            root_namespace: global.istio_namespace.clone(),
            revision: self.revision.clone(),
            ..Settings::default()
        };
        if !self.use_kube {
            return Ok((Vec::new(), settings));
        }
        let reading = tokio::time::timeout(self.timeout, cluster::objects(global));
        let read = reading
            .await
            .with_context(|| format!("the cluster was not read within {:?}", self.timeout))?
            .context("cannot read the cluster; --use-kube=false looks at files alone")?;
        for note in &read.notes {
            eprintln!("lateen: {note}");
        }
        let settings = Settings {
            cluster: global
                .context
                .clone()
                .unwrap_or_else(|| "this cluster".to_owned()),
            others: self.others(global).await?,
            ..settings
        };
        Ok((read.objects, settings))
    }

    /// The Services of the mesh's other clusters.
    async fn others(&self, global: &Global) -> anyhow::Result<Vec<(String, Arc<[Written]>)>> {
        let mut others = Vec::new();
        for context in &self.remote_contexts {
            let there = Global {
                context: Some(context.clone()),
                ..global.clone()
            };
            let reading = tokio::time::timeout(self.timeout, cluster::services(&there));
            let services = reading
                .await
                .with_context(|| format!("was not read within {:?}", self.timeout))
                .flatten()
                .with_context(|| format!("the cluster of --remote-contexts {context}"))?;
            others.push((context.clone(), services.into()));
        }
        Ok(others)
    }

    fn of_files(&self, global: &Global) -> anyhow::Result<(Vec<Written>, Vec<String>)> {
        let mut objects = Vec::new();
        let mut faults = Vec::new();
        for text in documents(&self.files, self.recursive)? {
            let (written, unreadable) = Written::read(&text);
            objects.extend(written);
            faults.extend(unreadable);
        }
        for object in &mut objects {
            files::place(&mut object.value, &global.namespace);
        }
        if self.ignore_unknown {
            faults.clear();
        }
        for fault in &faults {
            eprintln!("lateen: {fault}");
        }
        Ok((objects, faults))
    }

    /// From its file, else from the ConfigMap that has it.
    fn mesh_config(
        &self,
        objects: &[Written],
        global: &Global,
        settings: &mut Settings,
    ) -> anyhow::Result<()> {
        mesh_of_map(objects, &self.revision, global, settings)?;
        if let Some(path) = &self.mesh_config_file {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path).with_context(|| name.clone())?;
            settings.mesh = parse(&name, &text)?;
        }
        Ok(())
    }

    /// Objects of files are always meant; of the cluster's, those of the namespace.
    fn is_reported(&self, message: &Message, global: &Global) -> bool {
        let own = match message.kind.as_str() {
            "Namespace" => &message.name,
            _ => &message.namespace,
        };
        let is_meant = self.all_namespaces
            || !self.use_kube
            || message.reference.is_some()
            || own.is_empty()
            || *own == global.namespace;
        is_meant
            && message.code.level() >= self.output_threshold.level()
            && !self.suppress.iter().any(|rule| rule.is_for(message))
    }

    fn print(&self, messages: &[&Message]) -> anyhow::Result<()> {
        let all = || messages.iter().map(|message| message.to_json()).collect();
        match self.output {
            Output::Json => output::structured(&Value::Array(all()), Format::Json),
            Output::Yaml => output::structured(&Value::Array(all()), Format::Yaml),
            Output::Log => {
                let in_color = self.color && output::has_colors();
                for message in messages {
                    output::line(line(message, in_color));
                }
                Ok(())
            }
        }
    }

    fn verdict(
        &self,
        messages: &[&Message],
        faults: &[String],
        global: &Global,
    ) -> anyhow::Result<()> {
        let what = self.what(global);
        if !faults.is_empty() {
            let text = format!("{} documents cannot be read as objects", faults.len());
            return Err(Failed {
                text,
                status: UNREADABLE,
            }
            .into());
        }
        if messages.is_empty() {
            eprintln!("✔ No validation issues found when analyzing {what}.");
        }
        let fails = self.failure_threshold.level();
        if messages.iter().any(|message| message.code.level() >= fails) {
            let text = format!(
                "Analyzers found issues when analyzing {what}.\nSee \
                 https://istio.io/latest/docs/reference/config/analysis for more information about \
                 causes and resolutions."
            );
            return Err(Failed {
                text,
                status: FOUND_ISSUES,
            }
            .into());
        }
        Ok(())
    }

    /// What was looked at.
    fn what(&self, global: &Global) -> String {
        let names: Vec<_> = self
            .files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        match (self.use_kube, self.all_namespaces) {
            (false, _) => names.join(", "),
            (true, true) => "all namespaces".to_owned(),
            (true, false) => format!("namespace: {}", global.namespace),
        }
    }
}

/// The mesh's configuration and its networks, by the last of the ConfigMaps that have them.
pub(super) fn mesh_of_map(
    objects: &[Written],
    revision: &str,
    global: &Global,
    settings: &mut Settings,
) -> anyhow::Result<()> {
    let name = match revision {
        "" | "default" => MESH_CONFIG.to_owned(),
        revision => format!("{MESH_CONFIG}-{revision}"),
    };
    let is_map = |object: &&Written| {
        let meta = &object.value["metadata"];
        object.value["kind"] == "ConfigMap"
            && meta["name"] == *name
            && meta["namespace"] == *global.istio_namespace
    };
    let map = objects.iter().rev().find(is_map);
    let key = |key: &str| map.and_then(|map| map.value["data"][key].as_str());
    if let Some(text) = key("mesh") {
        settings.mesh = parse("the mesh's configuration in its ConfigMap", text)?;
    }
    if let Some(text) = key("meshNetworks") {
        settings.networks = parse("the mesh's networks in its ConfigMap", text)?;
    }
    Ok(())
}

fn parse(what: &str, text: &str) -> anyhow::Result<Value> {
    serde_yaml_ng::from_str(text).with_context(|| format!("cannot read {what}"))
}

fn listed() -> String {
    let each = ANALYZERS.iter().map(|analyzer| {
        let codes: Vec<_> = analyzer.codes.iter().map(ToString::to_string).collect();
        format!(
            "* {}:\n    {} ({})\n",
            analyzer.name,
            analyzer.about,
            codes.join(", ")
        )
    });
    each.collect()
}

/// With its level in colour.
pub(super) fn line(message: &Message, in_color: bool) -> String {
    let plain = message.to_string();
    let level = message.code.level();
    let Some(rest) = plain.strip_prefix(&level.to_string()).filter(|_| in_color) else {
        return plain;
    };
    match level {
        Level::Error => format!("{}{rest}", level.red()),
        Level::Warning => format!("{}{rest}", level.yellow()),
        Level::Info => format!("{}{rest}", level.green()),
    }
}

#[cfg(test)]
mod tests;
