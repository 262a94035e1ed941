//! `lateen manifest`: an installation as files.

mod chart;
pub(crate) mod diff;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use lateen_install::{Addon, Part, addon_parts};
use serde_json::Value;

use super::{
    install::{AddonArgs, parse_addon},
    layers::{LayerArgs, read},
    refused::Refused,
};
use crate::{
    apply::{self, Named},
    cli::Global,
    output,
};

/// Write and compare manifests.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen manifest generate --set profile=demo | kubectl apply -f -\n  lateen manifest generate -f mesh.yaml > all.yaml\n  lateen manifest addon prometheus grafana | kubectl apply -f -\n  lateen manifest diff before.yaml after.yaml"
)]
pub(crate) struct Manifest {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write the objects of an installation; `kubectl apply -f` takes them in one go
    Generate(Generate),
    /// Write the objects of servers beside the mesh: prometheus, grafana, tracing, zipkin, kiali,
    /// servicegraph
    Addon(AddonFiles),
    /// Write the Helm charts of this version
    Chart(chart::Chart),
    /// Show what differs between two files of manifests
    Diff {
        /// The one, a file or a directory.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// Not supported: settings for Helm out of an IstioOperator file
    #[command(
        hide = true,
        after_help = "Example:\n  lateen manifest chart -o charts     Instead"
    )]
    Translate(super::refused::Rest),
    /// Install, as `lateen install` does
    #[command(hide = true)]
    Install(super::install::Install),
}

/// Write the objects of an installation.
#[derive(Debug, Args)]
struct Generate {
    #[command(flatten)]
    layers: LayerArgs,
    #[command(flatten)]
    addons: AddonArgs,
    /// Only these components, such as Base, Pilot or IngressGateways.
    #[arg(
        long = "component",
        visible_alias = "filter",
        value_name = "NAME",
        value_delimiter = ','
    )]
    components: Vec<String>,
    /// Not supported: the manifests are the same for every cluster.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    cluster_specific: Option<bool>,
    /// A directory that the components are written to, a file each.
    #[arg(short, long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
}

/// Write the objects of addons, without those of the mesh.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen manifest addon prometheus grafana | kubectl apply -f -\n  lateen manifest addon -o samples/addons"
)]
struct AddonFiles {
    /// Which ones; all of them where they are written to a directory and none is named.
    #[arg(required_unless_present = "output", value_name = "NAME", value_parser = parse_addon)]
    names: Vec<Addon>,
    #[command(flatten)]
    layers: LayerArgs,
    /// A directory that the addons are written to, as NAME.yaml each.
    #[arg(short, long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
}

impl AddonFiles {
    fn run(&self, global: &Global) -> anyhow::Result<()> {
        let installation = self.layers.installation(global)?;
        let Some(directory) = &self.output else {
            return write_parts(&addon_parts(&installation, &self.names)?, None);
        };
        make(directory)?;
        let is_named = |addon: &Addon| self.names.is_empty() || self.names.contains(addon);
        // Two files may be of addons that exclude each other: they are not applied together.
        for addon in Addon::all().filter(is_named) {
            let objects = addon_parts(&installation, &[addon])?
                .into_iter()
                .flat_map(|part| part.objects);
            let objects: Vec<Value> = objects.collect();
            write(&directory.join(format!("{}.yaml", addon.name())), &objects)?;
        }
        Ok(())
    }
}

impl Manifest {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        match &self.command {
            Command::Generate(generate) => generate.run(global),
            Command::Addon(addon) => addon.run(global),
            Command::Chart(chart) => chart.run(),
            Command::Diff { first, second } => compare(first, second),
            Command::Translate(_) => Refused::Translate.fail(),
            Command::Install(install) => install.run(global).await,
        }
    }
}

impl Generate {
    fn run(&self, global: &Global) -> anyhow::Result<()> {
        if self.cluster_specific == Some(true) {
            bail!(
                "not supported: --cluster-specific: manifests are the same for every cluster, and `lateen x precheck` looks at the one that is meant; leave the flag out"
            );
        }
        let mut parts = self.addons.parts(&self.layers.installation(global)?)?;
        for name in &self.components {
            if !parts.iter().any(|part| part.component == name) {
                let known: Vec<&str> = parts.iter().map(|part| part.component).collect();
                bail!(
                    "the installation has no component {name}; it has {}",
                    known.join(", ")
                );
            }
        }
        parts.retain(|part| {
            self.components.is_empty() || self.components.iter().any(|of| of == part.component)
        });
        write_parts(&parts, self.output.as_deref())
    }
}

