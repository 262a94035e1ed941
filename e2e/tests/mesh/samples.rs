//! The public samples beside Bookinfo: their files work unchanged, and the traffic does what they say.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use kube::{Api, ResourceExt, api::PostParams};
use lateen_e2e::{Idle, Mesh, eventually, inside, samples::sample, web};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use super::shared;

/// Applies files, runs the test, and deletes what they made. Does nothing where the files are absent.
async fn with(
    mesh: &Mesh,
    files: &[&str],
    test: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut texts = Vec::new();
    for file in files {
        let Some(text) = sample(file)? else {
            return Ok(());
        };
        texts.push(text);
    }
    let tested = async {
        for text in &texts {
            mesh.apply(text).await?;
        }
        test().await
    }
    .await;
    for text in texts.iter().rev() {
        mesh.delete(text).await?;
    }
    tested
}

/// The one pod with this label `app`, once it is ready, and a process in its network namespace.
async fn pod(mesh: &Mesh, app: &str, container: &str) -> anyhow::Result<(Pod, i32)> {
    let mut pods = mesh.wait_ready("default", &format!("app={app}"), 1).await?;
    let pod = pods.pop().context("one pod was waited for")?;
    let component = format!("default/{}/{container}", pod.name_any());
    // The status that names processes is written a moment after the pod's.
    let pid = eventually("the pod's process", async || mesh.pid(&component)).await?;
    Ok((pod, pid))
}

pub(crate) async fn helloworld_comes_in_two_versions(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let files = [
        "helloworld/helloworld.yaml",
        "helloworld/helloworld-gateway.yaml",
    ];
    with(mesh, &files, async || {
        mesh.wait_ready("default", "app=helloworld", 2).await?;
        let http = mesh.gateway();
        eventually("both versions to say hello", async || {
            let mut seen = BTreeMap::<_, usize>::new();
            for _ in 0..20 {
                let answer = http.get("/hello").await?;
                ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
                let version = answer.body.split(',').next().unwrap_or_default();
                *seen.entry(version.to_owned()).or_default() += 1;
            }
            let versions: Vec<_> = seen.keys().map(String::as_str).collect();
            ensure!(
                versions == ["Hello version: v1", "Hello version: v2"],
                "{seen:?}"
            );
            Ok(())
        })
        .await
    })
    .await
}

pub(crate) async fn httpbin_sees_who_asks(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let files = [
        "httpbin/httpbin.yaml",
        "curl/curl.yaml",
        "httpbin/httpbin-gateway.yaml",
    ];
    with(mesh, &files, async || {
        mesh.wait_ready("default", "app=httpbin", 1).await?;
        let http = mesh.gateway();
        eventually("the gateway to lead to httpbin", async || {
            let answer = http.get("/status/418").await?;
            ensure!(answer.status == 418, "{} {}", answer.status, answer.body);
            Ok(())
        })
        .await?;
        let body: Value = serde_json::from_str(&http.get("/headers").await?.body)?;
        certificate(&body, "/sa/istio-ingressgateway-service-account")?;
        let (_, client) = pod(mesh, "curl", "curl").await?;
        let address = inside::at(&mesh.cluster_ip("httpbin").await?, 8000)?;
        let stream = inside::connect(client, address).await?;
        let (status, body) = web::get(stream, "httpbin:8000", "/headers", &[]).await?;
        ensure!(status == 200, "{status} {body}");
        certificate(&serde_json::from_str(&body)?, "/sa/curl")
    })
    .await
}

/// httpbin's sidecar says who both ends are, by their certificates.
fn certificate(body: &Value, client: &str) -> anyhow::Result<()> {
    let header = body.pointer("/headers/X-Forwarded-Client-Cert/0");
    let header = header.and_then(Value::as_str).unwrap_or_default();
    let by = "By=spiffe://cluster.local/ns/default/sa/httpbin;";
    ensure!(
        header.contains(by) && header.ends_with(client),
        "{client:?} is not in {body:#}"
    );
    Ok(())
}

