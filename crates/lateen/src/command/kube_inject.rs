//! `lateen kube-inject`: the webhook's work on a file, without a cluster.

use std::{io::Read, path::PathBuf};

use anyhow::Context;
use clap::Args;

use crate::output;

/// Add the sidecar to the workloads of a YAML file.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kubectl apply -f <(lateen kube-inject -f bookinfo.yaml)\n  lateen kube-inject -f - < bookinfo.yaml"
)]
pub(crate) struct KubeInject {
    /// The file with the workloads; `-` reads standard input.
    #[arg(short, long, value_name = "FILE")]
    filename: PathBuf,
    /// Where the result goes instead of standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl KubeInject {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let name = self.filename.display();
        let mut text = String::new();
        if self.filename.as_os_str() == "-" {
            std::io::stdin()
                .read_to_string(&mut text)
                .context("cannot read standard input")?;
        } else {
            text = std::fs::read_to_string(&self.filename)
                .with_context(|| format!("cannot read {name}"))?;
        }
        let injected = lateen_injector::kube_inject(&text, &lateen_injector::Params::default())
            .with_context(|| format!("cannot inject {name}"))?;
        match &self.output {
            Some(path) => std::fs::write(path, injected)
                .with_context(|| format!("cannot write {}", path.display())),
            None => {
                output::print(injected);
                Ok(())
            }
        }
    }
}
