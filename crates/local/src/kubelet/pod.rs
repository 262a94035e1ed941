//! One pod's life, from its sandbox to the removal of its object.

use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod, PodSpec};
use kube::Resource;
use kube::api::{Api, DeleteParams, Preconditions, ResourceExt};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::board::Board;
use super::container::{ContainerTask, End, Kind};
use super::volumes::Volumes;
use super::{Kubelet, SHUTDOWN_GRACE, status};
use crate::Error;
use crate::net::PodNet;

const COMPONENT: &str = "kubelet";
/// Pause before a failed step is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A year, in seconds: users may write numbers that no clock holds.
const LONGEST_GRACE: u64 = 365 * 86_400;

/// Owns one pod.
pub(super) struct Worker {
    kubelet: Arc<Kubelet>,
    pod_rx: watch::Receiver<Arc<Pod>>,
    platform_stops: CancellationToken,
}

/// Why a pod stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopped {
    /// Its object was marked, and waits to be removed.
    Deleted,
    /// Its object is no more.
    Gone,
    /// It will run again.
    WithThePlatform,
}

/// What all containers of a pod share.
pub(super) struct PodContext {
    pub(super) kubelet: Arc<Kubelet>,
    pub(super) pod: Arc<Pod>,
    pub(super) board: Arc<Board>,
    pub(super) net: Arc<PodNet>,
    pub(super) volumes: Volumes,
    /// Seconds that containers get to end.
    pub(super) grace: Arc<AtomicU64>,
    /// When the first container was told to stop.
    stopping: OnceLock<Instant>,
}

impl PodContext {
    pub(super) fn spec(&self) -> &PodSpec {
        self.pod.spec.as_ref().expect("a bound pod has a spec")
    }

    pub(super) fn normal(&self, reason: &str, message: impl Into<String>) {
        self.kubelet
            .events
            .normal(COMPONENT, &reference(&self.pod), reason, message);
    }

    pub(super) fn warning(&self, reason: &str, message: impl Into<String>) {
        self.kubelet
            .events
            .warning(COMPONENT, &reference(&self.pod), reason, message);
    }

    pub(super) fn grace(&self) -> Duration {
        Duration::from_secs(self.grace.load(Ordering::Relaxed).min(LONGEST_GRACE))
    }

    /// When the grace of the pod is over, which all its containers share.
    pub(super) fn end(&self) -> Instant {
        *self.stopping.get_or_init(Instant::now) + self.grace()
    }
}

/// How events name a pod.
pub(super) fn reference(pod: &Pod) -> ObjectReference {
    pod.object_ref(&())
}

impl Worker {
    pub(super) fn new(
        kubelet: Arc<Kubelet>,
        pod_rx: watch::Receiver<Arc<Pod>>,
        platform_stops: CancellationToken,
    ) -> Self {
        Self {
            kubelet,
            pod_rx,
            platform_stops,
        }
    }

    /// Runs the pod until it has ended or is deleted.
    pub(super) async fn run(self) {
        let pod = self.pod_rx.borrow().clone();
        let uid = pod.uid().unwrap_or_default();
        let board = Board::new(&pod);
        self.kubelet.enlist(&uid, Some(Arc::clone(&board)));
        let writer =
            tokio::spawn(Arc::clone(&board).write(self.kubelet.client.clone(), Arc::clone(&pod)));
        let grace = Arc::new(AtomicU64::new(spec_grace(&pod)));
        let stop = CancellationToken::new();
        let ended = CancellationToken::new();
        let live = async {
            self.live(&pod, &board, &grace, &stop).await;
            ended.cancel();
        };
        let stopped = async {
            let stopped = self.until_stopped(&grace, &stop).await;
            let shorten = self.shorten_grace(&grace);
            ended.run_until_cancelled(shorten).await;
            stopped
        };
        let stopped = tokio::join!(live, stopped).1;
        if stopped == Stopped::Deleted {
            self.remove_object(&pod).await;
        }
        if stopped != Stopped::WithThePlatform {
            super::logs::forget(&self.kubelet.state, &pod);
        }
        self.kubelet.enlist(&uid, None);
        writer.abort();
        let _ = std::fs::remove_dir_all(self.kubelet.pod_dir(&uid));
    }

