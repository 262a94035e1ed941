//! What the control plane tells about itself, and what it refuses.

use anyhow::{bail, ensure};
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

pub(crate) async fn broken_rules_are_refused_with_a_reason(
    mesh: &Option<Mesh>,
) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let rule = |http: &str| {
        format!(
            "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: broken}}
spec:
  hosts: [reviews]
  http: {http}
"
        )
    };
    let cases = [
        (
            rule(
                "[{route: [{destination: {host: reviews}, weight: 0}, {destination: {host: ratings}, weight: 0}]}]",
            ),
            "weight",
        ),
        (
            rule("[{match: [{uri: {regex: '['}}], route: [{destination: {host: reviews}}]}]"),
            "regex",
        ),
        (rule("[{route: []}]"), "route"),
    ];
    for (yaml, word) in cases {
        match mesh.apply(&yaml).await {
            Err(error) if format!("{error:#}").contains(word) => {}
            Err(error) => bail!("the reason does not name {word}: {error:#}"),
            Ok(()) => bail!("accepted:\n{yaml}"),
        }
    }
    Ok(())
}
