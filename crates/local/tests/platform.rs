//! Starts the real platform in its own namespaces and looks at it from the outside.
//!
//! The platform re-executes its own program, so this test is its own harness: its `main` answers the hidden
//! subcommands first.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test harness prints, and fails by panics"
)]

#[path = "platform/containers.rs"]
mod containers;
#[path = "platform/health.rs"]
mod health;
#[path = "platform/mesh.rs"]
mod mesh;
#[path = "platform/users.rs"]
mod users;

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Service};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, PropagationPolicy};
use mesh::{Mesh, Snapshot};
use serde_json::{Value, json};

type Test = (&'static str, fn());

const TESTS: &[Test] = &[
    ("a_pod_runs_from_init_to_end", a_pod_runs_from_init_to_end),
    (
        "an_unmapped_image_says_how_to_map_it",
        an_unmapped_image_says_how_to_map_it,
    ),
    ("a_user_opens_its_outputs", a_user_opens_its_outputs),
    (
        "a_killed_container_is_restarted_at_once",
        a_killed_container_is_restarted_at_once,
    ),
    (
        "services_are_found_and_reached",
        services_are_found_and_reached,
    ),
    (
        "a_deployment_rolls_and_its_pods_go_with_it",
        a_deployment_rolls_and_its_pods_go_with_it,
    ),
    (
        "a_namespace_goes_with_all_that_is_in_it",
        a_namespace_goes_with_all_that_is_in_it,
    ),
    (
        "exec_probes_look_inside_the_container",
        containers::exec_probes_look_inside_the_container,
    ),
    (
        "grpc_probes_ask_for_the_health_of_a_service",
        containers::grpc_probes_ask_for_the_health_of_a_service,
    ),
    (
        "hooks_run_before_the_next_container_and_before_the_end",
        containers::hooks_run_before_the_next_container_and_before_the_end,
    ),
    (
        "a_pod_gets_its_grace_and_no_more",
        containers::a_pod_gets_its_grace_and_no_more,
    ),
    (
        "sidecars_start_before_and_end_after_the_others",
        containers::sidecars_start_before_and_end_after_the_others,
    ),
    (
        "a_sidecar_that_dies_is_restarted",
        containers::a_sidecar_that_dies_is_restarted,
    ),
    (
        "an_empty_pool_of_addresses_says_so",
        containers::an_empty_pool_of_addresses_says_so,
    ),
    (
        "dependents_go_with_their_owner_or_are_left",
        dependents_go_with_their_owner_or_are_left,
    ),
    (
        "pods_come_back_after_a_restart",
        pods_come_back_after_a_restart,
    ),
    (
        "a_pod_with_users_of_its_own_is_nobody_on_the_machine",
        users::a_pod_with_users_of_its_own_is_nobody_on_the_machine,
    ),
    (
        "no_volume_makes_a_pod_the_machines_root",
        users::no_volume_makes_a_pod_the_machines_root,
    ),
    (
        "no_link_leads_out_of_a_volume",
        users::no_link_leads_out_of_a_volume,
    ),
    ("nothing_is_left_behind", nothing_is_left_behind),
];

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(code) = lateen_local::entry(&args) {
        return code;
    }
    if args.first().is_some_and(|arg| arg == health::SUBCOMMAND) {
        let port = args[1].to_str().and_then(|port| port.parse().ok());
        health::serve(port.unwrap());
        return ExitCode::FAILURE;
    }
    let filter = args
        .iter()
        .filter_map(|arg| arg.to_str())
        .find(|arg| !arg.starts_with('-'));
    if args.iter().any(|arg| arg == "--list") {
        TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for (name, test) in TESTS
        .iter()
        .filter(|(name, _)| filter.is_none_or(|filter| name.contains(filter)))
    {
        let result = catch_unwind(AssertUnwindSafe(test));
        println!(
            "test {name} ... {}",
            if result.is_ok() { "ok" } else { "FAILED" }
        );
        failed += u32::from(result.is_err());
    }
    ExitCode::from(u8::from(failed > 0))
}

fn pod(name: &str, spec: Value) -> Pod {
    serde_json::from_value(
        json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": spec}),
    )
    .unwrap()
}

fn shell(name: &str, script: &str) -> Value {
    json!({"name": name, "image": "sh", "args": ["-c", script]})
}

/// A server of its own host name on port 8080.
fn web() -> Value {
    let script = "mkdir /w; cd /w; hostname > index.html; exec python3 -m http.server 8080";
    let mut container = shell("web", script);
    container["ports"] = json!([{"name": "web", "containerPort": 8080}]);
    container["readinessProbe"] =
        json!({"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 1});
    json!({"containers": [container], "terminationGracePeriodSeconds": 1})
}

fn a_pod_runs_from_init_to_end() {
    Mesh::run("life", async |mesh| {
        let script = "cat /shared/word; echo $NODE $(POD_IP); id -u; cat /etc/hostname; grep -c search /etc/resolv.conf; \
                      head -c 4 /var/run/secrets/kubernetes.io/serviceaccount/namespace; exit 3";
        let mut main = shell("main", script);
        main["env"] = json!([
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ]);
        let mounts = json!([{"name": "shared", "mountPath": "/shared"}]);
        main["volumeMounts"] = mounts.clone();
        let mut init = shell("init", "echo hello > /shared/word");
        init["volumeMounts"] = mounts;
        let spec = json!({
            "restartPolicy": "Never", "initContainers": [init], "containers": [main],
            "volumes": [{"name": "shared", "emptyDir": {}}],
        });
        mesh.create(&pod("one", spec)).await;
        let pod = mesh
            .wait("the pod to end", "one", |pod: &Pod| {
                matches!(mesh::phase(pod), "Failed" | "Succeeded")
            })
            .await;
        assert_eq!(mesh::exit_code(&pod, "main"), Some(3), "{pod:#?}");
        let ip = pod.status.unwrap().pod_ip.unwrap();
        let log = mesh.logs("one", "main").await;
        assert_eq!(log, format!("hello\nlateen {ip}\n0\none\n1\ndefa\n"));
    });
}

fn an_unmapped_image_says_how_to_map_it() {
    Mesh::run("image", async |mesh| {
        let spec = json!({"containers": [{"name": "c", "image": "registry.example/app:1"}]});
        mesh.create(&pod("unmapped", spec)).await;
        let waits = |pod: &Pod| {
            mesh::waiting(pod)
                .is_some_and(|reason| reason.ends_with("Pull") || reason.ends_with("PullBackOff"))
        };
        mesh.wait("the image to be missed", "unmapped", waits).await;
        let events = mesh.events("unmapped").await;
        let how = "run: lateen image add registry.example/app --name state -- COMMAND";
        assert!(
            events.iter().any(|message| message.contains(how)),
            "{events:?}"
        );
        mesh.images()
            .add("registry.example/app", &["/bin/sleep".into(), "100".into()])
            .unwrap();
        mesh.wait("the mapped image to run", "unmapped", mesh::is_ready)
            .await;
    });
}

fn a_user_opens_its_outputs() {
    Mesh::run("outputs", async |mesh| {
        let script = "id -u; echo opened > /dev/stdout; echo opened > /dev/stderr";
        let mut container = shell("c", script);
        container["securityContext"] = json!({"runAsUser": 1000});
        let spec = json!({"restartPolicy": "Never", "containers": [container]});
        mesh.create(&pod("client", spec)).await;
        mesh.wait("the client to end", "client", |pod: &Pod| {
            mesh::phase(pod) == "Succeeded"
        })
        .await;
        let log = mesh.logs("client", "c").await;
        assert_eq!(
            log.lines().filter(|line| *line == "opened").count(),
            2,
            "{log}"
        );
    });
}

fn a_killed_container_is_restarted_at_once() {
    Mesh::run("kill", async |mesh| {
        mesh.create(&pod("web", web())).await;
        mesh.wait("the pod to be ready", "web", mesh::is_ready)
            .await;
        let pid = mesh.component("default/web/web").pid;
        mesh::kill(pid);
        let begun = std::time::Instant::now();
        let again = |pod: &Pod| mesh::is_ready(pod) && mesh::restarts(pod) == 1;
        mesh.wait("the container to be back", "web", again).await;
        assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
        assert_ne!(mesh.component("default/web/web").pid, pid);
    });
}

fn services_are_found_and_reached() {
    Mesh::run("service", async |mesh| {
        mesh.create(&pod("web", web())).await;
        let ports = json!([{"port": 80, "targetPort": "web"}]);
        let service = |name: &str, kind: &str| -> Service {
            let spec = json!({"selector": {"app": "web"}, "type": kind, "ports": ports});
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
        };
        mesh.create(&service("web", "ClusterIP")).await;
        mesh.create(&service("out", "LoadBalancer")).await;
        let out = mesh
            .wait("an address", "out", |service: &Service| {
                mesh::virtual_ip(service).is_some()
            })
            .await;
        let ip = mesh::virtual_ip(&out).unwrap();
        mesh.wait("the pod to be ready", "web", mesh::is_ready)
            .await;
        let urls = format!("http://web http://web.default.svc.cluster.local http://{ip}");
        let script = format!(
            "for url in {urls}; do for i in 1 2 3 4 5; do curl -sf -m 2 $url && break; sleep 0.3; done; done"
        );
        let spec = json!({"restartPolicy": "Never", "containers": [shell("c", &script)]});
        mesh.create(&pod("client", spec)).await;
        mesh.wait("the client to end", "client", |pod: &Pod| {
            mesh::phase(pod) == "Succeeded"
        })
        .await;
        assert_eq!(mesh.logs("client", "c").await, "web\nweb\nweb\n");
    });
}

fn a_deployment_rolls_and_its_pods_go_with_it() {
    Mesh::run("deploy", async |mesh| {
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": "d"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "d"}},
                     "template": {"metadata": {"labels": {"app": "d"}}, "spec": web()}},
        }))
        .unwrap();
        mesh.create(&deployment).await;
        let rolled = |deployment: &Deployment| mesh::is_rolled_out(deployment);
        let first = mesh.wait("the first rollout", "d", rolled).await;
        let change =
            json!({"spec": {"template": {"metadata": {"annotations": {"changed": "yes"}}}}});
        let api = mesh.api::<Deployment>();
        let patched = api
            .patch("d", &PatchParams::default(), &Patch::Merge(change))
            .await
            .unwrap();
        assert!(patched.metadata.generation > first.metadata.generation);
        let rolled = |deployment: &Deployment| {
            deployment.metadata.generation == patched.metadata.generation
                && mesh::is_rolled_out(deployment)
        };
        mesh.wait("the second rollout", "d", rolled).await;
        api.delete("d", &DeleteParams::background()).await.unwrap();
        mesh.wait_empty::<Pod>("the pods to go").await;
        let job: Job = serde_json::from_value(
            json!({"metadata": {"name": "j"}, "spec": {"template": {"spec":
            {"restartPolicy": "Never", "containers": [shell("c", "exit 0")]}}}}),
        )
        .unwrap();
        mesh.create(&job).await;
        let done = |job: &Job| {
            job.status.as_ref().is_some_and(|status| {
                status.succeeded == Some(1) && status.completion_time.is_some()
            })
        };
        mesh.wait("the job to complete", "j", done).await;
    });
}

