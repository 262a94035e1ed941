//! Servers beside the mesh: installed, left alone by what does not name them, removed.

use std::process::Command;

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Pod},
};
use kube::{Api, api::ListParams};
use lateen_e2e::{
    Mesh, eventually,
    mesh::{documents, text},
};
use lateen_testkit::{find_tool, not_checked};
use serde_json::{Value, json};

use super::{alone, block_on};

#[test]
fn addons_stay_until_they_are_named() -> anyhow::Result<()> {
    let _alone = alone();
    let mesh = Mesh::platform("addons")?;
    block_on(async {
        // Alone, beside a mesh that is not there.
        let zipkin = [
            "install",
            "-y",
            "--addon",
            "zipkin",
            "--readiness-timeout",
            "3s",
        ];
        let output = mesh.lateen(&zipkin)?;
        let said = text(&output);
        ensure!(!output.status.success(), "{said}");
        let next = "`lateen install --set profile=default --addon zipkin`";
        ensure!(
            said.contains("there is no mesh in namespace istio-system"),
            "{said}"
        );
        ensure!(said.contains(next), "{said}");
        // Alone, beside one that has settings of its own, which stay.
        let minimal = ["install", "--set", "profile=minimal", "-y"];
        let logs = ["--set", "meshConfig.accessLogFile=/dev/stdout"];
        mesh.lateen_ok(&[&minimal[..], &logs].concat())?;
        // A pod of an image that nobody maps does not become ready, which is told with its reason.
        let output = mesh.lateen(&zipkin)?;
        let said = text(&output);
        ensure!(!output.status.success(), "{said}");
        ensure!(
            said.contains("beside the mesh in namespace istio-system"),
            "{said}"
        );
        ensure!(said.contains("Zipkin is not ready"), "{said}");
        ensure!(said.contains("openzipkin/zipkin"), "{said}");
        ensure!(deployments(&mesh).await? == ["istiod", "zipkin"]);
        let maps: Api<ConfigMap> = Api::namespaced(mesh.client().await?, "istio-system");
        let settings = maps.get("istio").await?.data.context("settings")?;
        ensure!(
            settings["mesh"].contains("accessLogFile: /dev/stdout"),
            "{settings:?}"
        );
        // It is there nevertheless, and stays.
        let said = mesh.lateen_ok(&minimal)?;
        ensure!(
            said.contains("Addons that stay as they are: zipkin"),
            "{said}"
        );
        ensure!(deployments(&mesh).await? == ["istiod", "zipkin"]);
        // Two addons of one Service.
        let output = mesh.lateen(&[&minimal[..], &["--addon", "tracing"]].concat())?;
        let said = text(&output);
        ensure!(!output.status.success(), "{said}");
        ensure!(
            said.contains("Service istio-system/tracing belongs to the addon zipkin"),
            "{said}"
        );
        // A revision goes without it.
        let said = mesh.lateen_ok(&["uninstall", "--revision", "default", "-y", "--dry-run"])?;
        ensure!(!said.contains("zipkin"), "{said}");
        let said = mesh.lateen_ok(&["uninstall", "--addon", "zipkin", "-y"])?;
        ensure!(said.contains("- Service istio-system/tracing"), "{said}");
        ensure!(!said.contains("istiod"), "{said}");
        ensure!(deployments(&mesh).await? == ["istiod"]);
        mesh.lateen_ok(&["uninstall", "--purge", "-y"])?;
        Ok(())
    })?;
    mesh.stop().map(drop)
}

