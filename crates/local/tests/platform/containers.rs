//! Probes, hooks, graces and sidecars: what happens to a container beside its command.

use std::time::Instant;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, Service};
use kube::api::{DeleteParams, LogParams};
use serde_json::{Value, json};

use crate::mesh::{self, Mesh, View};
use crate::{health, pod, shell};

/// A container of a pod whose containers share the folder `/shared`.
fn sharing(name: &str, script: &str) -> Value {
    let mut container = shell(name, script);
    container["volumeMounts"] = json!([{"name": "shared", "mountPath": "/shared"}]);
    container
}

/// A pod of such containers.
fn shared_pod(name: &str, mut spec: Value) -> Pod {
    spec["volumes"] = json!([{"name": "shared", "emptyDir": {}}]);
    pod(name, spec)
}

fn status<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = [&status.container_statuses, &status.init_container_statuses];
    all.into_iter()
        .flatten()
        .flatten()
        .find(|status| status.name == container)
}

fn has_ended(pod: &Pod, container: &str) -> bool {
    status(pod, container)
        .and_then(|status| status.state.as_ref()?.terminated.as_ref())
        .is_some()
}

async fn previous_logs(mesh: &View<'_>, pod: &str, container: &str) -> String {
    let params = LogParams {
        container: Some(container.into()),
        previous: true,
        ..LogParams::default()
    };
    mesh.api::<Pod>().logs(pod, &params).await.unwrap()
}

pub(crate) fn exec_probes_look_inside_the_container() {
    Mesh::run("exec", async |mesh| {
        let mut ready = sharing("c", "touch /inside; sleep 2; rm /inside; sleep 100");
        let command = ["sh", "-c", "test -f /inside && test $(hostname) = ready"];
        ready["readinessProbe"] =
            json!({"exec": {"command": command}, "periodSeconds": 1, "failureThreshold": 1});
        let spec = json!({"containers": [ready], "terminationGracePeriodSeconds": 0});
        mesh.create(&shared_pod("ready", spec)).await;
        mesh.wait("the file to be there", "ready", mesh::is_ready)
            .await;
        let gone = |pod: &Pod| !mesh::is_ready(pod);
        mesh.wait("the file to be gone", "ready", gone).await;
        assert_eq!(
            mesh::restarts(
                &mesh
                    .wait("the pod to run on", "ready", |pod: &Pod| mesh::phase(pod)
                        == "Running")
                    .await
            ),
            0
        );

        let mut dies = shell("c", "sleep 100");
        dies["livenessProbe"] = json!({"exec": {"command": ["sh", "-c", "echo broken; exit 7"]},
            "periodSeconds": 1, "failureThreshold": 2});
        let spec = json!({"containers": [dies], "terminationGracePeriodSeconds": 0});
        mesh.create(&pod("dies", spec)).await;
        mesh.wait("a restart", "dies", |pod: &Pod| mesh::restarts(pod) > 0)
            .await;
        let events = mesh.events("dies").await;
        for expected in [
            "Liveness probe failed: broken",
            "Container c failed liveness probe, will be restarted",
        ] {
            assert!(
                events.iter().any(|message| message == expected),
                "{expected:?} is not in {events:#?}"
            );
        }
    });
}

