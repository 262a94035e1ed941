//! The public sample of gRPC without a proxy: its file works unchanged, each pod's agent answers for
//! the control plane, and the answers follow the rules.

use std::{collections::BTreeSet, os::fd::AsRawFd, path::PathBuf};

use anyhow::{Context, ensure};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use lateen_e2e::{Mesh, PATIENCE, eventually, samples::sample};
use lateen_xds::types::{
    core::Node,
    discovery::{
        DiscoveryRequest, aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    },
};
use serde_json::Value;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use super::shared;

const NAMESPACE: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: echo-grpc, labels: {istio-injection: enabled}}
";
const RULES: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: echo, namespace: echo-grpc}
spec:
  host: echo.echo-grpc.svc.cluster.local
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: echo, namespace: echo-grpc}
spec:
  hosts: [echo.echo-grpc.svc.cluster.local]
  http:
  - route:
    - {destination: {host: echo.echo-grpc.svc.cluster.local, subset: v1}, weight: 20}
    - {destination: {host: echo.echo-grpc.svc.cluster.local, subset: v2}, weight: 80}
";
/// What a client that dials `xds:///…` asks for.
const TARGET: &str = "echo.echo-grpc.svc.cluster.local:7070";
const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";

pub(crate) async fn grpc_echo_has_its_agents(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let Some(file) = sample("grpc-echo/grpc-echo.yaml")? else {
        return Ok(());
    };
    let tested = async {
        mesh.apply(NAMESPACE).await?;
        mesh.apply(&file).await?;
        let pods = mesh.wait_ready("echo-grpc", "app=echo", 2).await?;
        every_port_answers(mesh, &pods[0].name_any()).await?;
        the_agent_answers(mesh, &pods[0]).await
    }
    .await;
    mesh.delete(RULES).await?;
    mesh.delete(&file).await?;
    mesh.delete(NAMESPACE).await?;
    tested
}

/// Both versions over every protocol of the Service, asked by the client that is in the image.
async fn every_port_answers(mesh: &Mesh, pod: &str) -> anyhow::Result<()> {
    let both = BTreeSet::from(["v1".to_owned(), "v2".to_owned()]);
    for url in [
        "grpc://echo.echo-grpc.svc.cluster.local:7070",
        "http://echo.echo-grpc.svc.cluster.local",
    ] {
        // A client keeps its connection, and a connection has one end.
        let mut seen = BTreeSet::new();
        eventually(&format!("both versions at {url}"), async || {
            let ask = ["client", url];
            let said = mesh.run_in("echo-grpc", pod, "app", &ask).await?;
            let version = |line: &str| {
                line.split_once("ServiceVersion=")
                    .map(|(_, v)| v.to_owned())
            };
            seen.extend(said.lines().find_map(version));
            ensure!(seen == both, "{seen:?} so far: {said}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

async fn the_agent_answers(mesh: &Mesh, pod: &Pod) -> anyhow::Result<()> {
    let name = pod.name_any();
    let file = "/etc/istio/proxy/grpc-bootstrap.json";
    let bootstrap = mesh
        .run_in("echo-grpc", &name, "app", &["cat", file])
        .await?;
    let bootstrap: Value = serde_json::from_str(&bootstrap)?;
    let server = &bootstrap["xds_servers"][0]["server_uri"];
    ensure!(*server == "unix:///etc/istio/proxy/XDS", "{bootstrap:#}");
    // What is mounted there, as the platform sees it; by a short name, as a socket's has to be.
    let uid = pod.uid().context("a pod has an identity")?;
    let run = mesh.kubeconfig()?.with_file_name("run");
    let root = PathBuf::from(format!("/proc/{}/root", mesh.pid("platform")?));
    let volume = run.join("pods").join(uid).join("volumes/istio-xds");
    let folder = root.join(volume.strip_prefix("/")?);
    let folder = std::fs::File::open(&folder).with_context(|| format!("{}", folder.display()))?;
    let socket = format!("/proc/self/fd/{}/XDS", folder.as_raw_fd());
    let node: Node = lateen_xds::json::from_value(bootstrap["node"].clone())?;
    let channel = Endpoint::from_static("http://agent")
        .connect_with_connector(tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        }))
        .await?;
    let listener = ask(&channel, &node, LISTENER, TARGET).await?;
    let routes = &listener["api_listener"]["api_listener"]["rds"]["route_config_name"];
    let routes = routes
        .as_str()
        .with_context(|| format!("{listener:#}"))?
        .to_owned();
    mesh.apply(RULES).await?;
    eventually("the rules to be in the agent's answer", async || {
        let found = ask(&channel, &node, ROUTES, &routes).await?;
        let hosts = found["virtual_hosts"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let clusters =
            &hosts.first().context("no host")?["routes"][0]["route"]["weighted_clusters"];
        let share = |(subset, weight): (&str, u32)| {
            let name = format!("outbound|7070|{subset}|echo.echo-grpc.svc.cluster.local");
            clusters["clusters"].as_array().is_some_and(|all| {
                all.iter()
                    .any(|one| one["name"] == name.as_str() && one["weight"] == weight)
            })
        };
        ensure!([("v1", 20), ("v2", 80)].into_iter().all(share), "{found:#}");
        Ok(())
    })
    .await
}

/// The one resource of a name, as gRPC's libraries ask for it.
async fn ask(channel: &Channel, node: &Node, kind: &str, name: &str) -> anyhow::Result<Value> {
    let request = DiscoveryRequest {
        node: Some(node.clone()),
        type_url: kind.to_owned(),
        resource_names: vec![name.to_owned()],
        ..DiscoveryRequest::default()
    };
    let requests =
        tokio_stream::StreamExt::chain(tokio_stream::once(request), tokio_stream::pending());
    let mut client = AggregatedDiscoveryServiceClient::new(channel.clone());
    let answer = async {
        let mut answers = client
            .stream_aggregated_resources(requests)
            .await?
            .into_inner();
        answers.message().await?.context("the stream ended")
    };
    let answer = tokio::time::timeout(PATIENCE, answer).await??;
    let resource = answer.resources.first().context("no resource")?;
    Ok(lateen_xds::json::any_to_value(resource)?)
}
