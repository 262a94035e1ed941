//! What a rule does beside choosing where a request goes: copies, and names that DNS resolves.

use std::time::Duration;

use anyhow::{Context, ensure};
use lateen_e2e::{
    Idle, Mesh, eventually,
    idle::demand,
    inside,
    web::{self, Web},
};
use serde_json::json;

use super::{envoy, shared};

const PORT: u16 = 8000;

async fn get(client: &Idle, ip: &str, host: &str, target: &str) -> anyhow::Result<(u16, String)> {
    let stream = client.connect(inside::at(ip, PORT)?).await?;
    web::get(stream, host, target, &[]).await
}

/// Version 1 answers; version 2 gets copies, and is slow and broken.
const MIRROR: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: mirrored}
spec:
  host: mirrored
  subsets:
  - {name: v1, labels: {app: mirrored-v1}}
  - {name: v2, labels: {app: mirrored-v2}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: mirrored}
spec:
  hosts: [mirrored]
  http:
  - route: [{destination: {host: mirrored, subset: v1}}]
    mirror: {host: mirrored, subset: v2}
";

pub(crate) async fn copies_go_to_the_mirror(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "mirrored"},
        "spec": {"selector": {"group": "mirrored"}, "ports": [{"name": "http", "port": PORT}]},
    })
    .to_string();
    mesh.apply(&service).await?;
    let labels = || json!({"group": "mirrored"});
    let first = Idle::with_labels(mesh, "mirrored-v1", labels()).await?;
    let second = Idle::with_labels(mesh, "mirrored-v2", labels()).await?;
    let client = Idle::start(mesh, "mirror-client").await?;
    let result = mirrored(mesh, &first, &second, &client).await;
    mesh.delete(MIRROR).await?;
    mesh.delete(&service).await?;
    for pod in [first, second, client] {
        pod.remove(mesh).await?;
    }
    result
}

async fn mirrored(mesh: &Mesh, first: &Idle, second: &Idle, client: &Idle) -> anyhow::Result<()> {
    let answering = Web::serve(first.listen(PORT).await?, 200, "first", Duration::ZERO);
    let pause = Duration::from_millis(300);
    let copied = Web::serve(second.listen(PORT).await?, 500, "second", pause);
    let ip = mesh.cluster_ip("mirrored").await?;
    mesh.apply(MIRROR).await?;
    eventually("copies", async || {
        let answer = get(client, &ip, "mirrored", "/warm").await?;
        ensure!(answer == (200, "first".to_owned()), "{answer:?}");
        ensure!(
            copied.seen().iter().any(|seen| seen.target == "/warm"),
            "none"
        );
        Ok(())
    })
    .await?;
    for n in 0..20 {
        let answer = get(client, &ip, "mirrored", &format!("/all?{n}")).await?;
        ensure!(answer == (200, "first".to_owned()), "{answer:?}");
    }
    let n_all = |web: &Web| {
        let seen = web.seen();
        seen.iter()
            .filter(|seen| seen.target.starts_with("/all"))
            .count()
    };
    eventually("all copies", async || {
        ensure!(n_all(&copied) == 20, "{}", n_all(&copied));
        Ok(())
    })
    .await?;
    ensure!(n_all(&answering) == 20, "{}", n_all(&answering));
    let seen = copied.seen();
    let host = &seen.last().context("copies")?.headers["host"];
    ensure!(host == "mirrored-shadow", "{host:?}");
    if !envoy::is_everywhere(mesh).await? {
        counted(mesh, second).await?;
    }
    some_copies(mesh, client, &ip, &copied).await
}

async fn counted(mesh: &Mesh, mirror: &Idle) -> anyhow::Result<()> {
    let what = "the mirror's sidecar to know whose copies those are";
    eventually(what, async || {
        let metrics = mirror.metrics(mesh).await?;
        let labels = [
            "reporter=\"destination\"",
            "source_workload=\"mirror-client\"",
        ];
        demand(&metrics, "istio_requests_total", &labels, 20.0)
    })
    .await
}

/// With a percentage, that share of the requests is copied: here 50 of 200 on average, with a
/// standard deviation of 6.
async fn some_copies(mesh: &Mesh, client: &Idle, ip: &str, copied: &Web) -> anyhow::Result<()> {
    let share = MIRROR.replace(
        "    mirror: {host: mirrored, subset: v2}",
        "    mirror: {host: mirrored, subset: v2}\n    mirrorPercentage: {value: 25}",
    );
    mesh.apply(&share).await?;
    eventually("fewer copies", async || {
        let before = copied.seen().len();
        for _ in 0..200 {
            get(client, ip, "mirrored", "/share").await?;
        }
        // A copy that is still to come would only make this number smaller than it is.
        let n_copies = copied.seen().len() - before;
        ensure!((15..=85).contains(&n_copies), "{n_copies} of 200");
        Ok(())
    })
    .await
}

/// Names outside of the mesh, behind which stand pods without a sidecar that DNS of the cluster
/// knows as those of a headless Service.
const NAMES: &str = "
apiVersion: v1
kind: Service
metadata: {name: legacy}
spec:
  clusterIP: None
  selector: {group: legacy}
  ports: [{name: http, port: 8000}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: strict}
spec:
  hosts: [strict.example.com]
  addresses: [240.9.9.1]
  resolution: DNS
  ports: [{number: 8000, name: http, protocol: HTTP}]
  endpoints: [{address: legacy.default.svc.cluster.local}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: logical}
spec:
  hosts: [logical.example.com]
  addresses: [240.9.9.2]
  resolution: DNS_ROUND_ROBIN
  ports: [{number: 8000, name: http, protocol: HTTP}]
  endpoints: [{address: legacy.default.svc.cluster.local}]
";

pub(crate) async fn names_are_resolved_by_the_sidecar(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let outside = || json!({"group": "legacy", "sidecar.istio.io/inject": "false"});
    let first = Idle::with_labels(mesh, "legacy-a", outside()).await?;
    let second = Idle::with_labels(mesh, "legacy-b", outside()).await?;
    let client = Idle::start(mesh, "legacy-client").await?;
    let servers = [
        Web::serve(first.listen(PORT).await?, 200, "a", Duration::ZERO),
        Web::serve(second.listen(PORT).await?, 200, "b", Duration::ZERO),
    ];
    mesh.apply(NAMES).await?;
    let result = async {
        eventually("every address of the name to be used", async || {
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..20 {
                let answer = get(&client, "240.9.9.1", "strict.example.com", "/").await?;
                ensure!(answer.0 == 200, "{answer:?}");
                seen.insert(answer.1);
            }
            ensure!(seen.iter().eq(["a", "b"]), "{seen:?}");
            Ok(())
        })
        .await?;
        eventually("the logical name to lead somewhere", async || {
            let answer = get(&client, "240.9.9.2", "logical.example.com", "/").await?;
            ensure!(answer.0 == 200, "{answer:?}");
            Ok(())
        })
        .await?;
        let dump = mesh
            .pod_get("default", &client.name, 15000, "/config_dump")
            .await?;
        for kind in ["STRICT_DNS", "LOGICAL_DNS"] {
            ensure!(dump.contains(kind), "no cluster is {kind}");
        }
        Ok(())
    }
    .await;
    drop(servers);
    mesh.delete(NAMES).await?;
    for pod in [first, second, client] {
        pod.remove(mesh).await?;
    }
    result
}
