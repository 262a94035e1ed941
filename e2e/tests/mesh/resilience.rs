//! What may break without a request being lost.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use kube::Api;
use lateen_e2e::{
    Mesh, eventually,
    http::{Load, Outcome},
    samples::networking,
};
use nix::{sys::signal::Signal, unistd::Pid};

use super::shared;

const PAGE: &str = "/productpage";
/// Requests a second; the figure for the load under which things break.
const RATE: u32 = 200;

/// No request failed.
pub(crate) fn lossless(outcome: &Outcome) -> anyhow::Result<()> {
    let few: Vec<_> = outcome.failures.iter().take(5).collect();
    ensure!(
        outcome.failures.is_empty(),
        "{} of {} requests failed: {few:#?}",
        outcome.failures.len(),
        outcome.n_requests
    );
    Ok(())
}

pub(crate) async fn a_restarted_control_plane_costs_no_request(
    mesh: &Option<Mesh>,
) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let load = Load::start(mesh.gateway(), PAGE, RATE);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let pid = mesh.pid("istio-system/istiod")?;
    nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL)?;
    eventually("a new control plane", async || {
        let now = mesh.pid("istio-system/istiod")?;
        ensure!(now != pid, "still the old process");
        Ok(())
    })
    .await?;
    mesh.wait_ready("istio-system", "app=istiod", 1).await?;
    // The new control plane must take changes again, once its webhook answers.
    eventually("changes to be taken", async || {
        mesh.apply(&networking("destination-rule-all.yaml")?)
            .await?;
        mesh.apply(&networking("virtual-service-all-v1.yaml")?)
            .await
    })
    .await?;
    eventually(
        "every proxy to have what the new control plane knows",
        async || {
            let table = mesh.lateen_ok(&["proxy-status", "-v"])?;
            let in_sync = |line: &str| line.matches("SYNCED").count() == 4;
            ensure!(table.lines().skip(1).all(in_sync), "{table}");
            Ok(())
        },
    )
    .await?;
    mesh.delete(&networking("virtual-service-all-v1.yaml")?)
        .await?;
    mesh.delete(&networking("destination-rule-all.yaml")?)
        .await?;
    lossless(&load.finish().await?)
}

pub(crate) async fn a_rolling_restart_costs_no_request(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let load = Load::start(mesh.gateway(), PAGE, RATE);
    let deployments: Api<k8s_openapi::api::apps::v1::Deployment> =
        Api::default_namespaced(mesh.client().await?);
    let before = pods(mesh).await?;
    for version in ["v1", "v2", "v3"] {
        deployments.restart(&format!("reviews-{version}")).await?;
    }
    eventually("three new pods of reviews", async || {
        let after = pods(mesh).await?;
        ensure!(
            after.len() == 3 && after.iter().all(|name| !before.contains(name)),
            "{after:?}"
        );
        Ok(())
    })
    .await?;
    mesh.wait_ready("default", "app=reviews", 3).await?;
    lossless(&load.finish().await?)
}

async fn pods(mesh: &Mesh) -> anyhow::Result<Vec<String>> {
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::default_namespaced(mesh.client().await?);
    let list = pods
        .list(&kube::api::ListParams::default().labels("app=reviews"))
        .await?;
    Ok(list
        .into_iter()
        .filter_map(|pod| pod.metadata.name)
        .collect())
}

pub(crate) async fn fifty_route_changes_cost_no_request(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    mesh.apply(&networking("destination-rule-all.yaml")?)
        .await?;
    let load = Load::start(mesh.gateway(), PAGE, RATE);
    let first = networking("virtual-service-reviews-90-10.yaml")?;
    let second = networking("virtual-service-reviews-v3.yaml")?;
    for n in 0..50 {
        mesh.apply(if n % 2 == 0 { &first } else { &second })
            .await?;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let outcome = load.finish().await?;
    mesh.delete(&second).await?;
    mesh.delete(&networking("destination-rule-all.yaml")?)
        .await?;
    lossless(&outcome)
}

pub(crate) async fn a_killed_sidecar_comes_back(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let pods = mesh.wait_ready("default", "app=productpage", 1).await?;
    let pod = pods[0].metadata.name.clone().context("a pod has a name")?;
    let component = format!("default/{pod}/istio-proxy");
    let pid = mesh.pid(&component)?;
    let start = Instant::now();
    nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL)?;
    eventually("the sidecar to serve again", async || {
        ensure!(mesh.pid(&component)? != pid, "still the old process");
        let answer = mesh.gateway().get(PAGE).await?;
        ensure!(answer.status == 200, "{}", answer.status);
        Ok(())
    })
    .await?;
    mesh.wait_ready("default", "app=productpage", 1).await?;
    eprintln!("the sidecar was healthy again after {:?}", start.elapsed());
    Ok(())
}