    /// Waits until the pod is to stop, says so to `stop`, and why.
    async fn until_stopped(&self, grace: &AtomicU64, stop: &CancellationToken) -> Stopped {
        let mut pod_rx = self.pod_rx.clone();
        loop {
            let pod = pod_rx.borrow_and_update().clone();
            if pod.metadata.deletion_timestamp.is_some() {
                let seconds = pod.metadata.deletion_grace_period_seconds.unwrap_or(30);
                grace.store(u64::try_from(seconds).unwrap_or(0), Ordering::Relaxed);
                stop.cancel();
                return Stopped::Deleted;
            }
            tokio::select! {
                () = self.platform_stops.cancelled() => {
                    grace.fetch_min(SHUTDOWN_GRACE.as_secs(), Ordering::Relaxed);
                    stop.cancel();
                    return Stopped::WithThePlatform;
                }
                changed = pod_rx.changed() => if changed.is_err() {
                    // The object is gone already: nobody waits for a graceful end.
                    grace.store(0, Ordering::Relaxed);
                    stop.cancel();
                    return Stopped::Gone;
                }
            }
        }
    }

    /// A second deletion, or the end of the platform, may leave containers less time than the first.
    async fn shorten_grace(&self, grace: &AtomicU64) {
        let mut pod_rx = self.pod_rx.clone();
        loop {
            tokio::select! {
                () = self.platform_stops.cancelled() => {
                    grace.fetch_min(SHUTDOWN_GRACE.as_secs(), Ordering::Relaxed);
                    return;
                }
                changed = pod_rx.changed() => {
                    let seconds = match changed {
                        Ok(()) => pod_rx.borrow_and_update().metadata.deletion_grace_period_seconds,
                        // Removed by force.
                        Err(_) => Some(0),
                    };
                    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
                    grace.fetch_min(seconds.unwrap_or(u64::MAX), Ordering::Relaxed);
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn live(
        &self,
        pod: &Arc<Pod>,
        board: &Arc<Board>,
        grace: &Arc<AtomicU64>,
        stop: &CancellationToken,
    ) {
        let Some(context) = self.prepare(pod, board, grace, stop).await else {
            return;
        };
        let ip = context.net.ip;
        let context = Arc::new(context);
        let refresh = tokio::spawn(super::volumes::keep_fresh(Arc::clone(&context)));
        let end = run_containers(&context, stop).await;
        refresh.abort();
        if let Some(phase) = end {
            board.update(|state| state.terminal = Some(phase));
            debug!(pod = pod.name_any(), phase, "the pod has ended");
        }
        drop(context);
        self.kubelet.give_back(ip);
    }

    /// Sandbox and volumes; tried again until they are there or the pod is to stop.
    async fn prepare(
        &self,
        pod: &Arc<Pod>,
        board: &Arc<Board>,
        grace: &Arc<AtomicU64>,
        stop: &CancellationToken,
    ) -> Option<PodContext> {
        let spec = pod.spec.clone().unwrap_or_default();
        if spec.host_network == Some(true)
            || spec.host_pid == Some(true)
            || spec.host_ipc == Some(true)
        {
            board.update(|state| {
                state.terminal = Some("Failed");
                state.reason = Some("NotSupported".into());
                state.message = Some(
                    "hostNetwork, hostPID and hostIPC are not supported by this platform".into(),
                );
            });
            return None;
        }
        let events = &self.kubelet.events;
        let warn = |reason: &str, error: &Error| {
            events.warning(COMPONENT, &reference(pod), reason, error.to_string())
        };
        let sandbox = retry(
            stop,
            || sandbox(&self.kubelet, pod, &spec),
            |error| warn("FailedCreatePodSandBox", error),
        );
        let net = Arc::new(sandbox.await?);
        self.kubelet
            .dialer
            .enlist(pod.namespace().unwrap_or_default(), pod.name_any(), &net);
        let dir: PathBuf = self.kubelet.pod_dir(&pod.uid().unwrap_or_default());
        let volumes = || Volumes::prepare(&self.kubelet, pod, &net, &dir);
        let volumes = retry(stop, volumes, |error| warn("FailedMount", error)).await;
        let Some(volumes) = volumes else {
            self.kubelet.give_back(net.ip);
            return None;
        };
        board.update(|state| state.ip = Some(net.ip));
        Some(PodContext {
            kubelet: Arc::clone(&self.kubelet),
            pod: Arc::clone(pod),
            board: Arc::clone(board),
            net,
            volumes,
            grace: Arc::clone(grace),
            stopping: OnceLock::new(),
        })
    }

    /// The last step of a graceful deletion.
    async fn remove_object(&self, pod: &Pod) {
        let api: Api<Pod> = Api::namespaced(
            self.kubelet.client.clone(),
            &pod.namespace().unwrap_or_default(),
        );
        let params = DeleteParams::default()
            .grace_period(0)
            .preconditions(Preconditions {
                uid: pod.uid(),
                resource_version: None,
            });
        for _ in 0..10 {
            match api.delete(&pod.name_any(), &params).await {
                Ok(_) => return info!(pod = pod.name_any(), "removed"),
                Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => return,
                Err(error) => warn!(pod = pod.name_any(), %error, "cannot remove the pod's object"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

fn spec_grace(pod: &Pod) -> u64 {
    let seconds = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.termination_grace_period_seconds);
    u64::try_from(seconds.unwrap_or(30)).unwrap_or(30)
}

async fn sandbox(kubelet: &Kubelet, pod: &Pod, spec: &PodSpec) -> Result<PodNet, Error> {
    let ip = kubelet
        .take_address()
        .ok_or_else(|| Error::NoPodAddress("10.244.0.0/16".into()))?;
    let hostname = spec.hostname.clone().unwrap_or_else(|| pod.name_any());
    // The kernel's limit; Kubernetes cuts there as well.
    let hostname: String = hostname.chars().take(63).collect();
    let hostname = hostname.trim_end_matches(['-', '.']);
    let own_users = spec.host_users == Some(false);
    let net = PodNet::create(&kubelet.net, hostname, ip, own_users).await;
    net.inspect_err(|_| kubelet.give_back(ip))
}

/// Repeats `step` until it succeeds; `None` when `stop` comes first.
async fn retry<T, F, S>(stop: &CancellationToken, step: S, failed: impl Fn(&Error)) -> Option<T>
where
    S: Fn() -> F,
    F: Future<Output = Result<T, Error>>,
{
    loop {
        let attempt = tokio::select! {
            () = stop.cancelled() => return None,
            attempt = step() => attempt,
        };
        match attempt {
            Ok(value) => return Some(value),
            Err(error) => failed(&error),
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

/// Runs all containers in order; the pod's last phase, unless it was stopped.
async fn run_containers(
    context: &Arc<PodContext>,
    stop: &CancellationToken,
) -> Option<&'static str> {
    let spec = context.spec();
    // Sidecars outlive the others: they end when these have, the last one first.
    let mut sidecars = Vec::new();
    let outcome = async {
        for container in spec.init_containers.iter().flatten() {
            if status::is_sidecar(container) {
                start_sidecar(context, container, &mut sidecars, stop).await?;
                continue;
            }
            let task = ContainerTask::new(context, container, Kind::Init, stop.clone());
            match task.run().await {
                End::Succeeded => {}
                End::Failed => return Some("Failed"),
                End::Stopped => return None,
            }
        }
        context.board.update(|state| state.initialized = true);
        run_main(context, stop).await
    }
    .await;
    while let Some((sidecar_stop, sidecar)) = sidecars.pop() {
        sidecar_stop.cancel();
        if let Err(error) = sidecar.await {
            warn!(%error, "a sidecar's task failed");
        }
    }
    outcome
}

async fn start_sidecar(
    context: &Arc<PodContext>,
    container: &Container,
    sidecars: &mut Vec<(CancellationToken, JoinHandle<End>)>,
    stop: &CancellationToken,
) -> Option<()> {
    let sidecar_stop = CancellationToken::new();
    let task = ContainerTask::new(context, container, Kind::Sidecar, sidecar_stop.clone());
    let started = task.started();
    sidecars.push((sidecar_stop, tokio::spawn(task.run())));
    tokio::select! {
        () = stop.cancelled() => None,
        () = started.cancelled() => Some(()),
    }
}

async fn run_main(context: &Arc<PodContext>, stop: &CancellationToken) -> Option<&'static str> {
    let mut tasks = JoinSet::new();
    let mut phase = Some("Succeeded");
    for container in &context.spec().containers {
        let task = ContainerTask::new(context, container, Kind::Main, stop.clone());
        let settled = task.settled();
        tasks.spawn(task.run());
        // One after the other, each after the postStart hook of the one before: what
        // `holdApplicationUntilProxyStarts` builds on.
        tokio::select! {
            () = settled.cancelled() => {}
            () = stop.cancelled() => {
                phase = None;
                break;
            }
        }
    }
    while let Some(end) = tasks.join_next().await {
        match end {
            Ok(End::Succeeded) => {}
            Ok(End::Failed) => phase = phase.map(|_| "Failed"),
            Ok(End::Stopped) | Err(_) => phase = None,
        }
    }
    phase
}
