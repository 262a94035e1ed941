//! Workloads that are no pods: an agent and its proxy beside a program on the node itself.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
    core::GroupVersionKind,
};
use lateen_e2e::{Idle, Mesh, eventually, inside, web};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::shared;

/// The node's own address, which no pod has.
const ADDRESS: &str = "10.244.0.1";
const ENTRY: &str = "machines-10.244.0.1";
const PORT: u16 = 8095;
const TRUST: &str = "istiod.istio-system.svc";

/// An agent on the node. It ends with this.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Agent {
    /// Starts it below a folder with the files that `lateen x workload entry configure` writes.
    async fn start(mesh: &Mesh, root: &Path) -> anyhow::Result<Agent> {
        let made = root.join("made");
        let folder = made.to_str().context("a path in letters")?;
        mesh.lateen_ok(&[
            "x",
            "workload",
            "entry",
            "configure",
            "--name",
            "machines",
            "--output",
            folder,
            "--internalIP",
            ADDRESS,
            "--ingressIP",
            ADDRESS,
            "--autoregister",
            "--capture-dns=false",
        ])?;
        let hosts = std::fs::read_to_string(made.join("hosts"))?;
        ensure!(hosts == format!("{ADDRESS} {TRUST}\n"), "{hosts}");
        // The node has no /etc/hosts of its own to write that line to, so that addresses stand for names.
        let services: Api<k8s_openapi::api::core::v1::Service> =
            Api::namespaced(mesh.client().await?, "istio-system");
        let istiod = services.get("istiod").await?.spec.unwrap_or_default();
        let istiod = istiod.cluster_ip.context("no address")?;
        for (name, path) in [
            ("root-cert.pem", "var/run/secrets/istio/root-cert.pem"),
            ("istio-token", "var/run/secrets/tokens/istio-token"),
            ("mesh.yaml", "etc/istio/config/mesh"),
            ("cluster.env", "cluster.env"),
        ] {
            let text = std::fs::read_to_string(made.join(name))?;
            let text = text.replace(&format!("{TRUST}:15012"), &format!("{istiod}:15012"));
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().context("below the root")?)?;
            std::fs::write(path, text)?;
        }
        let log = std::fs::File::create(root.join("log"))?;
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "set -a; . \"$0\"; exec \"$@\""])
            .arg(root.join("cluster.env"))
            .arg(mesh.binary())
            .args(["agent", "sidecar", "--root"])
            .arg(root)
            .env_clear()
            .env("POD_NAME", "machine")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = inside::spawn(mesh.pid("platform")?, command).await?;
        Ok(Agent(child))
    }

    /// Asks it to end, as systemd would.
    fn stop(&self) -> anyhow::Result<()> {
        Ok(kill(
            Pid::from_raw(i32::try_from(self.0.id())?),
            Signal::SIGTERM,
        )?)
    }
}

fn entries(client: Client) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk("networking.istio.io", "v1", "WorkloadEntry");
    let resource = ApiResource::from_gvk_with_plural(&gvk, "workloadentries");
    Api::default_namespaced_with(client, &resource)
}

/// Waits until the entry's condition `Healthy` says this.
async fn healthy(mesh: &Mesh, expect: &str) -> anyhow::Result<DynamicObject> {
    let entries = entries(mesh.client().await?);
    eventually(
        &format!("the machine's health to be {expect}"),
        async || {
            let entry = entries.get(ENTRY).await?;
            let conditions = entry.data["status"]["conditions"].as_array().cloned();
            let conditions = conditions.unwrap_or_default();
            let health = conditions.iter().find(|one| one["type"] == "Healthy");
            let found = health.and_then(|health| health["status"].as_str());
            ensure!(found == Some(expect), "{entry:?}");
            Ok(entry)
        },
    )
    .await
}

/// Waits until a pod that calls the service is answered so.
async fn answered(client: &Idle, ip: &str, expect: u16) -> anyhow::Result<()> {
    eventually(
        &format!("the machine's service to answer {expect}"),
        async || {
            let stream = client.connect(inside::at(ip, PORT)?).await?;
            let (status, body) = web::get(stream, "machine", "/", &[]).await?;
            ensure!(status == expect, "{status} {body}");
            ensure!(status != 200 || body == "from the machine", "{body}");
            Ok(())
        },
    )
    .await
}

pub(crate) async fn a_machine_registers_itself_and_serves_while_it_is_well(
    mesh: &Option<Mesh>,
) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let folder = tempfile::tempdir()?;
    let service = lateen_e2e::idle::service("machine", "machine", &[("http", PORT)]);
    let group = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadGroup",
        "metadata": {"name": "machines"},
        "spec": {
            "metadata": {"labels": {"app": "machine", "version": "v1"}},
            "template": {"serviceAccount": "default"},
            "probe": {
                "exec": {"command": ["/usr/bin/test", "-e", folder.path().join("well")]},
                "periodSeconds": 1,
                "failureThreshold": 1,
            },
        },
    })
    .to_string();
    mesh.apply(&service).await?;
    mesh.apply(&group).await?;
    let client = Idle::start(mesh, "machine-client").await?;
    let result = check(mesh, &client, folder.path()).await;
    let said = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
    client.remove(mesh).await?;
    mesh.delete(&group).await?;
    mesh.delete(&service).await?;
    result.with_context(|| format!("the agent said:\n{said}"))
}

async fn check(mesh: &Mesh, client: &Idle, root: &Path) -> anyhow::Result<()> {
    let listener = inside::listen(mesh.pid("platform")?, PORT).await?;
    let _web = web::Web::serve(listener, 200, "from the machine", Duration::ZERO);
    let ip = mesh.cluster_ip("machine").await?;
    let well = root.join("well");
    let agent = Agent::start(mesh, root).await?;
    let entry = healthy(mesh, "False").await?;
    let labels = entry.metadata.labels.clone().unwrap_or_default();
    let label = |key: &str| labels.get(key).map(String::as_str);
    ensure!(
        (label("app"), label("version")) == (Some("machine"), Some("v1")),
        "{labels:?}"
    );
    let spec = &entry.data["spec"];
    ensure!(
        spec["address"] == ADDRESS && spec["serviceAccount"] == "default",
        "{spec}"
    );
    answered(client, &ip, 503).await?;

    std::fs::write(&well, "")?;
    healthy(mesh, "True").await?;
    answered(client, &ip, 200).await?;

    std::fs::remove_file(&well)?;
    healthy(mesh, "False").await?;
    answered(client, &ip, 503).await?;

    std::fs::write(&well, "")?;
    answered(client, &ip, 200).await?;
    agent.stop()?;
    let entries = entries(mesh.client().await?);
    eventually("the machine's entry to be gone", async || {
        let left = entries.get_opt(ENTRY).await?;
        ensure!(left.is_none(), "{left:?}");
        Ok(())
    })
    .await?;
    answered(client, &ip, 503).await
}
