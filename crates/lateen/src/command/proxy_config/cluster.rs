//! `proxy-config cluster`.

use clap::Args;
use serde_json::Value;

use super::{Target, origin, text};
use crate::{cli::Global, table::Table};

/// The clusters of a proxy.
#[derive(Debug, Args)]
pub(super) struct Cluster {
    #[command(flatten)]
    target: Target,
    /// Only clusters of this service.
    #[arg(long)]
    fqdn: Option<String>,
    /// Only clusters of this port.
    #[arg(long)]
    port: Option<u16>,
    /// Only clusters of this subset.
    #[arg(long)]
    subset: Option<String>,
    /// Only clusters of this direction: `inbound` or `outbound`.
    #[arg(long)]
    direction: Option<String>,
}

/// A cluster's name taken apart: `outbound|9080|v1|reviews.default.svc.cluster.local`.
struct Name<'a> {
    direction: &'a str,
    port: &'a str,
    subset: &'a str,
    fqdn: &'a str,
}

impl<'a> Name<'a> {
    fn parse(name: &'a str) -> Name<'a> {
        match name.split('|').collect::<Vec<_>>()[..] {
            [direction, port, subset, fqdn] => Name {
                direction,
                port,
                subset,
                fqdn,
            },
            _ => Name {
                direction: "-",
                port: "-",
                subset: "-",
                fqdn: name,
            },
        }
    }
}

impl Cluster {
    pub(super) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let mut clusters = self
            .target
            .resources(global, "ClustersConfigDump", "cluster")
            .await?;
        clusters.retain(|cluster| self.wants(&Name::parse(text(cluster, "name"))));
        let mut table = Table::new([
            "SERVICE FQDN",
            "PORT",
            "SUBSET",
            "DIRECTION",
            "TYPE",
            "DESTINATION RULE",
        ]);
        for cluster in &clusters {
            let name = Name::parse(text(cluster, "name"));
            let cell = |part: &str| {
                if part.is_empty() {
                    "-".to_owned()
                } else {
                    part.to_owned()
                }
            };
            table.row([
                name.fqdn.to_owned(),
                cell(name.port),
                cell(name.subset),
                cell(name.direction),
                kind(cluster),
                origin(cluster),
            ]);
        }
        table.sort();
        self.target.print(table, clusters)
    }

    fn wants(&self, name: &Name<'_>) -> bool {
        let is = |filter: &Option<String>, part: &str| filter.as_deref().is_none_or(|f| f == part);
        is(&self.fqdn, name.fqdn)
            && is(&self.subset, name.subset)
            && is(&self.direction, name.direction)
            && self.port.is_none_or(|port| port.to_string() == name.port)
    }
}

fn kind(cluster: &Value) -> String {
    text(cluster, "type").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        let name = Name::parse("outbound|9080|v1|reviews.default.svc.cluster.local");
        assert_eq!(
            (name.port, name.subset, name.direction),
            ("9080", "v1", "outbound")
        );
        assert_eq!(Name::parse("BlackHoleCluster").fqdn, "BlackHoleCluster");
    }
}
