//! The one Node object, its lease, and the binding of pods to it.

use std::time::Duration;

use futures::TryStreamExt;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams, ResourceExt};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{NODE_NAME, VIP_POOL};
use crate::Error;
use crate::events::Recorder;
use crate::net::{NODE_IP, POD_CIDR};

/// How often the lease says that the node lives.
const RENEW: Duration = Duration::from_secs(10);
/// Pause before a pod that could not be bound is tried again.
const REBIND: Duration = Duration::from_secs(1);
const FIELD_MANAGER: &str = "lateen-node";

/// Creates or refreshes the Node object, which also says which pool services get their addresses from.
pub(crate) async fn register(client: &kube::Client, vip_pool: &str) -> Result<(), Error> {
    let api: Api<Node> = Api::all(client.clone());
    let (pods, prefix) = POD_CIDR;
    let cidr = format!("{pods}/{prefix}");
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": NODE_NAME, "labels": {
            "kubernetes.io/hostname": NODE_NAME, "kubernetes.io/os": "linux",
            "kubernetes.io/arch": arch(), "node-role.kubernetes.io/control-plane": "",
        }},
        "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
    }))
    .expect("a fixed node");
    if api.get_opt(NODE_NAME).await?.is_none() {
        api.create(&PostParams::default(), &node).await?;
    }
    let pool = json!({"metadata": {"annotations": {VIP_POOL: vip_pool}}});
    api.patch(NODE_NAME, &PatchParams::default(), &Patch::Merge(pool))
        .await?;
    let patch = Patch::Merge(json!({"status": status()}));
    api.patch_status(NODE_NAME, &PatchParams::default(), &patch)
        .await?;
    Ok(())
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn status() -> Value {
    let now = Time(Timestamp::now());
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": message,
               "lastHeartbeatTime": now, "lastTransitionTime": now})
    };
    let read = |path: &str| {
        std::fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = read("/proc/meminfo");
    let memory = memory
        .split_ascii_whitespace()
        .nth(1)
        .unwrap_or("0")
        .to_owned();
    let capacity =
        json!({"cpu": cpus.to_string(), "memory": format!("{memory}Ki"), "pods": "1000"});
    json!({
        "addresses": [{"type": "InternalIP", "address": NODE_IP.to_string()}, {"type": "Hostname", "address": NODE_NAME}],
        "capacity": capacity, "allocatable": capacity,
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "memory is not watched by this node"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "disks are not watched by this node"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID", "pids are not watched by this node"),
            condition("Ready", "True", "KubeletReady", "the node is posting ready status"),
        ],
        "nodeInfo": {
            "architecture": arch(), "operatingSystem": "linux", "kernelVersion": read("/proc/sys/kernel/osrelease"),
            "osImage": "Linux", "kubeletVersion": concat!("v1.32.0+lateen-", env!("CARGO_PKG_VERSION")),
            "kubeProxyVersion": "", "containerRuntimeVersion": concat!("lateen://", env!("CARGO_PKG_VERSION")),
            "bootID": read("/proc/sys/kernel/random/boot_id"), "machineID": read("/etc/machine-id"), "systemUUID": "",
        },
    })
}

/// Renews the node's lease until `shutdown`.
pub(crate) async fn renew_lease(client: kube::Client, shutdown: CancellationToken) {
    let api: Api<Lease> = Api::namespaced(client, "kube-node-lease");
    loop {
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(NODE_NAME.into()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(NODE_NAME.into()),
                lease_duration_seconds: Some(40),
                renew_time: Some(MicroTime(Timestamp::now())),
                ..LeaseSpec::default()
            }),
        };
        let patched = api
            .patch(
                NODE_NAME,
                &PatchParams::apply(FIELD_MANAGER).force(),
                &Patch::Apply(&lease),
            )
            .await;
        if let Err(error) = patched {
            warn!(%error, "cannot renew the node's lease");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(RENEW) => {}
        }
    }
}

/// Binds every pod that asks for no other node.
pub(crate) async fn schedule(client: kube::Client, events: Recorder, shutdown: CancellationToken) {
    let pods: Api<Pod> = Api::all(client.clone());
    let stream =
        watcher(pods, watcher::Config::default().fields("spec.nodeName=")).default_backoff();
    let mut stream = std::pin::pin!(stream.applied_objects());
    loop {
        let next = tokio::select! {
            () = shutdown.cancelled() => return,
            next = stream.try_next() => next,
        };
        match next {
            Ok(Some(pod)) => {
                if let Err(error) = bind(&client, &pod, &events).await {
                    warn!(pod = pod.name_any(), %error, "cannot bind the pod, trying again");
                    let again = bind_later(client.clone(), pod, events.clone());
                    tokio::spawn(shutdown.clone().run_until_cancelled_owned(again));
                }
            }
            Ok(None) => return,
            Err(error) => warn!(%error, "watching pods to bind"),
        }
    }
}

/// Binds a pod of which there will be no more news until it is bound.
async fn bind_later(client: kube::Client, pod: Pod, events: Recorder) {
    loop {
        tokio::time::sleep(REBIND).await;
        match bind(&client, &pod, &events).await {
            Ok(()) => return,
            Err(error) => warn!(pod = pod.name_any(), %error, "still cannot bind the pod"),
        }
    }
}

async fn bind(client: &kube::Client, pod: &Pod, events: &Recorder) -> Result<(), Error> {
    let unbound = pod
        .spec
        .as_ref()
        .is_some_and(|spec| spec.node_name.is_none());
    if !unbound || pod.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let patch = json!({"metadata": {"uid": pod.metadata.uid}, "spec": {"nodeName": NODE_NAME}});
    let answer = api
        .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
        .await;
    match answer {
        Ok(_) => {
            let message = format!("Successfully assigned {namespace}/{name} to {NODE_NAME}");
            events.normal(
                "default-scheduler",
                &super::pod::reference(pod),
                "Scheduled",
                message,
            );
            Ok(())
        }
        // Bound or deleted in the meantime.
        Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => Ok(()),
        Err(error) => Err(error.into()),
    }
}
