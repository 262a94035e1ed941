//! The page that lists the metrics, compared with what a mesh exposes. Dashboards and alerts name
//! nothing that is not on that page, which the installer's own tests see to.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context, ensure};
use lateen_e2e::{Mesh, eventually};

use super::shared;

/// Names that have not this beginning are not in rows of their own: datagrams', listed in a sentence.
const DATAGRAMS: [&str; 2] = ["envoy_udp_", "envoy_cluster_udp_"];

/// The application's own, which the agent merges with the proxy's.
const OF_BOOKINFO: &str = "request_result_total";

struct Listed {
    kind: String,
    /// Whether it is there only once it has happened.
    comes_later: bool,
}

fn listed() -> BTreeMap<String, Listed> {
    let page = include_str!("../../../docs/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let row = |row: &str| {
        let (name, rest) = row.split_once('`')?;
        let mut cells = rest.split('|').map(str::trim);
        let comes_later = cells.next()? == "◦";
        let kind = cells.next()?.to_owned();
        Some((name.to_owned(), Listed { kind, comes_later }))
    };
    rows.filter_map(row).collect()
}

/// Names of families, with their kinds.
fn exposed(text: &str) -> BTreeMap<String, String> {
    let heads = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    heads
        .filter_map(|head| head.split_once(' '))
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect()
}

pub(crate) async fn each_metric_is_listed_and_each_listed_one_is_there(
    mesh: &Option<Mesh>,
) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let listed = listed();
    ensure!(listed.len() > 50, "the page has {} metrics", listed.len());
    let page = mesh.wait_ready("default", "app=productpage", 1).await?;
    let page = page[0].metadata.name.clone().context("a name")?;
    eventually("a request to be counted", async || {
        mesh.gateway().get("/productpage").await?;
        let own = mesh
            .pod_get("default", &page, 15020, "/stats/prometheus")
            .await?;
        ensure!(own.contains("istio_requests_total"), "{own}");
        Ok(())
    })
    .await?;
    let mut found = exposed(&mesh.control_plane_metrics().await?);
    found.extend(exposed(
        &mesh
            .pod_get("default", &page, 15020, "/stats/prometheus")
            .await?,
    ));
    found.remove(OF_BOOKINFO);
    let of_datagrams = |name: &&String| DATAGRAMS.iter().any(|start| name.starts_with(start));
    for (name, kind) in found.iter().filter(|(name, _)| !of_datagrams(name)) {
        let listed = listed
            .get(name)
            .with_context(|| format!("{name} is not in docs/metrics.md"))?;
        ensure!(
            listed.kind == *kind,
            "{name} is a {kind}, and not a {}",
            listed.kind
        );
    }
    let sources = sources()?;
    for (name, listed) in listed.iter().filter(|(name, _)| !found.contains_key(*name)) {
        ensure!(
            listed.comes_later,
            "{name} is in docs/metrics.md and not in the mesh"
        );
        ensure!(
            is_written(name, &sources),
            "nothing in the program is called {name}"
        );
    }
    Ok(())
}

/// Whether a string of the program is the name; proxies put theirs together of two.
fn is_written(name: &str, sources: &BTreeSet<String>) -> bool {
    let parts = ["", "envoy_cluster_"].into_iter();
    let mut ends = parts.filter_map(|start| name.strip_prefix(start));
    ends.any(|end| {
        sources
            .iter()
            .any(|text| text.contains(&format!("\"{end}\"")))
    })
}

/// The texts of the crates that count something.
fn sources() -> anyhow::Result<BTreeSet<String>> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    let mut texts = BTreeSet::new();
    for name in ["pilot", "proxy"] {
        let mut folders = vec![crates.join(name).join("src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    texts.insert(std::fs::read_to_string(&path)?);
                }
            }
        }
    }
    Ok(texts)
}
