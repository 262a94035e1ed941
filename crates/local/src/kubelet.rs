//! The node: runs the pods that are bound to it and reports what became of them.
//!
//! One task watches pods and gives each its own worker ([`pod`]); a worker owns everything of its pod and
//! tells the API server through one status writer ([`board`]). Nothing polls but probes.

mod backoff;
mod board;
mod container;
mod dialer;
mod env;
mod exec;
mod hooks;
mod logs;
mod node;
mod pod;
mod probe;
mod status;
mod volumes;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ResourceExt};
use kube::runtime::watcher::{self, Event};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::events::Recorder;
use crate::images::Images;
use crate::net::{NODE_IP, NodeNet, POD_CIDR, Pool};
use crate::state::{Component, StateDir};
use board::Board;
pub(crate) use dialer::Dialer;
pub(crate) use exec::Executor;
pub(crate) use logs::ContainerLogs;
pub(crate) use node::{register as register_node, renew_lease, schedule};
use pod::Worker;

/// Name of the only node.
pub const NODE_NAME: &str = "lateen";

/// The node's annotation that names the pool of virtual addresses, `first-last`.
pub const VIP_POOL: &str = "lateen.io/vip-pool";

/// Longest grace that a pod gets when the whole platform stops.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

/// What all workers share.
pub(crate) struct Kubelet {
    pub(crate) client: kube::Client,
    pub(crate) net: NodeNet,
    pub(crate) images: Images,
    pub(crate) state: StateDir,
    pub(crate) events: Recorder,
    pub(crate) dialer: Dialer,
    pub(crate) executor: Executor,
    addresses: Mutex<Pool>,
    boards: Mutex<HashMap<String, Arc<Board>>>,
}

impl Kubelet {
    pub(crate) fn new(
        client: kube::Client,
        net: NodeNet,
        state: StateDir,
        events: Recorder,
        dialer: Dialer,
        executor: Executor,
    ) -> Self {
        let base = u32::from(POD_CIDR.0);
        let last = base + (1 << (32 - u32::from(POD_CIDR.1))) - 2;
        Self {
            client,
            net,
            images: Images::at(state.images_file()),
            state,
            events,
            dialer,
            executor,
            addresses: Mutex::new(Pool::new((u32::from(NODE_IP) + 1).into(), last.into())),
            boards: Mutex::default(),
        }
    }

    /// Runs pods until `shutdown`, then stops them all; their objects stay for the next start.
    pub(crate) async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut workers = Workers::default();
        let pods: Api<Pod> = Api::all(self.client.clone());
        let stream = watcher::watcher(pods, watcher::Config::default());
        let mut stream = std::pin::pin!(kube::runtime::WatchStreamExt::default_backoff(stream));
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                event = stream.try_next() => match event {
                    Ok(Some(event)) => workers.handle(&self, event),
                    Ok(None) => break,
                    Err(error) => warn!(%error, "watching pods"),
                },
                Some(_) = workers.tasks.join_next(), if !workers.tasks.is_empty() => {}
            }
        }
        info!("stopping all pods");
        workers.stop().await;
    }

    /// The processes of all containers, for `status.json`.
    pub(crate) fn components(&self) -> Vec<Component> {
        let boards = self.boards.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<Component> = boards
            .values()
            .flat_map(|board| board.components())
            .collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list
    }

    fn take_address(&self) -> Option<Ipv4Addr> {
        self.addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn give_back(&self, address: Ipv4Addr) {
        self.addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .give_back(address);
    }

    fn enlist(&self, uid: &str, board: Option<Arc<Board>>) {
        let mut boards = self.boards.lock().unwrap_or_else(PoisonError::into_inner);
        match board {
            Some(board) => boards.insert(uid.to_owned(), board),
            None => boards.remove(uid),
        };
    }

    /// Directory of a pod's volumes and generated files, on the platform's private tmpfs.
    fn pod_dir(&self, uid: &str) -> PathBuf {
        self.state.run_dir().join("pods").join(uid)
    }
}

#[derive(Default)]
struct Workers {
    by_uid: HashMap<String, tokio::sync::watch::Sender<Arc<Pod>>>,
    /// Uids seen in a listing that is under way.
    listed: Vec<String>,
    tasks: JoinSet<()>,
    stop_all: CancellationToken,
}

impl Workers {
    fn handle(&mut self, kubelet: &Arc<Kubelet>, event: Event<Pod>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(pod) => {
                self.listed.extend(pod.uid());
                self.apply(kubelet, pod);
            }
            // A pod that went while the watch was broken is in no listing.
            Event::InitDone => self.by_uid.retain(|uid, _| self.listed.contains(uid)),
            Event::Apply(pod) => self.apply(kubelet, pod),
            // Dropping the sender tells the worker that its object is gone.
            Event::Delete(pod) => {
                if let Some(uid) = pod.uid() {
                    self.by_uid.remove(&uid);
                }
            }
        }
    }

    fn apply(&mut self, kubelet: &Arc<Kubelet>, pod: Pod) {
        let bound = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(NODE_NAME);
        let Some(uid) = pod.uid().filter(|_| bound) else {
            return;
        };
        let pod = Arc::new(pod);
        if let Some(sender) = self.by_uid.get(&uid)
            && sender.send(Arc::clone(&pod)).is_ok()
        {
            return;
        }
        if status::is_terminal(&pod) && pod.metadata.deletion_timestamp.is_none() {
            return;
        }
        let (pod_tx, pod_rx) = tokio::sync::watch::channel(pod);
        self.by_uid.insert(uid, pod_tx);
        let worker = Worker::new(Arc::clone(kubelet), pod_rx, self.stop_all.child_token());
        self.tasks.spawn(worker.run());
    }

    async fn stop(mut self) {
        self.stop_all.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_GRACE + Duration::from_secs(1), all)
            .await
            .is_err()
        {
            warn!("some pods did not end in time and are killed");
        }
    }
}
