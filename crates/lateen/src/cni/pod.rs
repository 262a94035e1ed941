//! What is to be captured in a pod.
//!
//! An injected pod says it: its container `istio-validation` has the flags by which an init container
//! would set capture up, and checks just those. So what is set up and what is checked cannot differ, and a
//! pod without that container is left alone.

use std::ffi::OsString;

use anyhow::Context;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};
use lateen_capture::{Config, config::Dns, iptables};

/// The container that checks.
pub(super) const CHECK: &str = "istio-validation";
/// How it ends where nothing is captured.
pub(super) const NOT_CAPTURED: i32 = 126;

/// What is to be captured; `None` for a pod that is to be left alone.
pub(super) fn capture(pod: &Pod) -> anyhow::Result<Option<Config>> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.init_containers);
    let Some(check) = containers.flatten().find(|it| it.name == CHECK) else {
        return Ok(None);
    };
    let args = check.args.iter().flatten().map(OsString::from);
    let config = iptables::config(args, |name| variable(check, name));
    let mut config = config.with_context(|| format!("container {CHECK}"))?;
    // The name servers of the pod's file are not known before there is a container.
    if config.dns != Dns::Off {
        config.dns = Dns::All;
    }
    Ok(Some(config))
}

fn variable(container: &Container, name: &str) -> Option<String> {
    let mut all = container.env.iter().flatten();
    all.find(|variable| variable.name == name)?.value.clone()
}

/// Whether a pod waits because nothing is captured: it was made before the plugin was there.
pub(super) fn is_broken(pod: &Pod) -> bool {
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| &status.init_container_statuses);
    let mut statuses = statuses.flatten();
    statuses.any(|status| status.name == CHECK && has_failed(status))
}

/// It is tried again with a pause in between, in which the last try is what is known of it.
fn has_failed(status: &ContainerStatus) -> bool {
    let state = status.state.as_ref();
    let now = state.and_then(|state| state.terminated.as_ref());
    let waits = state.is_none_or(|state| state.running.is_none() && state.terminated.is_none());
    let last = status.last_state.as_ref().filter(|_| waits);
    let last = last.and_then(|state| state.terminated.as_ref());
    now.or(last)
        .is_some_and(|end| end.exit_code == NOT_CAPTURED)
}

#[cfg(test)]
mod tests {
    use lateen_capture::Ranges;
    use serde_json::{Value, json};

    use super::*;

    fn pod(init: Value) -> Pod {
        let pod = json!({"metadata": {}, "spec": {"containers": [], "initContainers": init}});
        serde_json::from_value(pod).expect("a pod")
    }

    #[test]
    fn a_pod_says_what_is_to_be_captured() {
        let args = [
            "istio-iptables",
            "-u",
            "1337",
            "-m",
            "REDIRECT",
            "-i",
            "10.0.0.0/8",
            "-x",
            "",
            "-b",
            "*",
            "-d",
            "15090,15020",
            "--run-validation",
            "--skip-rule-apply",
            "--log_output_level=default:info",
        ];
        let check = json!({"name": CHECK, "args": args, "env": [
            {"name": "ISTIO_META_DNS_CAPTURE", "value": "1"},
            {"name": "INVALID_DROP", "value": "true"},
            // The argument says otherwise, and counts.
            {"name": "ISTIO_LOCAL_EXCLUDE_PORTS", "value": "1"},
        ]});
        let config = capture(&pod(json!([{"name": "own"}, check]))).expect("readable");
        let config = config.expect("captured");
        let range = "10.0.0.0/8".parse().expect("a range");
        assert_eq!(config.outbound_ranges, Ranges::Only(vec![range]));
        assert_eq!(config.exclude_inbound_ports, [15090, 15020]);
        assert_eq!((config.dns, config.drop_invalid), (Dns::All, true));
        for init in [json!([]), json!([{"name": "istio-init", "args": args}])] {
            assert_eq!(capture(&pod(init)).expect("readable"), None);
        }
        let odd = json!([{"name": CHECK, "args": ["istio-iptables", "-m", "TPROXY"]}]);
        let error = capture(&pod(odd)).expect_err("refused");
        assert!(format!("{error:#}").contains("TPROXY"), "{error:#}");
    }

    #[test]
    fn pods_that_wait_for_capture_are_known() {
        let end = |code: i32| json!({"terminated": {"exitCode": code}});
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        let running = json!({"running": {}});
        for (state, last, want) in [
            (end(126), json!({}), true),
            (waiting.clone(), end(126), true),
            (running, end(126), false),
            (end(0), end(126), false),
            (waiting, end(1), false),
        ] {
            let status = json!({"name": CHECK, "image": "", "imageID": "", "ready": false,
                "restartCount": 1, "state": state, "lastState": last});
            let pod = json!({"metadata": {}, "status": {"initContainerStatuses": [status]}});
            let pod = serde_json::from_value(pod).expect("a pod");
            assert_eq!(is_broken(&pod), want, "{pod:?}");
        }
    }
}
