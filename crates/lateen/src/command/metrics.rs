//! `lateen x metrics`: rates and latencies of workloads, as Prometheus has them.

use anyhow::{Context, bail};
use clap::Args;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::{Api, Client, ResourceExt, api::ListParams, core::Selector};
use serde_json::Value;

use crate::{cli::Global, client, output, table::right_aligned};

/// The service of Prometheus, and the port of its pods where it does not say.
const PROMETHEUS: &str = "prometheus";
const PORT: u16 = 9090;
/// The time over which rates are taken.
const WINDOW: &str = "1m";
/// Widths of the columns.
const WIDTHS: [usize; 6] = [40, 13, 13, 13, 13, 13];

/// Show rates and latencies of workloads; needs Prometheus in the control plane's namespace.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen experimental metrics productpage-v1\n  lateen experimental metrics productpage-v1.shop reviews-v1.shop"
)]
pub(crate) struct Metrics {
    /// Workloads, `name[.namespace]`.
    #[arg(required = true)]
    workloads: Vec<String>,
    /// The time over which rates are taken, as Prometheus has it.
    #[arg(short, long, default_value = WINDOW, value_parser = window)]
    duration: String,
}

/// A number and a unit: it becomes a part of a query.
fn window(text: &str) -> Result<String, String> {
    let digits = text.chars().take_while(char::is_ascii_digit).count();
    match (digits, &text[digits..]) {
        (1.., "ms" | "s" | "m" | "h" | "d") => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is not like 30s, 1m or 2h")),
    }
}

/// What Prometheus says of a workload; `None` where it has nothing.
#[derive(Debug, Default, PartialEq)]
struct Row {
    total: Option<f64>,
    errors: Option<f64>,
    p50: Option<f64>,
    p90: Option<f64>,
    p99: Option<f64>,
}

impl Metrics {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let client = client::connect(global).await?;
        let (pod, port) = prometheus(&client, global).await?;
        let namespace = &global.istio_namespace;
        let ask = async |query: String| -> anyhow::Result<Option<f64>> {
            let path = format!("/api/v1/query?query={}", escaped(&query));
            let text = client::pod_get(&client, namespace, &pod, port, &path).await?;
            value(&serde_json::from_str(&text).context("Prometheus answered no JSON")?)
        };
        let header = [
            "WORKLOAD",
            "TOTAL RPS",
            "ERROR RPS",
            "P50 LATENCY",
            "P90 LATENCY",
            "P99 LATENCY",
        ];
        output::line(right_aligned(&header.map(str::to_owned), &WIDTHS));
        for workload in &self.workloads {
            let (name, namespace) = client::split_namespace(workload, global);
            check(name)?;
            check(namespace)?;
            let of = |what: &str| query(what, name, namespace, &self.duration);
            let row = Row {
                total: ask(of("total")).await?,
                errors: ask(of("errors")).await?,
                p50: ask(of("0.5")).await?,
                p90: ask(of("0.9")).await?,
                p99: ask(of("0.99")).await?,
            };
            if row.total.is_none() {
                eprintln!(
                    "lateen: Prometheus has no istio_requests_total of {name}.{namespace} within {}: nothing called it, or nothing is measured",
                    self.duration
                );
            }
            output::line(right_aligned(&row.cells(workload), &WIDTHS));
        }
        Ok(())
    }
}

impl Row {
    fn cells(&self, workload: &str) -> [String; 6] {
        let rate = |of: Option<f64>| format!("{:.3}", of.unwrap_or_default());
        let time = |of: Option<f64>| latency(of.unwrap_or_default());
        [
            workload.to_owned(),
            rate(self.total),
            rate(self.errors),
            time(self.p50),
            time(self.p90),
            time(self.p99),
        ]
    }
}

/// `12ms`, `1.5s`; Prometheus counts milliseconds.
fn latency(milliseconds: f64) -> String {
    match milliseconds {
        // Prometheus says so where there is nothing to tell a quantile from.
        ms if !ms.is_finite() || ms <= 0.0 => "0s".to_owned(),
        ms if ms < 1000.0 => format!("{}ms", (ms * 10.0).round() / 10.0),
        ms => format!("{}s", (ms / 10.0).round() / 100.0),
    }
}

/// Names become parts of a query.
fn check(name: &str) -> anyhow::Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    match !name.is_empty() && name.chars().all(fits) {
        true => Ok(()),
        false => bail!("{name:?} is no name of a workload or a namespace"),
    }
}

