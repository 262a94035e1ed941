//! Pods that were made before the plugin was on the node: their networks have no rules, and their
//! container that checks fails, again and again. The rules are written now, and it ends well the next
//! time. Nothing is deleted, and nothing is written to the API server.

use std::{
    fs::{self, File},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use lateen_telemetry::metrics::{Counter, Family};
use nix::ifaddrs::getifaddrs;
use tracing::{error, info};

use super::{
    network::{is_same, within_open},
    pod,
};

/// Looks after the pods of a node, for as long as the process lives.
pub(super) async fn keep(
    client: Client,
    node: String,
    processes: PathBuf,
    repaired: Arc<Family<Counter>>,
) {
    let pods: Api<Pod> = Api::all(client);
    let of_node = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
    let pods = watcher(pods, of_node).default_backoff().applied_objects();
    let mut pods = std::pin::pin!(pods);
    // A pod that was not repaired is seen again when its container has failed once more.
    while let Some(pod) = pods.next().await {
        let pod = match pod {
            Ok(pod) if pod::is_broken(&pod) => pod,
            Ok(_) => continue,
            Err(error) => {
                error!(%error, "pods of the node are not seen now");
                continue;
            }
        };
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let processes = processes.clone();
        let work = tokio::task::spawn_blocking(move || repair(&processes, &pod)).await;
        let outcome = match work.unwrap_or_else(|panic| Err(anyhow::Error::new(panic))) {
            Ok(()) => {
                info!(
                    namespace,
                    name, "traffic of a pod is captured that was there before the plugin"
                );
                "success"
            }
            Err(error) => {
                error!(
                    namespace,
                    name, "traffic of a pod is not captured: {error:#}"
                );
                "fail"
            }
        };
        repaired.with(&["repair".into(), outcome.into()]).inc();
    }
}

/// Writes the rules into the network of a pod.
fn repair(processes: &Path, pod: &Pod) -> anyhow::Result<()> {
    let config = pod::capture(pod)?.context("it has no container that checks")?;
    let uid = pod.metadata.uid.as_deref().context("it has no UID")?;
    let (path, network) = network_of(processes, uid)?;
    let addresses = addresses(pod);
    within_open(&path, &network, || {
        // Processes come and go; the address says once more that it is the pod's network.
        if !has_one_of(&addresses)? {
            bail!("{} has none of its addresses {addresses:?}", path.display());
        }
        lateen_capture::apply(&config).context("cannot write the rules")
    })?
}

fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let status = pod.status.as_ref();
    let all = status.and_then(|status| status.pod_ips.as_ref());
    let all = all.into_iter().flatten().map(|it| it.ip.as_str());
    let first = status.and_then(|status| status.pod_ip.as_deref());
    all.chain(first).filter_map(|it| it.parse().ok()).collect()
}

/// Whether an interface of the calling thread's network has one of these addresses.
fn has_one_of(addresses: &[IpAddr]) -> anyhow::Result<bool> {
    let held = getifaddrs().context("cannot list the addresses of its network")?;
    let mut held = held.filter_map(|interface| interface.address);
    Ok(held.any(|address| {
        let four = address.as_sockaddr_in().map(|it| IpAddr::from(it.ip()));
        let six = address.as_sockaddr_in6().map(|it| IpAddr::from(it.ip()));
        four.or(six).is_some_and(|it| addresses.contains(&it))
    }))
}

/// The network of a pod, by a process of it: the one that only holds the network runs as long as the pod is
/// there.
fn network_of(processes: &Path, uid: &str) -> anyhow::Result<(PathBuf, File)> {
    let entries = fs::read_dir(processes).context("cannot list the processes of the node")?;
    for entry in entries.flatten() {
        let process = entry.path();
        if !is_of(&process, uid) {
            continue;
        }
        let path = process.join("ns/net");
        let Ok(network) = File::open(&path) else {
            continue;
        };
        let is_of_node = is_same(&network, &processes.join("1/ns/net")).unwrap_or(true);
        // Meanwhile the number may have become another process's.
        if !is_of_node && is_of(&process, uid) {
            return Ok((path, network));
        }
    }
    bail!("no process of it is seen; the DaemonSet needs hostPID")
}

/// Whether a process is of a pod, by its control groups, whose names have the UID: with hyphens as
/// cgroupfs writes it, or with underscores as systemd does.
fn is_of(process: &Path, uid: &str) -> bool {
    let groups = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
    !uid.is_empty() && (groups.contains(uid) || groups.contains(&uid.replace('-', "_")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_pod_is_found_by_its_processes() {
        let folder = tempfile::tempdir().expect("a folder");
        let process = |number: &str, groups: &str, network: &Path| {
            let path = folder.path().join(number);
            fs::create_dir_all(path.join("ns")).expect("made");
            fs::write(path.join("cgroup"), groups).expect("written");
            symlink(network, path.join("ns/net")).expect("linked");
        };
        let network = |name: &str| {
            let path = folder.path().join(name);
            fs::write(&path, name).expect("written");
            path
        };
        let (node, one, two) = (network("node"), network("one"), network("two"));
        process("1", "0::/init.scope\n", &node);
        process("20", "0::/kubepods/pod11-22/a\n", &one);
        process("21", "0::/../kubepods-pod33_44.slice/cri-b.scope\n", &two);
        // A pod of the node's network has none of its own.
        process("22", "0::/kubepods/pod55-66/a\n", &node);
        let found = |uid: &str| network_of(folder.path(), uid).map(|(path, _)| path);
        assert_eq!(
            found("11-22").expect("found"),
            folder.path().join("20/ns/net")
        );
        assert_eq!(
            found("33-44").expect("found"),
            folder.path().join("21/ns/net")
        );
        for uid in ["55-66", "77-88", ""] {
            let error = found(uid).expect_err(uid).to_string();
            assert!(error.contains("hostPID"), "{error}");
        }
    }
}
