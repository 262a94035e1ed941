//! Real Envoy as the sidecar of some pods, and in place of every proxy: what the control plane sends
//! must be right by its judgement, and its connections must be understood by our proxies.

use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, LogParams, Patch, PatchParams},
};
use lateen_e2e::{Mesh, eventually};
use lateen_testkit::find_envoy;
use serde_json::json;

use super::shared;

/// Deployments that get Envoy: a client and the servers that it calls.
const WITH_ENVOY: [&str; 2] = ["productpage-v1", "reviews-v1"];

/// Runs a test with Envoy as every sidecar and gateway. It must not refuse anything but secrets, which
/// a test may have broken on purpose.
pub(crate) async fn everywhere<'a, F>(
    mesh: &'a Option<Mesh>,
    test: impl FnOnce(&'a Option<Mesh>) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let Some(envoy) = find_envoy("what the rules mean to it") else {
        return Ok(());
    };
    replace_all(shared(mesh), &envoy).await?;
    let before = rejects(shared(mesh)).await?;
    test(mesh).await?;
    let now = rejects(shared(mesh)).await?;
    if refusals(&now) > refusals(&before) {
        let log = control_plane_log(shared(mesh)).await?;
        let why: Vec<_> = log
            .lines()
            .filter(|line| line.contains("refused"))
            .collect();
        bail!("Envoy refused something:\n{}", why.join("\n"));
    }
    Ok(())
}

/// What the control plane has logged.
async fn control_plane_log(mesh: &Mesh) -> anyhow::Result<String> {
    let pods = mesh.wait_ready("istio-system", "app=istiod", 1).await?;
    let api: Api<Pod> = Api::namespaced(mesh.client().await?, "istio-system");
    let log = api.logs(&pods[0].name_any(), &LogParams::default()).await?;
    Ok(log)
}

/// Whether Envoy was made the proxy of every pod. It is Envoy as its project builds it, which lacks
/// the filter that counts `istio_requests_total` and its kin.
pub(crate) async fn is_everywhere(mesh: &Mesh) -> anyhow::Result<bool> {
    Ok(configuration(mesh).await?["defaultConfig"]["binaryPath"].is_string())
}

/// The mesh's configuration, as its ConfigMap has it.
async fn configuration(mesh: &Mesh) -> anyhow::Result<serde_json::Value> {
    let maps: Api<ConfigMap> = Api::namespaced(mesh.client().await?, "istio-system");
    let map = maps.get("istio").await?;
    let text = map.data.as_ref().and_then(|data| data.get("mesh"));
    let text = text.context("the ConfigMap istio has no key mesh")?;
    Ok(serde_yaml_ng::from_str(text)?)
}

/// Makes Envoy the proxy of the whole mesh and starts every pod anew, unless it is so already.
async fn replace_all(mesh: &Mesh, envoy: &Path) -> anyhow::Result<()> {
    if is_everywhere(mesh).await? {
        return Ok(());
    }
    let client = mesh.client().await?;
    let mut config = configuration(mesh).await?;
    config["defaultConfig"]["binaryPath"] = json!(envoy.display().to_string());
    let patch = json!({"data": {"mesh": serde_yaml_ng::to_string(&config)?}});
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "istio-system");
    maps.patch("istio", &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    roll_gateway(mesh).await?;
    let deployments: Api<Deployment> = Api::default_namespaced(client);
    for deployment in deployments.list(&ListParams::default()).await? {
        let again = json!({"proxy": "envoy"});
        roll(&deployments, &deployment.name_any(), &again).await?;
    }
    Ok(())
}

/// Starts the ingress gateway anew until its proxy is Envoy: the injector reads the mesh's
/// configuration a moment after it was written.
async fn roll_gateway(mesh: &Mesh) -> anyhow::Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(mesh.client().await?, "istio-system");
    let n_rolls = AtomicUsize::new(0);
    eventually("Envoy in the ingress gateway", async || {
        let roll_id = n_rolls.fetch_add(1, Ordering::Relaxed).to_string();
        let again = json!({"proxy": "envoy", "roll": roll_id});
        roll(&deployments, "istio-ingressgateway", &again).await?;
        is_envoy(mesh, "istio-system", "app=istio-ingressgateway").await
    })
    .await
}

/// The proxy of the one pod with these labels must answer as Envoy does.
async fn is_envoy(mesh: &Mesh, namespace: &str, labels: &str) -> anyhow::Result<()> {
    let pods = mesh.wait_ready(namespace, labels, 1).await?;
    let info = mesh
        .pod_get(namespace, &pods[0].name_any(), 15000, "/server_info")
        .await?;
    ensure!(
        info.contains("hot_restart_version"),
        "that is not Envoy: {info}"
    );
    Ok(())
}

pub(crate) async fn real_envoy_serves_in_place_of_ours(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let Some(envoy) = find_envoy("the configuration of sidecars") else {
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

/// How many refusals of other things than secrets these lines count.
fn refusals(lines: &[String]) -> u64 {
    let others = lines
        .iter()
        .filter(|line| line.starts_with("pilot_xds_rejects{") && !line.contains("\"sds\""));
    let counts = others.filter_map(|line| line.split(' ').nth(1));
    counts.filter_map(|count| count.parse::<u64>().ok()).sum()
}

/// Sets the annotation that chooses the sidecar, and waits for the new pods.
async fn annotate(mesh: &Mesh, config: serde_json::Value) -> anyhow::Result<()> {
    let deployments: Api<Deployment> = Api::default_namespaced(mesh.client().await?);
    let annotations = json!({"proxy.istio.io/config": config});
    for name in WITH_ENVOY {
        roll(&deployments, name, &annotations).await?;
    }
    Ok(())
}

/// Sets annotations of a deployment's pods and waits until new ones have taken the old ones' place.
async fn roll(
    deployments: &Api<Deployment>,
    name: &str,
    annotations: &serde_json::Value,
) -> anyhow::Result<()> {
    let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
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
    .await
}

/// The control plane's log must show that the productpage's proxy came over this protocol.
async fn spoke(mesh: &Mesh, protocol: &str) -> anyhow::Result<()> {
    let pods = mesh.wait_ready("default", "app=productpage", 1).await?;
    let proxy = pods[0].metadata.name.clone().context("a pod has a name")?;
    let log = control_plane_log(mesh).await?;
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
    let table = mesh.lateen_ok(&["proxy-status", "-v"])?;
    ensure!(!table.contains("STALE"), "{table}");
    let now = rejects(mesh).await?;
    ensure!(
        now == before,
        "Envoy refused something: {before:#?} is now {now:#?}"
    );
    is_envoy(mesh, "default", "app=productpage").await
}
