//! Names that the agent answers, where queries are captured.

use anyhow::{Context, ensure};
use lateen_e2e::{Idle, Mesh, eventually, inside};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::shared;

const PORT: u16 = 9050;

/// A host outside of the mesh, known by name and behind it one server.
fn outside(host: &str, server: &Idle) -> String {
    let name = host.replace('.', "-");
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": name},
        "spec": {
            "hosts": [host],
            "location": "MESH_EXTERNAL",
            "resolution": "STATIC",
            "ports": [{"number": PORT, "name": "tcp", "protocol": "TCP"}],
            "endpoints": [{"address": server.ip}],
        },
    })
    .to_string()
}

pub(crate) async fn captured_names_are_answered(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let first = Idle::outsider(mesh, "names-first").await?;
    let second = Idle::outsider(mesh, "names-second").await?;
    let capture = json!({"proxyMetadata": {"ISTIO_META_DNS_CAPTURE": "true"}}).to_string();
    let annotations = json!({"proxy.istio.io/config": capture});
    let labels = json!({"version": "v1"});
    let client = Idle::annotated(mesh, "names-client", labels, annotations).await?;
    let hosts = [
        outside("first.outside.example", &first),
        outside("second.outside.example", &second),
    ];
    for host in &hosts {
        mesh.apply(host).await?;
    }
    let servers = [
        greet(first.listen(PORT).await?, "first"),
        greet(second.listen(PORT).await?, "second"),
    ];
    let result = check(mesh, &client).await;
    servers.iter().for_each(JoinHandle::abort);
    for host in &hosts {
        mesh.delete(host).await?;
    }
    for pod in [first, second, client] {
        pod.remove(mesh).await?;
    }
    result
}

async fn check(mesh: &Mesh, client: &Idle) -> anyhow::Result<()> {
    // One port, two hosts: the addresses that they were given tell them apart.
    for name in ["first", "second"] {
        let host = format!("{name}.outside.example");
        eventually(&format!("{host} to be reached by name"), async || {
            let ip = resolved(mesh, client, &host).await?;
            let ip = ip.context("the name is not known")?;
            ensure!(ip.starts_with("240.240."), "{host} is {ip}");
            let mut stream = client.connect(inside::at(&ip, PORT)?).await?;
            let mut said = String::new();
            stream.read_to_string(&mut said).await?;
            ensure!(said == name, "{host} is {said:?}");
            Ok(())
        })
        .await?;
    }
    // Services are known by all their names.
    let ip = mesh.cluster_ip("kubernetes").await?;
    for name in [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc.cluster.local",
    ] {
        let found = resolved(mesh, client, name).await?;
        ensure!(found.as_deref() == Some(ip.as_str()), "{name} is {found:?}");
    }
    let unknown = resolved(mesh, client, "third.outside.example").await?;
    ensure!(unknown.is_none(), "nobody is {unknown:?}");
    let page = mesh
        .pod_get("default", &client.name, 15020, "/debug/ndsz")
        .await?;
    let page: Value = serde_json::from_str(&page)?;
    let entry = &page["table"]["first.outside.example"];
    ensure!(entry["registry"] == "External", "{entry}");
    Ok(())
}

/// The address that a program in the pod finds for a name.
async fn resolved(mesh: &Mesh, pod: &Idle, name: &str) -> anyhow::Result<Option<String>> {
    let argv = ["/usr/bin/getent", "ahostsv4", name];
    let done = mesh.exec("default", &pod.name, "main", &argv, "").await?;
    // A name that is not known is no failure of the program's.
    ensure!(
        done.code.is_none() || done.code.as_deref() == Some("2"),
        "{done:?}"
    );
    let first = done.stdout.split_whitespace().next();
    Ok(first.map(str::to_owned))
}

/// Says a word to whoever comes.
fn greet(listener: TcpListener, word: &'static str) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(word.as_bytes()).await;
        }
    })
}
