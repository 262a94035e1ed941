//! The row of a pod, whose status says the most telling thing about its containers.

use serde_json::Value;

use super::{age, object_age};
use crate::apiserver::meta;

/// What the containers make of a pod.
struct Summary {
    status: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<String>,
}

pub(super) fn cells(pod: &Value) -> Vec<Value> {
    let summary = summarize(pod);
    let restarts = match &summary.last_restart {
        Some(time) if summary.restarts > 0 => {
            format!("{} ({} ago)", summary.restarts, age(Some(time)))
        }
        _ => summary.restarts.to_string(),
    };
    let or_none = |pointer: &str| match meta::text(pod, pointer) {
        Some(text) if !text.is_empty() => text.to_owned(),
        _ => "<none>".to_owned(),
    };
    vec![
        meta::name(pod).into(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.status.into(),
        restarts.into(),
        object_age(pod),
        or_none("/status/podIP").into(),
        or_none("/spec/nodeName").into(),
        or_none("/status/nominatedNodeName").into(),
        "<none>".into(),
    ]
}

fn is_sidecar(container: &Value) -> bool {
    container["restartPolicy"] == "Always"
}

fn condition(pod: &Value, kind: &str) -> bool {
    meta::list(pod, "/status/conditions")
        .iter()
        .any(|one| one["type"] == kind && one["status"] == "True")
}

fn summarize(pod: &Value) -> Summary {
    let init = meta::list(pod, "/spec/initContainers");
    let phase = meta::text(pod, "/status/phase").unwrap_or("Unknown");
    let mut summary = Summary {
        status: meta::text(pod, "/status/reason")
            .filter(|reason| !reason.is_empty())
            .unwrap_or(phase)
            .to_owned(),
        ready: 0,
        total: meta::list(pod, "/spec/containers").len()
            + init.iter().filter(|one| is_sidecar(one)).count(),
        restarts: 0,
        last_restart: None,
    };
    let initializing = summarize_init(pod, init, &mut summary);
    if !initializing || condition(pod, "Initialized") {
        summarize_main(pod, &mut summary);
    }
    if meta::is_deleting(pod) && !matches!(phase, "Succeeded" | "Failed") {
        summary.status = "Terminating".into();
    }
    summary
}

fn summarize_init(pod: &Value, init: &[Value], summary: &mut Summary) -> bool {
    for (index, status) in meta::list(pod, "/status/initContainerStatuses")
        .iter()
        .enumerate()
    {
        count_restarts(status, summary);
        let sidecar = init
            .iter()
            .any(|one| one["name"] == status["name"] && is_sidecar(one));
        if sidecar && status["started"] == true {
            summary.ready += usize::from(status["ready"] == true);
            continue;
        }
        let state = &status["state"];
        if let Some(ended) = state.get("terminated") {
            if ended["exitCode"] == 0 {
                continue;
            }
            summary.status = format!("Init:{}", end_reason(ended));
        } else {
            match meta::text(state, "/waiting/reason") {
                Some(reason) if !reason.is_empty() && reason != "PodInitializing" => {
                    summary.status = format!("Init:{reason}");
                }
                _ => summary.status = format!("Init:{index}/{}", init.len()),
            }
        }
        return true;
    }
    false
}

fn summarize_main(pod: &Value, summary: &mut Summary) {
    let mut running = false;
    if !meta::list(pod, "/spec/initContainers")
        .iter()
        .any(is_sidecar)
    {
        summary.restarts = 0;
        summary.last_restart = None;
    }
    for status in meta::list(pod, "/status/containerStatuses").iter().rev() {
        count_restarts(status, summary);
        let state = &status["state"];
        if let Some(reason) =
            meta::text(state, "/waiting/reason").filter(|reason| !reason.is_empty())
        {
            summary.status = reason.to_owned();
        } else if let Some(ended) = state.get("terminated") {
            summary.status = end_reason(ended);
        } else if status["ready"] == true && state.get("running").is_some() {
            running = true;
            summary.ready += 1;
        }
    }
    if summary.status == "Completed" && running {
        summary.status = if condition(pod, "Ready") {
            "Running"
        } else {
            "NotReady"
        }
        .into();
    }
}

fn end_reason(ended: &Value) -> String {
    match meta::text(ended, "/reason") {
        Some(reason) if !reason.is_empty() => reason.to_owned(),
        _ if ended["signal"].as_i64().unwrap_or(0) != 0 => format!("Signal:{}", ended["signal"]),
        _ => format!("ExitCode:{}", ended["exitCode"]),
    }
}

fn count_restarts(status: &Value, summary: &mut Summary) {
    summary.restarts += status["restartCount"].as_i64().unwrap_or(0);
    let ended = meta::text(status, "/lastState/terminated/finishedAt").map(str::to_owned);
    // Times in one zone and one form sort as text.
    summary.last_restart = summary.last_restart.take().max(ended);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(status: Value, expect: (&str, &str, &str)) {
        let pod = json!({"metadata": {"name": "p"}, "status": status,
            "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}});
        let cells = cells(&pod);
        assert_eq!(
            (&cells[1], &cells[2], &cells[3]),
            (&expect.0.into(), &expect.1.into(), &expect.2.into())
        );
    }

    #[test]
    fn statuses() {
        check(json!({"phase": "Pending"}), ("0/2", "Pending", "0"));
        check(
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}),
            ("0/2", "Init:0/1", "0"),
        );
        let done = json!({"name": "i", "state": {"terminated": {"exitCode": 0}}});
        check(
            json!({"phase": "Running", "initContainerStatuses": [done], "containerStatuses": [
                {"name": "a", "ready": true, "state": {"running": {}}},
                {"name": "b", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}),
            ("1/2", "CrashLoopBackOff", "3"),
        );
        check(
            json!({"phase": "Failed", "containerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 2}}}]}),
            ("0/2", "ExitCode:2", "0"),
        );
    }
}
