//! The node's metadata: what the control plane learns about this proxy.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::Error;
use crate::config::{Env, Ports, ProxyConfig, bad};

/// `ISTIO_META_X` becomes the metadata key `X`.
const META: &str = "ISTIO_META_";
/// `ISTIO_METAJSON_X` holds a JSON object of further keys.
const META_JSON: &str = "ISTIO_METAJSON_";
/// Labels of a workload that no downward API tells of.
const LABELS_JSON: &str = "ISTIO_METAJSON_LABELS";
/// The version of Istio whose behaviour the control plane may expect of this proxy.
const ISTIO_VERSION: &str = "1.27.0";

/// What the metadata says beyond the environment.
pub(crate) struct Facts<'a> {
    pub(crate) pod_name: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) service_account: &'a str,
    pub(crate) ips: &'a [IpAddr],
    pub(crate) labels: &'a BTreeMap<String, String>,
    pub(crate) annotations: &'a BTreeMap<String, String>,
    pub(crate) ports: Ports,
    /// The proxy is the mesh's own.
    pub(crate) ours: bool,
}

pub(crate) fn build(env: &Env, mesh: &ProxyConfig, facts: &Facts<'_>) -> Result<Value, Error> {
    let ips: Vec<_> = facts.ips.iter().map(IpAddr::to_string).collect();
    let known = json!({
        "NAME": facts.pod_name,
        "NAMESPACE": facts.namespace,
        "SERVICE_ACCOUNT": facts.service_account,
        "INSTANCE_IPS": ips.join(","),
        "LABELS": facts.labels,
        "ANNOTATIONS": facts.annotations,
        "PROXY_CONFIG": mesh.raw,
        "ISTIO_VERSION": ISTIO_VERSION,
        "LATEEN_VERSION": env!("CARGO_PKG_VERSION"),
        "ENVOY_STATUS_PORT": facts.ports.ready,
        "ENVOY_PROMETHEUS_PORT": facts.ports.metrics,
    });
    let Value::Object(mut metadata) = known else {
        unreachable!("an object was written")
    };
    if facts.ours {
        metadata.insert("LATEEN_PROXY".into(), "true".into());
    }
    for (name, value) in env {
        if name.starts_with(META_JSON) {
            merge_json(&mut metadata, value)?;
            if name == LABELS_JSON {
                add_labels(&mut metadata, value)?;
            }
        } else if let Some(key) = name.strip_prefix(META) {
            metadata.insert(key.to_owned(), Value::String(value.clone()));
        }
    }
    let revision = facts
        .labels
        .get("istio.io/rev")
        .or(facts.annotations.get("istio.io/rev"));
    if let Some(revision) = revision {
        metadata
            .entry("ISTIO_REVISION")
            .or_insert_with(|| revision.as_str().into());
    }
    Ok(Value::Object(metadata))
}

fn merge_json(metadata: &mut Map<String, Value>, text: &str) -> Result<(), Error> {
    let object: Map<String, Value> =
        serde_json::from_str(text).map_err(|e| bad("ISTIO_METAJSON_*", e))?;
    metadata.extend(object);
    Ok(())
}

/// Adds labels to those that files say.
fn add_labels(metadata: &mut Map<String, Value>, text: &str) -> Result<(), Error> {
    let given: Map<String, Value> = serde_json::from_str(text).map_err(|e| bad(LABELS_JSON, e))?;
    let labels = metadata.entry("LABELS").or_insert_with(|| json!({}));
    if let Value::Object(labels) = labels {
        labels.extend(given.into_iter().filter(|(_, value)| value.is_string()));
    }
    Ok(())
}

/// Reads a file of the downward API, `key="value"` per line. Pods of other platforms lack it.
pub(crate) fn pod_file(path: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(line).collect()
}

/// The value is quoted as in Go, which for labels and annotations is as in JSON.
fn line(text: &str) -> Option<(String, String)> {
    let (key, value) = text.split_once('=')?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.trim_matches('"').to_owned());
    Some((key.trim().to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::sample;

    #[test]
    fn the_environment_becomes_metadata() {
        let metadata = sample(&[
            ("ISTIO_META_CLUSTER_ID", "Kubernetes"),
            ("ISTIO_META_POD_PORTS", r#"[{"containerPort":80}]"#),
            ("ISTIO_METAJSON_LABELS", r#"{"EXTRA":{"a":1},"app":"vm"}"#),
        ])
        .metadata;
        assert_eq!(metadata["CLUSTER_ID"], "Kubernetes");
        assert_eq!(metadata["POD_PORTS"], r#"[{"containerPort":80}]"#);
        assert_eq!(metadata["EXTRA"]["a"], 1);
        assert_eq!(metadata["LABELS"], json!({"app": "vm"}));
        assert_eq!(metadata["INSTANCE_IPS"], "10.244.0.7");
        assert_eq!(metadata["SERVICE_ACCOUNT"], "bookinfo-reviews");
    }

    #[test]
    fn lines_of_the_downward_api_are_unquoted() {
        assert_eq!(
            line(r#"app="reviews""#),
            Some(("app".into(), "reviews".into()))
        );
        assert_eq!(
            line(r#"x/y="a=\"b\"""#),
            Some(("x/y".into(), r#"a="b""#.into()))
        );
        assert_eq!(line(""), None);
    }
}
