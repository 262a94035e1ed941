//! One container's life: image, start, hooks, probes, end, and again.

mod stop;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, SecurityContext};
use kube::ResourceExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::backoff::RestartBackoff;
use super::board::{ContainerState, Phase, Terminated};
use super::pod::PodContext;
use super::probe::{self, Verdict};
use super::{env, hooks, logs};
use crate::Error;
use crate::container::process::{self, Exit, Running};
use crate::container::{Capabilities, ContainerSpec, scratch_dir};
use crate::images::how_to_map;
use crate::state::base_dir;
use k8s_openapi::api::core::v1::LifecycleHandler;

/// How often an image without a mapping is looked up again.
const IMAGE_RETRY: Duration = Duration::from_secs(1);
/// How often a configuration that cannot be resolved is tried again.
const CONFIG_RETRY: Duration = Duration::from_secs(1);

/// Which part a container plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Init,
    Sidecar,
    Main,
}

/// How a container ended for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Succeeded,
    Failed,
    Stopped,
}

/// Runs one container.
pub(super) struct ContainerTask {
    context: Arc<PodContext>,
    container: Container,
    kind: Kind,
    stop: CancellationToken,
    started: CancellationToken,
    settled: CancellationToken,
}

/// A container that runs, with what is needed to talk to it.
struct Run {
    running: Running,
    spec: ContainerSpec,
    id: String,
    since: Timestamp,
}

