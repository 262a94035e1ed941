//! Prometheus, with what it scrapes and the alerts.

use serde_json::{Value, json};

use super::server::{self, Server};
use crate::Installation;

/// By name, so that proxies of every namespace can be asked.
const NAME: &str = "prometheus";
/// The alerts, as Prometheus reads them.
pub(super) const ALERTS: &str = include_str!("../../../../dashboards/alerts.yaml");

pub(super) fn all(installation: &Installation) -> Vec<Value> {
    let config = serde_yaml_ng::to_string(&config(installation.namespace()))
        .expect("a document of texts and lists can be written");
    let files = [
        ("prometheus.yml", config),
        ("alerts.yml", ALERTS.to_owned()),
    ];
    let server = Server {
        name: NAME,
        image: "docker.io/prom/prometheus:v3.13.0",
        user: 65534,
        args: [
            "--config.file=/etc/prometheus/prometheus.yml",
            "--storage.tsdb.path=/prometheus",
            "--storage.tsdb.retention.time=15d",
            "--storage.tsdb.retention.size=6GB",
        ]
        .map(str::to_owned)
        .to_vec(),
        env: Vec::new(),
        ports: &[("http", 9090)],
        ready: ("/-/ready", 9090),
        resources: ["100m", "512Mi", "2Gi"],
        needs_token: true,
        files: vec![(
            server::config_map(installation, NAME, NAME, &files),
            "/etc/prometheus",
        )],
        folders: &[("data", "/prometheus", "8Gi")],
    };
    // Pods are all that it looks for.
    let rules =
        json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]);
    let mut all = server::cluster_role(installation, NAME, rules).to_vec();
    all.extend(server.objects(installation));
    all.push(server::service(
        installation,
        NAME,
        NAME,
        &[("http", 9090, 9090)],
    ));
    all
}

/// The file: who is scraped, and where.
fn config(namespace: &str) -> Value {
    json!({
        "global": {"scrape_interval": "15s", "scrape_timeout": "10s", "evaluation_interval": "15s"},
        "rule_files": ["/etc/prometheus/alerts.yml"],
        "scrape_configs": [
            {"job_name": NAME, "static_configs": [{"targets": ["localhost:9090"]}]},
            control_plane(namespace),
            pods(namespace),
            proxies(),
        ],
    })
}

/// Every replica of every revision, at its own address: a Service would answer for one of them.
fn control_plane(namespace: &str) -> Value {
    let mut rules = vec![
        rule(
            "keep",
            &["pod_label_app", "pod_container_port_number"],
            "istiod;15014",
        ),
        labelled("pod_label_istio_io_rev", "revision"),
    ];
    rules.extend(usual());
    json!({
        "job_name": "istiod",
        "kubernetes_sd_configs": [{"role": "pod", "namespaces": {"names": [namespace]}}],
        "relabel_configs": rules,
    })
}

/// Pods whose annotations ask for it. With a sidecar that is the agent's port 15020, which answers for
/// the application and the proxy as well, in plain text even where the mesh is strict.
fn pods(namespace: &str) -> Value {
    let address = |regex: &str, address: &str| {
        json!({
            "source_labels": meta(&["pod_annotation_prometheus_io_port", "pod_ip"]),
            "regex": regex,
            "replacement": address,
            "target_label": "__address__",
        })
    };
    let mut rules = vec![
        rule("keep", &["pod_annotation_prometheus_io_scrape"], "true"),
        // The control plane has a job of its own.
        rule(
            "drop",
            &["namespace", "pod_label_app"],
            &format!("{namespace};istiod"),
        ),
        replaced(
            "pod_annotation_prometheus_io_scheme",
            "(https?)",
            "__scheme__",
        ),
        replaced(
            "pod_annotation_prometheus_io_path",
            "(.+)",
            "__metrics_path__",
        ),
        address("(\\d+);([^:]+)", "$2:$1"),
        address("(\\d+);(.*:.*)", "[$2]:$1"),
    ];
    rules.extend(usual());
    json!({
        "job_name": "kubernetes-pods",
        "kubernetes_sd_configs": [{"role": "pod"}],
        "relabel_configs": rules,
    })
}

/// Proxies whose metrics nobody merges: those of pods where merging is off, and gateways without the
/// annotations. Whoever is scraped at port 15020 is not scraped again.
fn proxies() -> Value {
    let mut rules = vec![
        rule("keep", &["pod_container_port_name"], ".*-envoy-prom"),
        rule(
            "drop",
            &[
                "pod_annotation_prometheus_io_scrape",
                "pod_annotation_prometheus_io_port",
            ],
            "true;15020",
        ),
    ];
    rules.extend(usual());
    json!({
        "job_name": "envoy-stats",
        "metrics_path": "/stats/prometheus",
        "kubernetes_sd_configs": [{"role": "pod"}],
        "relabel_configs": rules,
    })
}

/// Pods that have ended are not asked; of the others it is known who they are.
fn usual() -> Vec<Value> {
    vec![
        rule("drop", &["pod_phase"], "Succeeded|Failed"),
        labelled("namespace", "namespace"),
        labelled("pod_name", "pod"),
        labelled("pod_label_app", "app"),
        labelled("pod_label_version", "version"),
    ]
}

fn meta(labels: &[&str]) -> Vec<String> {
    labels
        .iter()
        .map(|label| format!("__meta_kubernetes_{label}"))
        .collect()
}

fn rule(action: &str, labels: &[&str], regex: &str) -> Value {
    json!({"action": action, "source_labels": meta(labels), "regex": regex})
}

fn replaced(label: &str, regex: &str, target: &str) -> Value {
    json!({"source_labels": meta(&[label]), "regex": regex, "target_label": target})
}

fn labelled(label: &str, target: &str) -> Value {
    json!({"source_labels": meta(&[label]), "target_label": target})
}
