//! Pods of a service that fail or hang, and what a DestinationRule or a VirtualService does about it.

use std::time::Duration;

use anyhow::ensure;
use lateen_e2e::{
    Idle, Mesh, eventually, inside,
    web::{self, Web},
};
use serde_json::json;

use super::shared;

const PORT: u16 = 8000;

/// A service of two pods, one of which is no good, and a client.
struct Stage {
    good: Idle,
    bad: Idle,
    client: Idle,
    ip: String,
}

impl Stage {
    async fn set(mesh: &Mesh) -> anyhow::Result<Stage> {
        mesh.apply(&service()).await?;
        let labels = || json!({"group": "shaky"});
        Ok(Stage {
            good: Idle::with_labels(mesh, "shaky-good", labels()).await?,
            bad: Idle::with_labels(mesh, "shaky-bad", labels()).await?,
            client: Idle::start(mesh, "shaky-client").await?,
            ip: mesh.cluster_ip("shaky").await?,
        })
    }

    async fn get(&self) -> anyhow::Result<u16> {
        let stream = self.client.connect(inside::at(&self.ip, PORT)?).await?;
        Ok(web::get(stream, "shaky", "/", &[]).await?.0)
    }

    async fn clear(self, mesh: &Mesh, rule: &str) -> anyhow::Result<()> {
        mesh.delete(rule).await?;
        mesh.delete(&service()).await?;
        for pod in [self.good, self.bad, self.client] {
            pod.remove(mesh).await?;
        }
        Ok(())
    }
}

fn service() -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "shaky"},
        "spec": {"selector": {"group": "shaky"}, "ports": [{"name": "http", "port": PORT}]},
    })
    .to_string()
}

pub(crate) async fn a_failing_pod_is_left_out(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    const RULE: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shaky}
spec:
  host: shaky
  trafficPolicy:
    outlierDetection:
      consecutive5xxErrors: 3
      interval: 1s
      baseEjectionTime: 600s
      maxEjectionPercent: 100
";
    let mesh = shared(mesh);
    let stage = Stage::set(mesh).await?;
    let good = Web::serve(stage.good.listen(PORT).await?, 200, "good", Duration::ZERO);
    let bad = Web::serve(stage.bad.listen(PORT).await?, 500, "bad", Duration::ZERO);
    let result = async {
        eventually("the bad pod to be asked", async || {
            stage.get().await?;
            ensure!(!bad.seen().is_empty() && !good.seen().is_empty(), "not yet");
            Ok(())
        })
        .await?;
        mesh.apply(RULE).await?;
        eventually("the bad pod to be left out", async || {
            let n_asked = bad.seen().len();
            for _ in 0..40 {
                let status = stage.get().await?;
                ensure!(status == 200, "{status}");
            }
            ensure!(bad.seen().len() == n_asked, "it is still asked");
            Ok(())
        })
        .await?;
        let clusters = mesh
            .pod_get("default", &stage.client.name, 15000, "/clusters")
            .await?;
        let ejected = clusters.lines().find(|line| {
            line.contains(&stage.bad.ip) && line.contains("health_flags::/failed_outlier_check")
        });
        ensure!(ejected.is_some(), "no pod is ejected in\n{clusters}");
        Ok(())
    }
    .await;
    drop((good, bad));
    stage.clear(mesh, RULE).await?;
    result
}

pub(crate) async fn a_pod_that_hangs_costs_a_try(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    const RULE: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shaky}
spec:
  hosts: [shaky]
  http:
  - route: [{destination: {host: shaky}}]
    timeout: 20s
    retries: {attempts: 3, perTryTimeout: 500ms, retryOn: 5xx}
";
    let mesh = shared(mesh);
    let stage = Stage::set(mesh).await?;
    let hour = Duration::from_secs(3600);
    let good = Web::serve(stage.good.listen(PORT).await?, 200, "good", Duration::ZERO);
    let bad = Web::serve(stage.bad.listen(PORT).await?, 200, "bad", hour);
    let result = async {
        mesh.apply(RULE).await?;
        eventually("requests to be tried again", async || {
            let n_asked = bad.seen().len();
            for _ in 0..12 {
                // Requests that came before the rule hang: those are given up.
                let status = tokio::time::timeout(Duration::from_secs(25), stage.get()).await??;
                ensure!(status == 200, "{status}");
            }
            ensure!(bad.seen().len() > n_asked, "the bad pod was not asked");
            Ok(())
        })
        .await?;
        let attempts = good.seen().into_iter().filter_map(|seen| {
            let count = seen.headers.get("x-envoy-attempt-count")?;
            count.to_str().ok()?.parse::<u32>().ok()
        });
        let most = attempts.max();
        ensure!(most >= Some(2), "the most attempts were {most:?}");
        Ok(())
    }
    .await;
    drop((good, bad));
    stage.clear(mesh, RULE).await?;
    result
}
