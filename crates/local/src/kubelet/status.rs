//! From a pod's state to the status that the API shows. Pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState as ApiState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::board::{ContainerState, Phase, PodState, Terminated};
use crate::net::NODE_IP;

/// Whether the pod will never run (again).
pub(super) fn is_terminal(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether an init container is one that keeps running beside the others.
pub(super) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// How often the container was started before this platform run, which counts as one more restart.
pub(super) fn earlier_restarts(pod: &Pod, name: &str) -> i32 {
    let Some(status) = &pod.status else { return 0 };
    let all = [&status.init_container_statuses, &status.container_statuses];
    let found = all
        .into_iter()
        .flatten()
        .flatten()
        .find(|status| status.name == name);
    found.map_or(0, |status| {
        status.restart_count + i32::from(status.container_id.is_some())
    })
}

/// The status of `pod` in `state`; times of unchanged conditions are those of `before`.
pub(super) fn compose(pod: &Pod, state: &PodState, before: &PodStatus) -> PodStatus {
    let spec = pod.spec.clone().unwrap_or_default();
    let init = spec.init_containers.unwrap_or_default();
    let statuses = |containers: &[Container]| -> Vec<ContainerStatus> {
        containers
            .iter()
            .filter_map(|container| {
                Some(container_status(
                    container,
                    state.containers.get(&container.name)?,
                ))
            })
            .collect()
    };
    let main = statuses(&spec.containers);
    let ip = state.ip.map(|ip| ip.to_string());
    PodStatus {
        phase: Some(phase(&main, state).to_owned()),
        conditions: Some(conditions(&init, &main, state, before)),
        host_ip: Some(NODE_IP.to_string()),
        host_ips: Some(vec![HostIP {
            ip: NODE_IP.to_string(),
        }]),
        pod_ips: ip.clone().map(|ip| vec![PodIP { ip }]),
        pod_ip: ip,
        start_time: before
            .start_time
            .clone()
            .or_else(|| Some(Time(Timestamp::now()))),
        init_container_statuses: (!init.is_empty()).then(|| statuses(&init)),
        container_statuses: Some(main),
        reason: state.reason.clone(),
        message: state.message.clone(),
        qos_class: before
            .qos_class
            .clone()
            .or_else(|| Some(qos(&spec.containers).to_owned())),
        ..PodStatus::default()
    }
}

fn phase(main: &[ContainerStatus], state: &PodState) -> &'static str {
    if let Some(terminal) = state.terminal {
        return terminal;
    }
    let ran = |status: &ContainerStatus| status.container_id.is_some();
    if state.initialized && !main.is_empty() && main.iter().all(ran) {
        "Running"
    } else {
        "Pending"
    }
}

/// Guaranteed needs equal limits and requests everywhere, which nothing here enforces: two classes suffice.
fn qos(containers: &[Container]) -> &'static str {
    let asks = |container: &Container| {
        container
            .resources
            .as_ref()
            .is_some_and(|resources| resources.limits.is_some() || resources.requests.is_some())
    };
    if containers.iter().any(asks) {
        "Burstable"
    } else {
        "BestEffort"
    }
}

fn container_status(container: &Container, state: &ContainerState) -> ContainerStatus {
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        image_id: state.image_id.clone(),
        container_id: (!state.id.is_empty()).then(|| state.id.clone()),
        ready: state.ready,
        started: Some(state.started),
        restart_count: state.restarts,
        state: Some(api_state(&state.phase)),
        last_state: Some(
            state
                .last
                .as_ref()
                .map_or_else(ApiState::default, terminated),
        ),
        ..ContainerStatus::default()
    }
}

fn api_state(phase: &Phase) -> ApiState {
    match phase {
        Phase::Waiting { reason, message } => ApiState {
            waiting: Some(ContainerStateWaiting {
                reason: Some(reason.clone()),
                message: message.clone(),
            }),
            ..ApiState::default()
        },
        Phase::Running { since } => ApiState {
            running: Some(ContainerStateRunning {
                started_at: Some(Time(*since)),
            }),
            ..ApiState::default()
        },
        Phase::Terminated(end) => terminated(end),
    }
}

fn terminated(end: &Terminated) -> ApiState {
    ApiState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(end.id.clone()),
            exit_code: end.code,
            signal: end.signal,
            reason: Some(end.reason.clone()),
            message: end.message.clone(),
            started_at: Some(Time(end.started)),
            finished_at: Some(Time(end.finished)),
        }),
        ..ApiState::default()
    }
}

