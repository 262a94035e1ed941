//! `proxy-config endpoint`.

use clap::Args;
use serde_json::Value;

use super::{Target, text};
use crate::{cli::Global, table::Table};

/// The endpoints of a proxy's clusters.
#[derive(Debug, Args)]
pub(super) struct Endpoint {
    #[command(flatten)]
    target: Target,
    /// Only endpoints of this cluster.
    #[arg(long)]
    cluster: Option<String>,
    /// Only endpoints with this address.
    #[arg(long)]
    address: Option<String>,
    /// Only endpoints with this port.
    #[arg(long)]
    port: Option<u64>,
    /// Only endpoints with this health: `healthy` or `unhealthy`.
    #[arg(long)]
    status: Option<String>,
}

impl Endpoint {
    pub(super) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let answer = self.target.admin(global, "/clusters?format=json").await?;
        let mut table = Table::new(["ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER"]);
        let mut found = Vec::new();
        for cluster in answer["cluster_statuses"].as_array().into_iter().flatten() {
            let name = text(cluster, "name");
            for host in cluster["host_statuses"].as_array().into_iter().flatten() {
                let row = Row::of(host, name);
                if self.wants(&row) {
                    found.push(host.clone());
                    table.row([
                        row.endpoint(),
                        row.status.to_owned(),
                        row.outlier.to_owned(),
                        name.to_owned(),
                    ]);
                }
            }
        }
        table.sort();
        self.target.print(table, found)
    }

    fn wants(&self, row: &Row<'_>) -> bool {
        self.cluster
            .as_deref()
            .is_none_or(|cluster| cluster == row.cluster)
            && self
                .address
                .as_deref()
                .is_none_or(|address| address == row.address)
            && self.port.is_none_or(|port| port == row.port)
            && self
                .status
                .as_deref()
                .is_none_or(|status| status.eq_ignore_ascii_case(row.status))
    }
}

struct Row<'a> {
    address: &'a str,
    port: u64,
    status: &'static str,
    outlier: &'static str,
    cluster: &'a str,
}

impl<'a> Row<'a> {
    fn of(host: &'a Value, cluster: &'a str) -> Row<'a> {
        let socket = &host["address"]["socket_address"];
        let health = &host["health_status"];
        let eds = health["eds_health_status"].as_str().unwrap_or("HEALTHY");
        let ejected = health["failed_outlier_check"].as_bool().unwrap_or(false);
        Row {
            address: socket["address"]
                .as_str()
                .unwrap_or_else(|| host["address"]["pipe"]["path"].as_str().unwrap_or_default()),
            port: socket["port_value"].as_u64().unwrap_or_default(),
            status: if eds == "HEALTHY" {
                "HEALTHY"
            } else {
                "UNHEALTHY"
            },
            outlier: if ejected { "FAILED" } else { "OK" },
            cluster,
        }
    }

    fn endpoint(&self) -> String {
        if self.port == 0 {
            return format!("unix://{}", self.address);
        }
        format!("{}:{}", self.address, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_becomes_a_row() {
        let host = serde_json::json!({
            "address": {"socket_address": {"address": "10.244.0.5", "port_value": 9080}},
            "health_status": {"eds_health_status": "HEALTHY", "failed_outlier_check": true}});
        let row = Row::of(&host, "c");
        assert_eq!(
            (row.endpoint().as_str(), row.status, row.outlier),
            ("10.244.0.5:9080", "HEALTHY", "FAILED")
        );
    }
}
