//! Real Envoy as the sidecar of some pods: what the control plane sends must be right by its
//! judgement, and its connections must be understood by our proxies.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api,
    api::{LogParams, Patch, PatchParams},
};
use lateen_e2e::{Mesh, eventually};
use serde_json::json;

use super::shared;

/// Deployments that get Envoy: a client and the servers that it calls.
const WITH_ENVOY: [&str; 2] = ["productpage-v1", "reviews-v1"];

/// `ENVOY`, or what is in the path.
fn envoy() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("ENVOY") {
        return Some(path.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join("envoy"))
        .find(|file| file.is_file())
}

pub(crate) async fn real_envoy_serves_in_place_of_ours(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let Some(envoy) = envoy() else {
        eprintln!("Envoy is not on this machine (set ENVOY): it did not judge the configuration");
        return Ok(());
    };
    let before = rejects(mesh).await?;
    let served = async {
        for (port, delta) in [(15012, true), (15012, false), (15010, true), (15010, false)] {
            let config = format!(
                "binaryPath: {}\ndiscoveryAddress: istiod.istio-system.svc:{port}\n\
                 proxyMetadata: {{ISTIO_DELTA_XDS: '{delta}'}}\n",
                envoy.display()
            );
            annotate(mesh, json!(config)).await?;
            let served = serves(mesh, &before).await;
            served.with_context(|| format!("over port {port}, delta {delta}"))?;
            spoke(mesh, if delta { "delta" } else { "sotw" }).await?;
        }
        Ok(())
    }
    .await;
    annotate(mesh, json!(null)).await?;
    served
}

/// How often proxies have refused something, in all and by type: the lines of the control plane's
/// metrics. The total must be there, or its silence would pass for consent.
async fn rejects(mesh: &Mesh) -> anyhow::Result<Vec<String>> {
    let metrics = mesh.control_plane_metrics().await?;
    let lines = metrics.lines().filter(|line| {
        line.starts_with("pilot_total_xds_rejects ") || line.starts_with("pilot_xds_rejects{")
    });
    let lines: Vec<_> = lines.map(str::to_owned).collect();
    let total = lines.iter().any(|line| line.starts_with("pilot_total"));
    ensure!(total, "no count of rejects in\n{metrics}");
    Ok(lines)
}

/// Sets the annotation that chooses the sidecar, and waits for the new pods.
async fn annotate(mesh: &Mesh, config: serde_json::Value) -> anyhow::Result<()> {
    let deployments: Api<Deployment> = Api::default_namespaced(mesh.client().await?);
    let annotations = json!({"proxy.istio.io/config": config});
    let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
    for name in WITH_ENVOY {
        let patched = deployments
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        let generation = patched.metadata.generation;
        eventually(&format!("the rollout of {name}"), async || {
            let status = deployments.get(name).await?.status.context("no status")?;
            ensure!(status.observed_generation >= generation, "not seen yet");
            ensure!(
                status.updated_replicas == Some(1) && status.replicas == Some(1),
                "{status:?}"
            );
            ensure!(status.available_replicas == Some(1), "{status:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// The control plane's log must show that the productpage's proxy came over this protocol.
async fn spoke(mesh: &Mesh, protocol: &str) -> anyhow::Result<()> {
    let pods = mesh.wait_ready("default", "app=productpage", 1).await?;
    let proxy = pods[0].metadata.name.clone().context("a pod has a name")?;
    let pods = mesh.wait_ready("istio-system", "app=istiod", 1).await?;
    let istiod = pods[0].metadata.name.clone().context("a pod has a name")?;
    let api: Api<Pod> = Api::namespaced(mesh.client().await?, "istio-system");
    let log = api.logs(&istiod, &LogParams::default()).await?;
    let line = log
        .lines()
        .find(|line| line.contains("client connected") && line.contains(&proxy));
    let line = line.with_context(|| format!("{proxy} never connected"))?;
    ensure!(line.contains(&format!("protocol=\"{protocol}\"")), "{line}");
    Ok(())
}

async fn serves(mesh: &Mesh, before: &[String]) -> anyhow::Result<()> {
    let http = mesh.gateway();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..60 {
        let answer = http.get("/api/v1/products/0/reviews").await?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
        let body: serde_json::Value = serde_json::from_str(&answer.body)?;
        seen.extend(
            body["podname"]
                .as_str()
                .and_then(|pod| pod.split('-').nth(1))
                .map(str::to_owned),
        );
    }
    ensure!(seen.len() == 3, "only {seen:?} answered");
    let table = mesh.lateen_ok(&["proxy-status"])?;
    ensure!(!table.contains("STALE"), "{table}");
    let now = rejects(mesh).await?;
    ensure!(
        now == before,
        "Envoy refused something: {before:#?} is now {now:#?}"
    );
    let pods = mesh.wait_ready("default", "app=productpage", 1).await?;
    let pod = pods[0].metadata.name.clone().context("a pod has a name")?;
    let info = mesh.pod_get("default", &pod, 15000, "/server_info").await?;
    ensure!(
        info.contains("hot_restart_version"),
        "that is not Envoy: {info}"
    );
    Ok(())
}
