//! `proxy-config cluster`.

use clap::Args;
use serde_json::Value;

use super::dump::{CLUSTERS, Dump};
use super::{DUMP, Target, origin, print, text};
use crate::{cli::Global, output::Format, table::Table};

/// The clusters of a proxy.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
                  lateen proxy-config cluster deploy/reviews-v1\n  \
                  lateen proxy-config cluster deploy/reviews-v1 --port 9080 --direction outbound\n  \
                  lateen proxy-config cluster --file config_dump.json --fqdn ratings -o yaml")]
pub(super) struct Cluster {
    #[command(flatten)]
    target: Target,
    /// How to write the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    filter: Filter,
    /// Only clusters of this port.
    #[arg(long)]
    port: Option<u16>,
    /// The whole name before its parts.
    #[arg(long)]
    verbose: bool,
}

/// Which clusters.
#[derive(Clone, Debug, Default, Args)]
#[group(id = "cluster_filter")]
pub(super) struct Filter {
    /// Only clusters of services with this in their name.
    #[arg(long)]
    pub(super) fqdn: Option<String>,
    /// Only clusters of subsets with this in their name.
    #[arg(long)]
    pub(super) subset: Option<String>,
    /// Only clusters of this direction: `inbound` or `outbound`.
    #[arg(long)]
    pub(super) direction: Option<String>,
}

/// A cluster's name taken apart: `outbound|9080|v1|reviews.default.svc.cluster.local`. Parts sort as
/// clusters are listed.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name<'a> {
    fqdn: &'a str,
    subset: &'a str,
    port: Option<u16>,
    direction: &'a str,
}

impl<'a> Name<'a> {
    pub(super) fn parse(name: &'a str) -> Name<'a> {
        match name.splitn(4, '|').collect::<Vec<_>>()[..] {
            [direction, port, subset, fqdn] => Name {
                direction,
                port: port.parse().ok(),
                subset,
                fqdn,
            },
            _ => Name {
                direction: "",
                port: None,
                subset: "",
                fqdn: name,
            },
        }
    }
}

impl Cluster {
    pub(super) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let dump = self.target.dump(global, DUMP).await?;
        let clusters = select(&dump, &self.filter, self.port);
        let table = table(&clusters, self.verbose);
        print(self.output, &table, CLUSTERS.message, &clusters)
    }
}

/// The clusters that are wanted, in order.
pub(super) fn select<'a>(dump: &'a Dump, filter: &Filter, port: Option<u16>) -> Vec<&'a Value> {
    let mut clusters = dump.resources(CLUSTERS);
    clusters.retain(|cluster| filter.wants(&Name::parse(text(cluster, "name")), port));
    clusters.sort_by_key(|cluster| Name::parse(text(cluster, "name")));
    clusters
}

impl Filter {
    fn wants(&self, name: &Name<'_>, port: Option<u16>) -> bool {
        let holds = |wanted: &Option<String>, part: &str| {
            wanted
                .as_ref()
                .is_none_or(|wanted| part.contains(wanted.as_str()))
        };
        holds(&self.fqdn, name.fqdn)
            && holds(&self.subset, name.subset)
            && (self.direction.as_ref()).is_none_or(|wanted| wanted == name.direction)
            && (port.is_none() || port == name.port)
    }
}

pub(super) fn table(clusters: &[&Value], verbose: bool) -> Table {
    let mut table = match verbose {
        true => Table::new([
            "NAME",
            "SERVICE FQDN",
            "PORT",
            "SUBSET",
            "DIRECTION",
            "TYPE",
            "DESTINATION RULE",
        ]),
        false => Table::new([
            "SERVICE FQDN",
            "PORT",
            "SUBSET",
            "DIRECTION",
            "TYPE",
            "DESTINATION RULE",
        ]),
    };
    for cluster in clusters {
        let whole = text(cluster, "name");
        let name = Name::parse(whole);
        let or_dash = |part: &str| if part.is_empty() { "-" } else { part }.to_owned();
        let cells = [
            name.fqdn.to_owned(),
            name.port.map_or("-".to_owned(), |port| port.to_string()),
            or_dash(name.subset),
            or_dash(name.direction),
            kind(cluster).to_owned(),
            origin(cluster),
        ];
        match verbose {
            true => {
                let [fqdn, port, subset, direction, kind, rule] = cells;
                table.row([whole.to_owned(), fqdn, port, subset, direction, kind, rule]);
            }
            false => table.row(cells),
        }
    }
    table
}

/// How its endpoints are found. Where nothing is said they are listed in it.
fn kind(cluster: &Value) -> &str {
    let named = [
        text(cluster, "type"),
        text(&cluster["cluster_type"], "name"),
    ];
    let named = named.into_iter().find(|kind| !kind.is_empty());
    named.unwrap_or("STATIC")
}