pub(crate) fn grpc_probes_ask_for_the_health_of_a_service() {
    Mesh::run("grpc", async |mesh| {
        let exe = std::env::current_exe().unwrap();
        let command = [
            exe.to_str().unwrap().to_owned(),
            health::SUBCOMMAND.into(),
            "8080".into(),
        ];
        mesh.images().add("health", &command).unwrap();
        for (name, service) in [("whole", Value::Null), ("named", json!("broken"))] {
            let probe = json!({"grpc": {"port": 8080, "service": service}, "periodSeconds": 1});
            let container = json!({"name": "c", "image": "health", "readinessProbe": probe});
            let spec = json!({"containers": [container], "terminationGracePeriodSeconds": 0});
            mesh.create(&pod(name, spec)).await;
        }
        mesh.wait("the server to be healthy", "whole", mesh::is_ready)
            .await;
        let begun = Instant::now();
        loop {
            let events = mesh.events("named").await;
            let told = |message: &String| {
                message.starts_with("Readiness probe failed") && message.ends_with("not serving")
            };
            if events.iter().any(told) {
                break;
            }
            assert!(begun.elapsed() < mesh::PATIENCE, "{events:#?}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let named = mesh.api::<Pod>().get("named").await.unwrap();
        assert!(!mesh::is_ready(&named));
    });
}

pub(crate) fn hooks_run_before_the_next_container_and_before_the_end() {
    Mesh::run("hooks", async |mesh| {
        let mut first = sharing("first", "sleep 100");
        let hook = "test $(hostname) = order; sleep 1; echo hooked > /shared/word";
        first["lifecycle"] = json!({"postStart": {"exec": {"command": ["sh", "-c", hook]}}});
        let second = sharing("second", "cat /shared/word");
        let spec = json!({"containers": [first, second], "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0});
        mesh.create(&shared_pod("order", spec)).await;
        let ended = |pod: &Pod| has_ended(pod, "second");
        mesh.wait("the second container to end", "order", ended)
            .await;
        assert_eq!(mesh.logs("order", "second").await, "hooked\n");

        // A liveness probe ends the container, and its log is kept.
        let script = "trap 'cat /shared/word; exit 0' TERM; while :; do sleep 0.1; done";
        let mut ends = sharing("c", script);
        ends["lifecycle"] = json!({"preStop": {"exec": {"command":
            ["sh", "-c", "sleep 0.5; echo prepared > /shared/word"]}}});
        ends["livenessProbe"] = json!({"exec": {"command": ["false"]},
            "periodSeconds": 1, "failureThreshold": 1});
        let spec = json!({"containers": [ends], "terminationGracePeriodSeconds": 20});
        mesh.create(&shared_pod("ends", spec)).await;
        mesh.wait("a restart", "ends", |pod: &Pod| mesh::restarts(pod) > 0)
            .await;
        assert_eq!(previous_logs(mesh, "ends", "c").await, "prepared\n");

        let mut fails = shell("c", "sleep 100");
        fails["lifecycle"] = json!({"postStart": {"exec": {"command":
            ["sh", "-c", "echo no; exit 1"]}}});
        let spec = json!({"containers": [fails], "terminationGracePeriodSeconds": 0});
        mesh.create(&pod("fails", spec)).await;
        mesh.wait("a restart", "fails", |pod: &Pod| mesh::restarts(pod) > 0)
            .await;
        let events = mesh.events("fails").await;
        assert!(
            events.contains(&"PostStartHook failed: no".to_owned()),
            "{events:#?}"
        );
    });
}

pub(crate) fn a_pod_gets_its_grace_and_no_more() {
    Mesh::run("grace", async |mesh| {
        // Told to end, one does at once and the other never.
        for (name, script, grace) in [
            (
                "polite",
                "trap 'exit 0' TERM; while :; do sleep 0.1; done",
                600,
            ),
            ("deaf", "trap '' TERM; while :; do sleep 0.1; done", 3),
        ] {
            let spec = json!({"containers": [shell("c", script)],
                "terminationGracePeriodSeconds": grace});
            mesh.create(&pod(name, spec)).await;
            mesh.wait("the pod to run", name, mesh::is_ready).await;
            // The trap is set a moment after the start.
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            let begun = Instant::now();
            mesh.api::<Pod>()
                .delete(name, &DeleteParams::default())
                .await
                .unwrap();
            mesh.wait_empty::<Pod>("the pod to go").await;
            if name == "deaf" {
                assert!(begun.elapsed().as_secs() >= 3, "{:?}", begun.elapsed());
            }
        }
    });
}

pub(crate) fn sidecars_start_before_and_end_after_the_others() {
    Mesh::run("sidecar", async |mesh| {
        let sidecar = |name: &str, before: &str| {
            let script = format!(
                "trap 'echo {name} >> /shared/ends; cat /shared/ends; exit 0' TERM; \
                 {before} sleep 0.5; touch /shared/{name}; while :; do sleep 0.1; done"
            );
            let mut sidecar = sharing(name, &script);
            sidecar["restartPolicy"] = json!("Always");
            sidecar["startupProbe"] = json!({"periodSeconds": 1, "exec":
                {"command": ["test", "-f", format!("/shared/{name}")]}});
            sidecar
        };
        let spec = json!({
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 20,
            "initContainers": [
                sidecar("one", ""),
                sidecar("two", "test -f /shared/one || exit 1;"),
                sharing("init", "ls /shared"),
            ],
            "containers": [sharing("main", "ls /shared; echo main > /shared/ends")],
        });
        mesh.create(&shared_pod("job", spec)).await;
        let ended = |pod: &Pod| mesh::phase(pod) == "Succeeded";
        let job = mesh.wait("the pod to succeed", "job", ended).await;
        for container in ["init", "main"] {
            assert_eq!(mesh.logs("job", container).await, "one\ntwo\n");
        }
        for container in ["one", "two"] {
            assert!(has_ended(&job, container), "{container} runs on: {job:#?}");
        }
        // The last to start is the first to end.
        assert_eq!(mesh.logs("job", "two").await, "main\ntwo\n");
        assert_eq!(mesh.logs("job", "one").await, "main\ntwo\none\n");
    });
}

pub(crate) fn a_sidecar_that_dies_is_restarted() {
    Mesh::run("revive", async |mesh| {
        let mut sidecar = shell("sidecar", "sleep 1; exit 1");
        sidecar["restartPolicy"] = json!("Always");
        let spec = json!({"initContainers": [sidecar], "containers": [shell("main", "sleep 100")],
            "terminationGracePeriodSeconds": 0});
        mesh.create(&pod("p", spec)).await;
        let again = |pod: &Pod| {
            status(pod, "sidecar").is_some_and(|status| status.restart_count > 0)
                && status(pod, "main").is_some_and(|status| status.restart_count == 0)
                && mesh::phase(pod) == "Running"
        };
        mesh.wait("the sidecar to be restarted", "p", again).await;
    });
}

pub(crate) fn an_empty_pool_of_addresses_says_so() {
    Mesh::run("pool", async |mesh| {
        let service = |n: usize| -> Service {
            serde_json::from_value(json!({
                "metadata": {"name": format!("s{n}")},
                "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
            }))
            .unwrap()
        };
        // The pool of these tests has eight.
        let mut given = std::collections::BTreeSet::new();
        for n in 0..8 {
            mesh.create(&service(n)).await;
            let with = |service: &Service| mesh::virtual_ip(service).is_some();
            let found = mesh.wait("an address", &format!("s{n}"), with).await;
            given.extend(mesh::virtual_ip(&found));
        }
        assert_eq!(given.len(), 8, "{given:?}");
        mesh.create(&service(8)).await;
        let begun = Instant::now();
        loop {
            let events = mesh.events("s8").await;
            let told = |message: &String| {
                message.contains("no address is free in the pool") && message.contains("--vip-pool")
            };
            if events.iter().any(told) {
                break;
            }
            assert!(begun.elapsed() < mesh::PATIENCE, "{events:#?}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let waiting = mesh.api::<Service>().get("s8").await.unwrap();
        assert_eq!(mesh::virtual_ip(&waiting), None);
        mesh.api::<Service>()
            .delete("s3", &DeleteParams::default())
            .await
            .unwrap();
        let with = |service: &Service| mesh::virtual_ip(service).is_some();
        let found = mesh.wait("the address that became free", "s8", with).await;
        assert!(given.contains(&mesh::virtual_ip(&found).unwrap()));
    });
}
