//! The flags that say what an installation is to be.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use lateen_install::{Installation, Layers};
use serde_json::Value;

use crate::discovery;

/// What an installation is to be: a profile, changed by files, changed by flags.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Installation")]
pub(crate) struct LayerArgs {
    /// An IstioOperator file; `-` is standard input. Later ones win.
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A setting, such as profile=demo, meshConfig.accessLogFile=/dev/stdout or
    /// values.pilot.autoscaleMin=2. It wins over files.
    #[arg(short = 's', long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
    /// Revision of the control plane; several can be in one cluster.
    #[arg(short = 'r', long)]
    pub(crate) revision: Option<String>,
    /// Not supported: the manifests are part of the program.
    #[arg(short = 'd', long = "manifests", visible_alias = "charts", hide = true)]
    manifests: Option<PathBuf>,
}

impl LayerArgs {
    /// Whether nothing is said.
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.sets.is_empty() && self.revision.is_none()
    }

    /// Works the installation out; what has no effect is told on standard error.
    pub(crate) fn installation(&self) -> anyhow::Result<Installation> {
        let installation = Installation::of(&self.layers()?)?;
        for warning in installation.warnings() {
            eprintln!("Warning: {warning}");
        }
        // One that it does not know ends the control plane, which is known too late in the cluster.
        if let Some(arguments) = installation.control_plane_arguments() {
            discovery::check_arguments(&arguments).map_err(|reason| {
                anyhow!("spec.values.pilot.extraContainerArgs: {reason}; take it out, or see `pilot-discovery discovery --help`")
            })?;
        }
        Ok(installation)
    }

    /// All layers in one IstioOperator document, for a profile that is named otherwise. Parts that
    /// are not supported are in it, too.
    pub(crate) fn document(&self, profile: Option<&str>) -> anyhow::Result<Value> {
        let mut layers = self.layers()?;
        if let Some(profile) = profile {
            layers.sets.insert(0, format!("profile={profile}"));
        }
        Ok(layers.document()?)
    }

    fn layers(&self) -> anyhow::Result<Layers> {
        if let Some(path) = &self.manifests {
            bail!(
                "--manifests {} is not supported: the manifests are part of the program; leave the flag out",
                path.display()
            );
        }
        let files = self.files.iter().map(|path| {
            let text = read(path)?;
            Ok((path.display().to_string(), text))
        });
        Ok(Layers {
            files: files.collect::<anyhow::Result<_>>()?,
            sets: self.sets.clone(),
            revision: self.revision.clone(),
        })
    }
}

/// A file, or standard input.
pub(crate) fn read(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        return std::io::read_to_string(std::io::stdin()).context("cannot read standard input");
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
