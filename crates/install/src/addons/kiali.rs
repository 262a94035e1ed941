//! Kiali, which asks Prometheus and the API server, and changes nothing.

use serde_json::{Value, json};

use super::server::{self, Server};
use crate::Installation;

const NAME: &str = "kiali";

pub(super) fn all(installation: &Installation) -> Vec<Value> {
    let config = serde_yaml_ng::to_string(&config(installation.namespace()))
        .expect("a document of texts and lists can be written");
    let files = [("config.yaml", config)];
    let server = Server {
        name: NAME,
        image: "quay.io/kiali/kiali:v2.24.0",
        user: 1000,
        args: vec![
            "-config".to_owned(),
            "/kiali-configuration/config.yaml".to_owned(),
        ],
        env: Vec::new(),
        ports: &[("http", 20001), ("http-metrics", 9090)],
        ready: ("/kiali/healthz", 20001),
        resources: ["10m", "128Mi", "1Gi"],
        needs_token: true,
        files: vec![(
            server::config_map(installation, NAME, NAME, &files),
            "/kiali-configuration",
        )],
        folders: &[("tmp", "/tmp", "64Mi")],
    };
    let mut all = server::cluster_role(installation, NAME, rules()).to_vec();
    all.extend(server.objects(installation));
    all.push(server::service(
        installation,
        NAME,
        NAME,
        &[("http", 20001, 20001), ("http-metrics", 9090, 9090)],
    ));
    all
}

fn config(namespace: &str) -> Value {
    let url = |service: &str| format!("http://{service}.{namespace}");
    json!({
        // Whoever reaches the port sees the mesh, and can change nothing: there is no user to be.
        "auth": {"strategy": "anonymous"},
        "deployment": {
            "cluster_wide_access": true,
            "instance_name": NAME,
            "namespace": namespace,
            "view_only_mode": true,
        },
        "external_services": {
            "custom_dashboards": {"enabled": false},
            "grafana": {"enabled": true, "internal_url": url("grafana:3000")},
            "istio": {"root_namespace": namespace},
            "prometheus": {"url": url("prometheus:9090")},
            "tracing": {
                "enabled": true,
                "internal_url": url("tracing:80"),
                "provider": "jaeger",
                "use_grpc": false,
            },
        },
        "server": {"port": 20001, "web_root": "/kiali", "observability": {"metrics": {"enabled": true, "port": 9090}}},
    })
}

/// Reading, and Secrets not even that.
fn rules() -> Value {
    let read = |group: &str, resources: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": ["get", "list", "watch"]});
    json!([
        read(
            "",
            &[
                "configmaps",
                "endpoints",
                "namespaces",
                "nodes",
                "pods",
                "replicationcontrollers",
                "services"
            ]
        ),
        read("discovery.k8s.io", &["endpointslices"]),
        read(
            "apps",
            &["daemonsets", "deployments", "replicasets", "statefulsets"]
        ),
        read("batch", &["cronjobs", "jobs"]),
        read(
            "admissionregistration.k8s.io",
            &["mutatingwebhookconfigurations"]
        ),
        read("networking.istio.io", &["*"]),
        read("security.istio.io", &["*"]),
        read("extensions.istio.io", &["*"]),
        read("telemetry.istio.io", &["*"]),
        read("gateway.networking.k8s.io", &["*"]),
    ])
}
