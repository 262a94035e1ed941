//! What is known about one pod at this moment, and the one task that writes it to the API server.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams, ResourceExt};
use serde_json::json;
use tokio::sync::Notify;
use tracing::warn;

use super::status;
use crate::state::Component;

/// State of one container.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Phase {
    Waiting {
        reason: String,
        message: Option<String>,
    },
    Running {
        since: Timestamp,
    },
    Terminated(Terminated),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Terminated {
    pub(super) code: i32,
    pub(super) signal: Option<i32>,
    pub(super) reason: String,
    pub(super) message: Option<String>,
    pub(super) started: Timestamp,
    pub(super) finished: Timestamp,
    pub(super) id: String,
}

/// Everything about one container.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ContainerState {
    pub(super) phase: Phase,
    pub(super) last: Option<Terminated>,
    pub(super) restarts: i32,
    pub(super) ready: bool,
    pub(super) started: bool,
    /// Identifier of the present or latest run.
    pub(super) id: String,
    /// Host pid of the program, 0 when there is none.
    pub(super) pid: i32,
    pub(super) image_id: String,
}

impl ContainerState {
    pub(super) fn waiting(reason: &str) -> Self {
        Self {
            phase: Phase::Waiting {
                reason: reason.to_owned(),
                message: None,
            },
            last: None,
            restarts: 0,
            ready: false,
            started: false,
            id: String::new(),
            pid: 0,
            image_id: String::new(),
        }
    }
}

/// Everything about one pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PodState {
    pub(super) ip: Option<Ipv4Addr>,
    pub(super) initialized: bool,
    /// `Succeeded` or `Failed`, once it is settled.
    pub(super) terminal: Option<&'static str>,
    pub(super) reason: Option<String>,
    pub(super) message: Option<String>,
    pub(super) containers: BTreeMap<String, ContainerState>,
}

/// The state, its readers and its writer.
#[derive(Debug)]
pub(super) struct Board {
    prefix: String,
    state: Mutex<PodState>,
    changed: Notify,
}

impl Board {
    pub(super) fn new(pod: &Pod) -> Arc<Self> {
        let spec = pod.spec.clone().unwrap_or_default();
        let init = spec.init_containers.unwrap_or_default();
        let reason = if init.is_empty() {
            "ContainerCreating"
        } else {
            "PodInitializing"
        };
        let mut state = PodState::default();
        for container in init.iter().chain(&spec.containers) {
            let mut fresh = ContainerState::waiting(reason);
            fresh.restarts = status::earlier_restarts(pod, &container.name);
            state.containers.insert(container.name.clone(), fresh);
        }
        let prefix = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
        Arc::new(Self {
            prefix,
            state: Mutex::new(state),
            changed: Notify::new(),
        })
    }

    /// Changes the state; the writer hears of it.
    pub(super) fn update(&self, change: impl FnOnce(&mut PodState)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    /// Changes one container's state.
    pub(super) fn container(&self, name: &str, change: impl FnOnce(&mut ContainerState)) {
        self.update(|state| {
            if let Some(container) = state.containers.get_mut(name) {
                change(container);
            }
        });
    }

    pub(super) fn snapshot(&self) -> PodState {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn components(&self) -> Vec<Component> {
        let component = |(name, container): (&String, &ContainerState)| Component {
            name: format!("{}/{name}", self.prefix),
            pid: container.pid,
            state: match &container.phase {
                Phase::Waiting { reason, .. } => reason.clone(),
                Phase::Running { .. } if container.ready => "ready".into(),
                Phase::Running { .. } => "running".into(),
                Phase::Terminated(end) => end.reason.clone(),
            },
        };
        self.snapshot().containers.iter().map(component).collect()
    }

    /// Writes every change to the API server, the latest state each time, until the pod is gone.
    pub(super) async fn write(self: Arc<Self>, client: kube::Client, pod: Arc<Pod>) {
        let api: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap_or_default());
        let mut written = pod.status.clone().unwrap_or_default();
        loop {
            let status = status::compose(&pod, &self.snapshot(), &written);
            if status != written {
                let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": status});
                match api
                    .patch_status(
                        &pod.name_any(),
                        &PatchParams::default(),
                        &Patch::Merge(patch),
                    )
                    .await
                {
                    Ok(_) => written = status,
                    // Gone, or another pod by that name.
                    Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {
                        return;
                    }
                    Err(error) => {
                        warn!(pod = %self.prefix, %error, "cannot write the status");
                        tokio::time::sleep(Duration::from_millis(500)).await;
                        continue;
                    }
                }
            }
            self.changed.notified().await;
        }
    }
}
