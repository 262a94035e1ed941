//! What the control plane tells about itself, and what it refuses.

use anyhow::{Context, ensure};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api,
    api::{DynamicObject, ListParams, Patch, PatchParams},
    discovery,
};
use lateen_e2e::{Mesh, eventually};
use serde_json::json;

use super::shared;

pub(crate) async fn proxy_status_shows_every_proxy_in_sync(
    mesh: &Option<Mesh>,
) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    eventually("every proxy in sync", async || {
        let table = mesh.lateen_ok(&["proxy-status", "-v"])?;
        ensure!(table.starts_with("NAME"), "{table}");
        // Six of Bookinfo and the ingress gateway.
        ensure!(table.lines().count() >= 8, "{table}");
        ensure!(!table.contains("STALE"), "{table}");
        Ok(())
    })
    .await
}

const RULE: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: counted}
spec:
  hosts: [ratings]
  http: [{route: [{destination: {host: ratings}}]}]
";

/// An object is told on how many proxies it is, also where they are connected to several replicas.
pub(crate) async fn replicas_count_their_proxies_together(
    mesh: &Option<Mesh>,
) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    scale(mesh, 2).await?;
    let told = told_of_all(mesh).await;
    mesh.delete(RULE).await?;
    scale(mesh, 1).await?;
    told
}

async fn scale(mesh: &Mesh, replicas: usize) -> anyhow::Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(mesh.client().await?, "istio-system");
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    deployments
        .patch("istiod", &PatchParams::default(), &patch)
        .await?;
    mesh.wait_ready("istio-system", "app=istiod", replicas)
        .await?;
    Ok(())
}

async fn told_of_all(mesh: &Mesh) -> anyhow::Result<()> {
    // Whoever connects now may come to either replica.
    let deployments: Api<Deployment> = Api::default_namespaced(mesh.client().await?);
    for name in ["details-v1", "reviews-v1", "reviews-v2"] {
        deployments.restart(name).await?;
    }
    for labels in [
        "app=details",
        "app=reviews,version=v1",
        "app=reviews,version=v2",
    ] {
        mesh.wait_ready("default", labels, 1).await?;
    }
    // A proxy is counted until its stream is seen to end, that of a pod that is ending too.
    eventually("the proxies of before to be gone", async || {
        let table = mesh.lateen_ok(&["proxy-status"])?;
        let pods: Api<Pod> = Api::all(mesh.client().await?);
        let mut pods = pods.list(&ListParams::default()).await?.items;
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        let named = |pod: Pod| {
            let meta = pod.metadata;
            format!(
                "{}.{}",
                meta.name.unwrap_or_default(),
                meta.namespace.unwrap_or_default()
            )
        };
        let pods: Vec<_> = pods.into_iter().map(named).collect();
        for row in table.lines().skip(1) {
            let proxy = row.split_whitespace().next().unwrap_or_default();
            ensure!(
                pods.iter().any(|pod| pod == proxy),
                "{proxy} is still counted"
            );
        }
        Ok(())
    })
    .await?;
    mesh.apply(RULE).await?;
    eventually(
        "the rule to be on the proxies of both replicas",
        async || {
            let table = mesh.lateen_ok(&["proxy-status"])?;
            let n_proxies = table.lines().skip(1).count();
            let status = status(mesh, "counted").await?;
            let reconciled = status["conditions"]
                .as_array()
                .and_then(|all| all.iter().find(|one| one["type"] == "Reconciled"))
                .with_context(|| format!("not told yet: {status}"))?;
            let message = reconciled["message"].as_str().unwrap_or_default();
            let of_all = format!("{n_proxies} of {n_proxies} proxies");
            ensure!(
                reconciled["status"] == "True" && message.starts_with(&of_all),
                "{reconciled} is not of\n{table}"
            );
            Ok(())
        },
    )
    .await
}

async fn status(mesh: &Mesh, name: &str) -> anyhow::Result<serde_json::Value> {
    let client = mesh.client().await?;
    let kind = kube::core::GroupVersionKind::gvk("networking.istio.io", "v1", "VirtualService");
    let (resource, _) = discovery::pinned_kind(&client, &kind).await?;
    let api: Api<DynamicObject> = Api::default_namespaced_with(client, &resource);
    Ok(api.get(name).await?.data["status"].clone())
}