/// To standard output, or to a directory with a file for each part.
fn write_parts(parts: &[Part], directory: Option<&Path>) -> anyhow::Result<()> {
    let Some(directory) = directory else {
        for part in parts {
            output::print(yaml(&part.objects)?);
        }
        return Ok(());
    };
    make(directory)?;
    for (n, part) in parts.iter().enumerate() {
        // Files are applied in the order of their names.
        let title = part.title.to_lowercase().replace(' ', "-");
        write(&directory.join(format!("{n}-{title}.yaml")), &part.objects)?;
    }
    Ok(())
}

fn make(directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))
}

fn write(path: &Path, objects: &[Value]) -> anyhow::Result<()> {
    std::fs::write(path, yaml(objects)?).with_context(|| format!("cannot write {}", path.display()))
}

/// Objects as one file of documents.
pub(crate) fn yaml(objects: &[Value]) -> anyhow::Result<String> {
    let texts = objects.iter().map(lateen_yaml::to_string);
    let texts = texts.map(|text| Ok(format!("{}---\n", text?)));
    texts.collect()
}

/// Shows object by object what differs.
fn compare(first: &Path, second: &Path) -> anyhow::Result<()> {
    let (one, other) = (objects(first)?, objects(second)?);
    let named = |object: &Value| -> anyhow::Result<String> { Ok(Named::of(object)?.to_string()) };
    let mut names = Vec::new();
    for object in one.iter().chain(&other) {
        let name = named(object)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let find = |of: &[Value], name: &str| -> anyhow::Result<String> {
        let found = of.iter().find(|object| {
            let own = Named::of(object).map(|named| named.to_string());
            own.is_ok_and(|own| own == name)
        });
        Ok(found
            .map(lateen_yaml::to_string)
            .transpose()?
            .unwrap_or_default())
    };
    let mut differ = false;
    for name in names {
        let (before, after) = (find(&one, &name)?, find(&other, &name)?);
        if before == after {
            continue;
        }
        differ = true;
        let what = match (before.is_empty(), after.is_empty()) {
            (true, _) => "only in the second",
            (_, true) => "only in the first",
            _ => "differs",
        };
        output::line(format_args!("{name}: {what}"));
        if what == "differs" {
            output::print(diff::lines(&before, &after));
        }
    }
    if differ {
        bail!("the manifests differ");
    }
    output::line("Manifests are identical");
    Ok(())
}

/// The objects of a file, or of the YAML files of a directory in the order of their names.
fn objects(path: &Path) -> anyhow::Result<Vec<Value>> {
    let mut files = vec![path.to_owned()];
    if path.is_dir() {
        let entries =
            std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
        let entries = entries.map(|entry| Ok(entry?.path()));
        files = entries.collect::<anyhow::Result<Vec<_>>>()?;
        let is_yaml = |path: &Path| {
            path.extension()
                .is_some_and(|end| end == "yaml" || end == "yml")
        };
        files.retain(|path| is_yaml(path));
        files.sort();
    }
    let mut all = Vec::new();
    for file in files {
        let documents = apply::documents(&read(&file)?);
        all.extend(documents.with_context(|| format!("{} is no YAML", file.display()))?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Kubernetes refuses a variable whose value is a boolean or a number.
    #[test]
    fn texts_stay_texts_for_kubectl() {
        let texts = ["on", "yes", "n", "0644", "1_000"];
        let env = texts.map(|text| json!({"name": "A", "value": text}));
        let objects = [json!({"env": env, "on": true}), json!({"kind": "Pod"})];
        let written = yaml(&objects).expect("YAML");
        for text in texts {
            assert!(!written.contains(&format!("value: {text}\n")), "{written}");
        }
        assert!(!written.contains("\non: "), "{written}");
        assert_eq!(lateen_yaml::documents(&written).expect("YAML"), objects);
    }
}
