//! Writes `status.json`, from which `lateen up` and `lateen status` learn how things stand.

use std::sync::Arc;
use std::time::Duration;

use super::Options;
use crate::Error;
use crate::kubelet::Kubelet;
use crate::state::{Component, StateDir, Status, host_pid, write_json};

/// How soon a change is in the file.
const INTERVAL: Duration = Duration::from_millis(250);

/// Keeps the file up to date.
pub(super) async fn keep(state: StateDir, options: Options, kubelet: Arc<Kubelet>) {
    let mut written = None;
    loop {
        let status = Status {
            components: components(&kubelet),
            ..base(&state, &options, "running")
        };
        if written.as_ref() != Some(&status) && write_json(&state.status_file(), &status).is_ok() {
            written = Some(status);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn components(kubelet: &Kubelet) -> Vec<Component> {
    let platform = Component {
        name: "platform".into(),
        pid: host_pid().unwrap_or(0),
        state: "running".into(),
    };
    std::iter::once(platform)
        .chain(kubelet.components())
        .collect()
}

fn base(state: &StateDir, options: &Options, now: &str) -> Status {
    Status {
        name: options.name.clone(),
        state: now.to_owned(),
        kubeconfig: state.kubeconfig().display().to_string(),
        http: options.http_url.clone(),
        vip_pool: options.vip_pool.clone(),
        components: Vec::new(),
    }
}

/// Pods are being stopped.
pub(super) fn write_stopping(state: &StateDir, options: &Options) {
    let _ = write_json(&state.status_file(), &base(state, options, "stopping"));
}

/// Everything has ended in order.
pub(super) fn write_stopped(state: &StateDir, options: &Options) {
    let _ = write_json(&state.status_file(), &base(state, options, "stopped"));
}

/// Leaves the reason why the platform could not start where `lateen up` looks for it.
pub(super) fn write_failed(state: &StateDir, name: &str, error: &Error) {
    let status = Status {
        name: name.to_owned(),
        state: format!("failed: {error}"),
        ..Status::default()
    };
    let _ = write_json(&state.status_file(), &status);
}
