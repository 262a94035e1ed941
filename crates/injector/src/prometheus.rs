//! One scrape of the agent brings the application's metrics and the proxy's.

use lateen_api::annotations;
use serde_json::{Value, json};

use crate::{
    template::Settings,
    values::{annotation, object},
};

/// Prometheus treats these alike, and so users write all of them.
fn variants(what: &str) -> [String; 3] {
    [
        format!("prometheus.io/{what}"),
        format!("prometheus.io.{what}"),
        format!("prometheus-io-{what}"),
    ]
}

fn find<'a>(pod: &'a Value, what: &str) -> Option<&'a str> {
    variants(what).iter().find_map(|key| annotation(pod, key))
}

/// Points the pod's annotations at the agent. Returns what the application's own said, for the agent.
pub(crate) fn merge(pod: &mut Value, settings: &Settings<'_>) -> Option<String> {
    let off = annotation(pod, annotations::MERGE_METRICS) == Some("false");
    let scraped = find(pod, "scrape").is_none_or(|value| value != "false");
    let enabled = settings.params.mesh.enable_prometheus_merge.unwrap_or(true);
    let port = settings.agent_port().to_string();
    if off || !scraped || !enabled || find(pod, "port") == Some(&port) {
        return None;
    }
    let own = ["scrape", "path", "port"].map(|what| (what, find(pod, what).map(str::to_owned)));
    let told = own.iter().any(|(_, value)| value.is_some()).then(|| {
        let value = |n: usize| own[n].1.clone().unwrap_or_default();
        json!({"scrape": value(0), "path": value(1), "port": value(2)}).to_string()
    });
    let annotations = object(&mut pod["metadata"], "annotations");
    for what in ["scrape", "path", "port"] {
        for key in variants(what) {
            annotations.shift_remove(&key);
        }
    }
    annotations.insert("prometheus.io/port".into(), json!(port));
    annotations.insert("prometheus.io/path".into(), json!("/stats/prometheus"));
    annotations.insert("prometheus.io/scrape".into(), json!("true"));
    told
}