fn dependents_go_with_their_owner_or_are_left() {
    Mesh::run("garbage", async |mesh| {
        let map = |name: &str, owner: Option<&ConfigMap>| -> ConfigMap {
            let owners = owner.map(|owner| {
                json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": owner.metadata.name,
                        "uid": owner.metadata.uid, "controller": true, "blockOwnerDeletion": true}])
            });
            serde_json::from_value(json!({"metadata": {"name": name, "ownerReferences": owners}}))
                .unwrap()
        };
        let maps = mesh.api::<ConfigMap>();
        // Owner and dependents are made without a pause: each of them may be heard of first.
        for (policy, stay) in [
            (PropagationPolicy::Orphan, true),
            (PropagationPolicy::Background, false),
            (PropagationPolicy::Foreground, false),
        ] {
            let post = PostParams::default();
            let owner = maps.create(&post, &map("owner", None)).await.unwrap();
            let names: Vec<String> = (0..30).map(|n| format!("dependent-{n}")).collect();
            for name in &names {
                mesh.create(&map(name, Some(&owner))).await;
            }
            let params = DeleteParams {
                propagation_policy: Some(policy),
                ..DeleteParams::default()
            };
            maps.delete("owner", &params).await.unwrap();
            mesh.wait_absent::<ConfigMap>("the owner to go", "owner")
                .await;
            for name in &names {
                if stay {
                    let is_free = |map: &ConfigMap| {
                        map.metadata
                            .owner_references
                            .iter()
                            .flatten()
                            .next()
                            .is_none()
                    };
                    mesh.wait("the dependent to be free", name, is_free).await;
                    maps.delete(name, &DeleteParams::default()).await.unwrap();
                } else {
                    mesh.wait_absent::<ConfigMap>("the dependent to go", name)
                        .await;
                }
            }
        }
    });
}