type Fault = Option<(&'static str, String)>;

fn conditions(
    init: &[Container],
    main: &[ContainerStatus],
    state: &PodState,
    before: &PodStatus,
) -> Vec<PodCondition> {
    let done = state.terminal == Some("Succeeded");
    let initialized = (!state.initialized).then(|| {
        let names: Vec<&str> = init
            .iter()
            .map(|container| container.name.as_str())
            .collect();
        let message = format!("containers with incomplete status: [{}]", names.join(" "));
        ("ContainersNotInitialized", message)
    });
    let mut unready: Vec<&str> = main
        .iter()
        .filter(|one| !one.ready)
        .map(|one| one.name.as_str())
        .collect();
    let sidecar_unready = |container: &&Container| {
        is_sidecar(container)
            && !state
                .containers
                .get(&container.name)
                .is_some_and(|one| one.ready)
    };
    unready.extend(
        init.iter()
            .filter(sidecar_unready)
            .map(|container| container.name.as_str()),
    );
    let ready: Fault = match (done, state.terminal, unready.is_empty()) {
        (true, ..) => Some(("PodCompleted", String::new())),
        (_, None, true) => None,
        _ => Some((
            "ContainersNotReady",
            format!("containers with unready status: [{}]", unready.join(" ")),
        )),
    };
    let initialized: Fault = if done { None } else { initialized };
    vec![
        condition("Initialized", initialized, before),
        condition("Ready", ready.clone(), before),
        condition("ContainersReady", ready, before),
        condition("PodScheduled", None, before),
    ]
}

fn condition(kind: &str, fault: Fault, before: &PodStatus) -> PodCondition {
    let status = if fault.is_none() { "True" } else { "False" };
    let earlier = before
        .conditions
        .iter()
        .flatten()
        .find(|one| one.type_ == kind && one.status == status);
    let (reason, message) = fault.unzip();
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.map(str::to_owned),
        message: message.filter(|text| !text.is_empty()),
        last_transition_time: earlier
            .and_then(|one| one.last_transition_time.clone())
            .or_else(|| Some(Time(Timestamp::now()))),
        ..PodCondition::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "d"},
            "spec": {"initContainers": [{"name": "i"}], "containers": [{"name": "a"}, {"name": "b"}]},
        }))
        .unwrap()
    }

    fn running(ready: bool) -> ContainerState {
        ContainerState {
            phase: Phase::Running {
                since: Timestamp::now(),
            },
            ready,
            id: "lateen://1".into(),
            ..ContainerState::waiting("")
        }
    }

    fn fault(status: &PodStatus, kind: &str) -> Option<String> {
        let condition = status
            .conditions
            .as_ref()
            .unwrap()
            .iter()
            .find(|one| one.type_ == kind)
            .unwrap()
            .clone();
        (condition.status == "False").then(|| condition.message.unwrap_or_default())
    }

    #[test]
    fn pending_then_running_then_ready() {
        let mut state = PodState::default();
        state
            .containers
            .insert("a".into(), ContainerState::waiting("PodInitializing"));
        state
            .containers
            .insert("b".into(), ContainerState::waiting("PodInitializing"));
        let status = compose(&pod(), &state, &PodStatus::default());
        assert_eq!(status.phase.as_deref(), Some("Pending"));
        assert_eq!(
            fault(&status, "Initialized").as_deref(),
            Some("containers with incomplete status: [i]")
        );

        state.initialized = true;
        state.containers.insert("a".into(), running(true));
        state.containers.insert("b".into(), running(false));
        let status = compose(&pod(), &state, &status);
        assert_eq!(status.phase.as_deref(), Some("Running"));
        assert_eq!(
            fault(&status, "Ready").as_deref(),
            Some("containers with unready status: [b]")
        );

        state.containers.insert("b".into(), running(true));
        let ready = compose(&pod(), &state, &status);
        assert_eq!(fault(&ready, "Ready"), None);
        assert_eq!(
            compose(&pod(), &state, &ready),
            ready,
            "an unchanged state gives an unchanged status"
        );
    }

    #[test]
    fn restarts_go_on_after_a_restart_of_the_platform() {
        let mut pod = pod();
        pod.status = serde_json::from_value(json!({"containerStatuses": [
            {"name": "a", "restartCount": 2, "containerID": "x", "ready": true, "image": "", "imageID": ""}]}))
        .unwrap();
        assert_eq!(earlier_restarts(&pod, "a"), 3);
        assert_eq!(earlier_restarts(&pod, "b"), 0);
    }
}
