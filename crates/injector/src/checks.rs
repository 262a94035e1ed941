//! What a pod asks for and cannot have is refused, and does not run without.

use lateen_api::{
    annotations::{self, Says},
    mesh::ProxyConfig,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::template::{Draft, INTERCEPTION_MODE};
use crate::values::annotation;

/// How connections are captured, or left alone.
const MODES: [&str; 3] = ["", "REDIRECT", "NONE"];

/// Annotations that cannot be understood.
pub(crate) fn annotations(pod: &Value) -> Result<(), String> {
    proxy_config(pod)?;
    for key in [annotations::USER_VOLUME, annotations::USER_VOLUME_MOUNT] {
        let text = annotation(pod, key).unwrap_or_default();
        if !text.is_empty() && !matches!(serde_json::from_str(text), Ok(Value::Object(_))) {
            return Err(format!(
                "annotation {key} is not a JSON object by names: {text:?}"
            ));
        }
    }
    let all = pod["metadata"]["annotations"].as_object();
    for (key, value) in all.into_iter().flatten() {
        let says = Says::of(key);
        // A switch that is neither on nor off stands as it does by default.
        let fault = says.fault(value.as_str().unwrap_or_default());
        if let Some(fault) = fault.filter(|_| says != Says::Bool) {
            return Err(format!("annotation {key}: {fault}"));
        }
    }
    Ok(())
}

/// A pod whose settings cannot be read must not run with others.
fn proxy_config(pod: &Value) -> Result<(), String> {
    let key = annotations::PROXY_CONFIG;
    let Some(text) = annotation(pod, key).filter(|text| !text.trim().is_empty()) else {
        return Ok(());
    };
    match lateen_yaml::from_str::<Value>(text) {
        Ok(config @ Value::Object(_)) => {
            let read = |config: &Value| ProxyConfig::deserialize(config).map(drop);
            match fault(&config, &read) {
                None => Ok(()),
                Some(fault) => {
                    let fault = fault.trim_start_matches('.');
                    Err(format!("annotation {key}, field {fault}"))
                }
            }
        }
        Ok(_) => Err(format!(
            "annotation {key} is not a list of fields: {text:?}"
        )),
        Err(error) => Err(format!("annotation {key} is not valid YAML: {error}")),
    }
}

/// What is wrong with a value that cannot be read, with the path to the field that alone cannot be either.
fn fault(value: &Value, read: &dyn Fn(&Value) -> Result<(), serde_json::Error>) -> Option<String> {
    let error = read(value).err()?;
    // Where no object may be, its fields are not to blame.
    let fields = value.as_object().filter(|_| read(&json!({})).is_ok());
    for (key, inner) in fields.into_iter().flatten() {
        let alone = |inner: &Value| read(&json!({key: inner}));
        if let Some(fault) = fault(inner, &alone) {
            return Some(format!(".{key}{fault}"));
        }
    }
    let other = match value {
        Value::Bool(_) | Value::Number(_) => Some((json!(value.to_string()), "in quotes")),
        Value::String(text) => serde_json::from_str(text)
            .ok()
            .map(|other| (other, "without quotes")),
        _ => None,
    };
    let advice = match other.filter(|(other, _)| read(other).is_ok()) {
        Some((_, how)) => format!("; write it {how}"),
        None => String::new(),
    };
    Some(format!(": {error}{advice}"))
}

/// What the container that sets capture up would refuse: it would be started again and again.
pub(crate) fn capture(draft: &Draft<'_>) -> Result<(), String> {
    mode(draft)?;
    let chart = draft.settings.params.config.proxy();
    for (key, setting, value) in [
        (
            annotations::INCLUDE_OUTBOUND_IP_RANGES,
            "includeIPRanges",
            &chart.include_ip_ranges,
        ),
        (
            annotations::EXCLUDE_OUTBOUND_IP_RANGES,
            "excludeIPRanges",
            &chart.exclude_ip_ranges,
        ),
        (
            annotations::INCLUDE_INBOUND_PORTS,
            "includeInboundPorts",
            &chart.include_inbound_ports,
        ),
        (
            annotations::EXCLUDE_INBOUND_PORTS,
            "excludeInboundPorts",
            &chart.exclude_inbound_ports,
        ),
        (
            annotations::INCLUDE_OUTBOUND_PORTS,
            "includeOutboundPorts",
            &chart.include_outbound_ports,
        ),
        (
            annotations::EXCLUDE_OUTBOUND_PORTS,
            "excludeOutboundPorts",
            &chart.exclude_outbound_ports,
        ),
    ] {
        let value = value.as_deref().unwrap_or_default();
        let fault = Says::of(key).fault(value);
        // The pod's own counts, which was looked at before.
        if let Some(fault) = fault.filter(|_| annotation(draft.pod, key).is_none()) {
            return Err(format!("values.global.proxy.{setting}: {fault}"));
        }
    }
    Ok(())
}

fn mode(draft: &Draft<'_>) -> Result<(), String> {
    let mode = draft.settings.interception.as_str();
    if MODES.contains(&mode) {
        return Ok(());
    }
    let by_key = annotations::INTERCEPTION_MODE;
    let config = annotation(draft.pod, annotations::PROXY_CONFIG).unwrap_or_default();
    let config: Value = lateen_yaml::from_str(config).unwrap_or_default();
    let place = if annotation(draft.pod, by_key).is_some() {
        format!("annotation {by_key}")
    } else if config.get(INTERCEPTION_MODE).is_some() {
        let key = annotations::PROXY_CONFIG;
        format!("annotation {key}, field {INTERCEPTION_MODE}")
    } else {
        format!("meshConfig.defaultConfig.{INTERCEPTION_MODE}")
    };
    Err(format!(
        "{place}: {mode:?} is not supported; REDIRECT and NONE are"
    ))
}

#[cfg(test)]
mod tests {
    use crate::{Params, inject_document};

    #[test]
    fn settings_that_cannot_be_read_are_refused() {
        let check = |config: &str, reason: Option<&str>| {
            let mut pod = serde_json::json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "a", "annotations": {"proxy.istio.io/config": config}},
                "spec": {"containers": [{"name": "c"}]},
            });
            let refused = inject_document(&mut pod, "default", &Params::default()).err();
            match reason {
                None => assert_eq!(refused, None, "{config:?}"),
                Some(reason) => {
                    let refused = refused.unwrap_or_default();
                    assert!(refused.contains(reason), "{config:?}: {refused}");
                }
            }
        };
        check("concurrency: 2", None);
        check("", None);
        check("concurrency", Some("is not a list of fields"));
        check("concurrency: [2", Some("is not valid YAML"));
        let key = "annotation proxy.istio.io/config, field ";
        let refused = |config: &str, reason: &str| check(config, Some(&format!("{key}{reason}")));
        let field = "proxyMetadata.ISTIO_META_DNS_CAPTURE: invalid type: boolean `true`, expected a string; \
                     write it in quotes";
        for text in ["true", "on"] {
            let config = format!("proxyMetadata: {{A: b, ISTIO_META_DNS_CAPTURE: {text}}}");
            refused(&config, field);
        }
        refused(
            "proxyMetadata: {N: 1}",
            "proxyMetadata.N: invalid type: integer `1`",
        );
        refused(
            "proxyMetadata: {N: {a: b}}",
            "proxyMetadata.N: invalid type: map",
        );
        refused(
            "concurrency: two",
            "concurrency: invalid type: string \"two\"",
        );
        let quoted =
            "concurrency: invalid type: string \"2\", expected i32; write it without quotes";
        refused("concurrency: '2'", quoted);
        refused("image: {imageType: 1}", "image.imageType: ");
        check("proxyMetadata: {A: 'true'}\nnew: {x: 1}", None);
    }
}
