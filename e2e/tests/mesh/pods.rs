//! An application and its sidecar: who starts first, and who ends last.

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{
    Api,
    api::{DeleteParams, ListParams, LogParams},
};
use lateen_e2e::{Mesh, eventually};
use serde_json::{Value, json};

use super::shared;

/// Asks ratings once, as soon as it starts, and says what came of it. bash speaks TCP itself.
const ONCE: &str = "exec 3<>/dev/tcp/ratings/9080 && \
    printf 'GET /ratings/0 HTTP/1.1\\r\\nhost: ratings:9080\\r\\nconnection: close\\r\\n\\r\\n' >&3 && \
    head -1 <&3";

/// A pod that asks once, and ends.
fn asks_once(name: &str, annotations: Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 5,
            "containers": [{"name": "main", "image": "asks-once"}],
        },
    })
}

/// Runs such a pod to the end of its main container; the pod, and what the container said.
async fn run(mesh: &Mesh, pod: &Value) -> anyhow::Result<(Pod, String)> {
    let map = ["add", "asks-once", "--", "/bin/bash", "-c", ONCE];
    mesh.lateen_ok(&[&["image", "--name", &mesh.name], &map[..]].concat())?;
    mesh.apply(&pod.to_string()).await?;
    let name = pod["metadata"]["name"].as_str().context("a name")?;
    let pods: Api<Pod> = Api::default_namespaced(mesh.client().await?);
    eventually("the main container to end", async || {
        let pod = pods.get(name).await?;
        let status = pod.status.clone().unwrap_or_default();
        let main = status.container_statuses.into_iter().flatten();
        let ended = main
            .filter(|container| container.name == "main")
            .find_map(|container| container.state?.terminated);
        ended.context("it runs")?;
        let params = LogParams {
            container: Some("main".into()),
            ..LogParams::default()
        };
        Ok((pod, pods.logs(name, &params).await?))
    })
    .await
}

async fn remove(mesh: &Mesh, name: &str) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::default_namespaced(mesh.client().await?);
    pods.delete(name, &DeleteParams::default()).await?;
    eventually("the pod to go", async || match pods.get_opt(name).await? {
        None => Ok(()),
        Some(_) => bail!("it is still there"),
    })
    .await
}

pub(crate) async fn a_hook_reaches_the_application(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "hooked", "labels": {"app": "hooked"}, "annotations": {
            // Not where the agent is by default, which it has to know.
            "status.sidecar.istio.io/port": "15030",
        }},
        "spec": {"containers": [{
            "name": "main",
            "image": "docker.io/istio/examples-bookinfo-details-v1:1.20.3",
            "ports": [{"containerPort": 9080}],
            "readinessProbe": {"httpGet": {"port": 9080, "path": "/health"}},
            "lifecycle": {"preStop": {"httpGet": {"port": 9080, "path": "/health"}}},
        }]},
    });
    mesh.apply(&pod.to_string()).await?;
    let asked = async {
        mesh.wait_ready("default", "app=hooked", 1).await?;
        let hook = "/app-lifecycle/main/prestopz";
        mesh.pod_get("default", "hooked", 15030, hook).await
    }
    .await;
    remove(mesh, "hooked").await?;
    let answer = asked?;
    ensure!(answer.contains("Details is healthy"), "{answer}");
    let events: Api<Event> = Api::default_namespaced(mesh.client().await?);
    let of_pod = ListParams::default().fields("involvedObject.name=hooked");
    let events = events.list(&of_pod).await?.items;
    let failed = events.iter().find(|event| {
        let reason = event.reason.as_deref();
        reason == Some("FailedPreStopHook")
    });
    ensure!(failed.is_none(), "{failed:?}");
    Ok(())
}

pub(crate) async fn an_application_waits_for_its_proxy(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let hold = json!({"proxy.istio.io/config": "holdApplicationUntilProxyStarts: true"});
    let result = run(mesh, &asks_once("holds", hold)).await;
    remove(mesh, "holds").await?;
    let (pod, said) = result?;
    ensure!(said.trim() == "HTTP/1.1 200 OK", "{said:?}");
    let spec = serde_json::to_value(pod.spec)?;
    let proxy = &spec["containers"][0];
    ensure!(
        proxy["name"] == "istio-proxy" && proxy["lifecycle"]["postStart"].is_object(),
        "{spec:#}"
    );
    Ok(())
}

pub(crate) async fn a_native_sidecar_lets_its_pod_end(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let native = json!({"sidecar.istio.io/nativeSidecar": "true"});
    let result = run(mesh, &asks_once("native", native)).await;
    let pods: Api<Pod> = Api::default_namespaced(mesh.client().await?);
    let ended = eventually("the pod to succeed", async || {
        let status = pods.get("native").await?.status.unwrap_or_default();
        ensure!(status.phase.as_deref() == Some("Succeeded"), "{status:?}");
        Ok(())
    })
    .await;
    remove(mesh, "native").await?;
    let (pod, said) = result?;
    ensure!(said.trim() == "HTTP/1.1 200 OK", "{said:?}");
    ended?;
    let spec = serde_json::to_value(pod.spec)?;
    let init = spec["initContainers"].as_array().context("none")?;
    let proxy = init.iter().find(|one| one["name"] == "istio-proxy");
    let policy = proxy.map(|proxy| proxy["restartPolicy"].clone());
    ensure!(policy == Some(json!("Always")), "{spec:#}");
    Ok(())
}
