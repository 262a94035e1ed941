//! `lateen cluster`: clusters for tenants, on this machine.

mod serve;
mod tenant;

use std::net::Ipv4Addr;

use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use lateen_local::state::{self, StateDir};
use serde::Serialize;

use super::up::Up;
use crate::{
    client,
    output::{self, Format},
    table::Table,
};

/// The ingress gateway's Service.
const INGRESS: &str = "istio-ingressgateway";
/// What a cluster with a mesh takes virtual addresses for.
pub(crate) const NEEDED: [&str; 3] = [
    "the Kubernetes API",
    "Kubernetes Ingress",
    "the Istio ingress gateway",
];

/// The pool of virtual addresses of a cluster for which none is named.
const DEFAULT_POOL: &str = "10.10.99.140-10.10.99.150";

/// Create, list and delete clusters on this machine.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen cluster create team-a --istio --vip-pool 10.10.99.140-10.10.99.150\n  lateen cluster list\n  lateen cluster tenant add team-a ann shop --file ann.kubeconfig\n  lateen cluster delete team-a"
)]
pub(crate) struct Cluster {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a cluster
    Create(Create),
    /// List the clusters
    List {
        /// How to write the result.
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Stop a cluster and remove every trace of it
    Delete {
        /// Which.
        name: String,
    },
    /// Let people write in their own namespaces of a cluster
    Tenant(tenant::Tenant),
    /// Serve a page that creates, lists and deletes clusters
    Serve(serve::Serve),
}

/// Create a cluster.
#[derive(Debug, Args)]
struct Create {
    /// Its name: lower-case letters, digits and dashes.
    name: String,
    /// With the mesh in it.
    #[arg(long)]
    istio: bool,
    /// Virtual addresses for its services: `first-last`.
    #[arg(long, default_value = DEFAULT_POOL, value_name = "RANGE")]
    vip_pool: String,
    /// The port on 127.0.0.1 that leads to the ingress gateway; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    http_port: u16,
    /// The port on 127.0.0.1 of the API server; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    api_port: u16,
}

/// A cluster as `list` shows it.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    state: String,
    istio: bool,
    vip_pool: String,
    ingress: Option<String>,
    kubeconfig: String,
    /// Why it is not as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// What of a new cluster is wrong.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum Field {
    Name,
    VipPool,
}

/// Why there can be no such cluster.
#[derive(Debug)]
struct Refused {
    field: Field,
    why: anyhow::Error,
}

impl Cluster {
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        match &self.command {
            Command::Create(create) => create.run().await,
            Command::List { output } => list(*output).await,
            Command::Delete { name } => delete(name).await,
            Command::Tenant(tenant) => tenant.run().await,
            Command::Serve(serve) => serve.run().await,
        }
    }
}

impl Create {
    async fn run(&self) -> anyhow::Result<()> {
        check(&self.name, self.istio, &self.vip_pool).map_err(|refused| refused.why)?;
        let up = Up::cluster(&self.name, self.http_port, self.api_port, &self.vip_pool);
        match self.istio {
            true => up.with_mesh().run().await?,
            false => up.run().await?,
        }
        if self.istio {
            let row = row(&self.name).await?;
            let ingress = row.ingress.context("the ingress gateway has no address")?;
            output::line(format_args!("ingress      {ingress}"));
        }
        Ok(())
    }
}

/// Whether there can be such a cluster.
fn check(name: &str, istio: bool, vip_pool: &str) -> Result<(), Refused> {
    let at = |field| move |why| Refused { field, why };
    StateDir::of(name)
        .map_err(anyhow::Error::new)
        .map_err(at(Field::Name))?;
    let size = pool_size(vip_pool).map_err(at(Field::VipPool))?;
    if istio && size < NEEDED.len() as u64 {
        let why = anyhow!(
            "--vip-pool {vip_pool} has {size} addresses, and a cluster with Istio needs at least {}: one each for {}; give it a larger pool",
            NEEDED.len(),
            NEEDED.join(", ")
        );
        return Err(at(Field::VipPool)(why));
    }
    Ok(())
}