pub(crate) async fn tcp_echo_shifts_connections(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let files = [
        "tcp-echo/tcp-echo-services.yaml",
        "tcp-echo/tcp-echo-all-v1.yaml",
    ];
    with(mesh, &files, async || {
        mesh.wait_ready("default", "app=tcp-echo", 2).await?;
        let gateways: Api<Service> = Api::namespaced(mesh.client().await?, "istio-system");
        let before = gateways.get("istio-ingressgateway").await?;
        open_port(&gateways, before.clone()).await?;
        let client = Idle::outsider(mesh, "tcp-echo-client").await?;
        let result = connections(mesh, &client, &before).await;
        client.remove(mesh).await?;
        let mut now = gateways.get("istio-ingressgateway").await?;
        now.spec = before.spec;
        let name = now.name_any();
        gateways
            .replace(&name, &PostParams::default(), &now)
            .await?;
        result
    })
    .await
}

/// Opens the sample's port, which the gateway of the demo profile has, to the Service.
async fn open_port(gateways: &Api<Service>, mut gateway: Service) -> anyhow::Result<()> {
    let spec = gateway.spec.get_or_insert_default();
    spec.ports.get_or_insert_default().push(ServicePort {
        name: Some("tcp".into()),
        port: 31400,
        ..ServicePort::default()
    });
    let name = gateway.name_any();
    gateways
        .replace(&name, &PostParams::default(), &gateway)
        .await?;
    Ok(())
}

async fn connections(mesh: &Mesh, client: &Idle, gateway: &Service) -> anyhow::Result<()> {
    let address = gateway
        .spec
        .as_ref()
        .and_then(|spec| spec.cluster_ip.as_deref());
    let gateway = inside::at(address.context("the gateway has no address")?, 31400)?;
    let answers = async |n: usize| {
        let mut seen = BTreeMap::<String, usize>::new();
        for _ in 0..n {
            let mut stream = BufReader::new(client.connect(gateway).await?);
            stream.write_all(b"hello\n").await?;
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            *seen.entry(line).or_default() += 1;
        }
        Ok::<_, anyhow::Error>(seen)
    };
    eventually("all connections to go to v1", async || {
        let seen = answers(20).await?;
        ensure!(seen.keys().eq(["one hello\n"]), "{seen:?}");
        Ok(())
    })
    .await?;
    with(mesh, &["tcp-echo/tcp-echo-20-v2.yaml"], async || {
        eventually("a fifth of the connections to go to v2", async || {
            let seen = answers(100).await?;
            let n = seen.get("two hello\n").copied().unwrap_or_default();
            ensure!(seen.len() == 2 && (5..=40).contains(&n), "{seen:?}");
            Ok(())
        })
        .await
    })
    .await
}

pub(crate) async fn websockets_pass_the_gateway(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let files = ["websockets/app.yaml", "websockets/route.yaml"];
    with(mesh, &files, async || {
        mesh.wait_ready("default", "app=tornado", 1).await?;
        let mut socket = eventually("the page's connection", async || {
            let stream = tokio::net::TcpStream::connect(mesh.http).await?;
            let url = format!("ws://{}/ws", mesh.http);
            let (socket, _) = tokio_tungstenite::client_async(url, stream).await?;
            Ok(socket)
        })
        .await?;
        let answer = mesh.gateway().get("/api?id=1&value=hello").await?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
        let message = tokio::time::timeout(lateen_e2e::PATIENCE, socket.next()).await?;
        let message = message.context("the connection ended")??;
        let change: Value = serde_json::from_str(message.to_text()?)?;
        ensure!(
            change == serde_json::json!({"id": "1", "value": "hello"}),
            "{change}"
        );
        socket.close(None).await?;
        Ok(())
    })
    .await
}

pub(crate) async fn probes_pass_the_sidecar(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let files = [
        "health-check/liveness-command.yaml",
        "health-check/liveness-http-same-port.yaml",
    ];
    with(mesh, &files, async || {
        let (by_http, _) = pod(mesh, "liveness-http", "liveness-http").await?;
        let probe = "/app-health/liveness-http/livez";
        let answer = mesh
            .pod_get("default", &by_http.name_any(), 15020, probe)
            .await?;
        ensure!(answer == "healthy\n", "the probe says {answer:?}");
        let (by_command, _) = pod(mesh, "liveness", "liveness").await?;
        let name = by_command.name_any();
        let look = ["cat", "/tmp/healthy"];
        mesh.run_in("default", &name, "liveness", &look).await?;
        Ok(())
    })
    .await
}
