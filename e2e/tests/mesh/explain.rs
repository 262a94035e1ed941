//! `lateen explain` at a running mesh.

use anyhow::{Context, ensure};
use kube::ResourceExt;
use lateen_e2e::{Mesh, eventually, samples::networking};
use serde_json::{Value, json};

use super::{access_logs::with_mesh_config, shared};

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
        let answer = ask(&[])?;
        ensure!(answer.to_string().contains(to_v1), "{answer}");
        // The rule and its field are those of the object in the cluster.
        let want = json!([{"object": "VirtualService default/reviews", "field": "spec.http[0]"}]);
        ensure!(answer["route"]["from"] == want, "{answer}");
        let cluster = &answer["outcome"]["clusters"][0];
        let subset =
            json!({"object": "DestinationRule default/reviews", "field": "spec.subsets[0]"});
        ensure!(cluster["subset"] == subset, "{answer}");
        ensure!(answer["notes"].is_null(), "{answer}");
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
    let logged = json!({"accessLogFile": "/dev/stdout"});
    with_mesh_config(mesh, logged, async || {
        eventually("a recorded request that the change is for", async || {
            mesh.gateway().get("/productpage").await?;
            let way = ["--kubeconfig", &kubeconfig, "-o", "json"];
            let recorded = ["explain", "--recorded-from", &from, "--diff", file];
            let told = mesh.lateen_ok(&[&recorded[..], &way[..]].concat())?;
            let told: Value = serde_json::from_str(&told)?;
            let changes = told["changes"].as_array().context("changes")?;
            let own = changes.iter().find(|group| {
                let (before, after) = (group["before"].to_string(), group["after"].to_string());
                before.contains(to_v1) && after.contains(to_v3)
            });
            let own = own.with_context(|| told.to_string())?;
            ensure!(own["requests"].as_u64() >= Some(1), "{told}");
            let example = own["examples"][0].as_str().unwrap_or_default();
            ensure!(example.starts_with("GET reviews:9080/reviews/"), "{told}");
            Ok(())
        })
        .await
    })
    .await
}
