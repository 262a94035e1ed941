//! What the control plane tells about itself, and what it refuses.

use anyhow::ensure;
use lateen_e2e::{Mesh, eventually};

use super::shared;

pub(crate) async fn proxy_status_shows_every_proxy_in_sync(
    mesh: &Option<Mesh>,
) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    eventually("every proxy in sync", async || {
        let table = mesh.lateen_ok(&["proxy-status"])?;
        ensure!(table.starts_with("NAME"), "{table}");
        // Six of Bookinfo and the ingress gateway.
        ensure!(table.lines().count() >= 8, "{table}");
        ensure!(!table.contains("STALE"), "{table}");
        Ok(())
    })
    .await
}

pub(crate) async fn proxy_config_shows_what_a_proxy_has(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let pods = mesh.wait_ready("default", "app=productpage", 1).await?;
    let pod = pods[0].metadata.name.clone().unwrap_or_default();
    for (what, expected) in [
        ("listener", "15006"),
        ("route", "9080"),
        ("cluster", "reviews.default.svc.cluster.local"),
        (
            "endpoint",
            "outbound|9080||ratings.default.svc.cluster.local",
        ),
    ] {
        let table = mesh.lateen_ok(&["proxy-config", what, &pod])?;
        ensure!(
            table.contains(expected),
            "{expected} is not in proxy-config {what}:\n{table}"
        );
    }
    Ok(())
}
