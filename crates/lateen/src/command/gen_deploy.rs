//! `lateen gen-deploy`: the objects of an installation by a file of Helm's values, as `istioctl` 1.0
//! wrote them from its charts.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use lateen_install::{Installation, Layers, manifests};
use serde_json::{Value, json};

use super::{layers::read, manifest::yaml};
use crate::output;

/// Write the objects of an installation, by a file of Helm's values.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen gen-deploy | kubectl apply -f -\n  lateen gen-deploy --values values.yaml -s profile=demo"
)]
pub(crate) struct GenDeploy {
    /// A file of Helm's values; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    values: Option<PathBuf>,
    /// A setting, such as profile=demo. It wins over the file.
    #[arg(short = 's', long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
    /// Not supported: the charts are part of the program.
    #[arg(long = "helm-chart-dir", value_name = "FOLDER", hide = true)]
    charts: Option<PathBuf>,
}

impl GenDeploy {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        if let Some(charts) = &self.charts {
            bail!(
                "--helm-chart-dir {} is not supported: the charts are part of the program; leave the flag out",
                charts.display()
            );
        }
        let files = match &self.values {
            None => Vec::new(),
            Some(path) => {
                let name = path.display().to_string();
                vec![(name.clone(), operator(&name, &read(path)?)?)]
            }
        };
        let installation = Installation::of(&Layers {
            files,
            sets: self.sets.clone(),
            revision: None,
        })?;
        for warning in installation.warnings() {
            eprintln!("Warning: {warning}");
        }
        output::print(yaml(&manifests(&installation)?)?);
        Ok(())
    }
}

/// An IstioOperator with these values.
fn operator(name: &str, values: &str) -> anyhow::Result<String> {
    let values: Value =
        serde_yaml_ng::from_str(values).with_context(|| format!("{name} cannot be read"))?;
    if !values.is_object() && !values.is_null() {
        bail!("{name} holds no values: write fields, as in global.hub");
    }
    let document = json!({
        "apiVersion": "install.istio.io/v1alpha1", "kind": "IstioOperator",
        "spec": {"values": values},
    });
    Ok(serde_yaml_ng::to_string(&document)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_an_operators_file() {
        let of = |values: &str| {
            let text = operator("v.yaml", values)?;
            anyhow::Ok(Installation::of(&Layers {
                files: vec![("v.yaml".to_owned(), text)],
                ..Layers::default()
            })?)
        };
        let installation = of("global: {hub: example.com/h}").expect("values");
        let objects = manifests(&installation).expect("objects");
        let text = yaml(&objects).expect("YAML");
        assert!(text.contains("example.com/h/"), "{text}");
        assert!(of("").is_ok());
        let told = format!("{:#}", of("[a]").expect_err("no values"));
        assert!(told.contains("v.yaml holds no values"), "{told}");
        let told = format!("{:#}", of("globel: {hub: h}").expect_err("a typo"));
        assert!(told.contains("globel"), "{told}");
    }
}
