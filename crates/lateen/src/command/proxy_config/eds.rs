//! `proxy-config eds`: endpoints as they were sent, while `endpoint` shows what became of them.

use clap::Args;
use serde_json::Value;

use super::cluster::Name;
use super::dump::{Dump, ENDPOINTS};
use super::endpoint::{Filter, Host};
use super::{DUMP_WITH_ENDPOINTS, Target, list, print, text};
use crate::{cli::Global, output::Format, table::Table};

/// The endpoints of a proxy as the control plane sent them.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen proxy-config eds deploy/productpage-v1 --port 9080\n  \
                        lateen proxy-config eds --file config_dump.json -o json"
)]
pub(super) struct Eds {
    #[command(flatten)]
    target: Target,
    /// How to write the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    filter: Filter,
}

impl Eds {
    pub(super) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let dump = self.target.dump(global, DUMP_WITH_ENDPOINTS).await?;
        if !dump.has(ENDPOINTS) {
            anyhow::bail!(
                "the dump of {} has no endpoints: make it with `config_dump?include_eds`",
                self.target.source()
            );
        }
        let all = select(&dump, &self.filter);
        let all: Vec<&Value> = all.iter().collect();
        print(self.output, &table(&all), ENDPOINTS.message, &all)
    }
}

/// The clusters that have endpoints which are wanted, with these alone.
pub(super) fn select(dump: &Dump, filter: &Filter) -> Vec<Value> {
    let mut all: Vec<Value> = dump.resources(ENDPOINTS).into_iter().cloned().collect();
    for cluster in &mut all {
        let name = cluster_name(cluster).to_owned();
        let places = cluster["endpoints"].as_array_mut();
        for place in places.into_iter().flatten() {
            if let Some(hosts) = place["lb_endpoints"].as_array_mut() {
                hosts.retain(|host| filter.wants(&Host::sent(host, &name)));
            }
        }
    }
    all.retain(|cluster| {
        list(cluster, "endpoints").any(|place| list(place, "lb_endpoints").next().is_some())
    });
    all.sort_by(|one, other| Name::parse(cluster_name(one)).cmp(&Name::parse(cluster_name(other))));
    all
}

pub(super) fn table(clusters: &[&Value]) -> Table {
    let mut table = Table::new(["NAME", "STATUS", "LOCALITY", "CLUSTER"]);
    for cluster in clusters {
        let name = cluster_name(cluster);
        for place in list(cluster, "endpoints") {
            for host in list(place, "lb_endpoints") {
                let host = Host::sent(host, name);
                table.row([
                    host.endpoint(),
                    host.status.to_owned(),
                    locality(&place["locality"]),
                    name.to_owned(),
                ]);
            }
        }
    }
    table
}

fn cluster_name(cluster: &Value) -> &str {
    text(cluster, "cluster_name")
}

fn locality(of: &Value) -> String {
    let parts = ["region", "zone", "sub_zone"].map(|part| text(of, part));
    let parts: Vec<&str> = parts
        .into_iter()
        .take_while(|part| !part.is_empty())
        .collect();
    parts.join("/")
}
