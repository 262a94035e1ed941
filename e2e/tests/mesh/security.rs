//! Mutual TLS between pods.

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use lateen_e2e::{Mesh, eventually, wire::Wire};

use super::{envoy, shared};

/// A pod outside the mesh that asks ratings once a second and logs the answer.
fn asker(path: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata:
  name: outsider
  labels: {{sidecar.istio.io/inject: 'false'}}
spec:
  containers:
  - name: main
    image: outsider
    env: [{{name: TARGET, value: '{path}'}}]
"
    )
}

pub(crate) async fn strict_refuses_plaintext_and_permissive_serves_it(
    mesh: &Option<Mesh>,
) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    // bash speaks TCP itself, so that the test needs no HTTP client in the pod.
    let script = "while true; do { exec 3<>/dev/tcp/ratings/9080 && \
        printf 'GET /ratings/0 HTTP/1.1\\r\\nhost: ratings:9080\\r\\nconnection: close\\r\\n\\r\\n' >&3 && \
        head -1 <&3 | grep HTTP || echo refused; exec 3>&-; } 2>/dev/null; sleep 0.3; done";
    mesh.lateen_ok(&[
        "image",
        "--name",
        &mesh.name,
        "add",
        "outsider",
        "--",
        "/bin/bash",
        "-c",
        script,
    ])?;
    let pod = asker("ratings");
    mesh.apply(&pod).await?;
    let result = check(mesh).await;
    mesh.delete(STRICT).await?;
    mesh.delete(&pod).await?;
    result
}

const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
";

async fn check(mesh: &Mesh) -> anyhow::Result<()> {
    last_line(mesh, "HTTP/1.1 200")
        .await
        .context("permissive serves plaintext")?;
    mesh.apply(STRICT).await?;
    last_line(mesh, "refused")
        .await
        .context("strict refuses plaintext")?;
    let answer = mesh.gateway().get("/api/v1/products/0/ratings").await?;
    ensure!(
        answer.status == 200,
        "the mesh's own traffic goes on: {answer:?}"
    );
    Ok(())
}

async fn last_line(mesh: &Mesh, expect: &str) -> anyhow::Result<()> {
    let pods: kube::Api<Pod> = kube::Api::default_namespaced(mesh.client().await?);
    eventually(expect, async || {
        let params = kube::api::LogParams {
            tail_lines: Some(1),
            ..Default::default()
        };
        let log = pods.logs("outsider", &params).await?;
        if !log.contains(expect) {
            bail!("the outsider saw {log:?}");
        }
        Ok(())
    })
    .await
}

pub(crate) async fn only_tls_is_on_the_wire(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let wire = Wire::listen(mesh.pid("platform")?, 9080)?;
    for _ in 0..20 {
        let answer = mesh.gateway().get("/productpage").await?;
        ensure!(answer.status == 200, "{}", answer.status);
    }
    let payloads = wire.finish()?;
    // A TLS record begins with its type (20 to 23) and the legacy version 3.x.
    let n_records = payloads
        .iter()
        .filter(|p| matches!(p[..], [20..=23, 3, ..]))
        .count();
    ensure!(
        n_records > 20,
        "only {n_records} of {} segments begin a TLS record",
        payloads.len()
    );
    for payload in &payloads {
        let text = String::from_utf8_lossy(payload);
        let plain = ["HTTP/1.1", "GET /", "x-request-id"]
            .iter()
            .find(|word| text.contains(**word));
        ensure!(
            plain.is_none(),
            "plaintext on the wire: {}",
            text.chars().take(80).collect::<String>()
        );
    }
    if envoy::is_everywhere(mesh).await? {
        return Ok(());
    }
    counted(mesh).await
}

/// The metrics say who asked whom, and how.
async fn counted(mesh: &Mesh) -> anyhow::Result<()> {
    let pods = mesh
        .wait_ready("default", "app=reviews,version=v1", 1)
        .await?;
    let pod = pods[0].metadata.name.clone().context("a pod has a name")?;
    let stats = mesh
        .pod_get("default", &pod, 15020, "/stats/prometheus")
        .await?;
    let inbound = stats.lines().find(|line| {
        line.starts_with("istio_requests_total") && line.contains("reporter=\"destination\"")
    });
    let inbound = inbound.context("reviews counted no request")?;
    for label in [
        "connection_security_policy=\"mutual_tls\"",
        "source_principal=\"spiffe://cluster.local/ns/default/sa/bookinfo-productpage\"",
        "destination_principal=\"spiffe://cluster.local/ns/default/sa/bookinfo-reviews\"",
    ] {
        ensure!(inbound.contains(label), "{label} is not in {inbound}");
    }
    Ok(())
}
