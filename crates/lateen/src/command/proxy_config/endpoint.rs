//! `proxy-config endpoint`.

use anyhow::Context;
use clap::Args;
use serde_json::Value;

use super::{Target, list, print, text};
use crate::{cli::Global, output::Format, table::Table};

/// The endpoints of a proxy's clusters, and how they are.
#[derive(Debug, Args)]
#[command(
    after_help = "A file for --file is made by `curl localhost:15000/clusters?format=json` beside the proxy.\n\n\
                  Examples:\n  \
                  lateen proxy-config endpoint deploy/productpage-v1 --port 9080\n  \
                  lateen proxy-config endpoint deploy/productpage-v1 --status unhealthy\n  \
                  lateen proxy-config endpoint --file clusters.json --cluster 'outbound|9080||ratings.default.svc.cluster.local' -o json"
)]
pub(super) struct Endpoint {
    #[command(flatten)]
    target: Target,
    /// How to write the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    filter: Filter,
}

/// Which endpoints.
#[derive(Clone, Debug, Default, Args)]
#[group(id = "endpoint_filter")]
pub(super) struct Filter {
    /// Only endpoints of this cluster.
    #[arg(long)]
    pub(super) cluster: Option<String>,
    /// Only endpoints with this address.
    #[arg(long)]
    pub(super) address: Option<String>,
    /// Only endpoints with this port.
    #[arg(long)]
    pub(super) port: Option<u64>,
    /// Only endpoints with this health: `healthy`, `unhealthy`, `draining`.
    #[arg(long)]
    pub(super) status: Option<String>,
}

/// An endpoint of a cluster.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Host<'a> {
    address: &'a str,
    port: u64,
    cluster: &'a str,
    pub(super) status: &'a str,
    outlier: &'static str,
}

/// The message that `/clusters?format=json` lists.
const MESSAGE: &str = "envoy.admin.v3.ClusterStatus";
const PATH: &str = "/clusters?format=json";

impl Endpoint {
    pub(super) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let answer = self.target.admin(global, PATH).await?;
        let answer: Value = serde_json::from_str(&answer).with_context(|| self.target.source())?;
        if answer["configs"].is_array() {
            anyhow::bail!(
                "{} is a config dump, which tells no health: make the file by \
                 `curl 'localhost:15000{PATH}'`, or use `proxy-config eds`",
                self.target.source()
            );
        }
        let all = select(&answer, &self.filter);
        let all: Vec<&Value> = all.iter().collect();
        print(self.output, &table(&all), MESSAGE, &all)
    }
}

/// The clusters that have endpoints which are wanted, with these alone.
pub(super) fn select(answer: &Value, filter: &Filter) -> Vec<Value> {
    let mut all: Vec<Value> = list(answer, "cluster_statuses").cloned().collect();
    for cluster in &mut all {
        let name = text(cluster, "name").to_owned();
        if let Some(hosts) = cluster["host_statuses"].as_array_mut() {
            hosts.retain(|host| filter.wants(&Host::of(host, &name)));
        }
    }
    all.retain(|cluster| list(cluster, "host_statuses").next().is_some());
    all
}

pub(super) fn table(clusters: &[&Value]) -> Table {
    let mut hosts: Vec<Host<'_>> = Vec::new();
    for cluster in clusters {
        let name = text(cluster, "name");
        hosts.extend(list(cluster, "host_statuses").map(|host| Host::of(host, name)));
    }
    hosts.sort();
    let mut table = Table::new(["ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER"]);
    for host in hosts {
        table.row([
            host.endpoint(),
            host.status.to_owned(),
            host.outlier.to_owned(),
            host.cluster.to_owned(),
        ]);
    }
    table
}

impl Filter {
    pub(super) fn wants(&self, host: &Host<'_>) -> bool {
        let is = |wanted: &Option<String>, own: &str| {
            wanted
                .as_ref()
                .is_none_or(|wanted| wanted.eq_ignore_ascii_case(own))
        };
        is(&self.cluster, host.cluster)
            && is(&self.address, host.address)
            && is(&self.status, host.status)
            && self.port.is_none_or(|port| port == host.port)
    }
}

impl<'a> Host<'a> {
    /// As `/clusters` tells it.
    fn of(host: &'a Value, cluster: &'a str) -> Host<'a> {
        let health = &host["health_status"];
        let ejected = health["failed_outlier_check"].as_bool().unwrap_or(false);
        let outlier = if ejected { "FAILED" } else { "OK" };
        let status = health["eds_health_status"].as_str();
        Host::at(
            &host["address"],
            cluster,
            status.unwrap_or("HEALTHY"),
            outlier,
        )
    }

    /// As the control plane sent it.
    pub(super) fn sent(host: &'a Value, cluster: &'a str) -> Host<'a> {
        let status = host["health_status"].as_str().unwrap_or("UNKNOWN");
        Host::at(&host["endpoint"]["address"], cluster, status, "OK")
    }

    fn at(
        address: &'a Value,
        cluster: &'a str,
        status: &'a str,
        outlier: &'static str,
    ) -> Host<'a> {
        let socket = &address["socket_address"];
        let internal = &address["envoy_internal_address"];
        let forms = [
            text(socket, "address"),
            text(&address["pipe"], "path"),
            text(internal, "server_listener_name"),
        ];
        let address = forms.into_iter().find(|form| !form.is_empty());
        Host {
            address: address.unwrap_or("unknown"),
            port: socket["port_value"].as_u64().unwrap_or_default(),
            cluster,
            status,
            outlier,
        }
    }

    pub(super) fn endpoint(&self) -> String {
        match self.port {
            0 if self.address.starts_with(['/', '.', '@']) => format!("unix://{}", self.address),
            0 => self.address.to_owned(),
            port if self.address.contains(':') => format!("[{}]:{port}", self.address),
            port => format!("{}:{port}", self.address),
        }
    }
}