#[test]
fn prometheus_scrapes_the_mesh() -> anyhow::Result<()> {
    let _alone = alone();
    let what = "what Prometheus scrapes";
    let Some(prometheus) = find_tool("prometheus", "Debian's package prometheus", what) else {
        return Ok(());
    };
    let mesh = Mesh::platform("scraped")?;
    block_on(async {
        let prometheus = prometheus.to_str().context("a path")?;
        let image = ["add", "docker.io/prom/prometheus", "--", prometheus];
        mesh.lateen_ok(&[&["image", "--name", &mesh.name], &image[..]].concat())?;
        let sleep = ["add", "idle", "--", "/bin/sleep", "infinity"];
        mesh.lateen_ok(&[&["image", "--name", &mesh.name], &sleep[..]].concat())?;
        mesh.lateen_ok(&["install", "-y"])?;
        mesh.apply(WORKLOADS).await?;
        mesh.wait_ready("default", "scraped=yes", 2).await?;
        start(&mesh).await?;
        let one = |query: &str, wanted: &str| (query.to_owned(), wanted.to_owned());
        for (query, wanted) in [
            // The control plane, once; the gateway, and a pod with a sidecar, merged.
            one("count(up{job=\"istiod\"} == 1)", "1"),
            one(
                "count(up{job=\"kubernetes-pods\", app=\"istio-ingressgateway\"} == 1)",
                "1",
            ),
            one(
                "count(up{job=\"kubernetes-pods\", namespace=\"default\", pod=\"merged\"} == 1)",
                "1",
            ),
            one(
                "count(istio_agent_cert_expiry_seconds{pod=\"merged\"})",
                "1",
            ),
            // One whose metrics nobody merges is scraped at the proxy.
            one("count(up{job=\"envoy-stats\", pod=\"apart\"} == 1)", "1"),
            // Nobody is scraped twice.
            one("max(count by (pod) (envoy_server_live))", "1"),
            one("sum(envoy_server_live) - sum(pilot_xds)", "0"),
            one("count(pilot_xds)", "1"),
        ] {
            eventually(&query, async || {
                let value = ask(&mesh, &query).await?;
                ensure!(value == wanted, "{query} is {value}, and not {wanted}");
                Ok(())
            })
            .await?;
        }
        // The rules are in, and the mesh gives no reason to speak.
        let rules = get(&mesh, "/api/v1/rules").await?.to_string();
        ensure!(rules.contains("IstiodDown"), "{rules}");
        ensure!(!rules.contains("\"health\":\"err\""), "{rules}");
        let alerts = get(&mesh, "/api/v1/alerts").await?;
        let firing = alerts["data"]["alerts"].as_array().context("a list")?;
        let firing: Vec<_> = firing
            .iter()
            .filter(|alert| alert["state"] == "firing")
            .collect();
        ensure!(firing.is_empty(), "{firing:?}");
        mesh.lateen_ok(&["uninstall", "--purge", "-y"])?;
        Ok(())
    })?;
    mesh.stop().map(drop)
}

/// One pod whose metrics are merged, and one whose are not.
const WORKLOADS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: merged, labels: {app: merged, scraped: 'yes', sidecar.istio.io/inject: 'true'}}
spec: {containers: [{name: idle, image: idle}]}
---
apiVersion: v1
kind: Pod
metadata:
  name: apart
  labels: {app: apart, scraped: 'yes', sidecar.istio.io/inject: 'true'}
  annotations: {prometheus.istio.io/merge-metrics: 'false'}
spec: {containers: [{name: idle, image: idle}]}
";

/// Starts Prometheus as the addon does. Debian builds it without the discovery of Kubernetes: such a
/// one is given a file with the targets that discovery would find, and everything else is the addon's.
async fn start(mesh: &Mesh) -> anyhow::Result<()> {
    let mut objects = documents(&mesh.lateen_ok(&["manifest", "addon", "prometheus"])?)?;
    let map = objects
        .iter_mut()
        .find(|object| object["kind"] == "ConfigMap");
    let files = &mut map.context("no files")?["data"];
    let config = files["prometheus.yml"].as_str().context("a text")?;
    if discovers(config)? {
        mesh.lateen_ok(&["install", "-y", "--addon", "prometheus"])?;
        return Ok(());
    }
    not_checked("kubernetes_sd_configs, which this prometheus does not know");
    let mut config: Value = serde_yaml_ng::from_str(config)?;
    for job in config["scrape_configs"].as_array_mut().context("jobs")? {
        let job = job.as_object_mut().context("a job")?;
        if job.remove("kubernetes_sd_configs").is_some() {
            let found = json!([{"files": ["/etc/prometheus/targets.json"]}]);
            job.insert("file_sd_configs".to_owned(), found);
        }
    }
    files["prometheus.yml"] = json!(config.to_string());
    files["targets.json"] = json!(targets(mesh).await?.to_string());
    let texts = objects.iter().map(|object| format!("---\n{object}\n"));
    mesh.apply(&texts.collect::<String>()).await?;
    mesh.wait_ready("istio-system", "app=prometheus", 1).await?;
    Ok(())
}

