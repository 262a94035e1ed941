//! What users type, with every `kubectl` that there is.

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use lateen_e2e::{Kubectl, Mesh, eventually};

use super::shared;

/// Where each test works; made and removed by it.
const NAMESPACE: &str = "typed";

const IMAGE: &str = "example.com/typed:1";

const APP: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, annotations: {kubernetes.io/change-cause: first}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: c, image: 'example.com/typed:1', args: [-c, 'echo hello; sleep 1000'], ports: [{containerPort: 80}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, name: http}]}
";

const JOB: &str = "
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: 'example.com/typed:1', args: [-c, 'echo done']}]}}}
";

const CRASHING: &str = "
apiVersion: v1
kind: Pod
metadata: {name: crashing}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: 'example.com/typed:1', args: [-c, 'echo one; echo two; exit 3']}
  - {name: other, image: 'example.com/typed:1', args: [-c, 'echo other; sleep 1000']}
";

/// A `kubectl` in the namespace.
struct Typed<'k>(&'k Kubectl);

impl Typed<'_> {
    fn run(&self, line: &str) -> anyhow::Result<String> {
        self.feed(line, "")
    }

    fn feed(&self, line: &str, stdin: &str) -> anyhow::Result<String> {
        let args = ["-n", NAMESPACE].into_iter().chain(line.split_whitespace());
        self.0.feed(&args.collect::<Vec<_>>(), stdin)
    }

    fn refused(&self, line: &str, stdin: &str) -> anyhow::Result<String> {
        let args = ["-n", NAMESPACE].into_iter().chain(line.split_whitespace());
        self.0.refused(&args.collect::<Vec<_>>(), stdin)
    }

    /// What it prints has these parts.
    fn says(&self, line: &str, parts: &[&str]) -> anyhow::Result<()> {
        has(&self.run(line)?, parts)
    }
}

fn has(said: &str, parts: &[&str]) -> anyhow::Result<()> {
    for part in parts {
        ensure!(said.contains(part), "{part:?} is not in:\n{said}");
    }
    Ok(())
}

