//! Grafana with the dashboards of the mesh, which anybody who reaches it may look at and nobody may
//! change.

use serde_json::{Value, json};

use super::server::{self, Server};
use crate::Installation;

const NAME: &str = "grafana";
/// Where the dashboards are.
const FOLDER: &str = "/etc/dashboards";

/// Files of the dashboards.
pub(super) const DASHBOARDS: [(&str, &str); 5] = [
    (
        "istio-mesh-dashboard.json",
        include_str!("../../../../dashboards/istio-mesh-dashboard.json"),
    ),
    (
        "istio-service-dashboard.json",
        include_str!("../../../../dashboards/istio-service-dashboard.json"),
    ),
    (
        "istio-workload-dashboard.json",
        include_str!("../../../../dashboards/istio-workload-dashboard.json"),
    ),
    (
        "istio-performance-dashboard.json",
        include_str!("../../../../dashboards/istio-performance-dashboard.json"),
    ),
    (
        "istio-control-plane-dashboard.json",
        include_str!("../../../../dashboards/istio-control-plane-dashboard.json"),
    ),
];

pub(super) fn all(installation: &Installation) -> Vec<Value> {
    let dashboards = DASHBOARDS.map(|(name, text)| (name, text.to_owned()));
    let maps = |name, files: &[(&str, String)]| server::config_map(installation, NAME, name, files);
    let server = Server {
        name: NAME,
        image: "docker.io/grafana/grafana:12.4.3",
        user: 472,
        args: Vec::new(),
        env: environment(),
        ports: &[("http", 3000)],
        ready: ("/api/health", 3000),
        resources: ["50m", "128Mi", "512Mi"],
        needs_token: false,
        files: vec![
            (
                maps(
                    "istio-grafana-datasources",
                    &[("datasources.yaml", text(&datasource()))],
                ),
                "/etc/grafana/provisioning/datasources",
            ),
            (
                maps(
                    "istio-grafana-providers",
                    &[("dashboards.yaml", text(&provider()))],
                ),
                "/etc/grafana/provisioning/dashboards",
            ),
            (maps("istio-grafana-dashboards", &dashboards), FOLDER),
        ],
        folders: &[("data", "/var/lib/grafana", "1Gi"), ("tmp", "/tmp", "64Mi")],
    };
    let mut all = server.objects(installation);
    all.push(server::service(
        installation,
        NAME,
        NAME,
        &[("http", 3000, 3000)],
    ));
    all
}

/// Nobody signs in, as there is no user; nothing is asked of the Internet.
fn environment() -> Vec<(&'static str, String)> {
    let fixed = [
        ("GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES", "false"),
        ("GF_ANALYTICS_CHECK_FOR_UPDATES", "false"),
        ("GF_ANALYTICS_REPORTING_ENABLED", "false"),
        ("GF_AUTH_ANONYMOUS_ENABLED", "true"),
        ("GF_AUTH_ANONYMOUS_ORG_ROLE", "Viewer"),
        ("GF_AUTH_BASIC_ENABLED", "false"),
        ("GF_AUTH_DISABLE_LOGIN_FORM", "true"),
        ("GF_LOG_MODE", "console"),
        ("GF_NEWS_NEWS_FEED_ENABLED", "false"),
        ("GF_PLUGINS_PREINSTALL_DISABLED", "true"),
        ("GF_SECURITY_DISABLE_GRAVATAR", "true"),
        ("GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION", "true"),
    ];
    let mut all: Vec<_> = fixed.map(|(name, value)| (name, value.to_owned())).into();
    let first = format!("{FOLDER}/{}", DASHBOARDS[0].0);
    all.push(("GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH", first));
    all
}

fn datasource() -> Value {
    json!({
        "apiVersion": 1,
        "datasources": [{
            "name": "Prometheus",
            "uid": "prometheus",
            "type": "prometheus",
            "access": "proxy",
            "url": "http://prometheus:9090",
            "isDefault": true,
            "editable": false,
            "jsonData": {"timeInterval": "15s"},
        }],
    })
}

fn provider() -> Value {
    json!({
        "apiVersion": 1,
        "providers": [{
            "name": "istio",
            "folder": "istio",
            "type": "file",
            "disableDeletion": true,
            "allowUiUpdates": false,
            "options": {"path": FOLDER},
        }],
    })
}

fn text(document: &Value) -> String {
    serde_yaml_ng::to_string(document).expect("a document of texts and lists can be written")
}