/// The first and the last address of a pool, written `first-last`, or one alone.
pub(crate) fn pool(range: &str) -> anyhow::Result<(u32, u32)> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let address = |text: &str| -> anyhow::Result<Ipv4Addr> {
        text.trim().parse().with_context(|| {
            format!("--vip-pool {range}: {text:?} is no IPv4 address; write first-last")
        })
    };
    let (first, last) = (address(first)?, address(last)?);
    if first > last {
        bail!("--vip-pool {range}: the last address is before the first");
    }
    if let Some((whose, taken)) = lateen_local::taken_range(first, last) {
        bail!("--vip-pool {range}: {taken} is {whose}; choose addresses beside it");
    }
    Ok((first.into(), last.into()))
}

/// How many addresses a pool has.
fn pool_size(range: &str) -> anyhow::Result<u64> {
    let (first, last) = pool(range)?;
    Ok(u64::from(last - first) + 1)
}

/// The clusters that there are.
async fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for name in state::names() {
        // One that does not answer is shown all the same.
        let row = row(&name).await.unwrap_or_else(|error| Row {
            name: name.clone(),
            state: "unknown".to_owned(),
            error: Some(format!("{error:#}")),
            ..Row::default()
        });
        rows.push(row);
    }
    rows
}

async fn list(format: Format) -> anyhow::Result<()> {
    let rows = rows().await;
    if format != Format::Short {
        return output::structured(&serde_json::to_value(&rows)?, format);
    }
    let header = [
        "NAME",
        "STATE",
        "ISTIO",
        "VIP-POOL",
        "INGRESS",
        "KUBECONFIG",
    ];
    let mut table = Table::new(header);
    for row in rows {
        let istio = if row.istio { "yes" } else { "no" };
        let ingress = row.ingress.unwrap_or_else(|| "-".to_owned());
        let state = row.error.unwrap_or(row.state);
        let cells = [
            row.name,
            state,
            istio.to_owned(),
            row.vip_pool,
            ingress,
            row.kubeconfig,
        ];
        table.row(cells);
    }
    output::print(table);
    Ok(())
}

async fn row(name: &str) -> anyhow::Result<Row> {
    let state = StateDir::of(name)?;
    let status = state.status()?.unwrap_or_default();
    let mut row = Row {
        name: name.to_owned(),
        state: status.state,
        istio: false,
        vip_pool: status.vip_pool,
        ingress: None,
        kubeconfig: status.kubeconfig,
        error: None,
    };
    if state.running().is_none() {
        row.state = "dead".to_owned();
        return Ok(row);
    }
    let client = client::from_file(&state.kubeconfig()).await?;
    let services: Api<Service> = Api::namespaced(client, "istio-system");
    row.istio = services.get_opt("istiod").await?.is_some();
    let ingress = services.get_opt(INGRESS).await?;
    let addresses = ingress
        .and_then(|service| service.status?.load_balancer?.ingress)
        .unwrap_or_default();
    row.ingress = addresses.into_iter().find_map(|address| address.ip);
    Ok(row)
}

async fn delete(name: &str) -> anyhow::Result<()> {
    let stopping = name.to_owned();
    let found = tokio::task::spawn_blocking(move || state::stop_and_clean(&stopping)).await??;
    if !found {
        bail!("there is no cluster {name}; `lateen cluster list` shows those that there are");
    }
    output::line(format_args!("cluster {name} is deleted"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_counted() {
        assert_eq!(pool_size("10.0.0.1-10.0.0.3").expect("a pool"), 3);
        assert_eq!(pool_size("10.0.0.1").expect("a pool"), 1);
        for (range, reason) in [
            ("10.0.0.3-10.0.0.1", "the last address is before the first"),
            ("10.0.0.x-10.0.0.1", "\"10.0.0.x\" is no IPv4 address"),
            ("10.244.0.5-10.244.0.9", "10.244.0.0/16 is the pods'"),
            ("10.90.0.0-10.120.0.0", "10.96.0.0/12 is the services'"),
            ("0.0.0.0-255.255.255.255", "0.0.0.0/8 is nobody's"),
        ] {
            let error = pool_size(range).expect_err("refused").to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
