//! Ports of pods, forwarded by every `kubectl`: directly by SPDY as old ones do, and in a WebSocket.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use lateen_e2e::{Kubectl, Mesh, http::Http};

use super::{alone, block_on};

const IMAGE: &str = "example.com/web:1";

/// Serves a large file, and nothing on port 9.
const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: example.com/web:1
    args: [-c, 'mkdir /w; cd /w; echo hello > word; head -c 3000000 /dev/zero > large; exec python3 -m http.server 8080']
    readinessProbe: {httpGet: {path: /word, port: 8080}, periodSeconds: 1}
";

#[test]
fn ports_of_pods_are_forwarded() -> anyhow::Result<()> {
    let _alone = alone();
    let mesh = Mesh::platform("forward")?;
    mesh.lateen_ok(&["image", "add", "--name", &mesh.name, IMAGE, "--", "sh"])?;
    block_on(async {
        mesh.apply(POD).await?;
        for kubectl in mesh.needed_kubectls()? {
            kubectl.run(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"])?;
            whole_answers_come_through(&kubectl).await?;
            what_does_not_listen_is_said(&kubectl).await?;
        }
        Ok(())
    })?;
    mesh.stop().map(drop)
}

async fn whole_answers_come_through(kubectl: &Kubectl) -> anyhow::Result<()> {
    let forward = kubectl.forward(&["pod/web", ":8080"])?;
    let http = Http::new(forward.address());
    // One after the other, and several at once: each is a connection of its own.
    for _ in 0..3 {
        let answer = http.get("/word").await?;
        ensure!(
            answer.status == 200 && answer.body == "hello\n",
            "{answer:?}"
        );
    }
    let many = (0..8).map(|_| async {
        let answer = http.get("/large").await?;
        ensure!(
            answer.body.len() == 3_000_000,
            "{} bytes",
            answer.body.len()
        );
        Ok::<_, anyhow::Error>(())
    });
    for done in futures::future::join_all(many).await {
        done?;
    }
    Ok(())
}

async fn what_does_not_listen_is_said(kubectl: &Kubectl) -> anyhow::Result<()> {
    let forward = kubectl.forward(&["pod/web", ":9"])?;
    let answer = Http::new(forward.address()).get("/").await;
    ensure!(answer.is_err(), "{answer:?}");
    let said = forward.said_until("cannot reach port 9 of pod web", Duration::from_secs(30));
    said.context("the reason is not told").map(drop)
}