fn query(what: &str, name: &str, namespace: &str, window: &str) -> String {
    let own = format!(
        "destination_workload=\"{name}\",destination_workload_namespace=\"{namespace}\",reporter=\"destination\""
    );
    match what {
        "total" => format!("sum(rate(istio_requests_total{{{own}}}[{window}]))"),
        "errors" => {
            format!(
                "sum(rate(istio_requests_total{{{own},response_code=~\"[45][0-9]{{2}}\"}}[{window}]))"
            )
        }
        quantile => format!(
            "histogram_quantile({quantile}, sum(rate(istio_request_duration_milliseconds_bucket{{{own}}}[{window}])) by (le))"
        ),
    }
}

/// In a URL.
fn escaped(text: &str) -> String {
    let each = text.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    });
    each.collect()
}

/// The number of an answer; `None` where nothing was found.
fn value(answer: &Value) -> anyhow::Result<Option<f64>> {
    if answer["status"] != "success" {
        bail!(
            "Prometheus refused the query: {}",
            answer["error"].as_str().unwrap_or("no reason given")
        );
    }
    let text = answer["data"]["result"][0]["value"][1].as_str();
    text.map(|text| {
        text.parse()
            .with_context(|| format!("{text:?} is no number"))
    })
    .transpose()
}

/// A running pod of Prometheus, and its port.
async fn prometheus(client: &Client, global: &Global) -> anyhow::Result<(String, u16)> {
    let namespace = &global.istio_namespace;
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let service = services.get_opt(PROMETHEUS).await;
    let service = service.context("cannot read service prometheus")?;
    let Some(spec) = service.and_then(|service| service.spec) else {
        bail!(
            "there is no service prometheus in namespace {namespace}; add it by `lateen install --addon prometheus`, or name its namespace with --istioNamespace"
        );
    };
    let selector: Selector = spec.selector.unwrap_or_default().into_iter().collect();
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let found = pods
        .list(&ListParams::default().labels_from(&selector))
        .await;
    let found = found.context("cannot list the pods of prometheus")?;
    let is_running = |pod: &&Pod| {
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        phase == Some("Running")
    };
    let pod = found.items.iter().find(is_running);
    let pod = pod.with_context(|| {
        format!("no pod of service prometheus runs in namespace {namespace}; see `kubectl get pods -n {namespace}`")
    })?;
    let target = spec
        .ports
        .iter()
        .flatten()
        .find_map(|port| match &port.target_port {
            Some(k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(number)) => {
                u16::try_from(*number).ok()
            }
            _ => None,
        });
    Ok((pod.name_any(), target.unwrap_or(PORT)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_those_of_istioctl() {
        let header = [
            "WORKLOAD",
            "TOTAL RPS",
            "ERROR RPS",
            "P50 LATENCY",
            "P90 LATENCY",
            "P99 LATENCY",
        ];
        let told = right_aligned(&header.map(str::to_owned), &WIDTHS);
        let expect = format!(
            "{:>40}    TOTAL RPS    ERROR RPS  P50 LATENCY  P90 LATENCY  P99 LATENCY",
            "WORKLOAD"
        );
        assert_eq!(told, expect);
        let row = Row {
            total: Some(1.25),
            p50: Some(3.0),
            p99: Some(1500.0),
            ..Row::default()
        };
        let told = right_aligned(&row.cells("reviews-v1"), &WIDTHS);
        let expect = format!(
            "{:>40}        1.250        0.000          3ms           0s         1.5s",
            "reviews-v1"
        );
        assert_eq!(told, expect);
    }

    #[test]
    fn answers_are_numbers_or_nothing() {
        let found = json!({"status": "success", "data": {"result": [{"value": [1, "2.5"]}]}});
        assert_eq!(value(&found).expect("an answer"), Some(2.5));
        let nothing = json!({"status": "success", "data": {"result": []}});
        assert_eq!(value(&nothing).expect("an answer"), None);
        let refused = json!({"status": "error", "error": "no such function"});
        let error = value(&refused).expect_err("refused").to_string();
        assert!(error.contains("no such function"), "{error}");
        assert_eq!(latency(f64::NAN), "0s");
    }

    #[test]
    fn nothing_of_a_name_gets_into_a_query() {
        assert!(check("reviews-v1").is_ok());
        for bad in ["", "a\"b", "a}b", "a b"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(window("1m").is_ok() && window("1m])").is_err() && window("m").is_err());
        assert_eq!(escaped("a{b=\"c\"}"), "a%7Bb%3D%22c%22%7D");
    }
}
