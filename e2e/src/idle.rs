//! Pods that do nothing, for tests that are client and server themselves (see [`crate::inside`]).

use std::net::SocketAddr;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::{Api, api::DeleteParams};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::{Mesh, eventually, inside};

/// The image of these pods, which each mesh is taught once.
const IMAGE: &str = "idle";

/// A running pod with one idle container, and a sidecar unless it was asked to do without.
#[derive(Debug)]
pub struct Idle {
    /// The pod's name, which is its label `app` too.
    pub name: String,
    /// The pod's address.
    pub ip: String,
    pid: i32,
}

impl Idle {
    /// A pod in the mesh, whose label `version` is `v1`.
    pub async fn start(mesh: &Mesh, name: &str) -> anyhow::Result<Idle> {
        Self::with_labels(mesh, name, json!({"version": "v1"})).await
    }

    /// A pod outside of the mesh.
    pub async fn outsider(mesh: &Mesh, name: &str) -> anyhow::Result<Idle> {
        Self::with_labels(mesh, name, json!({"sidecar.istio.io/inject": "false"})).await
    }

    /// A pod with labels beside `app`.
    pub async fn with_labels(
        mesh: &Mesh,
        name: &str,
        labels: serde_json::Value,
    ) -> anyhow::Result<Idle> {
        Self::annotated(mesh, name, labels, json!({})).await
    }

    /// A pod with labels beside `app`, and annotations.
    pub async fn annotated(
        mesh: &Mesh,
        name: &str,
        mut labels: serde_json::Value,
        annotations: serde_json::Value,
    ) -> anyhow::Result<Idle> {
        let sleep = ["add", IMAGE, "--", "/bin/sleep", "infinity"];
        mesh.lateen_ok(&[&["image", "--name", &mesh.name], &sleep[..]].concat())?;
        labels["app"] = json!(name);
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": labels, "annotations": annotations},
            "spec": {
                "containers": [{"name": "main", "image": IMAGE}],
                "terminationGracePeriodSeconds": 1,
            },
        });
        mesh.apply(&pod.to_string()).await?;
        let pods = mesh
            .wait_ready("default", &format!("app={name}"), 1)
            .await?;
        let status = pods[0].status.clone().unwrap_or_default();
        Ok(Idle {
            name: name.to_owned(),
            ip: status.pod_ip.context("a ready pod has an address")?,
            // The status that names processes is written a moment after the pod's.
            pid: eventually("the pod's process", async || {
                mesh.pid(&format!("default/{name}/main"))
            })
            .await?,
        })
    }

    /// Connects as a program in the pod would.
    pub async fn connect(&self, address: SocketAddr) -> anyhow::Result<TcpStream> {
        inside::connect(self.pid, address).await
    }

    /// Listens as a program in the pod would.
    pub async fn listen(&self, port: u16) -> anyhow::Result<TcpListener> {
        inside::listen(self.pid, port).await
    }

    /// A socket for datagrams, as a program in the pod would have it; port 0 is a free one.
    pub async fn datagrams(&self, port: u16) -> anyhow::Result<UdpSocket> {
        inside::datagrams(self.pid, port).await
    }

    /// Deletes the pod and waits until it is gone.
    pub async fn remove(self, mesh: &Mesh) -> anyhow::Result<()> {
        let pods: Api<Pod> = Api::default_namespaced(mesh.client().await?);
        pods.delete(&self.name, &DeleteParams::default()).await?;
        eventually(&format!("pod {} to go", self.name), async || {
            match pods.get_opt(&self.name).await? {
                None => Ok(()),
                Some(_) => bail!("it is still there"),
            }
        })
        .await
    }

    /// What the sidecar has counted.
    pub async fn metrics(&self, mesh: &Mesh) -> anyhow::Result<String> {
        mesh.pod_get("default", &self.name, 15020, "/stats/prometheus")
            .await
    }
}

/// A Service before the pods of this `app`, with ports of these names; every port leads to itself.
pub fn service(name: &str, app: &str, ports: &[(&str, u16)]) -> String {
    let ports = ports
        .iter()
        .map(|(name, port)| json!({"name": name, "port": port, "targetPort": port}));
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": app}, "ports": ports.collect::<Vec<_>>()},
    })
    .to_string()
}

impl Mesh {
    /// The address of a Service inside the cluster.
    pub async fn cluster_ip(&self, service: &str) -> anyhow::Result<String> {
        let services: Api<Service> = Api::default_namespaced(self.client().await?);
        let spec = services.get(service).await?.spec.unwrap_or_default();
        spec.cluster_ip.context("the Service has no address")
    }
}

/// Demands that the first series of this name with all of these labels, each as `name="value"`, has
/// come to a value; the error shows what there is of that name.
pub fn demand(metrics: &str, name: &str, labels: &[&str], least: f64) -> anyhow::Result<()> {
    let of_name = |line: &&str| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('{'))
    };
    let found = metrics
        .lines()
        .filter(of_name)
        .find(|line| labels.iter().all(|label| line.contains(label)));
    let value = found.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    if value >= Some(least) {
        return Ok(());
    }
    let all: Vec<_> = metrics.lines().filter(of_name).collect();
    bail!("{name} with {labels:?} is {value:?} instead of {least}: {all:#?}")
}