/// Runs a test with each `kubectl`, in a namespace of its own.
fn with_each(mesh: &Mesh, test: impl Fn(&Typed<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
    mesh.lateen_ok(&["image", "add", "--name", &mesh.name, IMAGE, "--", "sh"])?;
    for kubectl in mesh.kubectls()? {
        kubectl.run(&["create", "namespace", NAMESPACE])?;
        let result = test(&Typed(&kubectl));
        kubectl.run(&["delete", "namespace", NAMESPACE, "--timeout=60s"])?;
        result?;
    }
    mesh.lateen_ok(&["image", "remove", "--name", &mesh.name, IMAGE])?;
    Ok(())
}

pub(crate) async fn objects_are_applied_changed_and_deleted(
    mesh: &Option<Mesh>,
) -> anyhow::Result<()> {
    with_each(shared(mesh), |kubectl| {
        has(
            &kubectl.feed("apply -f -", APP)?,
            &["deployment.apps/web created", "service/web created"],
        )?;
        has(
            &kubectl.feed("apply -f -", APP)?,
            &["deployment.apps/web unchanged"],
        )?;
        kubectl.says("label deploy web a=b", &["deployment.apps/web labeled"])?;
        kubectl.says("annotate svc web note=x", &["service/web annotated"])?;
        for (kind, patch) in [
            (
                "strategic",
                r#"{"spec":{"template":{"spec":{"containers":[{"name":"c","env":[{"name":"A"}]}]}}}}"#,
            ),
            ("merge", r#"{"spec":{"minReadySeconds":1}}"#),
            (
                "json",
                r#"[{"op":"replace","path":"/spec/minReadySeconds","value":0}]"#,
            ),
        ] {
            kubectl.says(
                &format!("patch deploy web --type={kind} -p {patch}"),
                &["patched"],
            )?;
        }
        kubectl.says("edit deploy web", &["deployment.apps/web edited"])?;
        kubectl.says(
            "get deploy web -o jsonpath={.spec.replicas}{.metadata.labels.a}",
            &["1b"],
        )?;
        // A list item that the file no longer has goes, and what others set stays.
        let args = "-o jsonpath={.spec.template.spec.containers[0].ports}{.spec.template.spec.containers[0].env}";
        let without = APP.replace(", ports: [{containerPort: 80}]", "");
        has(
            &kubectl.feed("apply -f -", &without)?,
            &["deployment.apps/web configured"],
        )?;
        let left = kubectl.run(&format!("get deploy web {args}"))?;
        ensure!(
            left.contains("\"A\"") && !left.contains("containerPort"),
            "{left}"
        );
        let conflict = kubectl.refused(
            "apply --server-side -f -",
            &APP.replace("replicas: 2", "replicas: 3"),
        )?;
        has(
            &conflict,
            &["Apply failed with 1 conflict", ".spec.replicas"],
        )?;
        let forced = kubectl.feed("apply --server-side --force-conflicts -f -", APP)?;
        has(&forced, &["deployment.apps/web serverside-applied"])?;
        let dry = kubectl.feed("apply --dry-run=server -f -", APP)?;
        has(&dry, &["(server dry run)"])?;
        has(
            &kubectl.feed("delete -f -", APP)?,
            &["deployment.apps \"web\" deleted"],
        )
    })
}

pub(crate) async fn rollouts_are_followed_and_undone(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    with_each(shared(mesh), |kubectl| {
        kubectl.feed("apply -f -", APP)?;
        let rolled_out = || {
            let done = ["deployment \"web\" successfully rolled out"];
            kubectl.says("rollout status deploy/web --timeout=60s", &done)
        };
        rolled_out()?;
        // Dependents that are left are adopted again, and are no obstacle by their names.
        let pods = || kubectl.run("get pods -l app=web -o jsonpath={.items[*].metadata.uid}");
        let before = pods()?;
        kubectl.run(&format!("delete deploy web --cascade={}", orphan(kubectl)?))?;
        kubectl.says("get rs -o name", &["replicaset.apps/web-"])?;
        kubectl.feed("apply -f -", APP)?;
        rolled_out()?;
        ensure!(pods()? == before, "other pods");
        kubectl.says(
            "set image deploy/web c=example.com/typed:2",
            &["image updated"],
        )?;
        kubectl.says(
            "rollout history deploy/web",
            &["REVISION", "1", "2", "first"],
        )?;
        kubectl.says("rollout undo deploy/web", &["rolled back"])?;
        kubectl.says("rollout restart deploy/web", &["restarted"])?;
        rolled_out()?;
        kubectl.says("scale deploy/web --replicas=1", &["scaled"])?;
        kubectl.says(
            "wait --for=condition=available deploy/web --timeout=60s",
            &["condition met"],
        )?;
        kubectl.says(
            "describe deploy web",
            &["ScalingReplicaSet", "RollingUpdate", "NewReplicaSet:"],
        )
    })
}

/// How this `kubectl` is told to leave dependents: the word came with 1.20.
fn orphan(kubectl: &Typed<'_>) -> anyhow::Result<&'static str> {
    let help = kubectl.run("delete --help")?;
    Ok(if help.contains("orphan") {
        "orphan"
    } else {
        "false"
    })
}

pub(crate) async fn logs_are_read_in_every_way(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    with_each(shared(mesh), |kubectl| {
        kubectl.feed("apply -f -", JOB)?;
        kubectl.says(
            "wait --for=condition=complete job/once --timeout=60s",
            &["condition met"],
        )?;
        // A log that is followed ends with its container.
        ensure!(kubectl.run("logs -f job/once")? == "done\n", "another log");
        kubectl.feed("apply -f -", CRASHING)?;
        kubectl.says(
            "wait --for=condition=initialized pod/crashing --timeout=60s",
            &["met"],
        )?;
        let mut previous = kubectl.run("logs crashing -c c --previous");
        for _ in 0..600 {
            if previous.is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
            previous = kubectl.run("logs crashing -c c --previous");
        }
        ensure!(previous? == "one\ntwo\n", "another log");
        ensure!(
            kubectl.run("logs crashing -c c --tail=1")? == "two\n",
            "another log"
        );
        kubectl.says(
            "logs crashing -c other --since=1h --timestamps",
            &["Z other"],
        )?;
        kubectl.says("logs crashing --all-containers", &["one", "two", "other"])?;
        has(
            &kubectl.refused("logs crashing -c nope", "")?,
            &["container nope is not valid for pod crashing"],
        )
    })
}

pub(crate) async fn the_cluster_is_explored(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    with_each(shared(mesh), |kubectl| {
        kubectl.feed("apply -f -", APP)?;
        kubectl.run("rollout status deploy/web --timeout=60s")?;
        kubectl.says(
            "get pods -o wide",
            &["NOMINATED NODE", "READINESS GATES", "10.244."],
        )?;
        kubectl.says(
            "get pods -A -l app=web --field-selector status.phase=Running",
            &["typed"],
        )?;
        kubectl.says("get pods --sort-by=.metadata.name -o name", &["pod/web-"])?;
        kubectl.says("get svc web -o yaml", &["kind: Service", "targetPort: 80"])?;
        kubectl.says("get svc web -o json", &["\"kind\": \"Service\""])?;
        kubectl.says(
            "describe pod -l app=web",
            &["Restart Count:  0", "Successfully assigned"],
        )?;
        kubectl.says("describe svc web", &["Endpoints:", "10.244."])?;
        kubectl.says(
            "explain deploy.spec.template.spec.containers.livenessProbe",
            &["initialDelaySeconds"],
        )?;
        kubectl.says(
            "explain virtualservice",
            &["VirtualService", "networking.istio.io"],
        )?;
        kubectl.says("api-resources", &["virtualservices", "deployments"])?;
        kubectl.says("api-versions", &["networking.istio.io/v1", "apps/v1"])?;
        kubectl.says("cluster-info", &["is running at", "https://127.0.0.1:"])?;
        kubectl.says("config view", &["current-context:"])?;
        kubectl.says("auth can-i create pods", &["yes"])?;
        let stranger =
            format!("auth can-i create pods --as system:serviceaccount:{NAMESPACE}:default");
        has(&kubectl.refused(&stranger, "")?, &["no"])?;
        has(
            &kubectl.refused("top pods", "")?,
            &["Metrics API not available"],
        )?;
        has(
            &kubectl.refused("get deploy nothing", "")?,
            &["deployments.apps \"nothing\" not found"],
        )
    })
}

pub(crate) async fn what_is_wrong_is_said(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    with_each(shared(mesh), |kubectl| {
        let untyped = APP.replace("args: [-c, 'echo hello; sleep 1000']", "command: [true]");
        let said = kubectl.refused("apply --validate=false -f -", &untyped)?;
        has(
            &said,
            &[
                "cannot unmarshal bool",
                "spec.template.spec.containers.command of type string",
            ],
        )?;
        let unknown = APP.replace("ports:", "prts:");
        has(
            &kubectl.refused("apply -f -", &unknown)?,
            &["unknown field", "prts"],
        )?;
        let invalid = APP.replace("containerPort: 80", "containerPort: 80000");
        let said = kubectl.refused("apply -f -", &invalid)?;
        has(
            &said,
            &[
                "spec.template.spec.containers[0].ports[0].containerPort",
                "between 1 and 65535",
            ],
        )
    })
}

const RUNNING: &str = "
apiVersion: v1
kind: Pod
metadata: {name: running}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: 'example.com/typed:1', args: [-c, 'echo here > /tmp/where; sleep 1000']}
  - {name: other, image: 'example.com/typed:1', args: [-c, 'sleep 1000']}
";

pub(crate) async fn programs_run_in_containers(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    mesh.lateen_ok(&["image", "add", "--name", &mesh.name, IMAGE, "--", "sh"])?;
    mesh.apply(RUNNING).await?;
    let result = executed(mesh).await;
    mesh.delete(RUNNING).await?;
    mesh.lateen_ok(&["image", "remove", "--name", &mesh.name, IMAGE])?;
    result
}

async fn executed(mesh: &Mesh) -> anyhow::Result<()> {
    let pods = Api::<Pod>::default_namespaced(mesh.client().await?);
    eventually("the pod to be ready", async || {
        ensure!(
            lateen_e2e::mesh::ready(&pods.get("running").await?),
            "not yet"
        );
        Ok(())
    })
    .await?;
    let exec = async |container, argv: &[&str], stdin| {
        mesh.exec("default", "running", container, argv, stdin)
            .await
    };
    let done = exec("c", &["cat", "/tmp/where"], "").await?;
    ensure!(
        done.stdout == "here\n" && done.reason.is_empty(),
        "{done:?}"
    );
    let done = exec("c", &["sh", "-c", "echo bad >&2; exit 7"], "").await?;
    ensure!(
        done.stderr == "bad\n" && done.code.as_deref() == Some("7"),
        "{done:?}"
    );
    // The input ends, and all of it arrives: more than one message and one pipe hold.
    let much = "line\n".repeat(40_000);
    let done = exec("other", &["wc", "-l"], &much).await?;
    ensure!(done.stdout.trim() == "40000", "{done:?}");
    let done = exec("none", &["true"], "").await?;
    ensure!(done.reason == "InternalError", "{done:?}");
    for kubectl in mesh.kubectls()? {
        // Older ones speak SPDY only.
        if kubectl.speaks_websocket()? {
            let said = kubectl.feed(
                &["exec", "-i", "running", "-c", "other", "--", "cat"],
                "to and fro",
            )?;
            ensure!(said == "to and fro", "{said:?}");
        }
    }
    Ok(())
}
