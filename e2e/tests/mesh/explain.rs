//! `lateen explain` at a running mesh.

use anyhow::{Context, ensure};
use kube::ResourceExt;
use lateen_e2e::{Mesh, eventually, samples::networking};
use serde_json::Value;

use super::shared;

const TO_V3: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http: [{timeout: 4s, route: [{destination: {host: reviews, subset: v3}}]}]
";

pub(crate) async fn requests_are_explained_as_the_proxy_serves_them(
    mesh: &Option<Mesh>,
) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let rules = [
        networking("destination-rule-all.yaml")?,
        networking("virtual-service-all-v1.yaml")?,
    ];
    for rule in &rules {
        mesh.apply(rule).await?;
    }
    let told = told(mesh).await;
    for rule in rules.iter().rev() {
        mesh.delete(rule).await?;
    }
    told
}

async fn told(mesh: &Mesh) -> anyhow::Result<()> {
    let pods = mesh.wait_ready("default", "app=productpage", 1).await?;
    let from = pods[0].name_any();
    let kubeconfig = mesh.kubeconfig()?.display().to_string();
    let ask = |more: &[&str]| -> anyhow::Result<Value> {
        let request = [
            "explain",
            "GET",
            "http://reviews:9080/reviews/0",
            "--from",
            &from,
        ];
        let way = ["--kubeconfig", &kubeconfig, "-o", "json"];
        let all = [&request[..], &way[..], more].concat();
        Ok(serde_json::from_str(&mesh.lateen_ok(&all)?)?)
    };
    let to_v1 = "outbound|9080|v1|reviews.default.svc.cluster.local";
    eventually("the rule to be explained", async || {
        let answer = ask(&[])?.to_string();
        ensure!(answer.contains(to_v1), "{answer}");
        Ok(())
    })
    .await?;
    // What would be applied, without applying it.
    let file = mesh.state_folder().join("to-v3.yaml");
    std::fs::write(&file, TO_V3)?;
    let file = file.to_str().context("a path in letters")?;
    let both = ask(&["--diff", file])?;
    let (before, after) = (both["before"].to_string(), both["after"].to_string());
    ensure!(before.contains(to_v1), "{before}");
    let to_v3 = "outbound|9080|v3|reviews.default.svc.cluster.local";
    ensure!(after.contains(to_v3) && !after.contains(to_v1), "{after}");
    ensure!(ask(&[])?.to_string().contains(to_v1), "nothing was applied");
    Ok(())
}
