//! A new control plane beside the old one, while people use the application.

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};
use lateen_e2e::{
    Mesh, eventually,
    http::Load,
    mesh::{ready, text},
};
use serde_json::json;

use super::{alone, block_on};

/// Requests a second while the control plane changes.
const RATE: u32 = 50;

#[test]
fn a_canary_takes_over_without_a_failed_request() -> anyhow::Result<()> {
    let _alone = alone();
    let mesh = Mesh::platform("canary")?;
    block_on(async {
        let client = mesh.client().await?;
        mesh.lateen_ok(&["install", "-y"])?;
        label(&client, json!({"istio-injection": "enabled"})).await?;
        for file in ["bookinfo.yaml", "bookinfo-gateway.yaml"] {
            mesh.apply(lateen_bookinfo::manifest(file).context("a sample")?)
                .await?;
        }
        all_by(&client, "default").await?;
        eventually("the page", async || {
            let answer = mesh.gateway().get("/productpage").await?;
            ensure!(answer.status == 200, "{}", answer.status);
            Ok(())
        })
        .await?;

        let load = Load::start(mesh.gateway(), "/productpage", RATE);
        mesh.lateen_ok(&["install", "--set", "revision=canary", "-y"])?;
        label(
            &client,
            json!({"istio-injection": null, "istio.io/rev": "canary"}),
        )
        .await?;
        restart(&client).await?;
        all_by(&client, "canary").await?;
        mesh.lateen_ok(&["tag", "set", "prod", "--revision", "canary"])?;
        label(&client, json!({"istio.io/rev": "prod"})).await?;
        // Installing the revision again leaves its tags.
        mesh.lateen_ok(&["install", "--set", "revision=canary", "-y"])?;
        let none = mesh.lateen(&["uninstall", "--revision", "canary", "-y"])?;
        ensure!(
            text(&none).contains("is a tag that leads to revision canary"),
            "{}",
            text(&none)
        );
        let twice = mesh.lateen(&["tag", "set", "default", "--revision", "canary"])?;
        ensure!(
            text(&twice).contains("default is a revision"),
            "{}",
            text(&twice)
        );
        let tags = mesh.lateen_ok(&["tag", "list"])?;
        let row = tags
            .lines()
            .any(|line| line.split_whitespace().eq(["prod", "canary", "default"]));
        ensure!(row, "{tags}");
        let pods: Api<Pod> = Api::default_namespaced(client.clone());
        let details = ListParams::default().labels("app=details");
        pods.delete_collection(&Default::default(), &details)
            .await?;
        all_by(&client, "canary").await?;
        let none = mesh.lateen(&["tag", "set", "prod", "--revision", "nonesuch"])?;
        let said = text(&none);
        ensure!(
            said.contains("there is no revision nonesuch; these are there: canary, default"),
            "{said}"
        );
        // The old one goes; the gateway, which the new one has taken over, stays.
        let said = mesh.lateen_ok(&["uninstall", "--revision", "default", "-y"])?;
        ensure!(
            !said.contains("Deployment istio-system/istio-ingressgateway"),
            "{said}"
        );
        let pods: Api<Pod> = Api::namespaced(client.clone(), "istio-system");
        eventually("the old control plane to be gone", async || {
            let old = ListParams::default().labels("app=istiod,istio.io/rev=default");
            let old = pods.list(&old).await?;
            ensure!(old.items.is_empty(), "{} pods", old.items.len());
            Ok(())
        })
        .await?;
        // Configuration still arrives.
        mesh.apply(
            "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bookinfo, namespace: default}
spec:
  hosts: ['*']
  gateways: [bookinfo-gateway]
  http:
  - match: [{uri: {exact: /productpage}}]
    headers: {response: {set: {x-by: canary}}}
    route: [{destination: {host: productpage, port: {number: 9080}}}]
",
        )
        .await?;
        eventually("a route of the new control plane", async || {
            let answer = mesh.gateway().get("/productpage").await?;
            ensure!(
                answer.header("x-by") == Some("canary"),
                "{:?}",
                answer.headers
            );
            Ok(())
        })
        .await?;
        let outcome = load.finish().await?;
        ensure!(outcome.n_requests > 0);
        ensure!(outcome.failures.is_empty(), "{:#?}", outcome.failures);
        Ok(())
    })?;
    mesh.stop().map(drop)
}

async fn label(client: &Client, labels: serde_json::Value) -> anyhow::Result<()> {
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
    let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
    namespaces
        .patch("default", &PatchParams::default(), &patch)
        .await?;
    Ok(())
}

/// As `kubectl rollout restart` does it.
async fn restart(client: &Client) -> anyhow::Result<()> {
    let all: Api<k8s_openapi::api::apps::v1::Deployment> = Api::default_namespaced(client.clone());
    let at = json!({"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"});
    let patch = json!({"spec": {"template": {"metadata": {"annotations": at}}}});
    for deployment in all.list(&ListParams::default()).await?.items {
        let name = deployment.metadata.name.context("a name")?;
        all.patch(&name, &PatchParams::default(), &Patch::Strategic(&patch))
            .await?;
    }
    Ok(())
}

/// Every pod of the application is ready, with a sidecar of this revision, and no other is left.
async fn all_by(client: &Client, revision: &str) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    eventually(&format!("pods of revision {revision}"), async || {
        let pods = pods.list(&ListParams::default()).await?.items;
        ensure!(!pods.is_empty());
        for pod in pods {
            let name = pod.metadata.name.clone().unwrap_or_default();
            let annotations = pod.metadata.annotations.as_ref();
            let by = annotations.and_then(|all| all.get("istio.io/rev"));
            ensure!(by.is_some_and(|by| by == revision), "{name} is of {by:?}");
            ensure!(ready(&pod), "{name} is not ready");
        }
        Ok(())
    })
    .await
}
