//! `lateen manifest chart`: Helm charts of this version.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use lateen_install::charts;

use crate::output;

/// Write the Helm charts.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen manifest chart -o charts\n  helm install istio-base charts/base -n istio-system --create-namespace\n  helm install istiod charts/istiod -n istio-system --wait\n  helm install istio-ingressgateway charts/gateway -n istio-system"
)]
pub(crate) struct Chart {
    /// Only these: base, istiod or gateway.
    #[arg(value_name = "CHART")]
    names: Vec<String>,
    /// A directory that the charts are written to, a folder each.
    #[arg(short, long, value_name = "DIRECTORY")]
    output: PathBuf,
}

impl Chart {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let mut charts = charts()?;
        let known: Vec<&str> = charts.iter().map(|chart| chart.name).collect();
        if let Some(name) = self.names.iter().find(|name| !known.contains(&&***name)) {
            bail!("there is no chart {name}; there are {}", known.join(", "));
        }
        charts
            .retain(|chart| self.names.is_empty() || self.names.iter().any(|it| it == chart.name));
        for chart in &charts {
            let folder = self.output.join(chart.name);
            for (path, text) in &chart.files {
                write(&folder.join(path), text)?;
            }
            output::line(folder.display());
        }
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