fn a_namespace_goes_with_all_that_is_in_it() {
    Mesh::run("namespace", async |mesh| {
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"name": "shop"}})).unwrap();
        mesh.create_global(&namespace).await;
        let mut inside = pod(
            "inside",
            json!({"containers": [shell("c", "sleep 100")], "terminationGracePeriodSeconds": 0}),
        );
        inside.metadata.namespace = Some("shop".into());
        let in_shop = mesh.in_namespace("shop");
        in_shop.create(&inside).await;
        in_shop
            .wait("the pod to run", "inside", mesh::is_ready)
            .await;
        mesh.global::<Namespace>()
            .delete("shop", &DeleteParams::default())
            .await
            .unwrap();
        mesh.wait_gone::<Namespace>("the namespace to go", "shop")
            .await;
    });
}

fn pods_come_back_after_a_restart() {
    let mut mesh = Mesh::start("restart");
    mesh.block_on(async |mesh| {
        mesh.create(&pod("web", web())).await;
        mesh.wait("the pod to be ready", "web", mesh::is_ready)
            .await;
    });
    mesh.kill_launcher();
    mesh.restart();
    mesh.block_on(async |mesh| {
        let again = |pod: &Pod| mesh::is_ready(pod) && mesh::restarts(pod) == 1;
        mesh.wait("the pod to be back", "web", again).await;
    });
}

fn nothing_is_left_behind() {
    let before = Snapshot::take();
    for part in ["launcher", "platform", "default/web/web"] {
        let mesh = Mesh::start("clean");
        mesh.block_on(async |mesh| {
            mesh.create(&pod("web", web())).await;
            mesh.wait("the pod to be ready", "web", mesh::is_ready)
                .await;
        });
        match part {
            "launcher" => mesh.kill_launcher(),
            _ => mesh::kill(mesh.component(part).pid),
        }
        drop(mesh);
        Snapshot::assert_equals(&before, part);
    }
}
