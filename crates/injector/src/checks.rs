//! What a pod asks for and cannot have is refused, and does not run without.

use lateen_api::annotations::{self, Says};
use serde_json::Value;

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
        Ok(Value::Object(_)) => Ok(()),
        Ok(_) => Err(format!(
            "annotation {key} is not a list of fields: {text:?}"
        )),
        Err(error) => Err(format!("annotation {key} is not valid YAML: {error}")),
    }
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
            let refused = inject_document(&mut pod, &Params::default()).err();
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
    }
}