/// Whether the Prometheus of this machine knows the cluster's discovery.
fn discovers(config: &str) -> anyhow::Result<bool> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("prometheus.yml");
    std::fs::write(&file, config)?;
    let output = Command::new("promtool")
        .args(["check", "config"])
        .arg(&file)
        .output();
    let said = text(&output.context("promtool belongs to prometheus")?);
    Ok(!said.contains("kubernetes_sd_configs not found"))
}

/// What discovery says of pods: a target for each port of each container.
async fn targets(mesh: &Mesh) -> anyhow::Result<Value> {
    let pods: Api<Pod> = Api::all(mesh.client().await?);
    let mut targets = Vec::new();
    for pod in pods.list(&ListParams::default()).await?.items {
        let pod = serde_json::to_value(pod)?;
        let Some(ip) = pod["status"]["podIP"].as_str() else {
            continue;
        };
        let spec = &pod["spec"];
        let containers = [&spec["initContainers"], &spec["containers"]];
        for container in containers.into_iter().filter_map(Value::as_array).flatten() {
            let nothing = vec![json!({})];
            for port in container["ports"].as_array().unwrap_or(&nothing) {
                let address = match port["containerPort"].as_u64() {
                    Some(number) => format!("{ip}:{number}"),
                    None => ip.to_owned(),
                };
                targets.push(json!({"targets": [address], "labels": labels(&pod, ip, port)}));
            }
        }
    }
    Ok(Value::Array(targets))
}

fn labels(pod: &Value, ip: &str, port: &Value) -> Value {
    let number = port["containerPort"].to_string();
    let mut labels = json!({
        "__meta_kubernetes_namespace": pod["metadata"]["namespace"],
        "__meta_kubernetes_pod_name": pod["metadata"]["name"],
        "__meta_kubernetes_pod_ip": ip,
        "__meta_kubernetes_pod_phase": pod["status"]["phase"],
        "__meta_kubernetes_pod_container_port_name": port["name"].as_str().unwrap_or(""),
        "__meta_kubernetes_pod_container_port_number": number,
    });
    for what in ["label", "annotation"] {
        let own = &pod["metadata"][format!("{what}s")];
        for (key, value) in own.as_object().into_iter().flatten() {
            let key = key.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
            labels[format!("__meta_kubernetes_pod_{what}_{key}")] = value.clone();
        }
    }
    labels
}

async fn deployments(mesh: &Mesh) -> anyhow::Result<Vec<String>> {
    let all: Api<Deployment> = Api::namespaced(mesh.client().await?, "istio-system");
    let all = all.list(&ListParams::default()).await?.items.into_iter();
    Ok(all
        .filter_map(|deployment| deployment.metadata.name)
        .collect())
}

/// What Prometheus answers.
async fn get(mesh: &Mesh, path: &str) -> anyhow::Result<Value> {
    let pods: Api<Pod> = Api::namespaced(mesh.client().await?, "istio-system");
    let named = pods
        .list(&ListParams::default().labels("app=prometheus"))
        .await?;
    let pod = named.items.first().context("no pod of Prometheus")?;
    let name = pod.metadata.name.clone().context("a name")?;
    let answer = mesh.pod_get("istio-system", &name, 9090, path).await?;
    serde_json::from_str(&answer).with_context(|| answer)
}

/// The one value of a query, which is there once everything has been scraped.
async fn ask(mesh: &Mesh, query: &str) -> anyhow::Result<String> {
    let escaped: String = query
        .bytes()
        .map(|byte| match byte.is_ascii_alphanumeric() {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect();
    let answer = get(mesh, &format!("/api/v1/query?query={escaped}")).await?;
    let Some([sample]) = answer["data"]["result"].as_array().map(Vec::as_slice) else {
        bail!("{query} is answered by {answer}");
    };
    let value = sample["value"][1].as_str().context("a value")?;
    Ok(value.to_owned())
}
