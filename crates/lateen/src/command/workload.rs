//! `lateen x workload`: groups of workloads outside of the cluster, and what their machines need.

mod entry;

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use lateen_api::kinds::WORKLOAD_GROUP;
use serde_json::{Value, json};

use super::{manifest::yaml, register::pair};
use crate::{cli::Global, output};

/// Bring workloads outside of the cluster into the mesh.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen experimental workload group create --name legacy --serviceAccount legacy | kubectl apply -f -\n  lateen experimental workload entry configure -f group.yaml -o machine --internalIP 10.1.2.3 --autoregister"
)]
pub(crate) struct Workload {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Groups of workloads
    #[command(
        arg_required_else_help = true,
        after_help = "Example:\n  lateen experimental workload group create --name legacy"
    )]
    Group {
        #[command(subcommand)]
        what: Group,
    },
    /// Single workloads
    #[command(
        arg_required_else_help = true,
        after_help = "Example:\n  lateen experimental workload entry configure -f group.yaml -o machine"
    )]
    Entry {
        #[command(subcommand)]
        what: Entry,
    },
}

#[derive(Debug, Subcommand)]
enum Group {
    /// Write a WorkloadGroup
    #[command(
        after_help = "Example:\n  lateen experimental workload group create --name legacy -n shop --labels app=legacy --ports http=8080 --serviceAccount legacy"
    )]
    Create(Create),
}

#[derive(Debug, Subcommand)]
enum Entry {
    /// Write the files that a machine needs to join the mesh
    #[command(
        after_help = "Examples:\n  lateen experimental workload entry configure -f group.yaml -o machine --internalIP 10.1.2.3 --autoregister\n  lateen experimental workload entry configure --name legacy -n shop -o machine --ingressIP 203.0.113.7"
    )]
    Configure(entry::Configure),
}

/// A group in the making.
#[derive(Debug, Args)]
struct Create {
    /// The group's name.
    #[arg(long)]
    name: String,
    /// Labels of its workloads, `key=value`.
    #[arg(short, long, value_delimiter = ',', value_parser = pair)]
    labels: Vec<(String, String)>,
    /// Annotations of their entries, `key=value`.
    #[arg(short, long, value_delimiter = ',', value_parser = pair)]
    annotations: Vec<(String, String)>,
    /// Their ports, `name=number`.
    #[arg(short, long, value_delimiter = ',', value_parser = port)]
    ports: Vec<(String, u16)>,
    /// The account as which they prove themselves.
    #[arg(short, long = "serviceAccount", default_value = "default")]
    service_account: String,
}

fn port(text: &str) -> Result<(String, u16), String> {
    let (name, number) = pair(text)?;
    let number = number.parse().ok().filter(|number| *number > 0);
    let number = number.ok_or_else(|| format!("{text:?} is not name=number"))?;
    Ok((name, number))
}

impl Workload {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        match &self.what {
            What::Group {
                what: Group::Create(create),
            } => create.run(global),
            What::Entry {
                what: Entry::Configure(configure),
            } => configure.run(global).await,
        }
    }
}

impl Create {
    fn run(&self, global: &Global) -> anyhow::Result<()> {
        let group = self.group(&global.namespace);
        let faults = lateen_galley::validate(&group);
        if !faults.is_empty() {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            anyhow::bail!(
                "this would be no valid WorkloadGroup: {}",
                faults.join("; ")
            );
        }
        output::print(yaml(&[group])?.trim_end_matches("---\n"));
        Ok(())
    }

    fn group(&self, namespace: &str) -> Value {
        let map = |pairs: &[(String, String)]| -> BTreeMap<String, String> {
            pairs.iter().cloned().collect()
        };
        let ports: BTreeMap<&str, u16> = self
            .ports
            .iter()
            .map(|(name, number)| (name.as_str(), *number))
            .collect();
        let mut template = json!({"serviceAccount": self.service_account});
        if !ports.is_empty() {
            template["ports"] = json!(ports);
        }
        let mut metadata = json!({});
        for (field, pairs) in [("annotations", &self.annotations), ("labels", &self.labels)] {
            if !pairs.is_empty() {
                metadata[field] = json!(map(pairs));
            }
        }
        json!({
            "apiVersion": WORKLOAD_GROUP.api_version(), "kind": WORKLOAD_GROUP.kind,
            "metadata": {"name": self.name, "namespace": namespace},
            "spec": {"metadata": metadata, "template": template},
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        create: Create,
    }

    #[test]
    fn groups_are_as_the_webhook_wants_them() {
        let flags = [
            "create",
            "--name",
            "legacy",
            "--labels",
            "app=legacy,version=v1",
            "--ports",
            "http=8080,grpc=9000",
            "--serviceAccount",
            "old",
        ];
        let create = Cli::try_parse_from(flags).expect("flags").create;
        let group = create.group("shop");
        assert!(lateen_galley::validate(&group).is_empty(), "{group}");
        let expect = json!({
            "metadata": {"labels": {"app": "legacy", "version": "v1"}},
            "template": {"serviceAccount": "old", "ports": {"grpc": 9000, "http": 8080}},
        });
        assert_eq!(group["spec"], expect);
        assert!(port("http").is_err() && port("http=0").is_err() && port("=1").is_err());
    }
}
