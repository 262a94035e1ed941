//! A platform for one test, and what is asked of it.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::net::TcpListener;
use std::process::Child;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Pod, Service};
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::api::{Api, ListParams, LogParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use lateen_local::images::Images;
use lateen_local::launch::Launch;
use lateen_local::state::{Component, ProcessId, StateDir};
use nix::sys::signal::{Signal, kill as send};
use nix::unistd::Pid;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Nothing here may take longer, also on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// A platform that is stopped and removed at the end of its test.
pub(crate) struct Mesh {
    state: StateDir,
    launcher: Child,
    _dir: tempfile::TempDir,
    name: String,
}

/// The view of one namespace through the API.
pub(crate) struct View<'a> {
    mesh: &'a Mesh,
    client: kube::Client,
    namespace: String,
}

impl Mesh {
    /// Runs a test on a fresh platform.
    pub(crate) fn run(name: &str, test: impl AsyncFnOnce(&View<'_>)) {
        Self::start(name).block_on(test);
    }

    pub(crate) fn start(name: &str) -> Self {
        lateen_tls::install_provider();
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::at(dir.path().join("state"));
        state.create().unwrap();
        Images::at(state.images_file())
            .add("sh", &["/bin/sh".to_owned()])
            .unwrap();
        let launcher = launch(name, &state);
        let mesh = Self {
            state,
            launcher,
            _dir: dir,
            name: name.to_owned(),
        };
        mesh.wait_running();
        mesh
    }

    /// Starts the platform again on the same files.
    pub(crate) fn restart(&mut self) {
        let _ = self.launcher.wait();
        std::fs::remove_file(self.state.status_file()).unwrap();
        self.launcher = launch(&self.name, &self.state);
        self.wait_running();
    }

    fn wait_running(&self) {
        let begun = Instant::now();
        loop {
            let status = self.state.status().unwrap().unwrap_or_default();
            if status.state == "running" {
                return;
            }
            let log = std::fs::read_to_string(self.state.log_file()).unwrap_or_default();
            assert!(
                begun.elapsed() < PATIENCE && !status.state.starts_with("failed"),
                "{}\n{log}",
                status.state
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn block_on(&self, test: impl AsyncFnOnce(&View<'_>)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let file = Kubeconfig::read_from(self.state.kubeconfig()).unwrap();
            let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .unwrap();
            let client = kube::Client::try_from(config).unwrap();
            let view = View {
                mesh: self,
                client,
                namespace: "default".into(),
            };
            test(&view).await;
        });
    }

    pub(crate) fn kill_launcher(&self) {
        kill(i32::try_from(self.launcher.id()).unwrap());
    }

    pub(crate) fn component(&self, name: &str) -> Component {
        let begun = Instant::now();
        loop {
            let status = self.state.status().unwrap().unwrap_or_default();
            match status
                .components
                .into_iter()
                .find(|one| one.name == name && one.pid > 0)
            {
                Some(component) => return component,
                None => assert!(begun.elapsed() < PATIENCE, "no process {name}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.state.log_file()).unwrap_or_default();
            println!("--- log of the platform\n{log}---");
            print_all(&self.state.logs_dir());
        }
        self.state.stop().unwrap();
        let _ = self.launcher.wait();
        self.state.clean().unwrap();
    }
}

/// What the containers said, for a test that failed.
fn print_all(dir: &std::path::Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            print_all(&path);
        } else {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            println!("--- {}\n{text}---", path.display());
        }
    }
}

fn launch(name: &str, state: &StateDir) -> Child {
    let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
    let launch = Launch {
        name: name.to_owned(),
        state: state.clone(),
        api: bind(),
        http: bind(),
        vip_pool: "10.10.99.148-10.10.99.155".into(),
    };
    launch.spawn().unwrap()
}

impl View<'_> {
    pub(crate) fn in_namespace(&self, namespace: &str) -> View<'_> {
        View {
            mesh: self.mesh,
            client: self.client.clone(),
            namespace: namespace.into(),
        }
    }

    pub(crate) fn images(&self) -> Images {
        Images::at(self.mesh.state.images_file())
    }

    pub(crate) fn component(&self, name: &str) -> Component {
        self.mesh.component(name)
    }

    pub(crate) fn api<K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(
        &self,
    ) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn global<K: kube::Resource<Scope = ClusterResourceScope, DynamicType = ()>>(
        &self,
    ) -> Api<K> {
        Api::all(self.client.clone())
    }

    /// Creates an object; a fresh namespace may lack its service account for a moment.
    pub(crate) async fn create<K>(&self, object: &K)
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Serialize
            + DeserializeOwned
            + Debug,
    {
        let begun = Instant::now();
        while let Err(error) = self.api::<K>().create(&PostParams::default(), object).await {
            assert!(begun.elapsed() < PATIENCE, "{error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn create_global<K>(&self, object: &K)
    where
        K: kube::Resource<Scope = ClusterResourceScope, DynamicType = ()>
            + Clone
            + Serialize
            + DeserializeOwned
            + Debug,
    {
        self.global::<K>()
            .create(&PostParams::default(), object)
            .await
            .unwrap();
    }

    /// The object once it is as wanted.
    pub(crate) async fn wait<K>(&self, what: &str, name: &str, wanted: impl Fn(&K) -> bool) -> K
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        let begun = Instant::now();
        loop {
            let found = self.api::<K>().get_opt(name).await.unwrap();
            match found {
                Some(object) if wanted(&object) => return object,
                other => assert!(begun.elapsed() < PATIENCE, "waited for {what}: {other:#?}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn wait_gone<K>(&self, what: &str, name: &str)
    where
        K: kube::Resource<Scope = ClusterResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        let begun = Instant::now();
        while let Some(object) = self.global::<K>().get_opt(name).await.unwrap() {
            assert!(begun.elapsed() < PATIENCE, "waited for {what}: {object:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn wait_absent<K>(&self, what: &str, name: &str)
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        let begun = Instant::now();
        while let Some(object) = self.api::<K>().get_opt(name).await.unwrap() {
            assert!(begun.elapsed() < PATIENCE, "waited for {what}: {object:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn wait_empty<K>(&self, what: &str)
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        let begun = Instant::now();
        loop {
            let list = self.api::<K>().list(&ListParams::default()).await.unwrap();
            if list.items.is_empty() {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "waited for {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn logs(&self, pod: &str, container: &str) -> String {
        let params = LogParams {
            container: Some(container.into()),
            ..LogParams::default()
        };
        self.api::<Pod>().logs(pod, &params).await.unwrap()
    }

    /// Messages of the events about an object.
    pub(crate) async fn events(&self, about: &str) -> Vec<String> {
        let list = self
            .api::<Event>()
            .list(&ListParams::default())
            .await
            .unwrap();
        let mine = list
            .items
            .into_iter()
            .filter(|event| event.involved_object.name.as_deref() == Some(about));
        mine.filter_map(|event| event.message).collect()
    }
}

pub(crate) fn kill(pid: i32) {
    send(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

pub(crate) fn restarts(pod: &Pod) -> i32 {
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|status| status.restart_count).sum()
}

/// The code that a container ended with, once it has.
pub(crate) fn exit_code(pod: &Pod, container: &str) -> Option<i32> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let status = statuses.iter().find(|status| status.name == container)?;
    Some(status.state.as_ref()?.terminated.as_ref()?.exit_code)
}

pub(crate) fn waiting(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    status.state.as_ref()?.waiting.as_ref()?.reason.clone()
}

pub(crate) fn virtual_ip(service: &Service) -> Option<String> {
    let status = service.status.as_ref()?.load_balancer.as_ref()?;
    status.ingress.as_ref()?.first()?.ip.clone()
}

pub(crate) fn is_rolled_out(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.replicas;
    deployment.status.as_ref().is_some_and(|status| {
        status.observed_generation == deployment.metadata.generation
            && status.updated_replicas == wanted
            && status.available_replicas == wanted
            && status.replicas == wanted
    })
}

/// What a mesh could leave on the host.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    links: BTreeSet<String>,
    mounts: BTreeSet<String>,
    processes: BTreeSet<i32>,
}

impl Snapshot {
    pub(crate) fn take() -> Self {
        let names = |path: &str| std::fs::read_dir(path).unwrap().flatten();
        let links = names("/sys/class/net")
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let exe = std::env::current_exe().unwrap();
        let pids = names("/proc").filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        // Other tests run beside this one, so only processes of this very program count.
        let ours = |pid: &i32| {
            std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|path| path == exe)
                && ProcessId::of(*pid).is_some()
        };
        Self {
            links,
            mounts: mounts.lines().map(str::to_owned).collect(),
            processes: pids.filter(ours).collect(),
        }
    }

    /// Compares with the machine as it is now; the kernel takes a moment to end what it was told to.
    pub(crate) fn assert_equals(before: &Self, after_what: &str) {
        let begun = Instant::now();
        loop {
            let now = Self::take();
            if now == *before {
                return;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(5),
                "after {after_what}: {before:#?} became {now:#?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
