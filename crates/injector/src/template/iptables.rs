//! The init container that sets capture up, or looks whether a plugin of nodes has.

use lateen_api::annotations;
use lateen_core::ports::PROXY_UID;
use serde_json::{Value, json};

use super::{Settings, container};
use crate::{config::said, values::annotation};

/// With a plugin of nodes, the same container with the same flags, by which the plugin knows what is to
/// be captured. It only checks, as the proxy's user, and ends with a status by which the pod is known
/// where nothing is.
pub(super) fn container(pod: &Value, settings: &Settings<'_>) -> Value {
    let config = &settings.params.config;
    let resources = config.global().proxy_init.resources.clone();
    let image = config.init_image();
    let (name, context) = match config.is_cni() {
        true => (super::VALIDATION, checking()),
        false => (super::INIT, capturing(config.proxy().privileged)),
    };
    let mut container = json!({
        "name": name,
        "image": image.unwrap_or_else(|| container::image(pod, settings)),
        "args": args(pod, settings),
        "resources": resources.unwrap_or_else(|| container::resources(pod, settings)),
        "securityContext": context,
    });
    container::common(&mut container, settings);
    let env = container::metadata(settings);
    if !env.is_empty() {
        container["env"] = env.into();
    }
    container
}

fn capturing(privileged: Option<bool>) -> Value {
    let privileged = privileged.unwrap_or(false);
    json!({
        "allowPrivilegeEscalation": privileged,
        "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]},
        "privileged": privileged,
        "readOnlyRootFilesystem": false,
        "runAsGroup": 0,
        "runAsNonRoot": false,
        "runAsUser": 0,
    })
}

fn checking() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "privileged": false,
        "readOnlyRootFilesystem": true,
        "runAsGroup": PROXY_UID,
        "runAsNonRoot": true,
        "runAsUser": PROXY_UID,
    })
}

fn args(pod: &Value, settings: &Settings<'_>) -> Vec<String> {
    let or = |key: &str, default: &str| annotation(pod, key).unwrap_or(default).to_owned();
    let mut args: Vec<String> = vec!["istio-iptables".into()];
    let mut flag = |name: &str, value: String| args.extend([name.to_owned(), value]);
    flag("-p", "15001".into());
    flag("-z", "15006".into());
    flag("-u", PROXY_UID.to_string());
    flag("-m", settings.interception.clone());
    let chart = settings.params.config.proxy();
    let by_default = |setting: &Option<String>, default: &str| match setting {
        Some(setting) => setting.clone(),
        None => default.to_owned(),
    };
    let included = by_default(&chart.include_ip_ranges, "*");
    let excluded = by_default(&chart.exclude_ip_ranges, "");
    let ports = by_default(&chart.include_inbound_ports, "*");
    flag("-i", or(annotations::INCLUDE_OUTBOUND_IP_RANGES, &included));
    flag("-x", or(annotations::EXCLUDE_OUTBOUND_IP_RANGES, &excluded));
    flag("-b", or(annotations::INCLUDE_INBOUND_PORTS, &ports));
    flag("-d", excluded_inbound(pod, settings));
    for (name, key, by_default) in [
        (
            "-q",
            annotations::INCLUDE_OUTBOUND_PORTS,
            &chart.include_outbound_ports,
        ),
        (
            "-o",
            annotations::EXCLUDE_OUTBOUND_PORTS,
            &chart.exclude_outbound_ports,
        ),
        ("-c", annotations::EXCLUDE_INTERFACES, &None),
    ] {
        if let Some(value) = said(annotation(pod, key).or(by_default.as_deref())) {
            flag(name, value.to_owned());
        }
    }
    let interfaces = [
        annotations::REROUTE_VIRTUAL_INTERFACES,
        // As it was called before.
        annotations::KUBEVIRT_INTERFACES,
    ];
    let mut interfaces = interfaces.into_iter();
    if let Some(value) = interfaces.find_map(|key| said(annotation(pod, key))) {
        flag("-k", value.to_owned());
    }
    if settings.params.config.is_cni() {
        args.extend(["--run-validation", "--skip-rule-apply"].map(str::to_owned));
    }
    args.extend(container::log_args(pod, settings));
    args
}

/// The proxy's own ports, the user's and the agent's.
fn excluded_inbound(pod: &Value, settings: &Settings<'_>) -> String {
    let mut ports = vec!["15090".to_owned(), "15021".to_owned()];
    let by_default = settings
        .params
        .config
        .proxy()
        .exclude_inbound_ports
        .as_deref();
    let own = annotation(pod, annotations::EXCLUDE_INBOUND_PORTS).or(by_default);
    let own = own.unwrap_or_default();
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
