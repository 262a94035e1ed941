//! Our sidecar as it runs in a pod: the agent and the proxy in one process, certificate and
//! configuration from a control plane.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{Found, Side, Stage};
use crate::identity::{CLIENT, NAMESPACE, SERVER};
use crate::ports::{CONTROL, Ports};
use crate::process::{PROXY_CORE, get, on_core};
use crate::resources;

pub(super) fn command(
    found: &Found,
    stage: &Stage,
    side: Side,
    ports: Ports,
    directory: &Path,
) -> Result<Command> {
    let (account, (listeners, clusters)) = match side {
        Side::Inbound => (SERVER, resources::inbound(ports, &secrets)),
        Side::Plain => (SERVER, resources::plain(ports)),
        Side::Outbound(server) => (
            CLIENT,
            resources::outbound(ports, server, &secrets, &["istio"]),
        ),
    };
    let pod = format!("{account}-v1-{}", ports.h1());
    stage.plane.add(&pod, listeners, clusters)?;
    put(
        directory,
        "var/run/secrets/istio/root-cert.pem",
        &stage.roots,
    )?;
    put(directory, "var/run/secrets/tokens/istio-token", account)?;
    let labels = format!("app=\"{account}\"\nversion=\"v1\"\n");
    put(directory, "etc/istio/pod/labels", &labels)?;
    let config = format!(
        "discoveryAddress: localhost:{CONTROL}\nproxyAdminPort: {}\nstatusPort: {}\n",
        ports.admin(),
        ports.status()
    );
    let mut command = on_core(PROXY_CORE, &found.binary)?;
    command
        .args(["proxy", "sidecar", "--domain", "default.svc.cluster.local"])
        .args(["--concurrency", "1", "--proxyLogLevel=warning"])
        .args(["--log_output_level=default:warn", "--root"])
        .arg(directory)
        .env("POD_NAME", &pod)
        .env("POD_NAMESPACE", NAMESPACE)
        .env("INSTANCE_IP", "127.0.0.1")
        .env("SERVICE_ACCOUNT", account)
        .env("ISTIO_META_WORKLOAD_NAME", format!("{account}-v1"))
        .env("ISTIO_META_CLUSTER_ID", "Kubernetes")
        .env("PROXY_CONFIG", config)
        .env("ENVOY_STATUS_PORT", ports.ready().to_string())
        .env("ENVOY_PROMETHEUS_PORT", ports.metrics().to_string());
    Ok(command)
}

fn put(root: &Path, path: &str, text: &str) -> Result<()> {
    let path = root.join(path);
    let parent = path.parent().context("below the root")?;
    fs::create_dir_all(parent)?;
    Ok(fs::write(path, text)?)
}

/// Certificates by secret discovery, as Istio configures it.
fn secrets(names: Value) -> Value {
    let from = |name: &str| {
        json!({ "name": name, "sds_config": { "resource_api_version": "V3", "api_config_source": {
            "api_type": "GRPC", "transport_api_version": "V3",
            "set_node_on_first_message_only": true,
            "grpc_services": [{ "envoy_grpc": { "cluster_name": "sds-grpc" } }],
        } } })
    };
    json!({
        "tls_certificate_sds_secret_configs": [from("default")],
        "combined_validation_context": {
            "default_validation_context": { "match_typed_subject_alt_names": names },
            "validation_context_sds_secret_config": from("ROOTCA"),
        },
    })
}

/// The sum of `istio_requests_total` with status 200 and no response flag.
pub(super) fn answered(ports: Ports) -> Result<u64> {
    sum(&get(ports.admin(), "/stats/prometheus")?)
}

fn sum(text: &str) -> Result<u64> {
    let mut total = 0.0;
    for line in text
        .lines()
        .filter(|line| line.starts_with("istio_requests_total{"))
    {
        let (labels, value) = line.rsplit_once(' ').context("a value")?;
        if !labels.contains("response_code=\"200\"") || !labels.contains("response_flags=\"-\"") {
            bail!("not every answer was a good one: {line}");
        }
        total += value.parse::<f64>().context("a number")?;
    }
    Ok(total as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_added() {
        let line = |code: &str, value: &str| {
            format!(
                "istio_requests_total{{response_code=\"{code}\",response_flags=\"-\"}} {value}\n"
            )
        };
        let text = format!(
            "# TYPE x counter\n{}{}other 5\n",
            line("200", "3"),
            line("200", "4")
        );
        assert_eq!(sum(&text).expect("valid"), 7);
        assert_eq!(sum("").expect("valid"), 0);
        assert!(sum(&line("503", "1")).is_err());
    }
}