impl ContainerTask {
    pub(super) fn new(
        context: &Arc<PodContext>,
        container: &Container,
        kind: Kind,
        stop: CancellationToken,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            container: container.clone(),
            kind,
            stop,
            started: CancellationToken::new(),
            settled: CancellationToken::new(),
        }
    }

    /// Cancelled once the next container may start: this one has, and its postStart hook is done;
    /// or it will not start before something changes.
    pub(super) fn settled(&self) -> CancellationToken {
        self.settled.clone()
    }

    /// Cancelled once the container has started (and its startup probe has passed).
    pub(super) fn started(&self) -> CancellationToken {
        self.started.clone()
    }

    pub(super) async fn run(self) -> End {
        let _settled = self.settled.clone().drop_guard();
        let mut backoff = RestartBackoff::default();
        let mut first = true;
        loop {
            let begun = Instant::now();
            let Some(end) = self.once(first).await else {
                return End::Stopped;
            };
            first = false;
            let success = end.code == 0;
            self.record_end(end);
            if self.stop.is_cancelled() {
                return End::Stopped;
            }
            if !self.starts_again(success) {
                return if success { End::Succeeded } else { End::Failed };
            }
            if !self.pause(backoff.after(begun.elapsed())).await {
                return End::Stopped;
            }
        }
    }

    /// Whether a container that ended is started again.
    fn starts_again(&self, success: bool) -> bool {
        let policy = self
            .context
            .spec()
            .restart_policy
            .as_deref()
            .unwrap_or("Always");
        match (self.kind, policy) {
            (Kind::Sidecar, _) | (Kind::Main, "Always") => true,
            (Kind::Init, "Always") | (_, "OnFailure") => !success,
            _ => false,
        }
    }

    async fn pause(&self, delay: Duration) -> bool {
        if delay.is_zero() {
            return true;
        }
        let name = &self.container.name;
        let message = format!("back-off {delay:?} restarting failed container={name}");
        self.context.warning(
            "BackOff",
            format!("Back-off restarting failed container {name}"),
        );
        self.waiting("CrashLoopBackOff", Some(message));
        self.sleep(delay).await
    }

    /// Sleeps; `false` when the container is to stop instead.
    async fn sleep(&self, delay: Duration) -> bool {
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = tokio::time::sleep(delay) => true,
        }
    }

    fn waiting(&self, reason: &str, message: Option<String>) {
        self.settled.cancel();
        self.context.board.container(&self.container.name, |state| {
            keep_last(state);
            state.phase = Phase::Waiting {
                reason: reason.to_owned(),
                message,
            };
            state.ready = false;
        });
    }

    fn record_end(&self, end: Terminated) {
        let completed_init = self.kind == Kind::Init && end.code == 0;
        self.context.board.container(&self.container.name, |state| {
            state.phase = Phase::Terminated(end);
            state.ready = completed_init;
            state.started = false;
            state.pid = 0;
        });
    }

    /// One run, from the image to the end; `None` when it was stopped before it started.
    async fn once(&self, first: bool) -> Option<Terminated> {
        let argv = self.image().await?;
        let spec = self.specification(argv).await?;
        let begun = Timestamp::now();
        match self.start(spec, first).await {
            Ok(run) => Some(self.attend(run).await),
            Err(error) => {
                self.settled.cancel();
                let message = error.to_string();
                self.context.warning("Failed", format!("Error: {message}"));
                Some(Terminated {
                    code: 128,
                    signal: None,
                    reason: "StartError".into(),
                    message: Some(message),
                    started: begun,
                    finished: Timestamp::now(),
                    id: String::new(),
                })
            }
        }
    }

    /// The command line; waits for as long as nothing maps the image.
    async fn image(&self) -> Option<Vec<String>> {
        let image = self.container.image.clone().unwrap_or_default();
        let mut told = false;
        loop {
            let entrypoint = match self.context.kubelet.images.resolve(&image) {
                Ok(Some(command)) => command,
                Ok(None) => {
                    let message = how_to_map(&image, self.context.kubelet.state.name());
                    if told {
                        self.waiting("ImagePullBackOff", Some(message));
                    } else {
                        self.context.warning("Failed", message.clone());
                        self.context.warning("Failed", "Error: ErrImagePull");
                        self.waiting("ErrImagePull", Some(message));
                        told = true;
                    }
                    if !self.sleep(IMAGE_RETRY).await {
                        return None;
                    }
                    continue;
                }
                Err(error) => {
                    self.waiting("ErrImagePull", Some(error.to_string()));
                    if !self.sleep(IMAGE_RETRY).await {
                        return None;
                    }
                    continue;
                }
            };
            return Some(self.command_line(entrypoint));
        }
    }

    /// A pod's `command` replaces the image's, its `args` follow either.
    fn command_line(&self, entrypoint: Vec<String>) -> Vec<String> {
        let mut argv = self
            .container
            .command
            .clone()
            .filter(|command| !command.is_empty())
            .unwrap_or(entrypoint);
        argv.extend(self.container.args.clone().unwrap_or_default());
        argv
    }

    async fn specification(&self, argv: Vec<String>) -> Option<ContainerSpec> {
        loop {
            match self.resolve(&argv).await {
                Ok(spec) => return Some(spec),
                Err(error) => {
                    self.context.warning("Failed", format!("Error: {error}"));
                    self.waiting("CreateContainerConfigError", Some(error.to_string()));
                }
            }
            if !self.sleep(CONFIG_RETRY).await {
                return None;
            }
        }
    }

    async fn resolve(&self, argv: &[String]) -> Result<ContainerSpec, Error> {
        let context = &self.context;
        let env = env::resolve(context, &self.container).await?;
        let argv = argv.iter().map(|arg| env::expand(arg, &env)).collect();
        let mounts = context.volumes.mounts(&self.container, &env)?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let scratch = scratch_dir(&context.kubelet.state.run_dir(), &id);
        std::fs::create_dir_all(&scratch).map_err(Error::io("create a scratch directory"))?;
        let pod = context.spec().security_context.clone().unwrap_or_default();
        let own = self.container.security_context.clone().unwrap_or_default();
        let id_of = |own: Option<i64>, pod: Option<i64>| {
            u32::try_from(own.or(pod).unwrap_or(0)).unwrap_or(0)
        };
        let groups = pod
            .supplemental_groups
            .into_iter()
            .flatten()
            .chain(pod.fs_group);
        Ok(ContainerSpec {
            scratch,
            lateen: process::this_program()?,
            hidden: vec![context.kubelet.state.path().to_owned(), base_dir()],
            mounts,
            argv,
            env,
            cwd: self.container.working_dir.clone(),
            uid: id_of(own.run_as_user, pod.run_as_user),
            gid: id_of(own.run_as_group, pod.run_as_group),
            groups: groups.filter_map(|gid| u32::try_from(gid).ok()).collect(),
            users: context.net.users()?,
            capabilities: capabilities(&own),
        })
    }

    async fn start(&self, spec: ContainerSpec, first: bool) -> Result<Run, Error> {
        let name = &self.container.name;
        let (running, stdout, stderr) =
            process::start(Arc::clone(&self.context.net), &spec).await?;
        let id = format!(
            "lateen://{}",
            spec.scratch
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
        );
        let since = Timestamp::now();
        let mut restarts = 0;
        let is_up = self.container.startup_probe.is_none() && self.post_start().is_none();
        let has_readiness = self.container.readiness_probe.is_some();
        self.context.board.container(name, |state| {
            keep_last(state);
            state.restarts += i32::from(!first);
            restarts = state.restarts;
            state.phase = Phase::Running { since };
            state.started = is_up;
            state.ready = is_up && !has_readiness && self.kind != Kind::Init;
            state.id.clone_from(&id);
            state.pid = running.pid;
            state.image_id = format!(
                "lateen://{}",
                self.container.image.as_deref().unwrap_or_default()
            );
        });
        if is_up {
            self.started.cancel();
        }
        let file = logs::open(
            &self.context.kubelet.state,
            &self.context.pod,
            name,
            restarts,
        )?;
        logs::pump(file, stdout, stderr);
        self.context
            .normal("Created", format!("Created container {name}"));
        self.context
            .normal("Started", format!("Started container {name}"));
        Ok(Run {
            running,
            spec,
            id,
            since,
        })
    }

    /// Stays with a running container until its end.
    async fn attend(&self, mut run: Run) -> Terminated {
        let scratch: PathBuf = run.spec.scratch.clone();
        let (verdict_tx, mut verdict_rx) = mpsc::channel(16);
        let target =
            hooks::Target::new(&self.context, &self.container, &run.spec, run.running.init);
        let pod = &self.context.pod;
        self.context.kubelet.executor.enlist(
            (pod.namespace().unwrap_or_default(), pod.name_any()),
            self.container.name.clone(),
            run.running.init,
            target.spec(),
        );
        // Ends with the run; the sender here is kept so that `recv` never ends before.
        let mut observing = Box::pin(self.observe(&target, &verdict_tx));
        let mut observed = false;
        let exit = loop {
            tokio::select! {
                exit = run.running.wait() => break exit,
                () = self.stop.cancelled() => {
                    self.context.normal("Killing", format!("Stopping container {}", self.container.name));
                    let end = self.context.end();
                    break self.terminate(&mut run, &target, end).await;
                }
                Some(verdict) = verdict_rx.recv() => if let Some(reason) = self.judge(verdict) {
                    self.context.normal("Killing", reason);
                    let end = tokio::time::Instant::now() + self.context.grace();
                    break self.terminate(&mut run, &target, end).await;
                },
                () = &mut observing, if !observed => observed = true,
            }
        };
        self.settled.cancel();
        let _ = std::fs::remove_dir_all(scratch);
        ended(&run, exit)
    }

    fn post_start(&self) -> Option<&LifecycleHandler> {
        self.container.lifecycle.as_ref()?.post_start.as_ref()
    }

    /// The hook, and then the probes: before the hook is done, a container does not count as running.
    async fn observe(&self, target: &hooks::Target, verdict_tx: &mpsc::Sender<Verdict>) {
        if let Some(hook) = self.post_start() {
            let succeeded = hooks::post_start(hook, target, verdict_tx).await;
            if succeeded && self.container.startup_probe.is_none() {
                // The other end is there for as long as this runs.
                let _ = verdict_tx.send(Verdict::Started).await;
            }
        }
        self.settled.cancel();
        probe::run(&self.container, target, verdict_tx).await;
    }

    /// Takes a probe's verdict; `Some` when the container has to be killed for it.
    fn judge(&self, verdict: Verdict) -> Option<String> {
        let name = &self.container.name;
        match verdict {
            Verdict::Started => {
                let has_readiness = self.container.readiness_probe.is_some();
                self.context.board.container(name, |state| {
                    state.started = true;
                    state.ready |= !has_readiness;
                });
                self.started.cancel();
                None
            }
            Verdict::Ready(ready) => {
                self.context
                    .board
                    .container(name, |state| state.ready = ready);
                None
            }
            Verdict::Unhealthy { probe, message } => {
                self.context
                    .warning("Unhealthy", format!("{probe} probe failed: {message}"));
                None
            }
            Verdict::Kill(reason) => Some(format!("Container {name} {reason}, will be restarted")),
        }
    }
}

/// What is over becomes the last state.
fn keep_last(state: &mut ContainerState) {
    if let Phase::Terminated(end) = &state.phase {
        state.last = Some(end.clone());
    }
}

fn ended(run: &Run, exit: Result<Exit, Error>) -> Terminated {
    let (code, signal, reason, message) = match exit {
        Ok(Exit { code: 0, .. }) => (0, None, "Completed", None),
        Ok(Exit { code, signal }) => (code, signal, "Error", None),
        Err(error) => (128, None, "StartError", Some(error.to_string())),
    };
    Terminated {
        code,
        signal,
        reason: reason.to_owned(),
        message,
        started: run.since,
        finished: Timestamp::now(),
        id: run.id.clone(),
    }
}

fn capabilities(context: &SecurityContext) -> Capabilities {
    let wanted = context.capabilities.clone().unwrap_or_default();
    Capabilities {
        privileged: context.privileged.unwrap_or(false),
        add: wanted.add.unwrap_or_default(),
        drop: wanted.drop.unwrap_or_default(),
    }
}
