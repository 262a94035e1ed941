//! The flags that say what an installation is to be.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use lateen_install::{Installation, Layers};
use serde_json::Value;

use crate::{cli::Global, discovery};

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
    /// What was installed before, with its place, below all of that.
    #[arg(skip)]
    recorded: Option<(String, String)>,
}

impl LayerArgs {
    /// Begins with what was installed before, as its record has it.
    pub(crate) fn begin_with(&mut self, recorded: (String, String)) {
        self.recorded = Some(recorded);
    }

    /// Whether nothing says what there should be, apart from single settings.
    pub(crate) fn says_no_profile(&self) -> bool {
        let names_profile = |set: &String| set.trim_start().starts_with("profile=");
        self.files.is_empty() && !self.sets.iter().any(names_profile)
    }

    /// Whether nothing is said.
    pub(crate) fn is_empty(&self) -> bool {
        self.names_at_most_a_revision() && self.revision.is_none()
    }

    /// Whether nothing but a revision is said, if that.
    pub(crate) fn names_at_most_a_revision(&self) -> bool {
        self.files.is_empty() && self.sets.is_empty() && self.recorded.is_none()
    }

    /// The command that brings about what these flags say, as a shell takes it.
    pub(crate) fn again(&self, global: &Global) -> String {
        let command = match self.recorded {
            Some(_) => "lateen upgrade",
            None => "lateen install",
        };
        let home = global.named_istio_namespace.as_ref();
        let home = home.map_or_else(String::new, |home| format!(" -i {}", quoted(home)));
        format!("{command}{home}{}", self.flags())
    }

    /// These flags, each behind a space.
    fn flags(&self) -> String {
        let files = self
            .files
            .iter()
            .map(|path| ("-f", path.display().to_string()));
        let sets = self.sets.iter().map(|set| ("--set", set.clone()));
        let revision = self
            .revision
            .iter()
            .map(|name| ("--revision", name.clone()));
        let all = files.chain(sets).chain(revision);
        all.map(|(flag, value)| format!(" {flag} {}", quoted(&value)))
            .collect()
    }

    /// Works the installation out, for the control plane's namespace of the cluster's flags; what has no
    /// effect is told on standard error.
    pub(crate) fn installation(&self, global: &Global) -> anyhow::Result<Installation> {
        let mut layers = self.layers()?;
        if let Some(home) = &global.named_istio_namespace {
            // A flag wins over files; what is set by its path wins over that.
            layers.sets.insert(0, format!("namespace={home}"));
        }
        let installation = Installation::of(&layers)?;
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
        refuse_manifests(self.manifests.as_deref())?;
        let files = self.files.iter().map(|path| {
            let text = read(path)?;
            Ok((path.display().to_string(), text))
        });
        let recorded = self.recorded.clone().map(Ok);
        Ok(Layers {
            files: recorded
                .into_iter()
                .chain(files)
                .collect::<anyhow::Result<_>>()?,
            sets: self.sets.clone(),
            revision: self.revision.clone(),
        })
    }
}

/// Charts of other programs say nothing of this one.
pub(super) fn refuse_manifests(path: Option<&Path>) -> anyhow::Result<()> {
    match path {
        None => Ok(()),
        Some(path) => bail!(
            "--manifests {} is not supported: the manifests are part of the program; leave the flag out",
            path.display()
        ),
    }
}

/// A word as a shell takes it for one.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// A file, or standard input.
pub(crate) fn read(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        return std::io::read_to_string(std::io::stdin()).context("cannot read standard input");
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        layers: LayerArgs,
    }

    #[test]
    fn flags_are_written_as_they_were_given() {
        let check = |flags: &[&str], want: &str| {
            let all = ["lateen"].iter().chain(flags);
            let layers = Cli::try_parse_from(all).expect("flags").layers;
            assert_eq!(layers.flags(), want);
        };
        check(&[], "");
        check(
            &[
                "-r",
                "canary",
                "--set=profile=minimal",
                "-f",
                "my mesh.yaml",
            ],
            " -f 'my mesh.yaml' --set profile=minimal --revision canary",
        );
        check(&["--set", "a[0]=it's"], r" --set 'a[0]=it'\''s'");
    }
}
