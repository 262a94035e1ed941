//! The init container that sets capture up.

use lateen_api::annotations;
use serde_json::{Value, json};

use super::{Settings, container};
use crate::values::annotation;

pub(super) fn container(pod: &Value, settings: &Settings<'_>) -> Value {
    let mut container = json!({
        "name": super::INIT,
        "image": container::image(pod, settings),
        "args": args(pod, settings),
        "resources": container::resources(pod),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": false,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "runAsUser": 0,
        },
    });
    let env = container::metadata(settings);
    if !env.is_empty() {
        container["env"] = env.into();
    }
    container
}

fn args(pod: &Value, settings: &Settings<'_>) -> Vec<String> {
    let or = |key: &str, default: &str| annotation(pod, key).unwrap_or(default).to_owned();
    let mut args: Vec<String> = vec!["istio-iptables".into()];
    let mut flag = |name: &str, value: String| args.extend([name.to_owned(), value]);
    flag("-p", "15001".into());
    flag("-z", "15006".into());
    flag("-u", lateen_core::ports::PROXY_UID.to_string());
    flag("-m", settings.interception.clone());
    flag("-i", or(annotations::INCLUDE_OUTBOUND_IP_RANGES, "*"));
    flag("-x", or(annotations::EXCLUDE_OUTBOUND_IP_RANGES, ""));
    flag("-b", or(annotations::INCLUDE_INBOUND_PORTS, "*"));
    flag("-d", excluded_inbound(pod, settings));
    for (name, key) in [
        ("-q", annotations::INCLUDE_OUTBOUND_PORTS),
        ("-o", annotations::EXCLUDE_OUTBOUND_PORTS),
        ("-c", annotations::EXCLUDE_INTERFACES),
        ("-k", annotations::REROUTE_VIRTUAL_INTERFACES),
    ] {
        if let Some(value) = annotation(pod, key).filter(|value| !value.is_empty()) {
            flag(name, value.to_owned());
        }
    }
    args.push(container::agent_log_level(pod));
    args
}

/// The proxy's own ports, the user's and the agent's.
fn excluded_inbound(pod: &Value, settings: &Settings<'_>) -> String {
    let mut ports = vec!["15090".to_owned(), "15021".to_owned()];
    let own = annotation(pod, annotations::EXCLUDE_INBOUND_PORTS).unwrap_or_default();
    ports.extend(
        own.split(',')
            .map(str::trim)
            .filter(|p| !p.is_empty())
            .map(str::to_owned),
    );
    if settings.status_port != 0 {
        ports.push(settings.status_port.to_string());
    }
    ports.join(",")
}
