//! What is valid in a service.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::{has_node_ports, kind};
use crate::apiserver::error::FieldError;
use crate::apiserver::meta;
use crate::apiserver::strategy::checks::one_of;
use crate::apiserver::strategy::names;
use crate::net::{POD_CIDR, SERVICE_CIDR};

pub(in crate::apiserver::strategy) fn validate(service: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    let spec = &service["spec"];
    one_of(spec, "type", "spec", &kinds, &mut errors);
    one_of(
        spec,
        "sessionAffinity",
        "spec",
        &["ClientIP", "None"],
        &mut errors,
    );
    let policies = ["Cluster", "Local"];
    for name in ["externalTrafficPolicy", "internalTrafficPolicy"] {
        one_of(spec, name, "spec", &policies, &mut errors);
    }
    validate_address(service, &mut errors);
    validate_external(service, &mut errors);
    validate_ports(service, &mut errors);
    let selector = service.pointer("/spec/selector");
    names::validate_labels(selector, "spec.selector", &mut errors);
    errors
}

fn validate_address(service: &Value, errors: &mut Vec<FieldError>) {
    let headless = meta::text(service, "/spec/clusterIP") == Some("None");
    match kind(service) {
        "ExternalName" => {
            let name = meta::text(service, "/spec/externalName").unwrap_or_default();
            if name.is_empty() {
                errors.push(FieldError::required("spec.externalName", ""));
            } else {
                let name = name.strip_suffix('.').unwrap_or(name);
                names::require_subdomain("spec.externalName", name, errors);
            }
            if headless {
                let why = "may not be set to 'None' for ExternalName services";
                errors.push(FieldError::invalid(
                    "spec.clusterIPs[0]",
                    &"None".into(),
                    why,
                ));
            }
        }
        other @ ("NodePort" | "LoadBalancer") if headless => {
            let why = format!("may not be set to 'None' for {other} services");
            errors.push(FieldError::invalid(
                "spec.clusterIPs[0]",
                &"None".into(),
                why,
            ));
        }
        _ => {}
    }
}

/// Addresses that users name must not be those by which the cluster itself is reached: a service would take
/// its connections over.
fn validate_external(service: &Value, errors: &mut Vec<FieldError>) {
    for (index, value) in meta::list(service, "/spec/externalIPs").iter().enumerate() {
        let field = format!("spec.externalIPs[{index}]");
        let address = value
            .as_str()
            .and_then(|text| text.parse::<Ipv4Addr>().ok());
        let why = match address {
            None => "must be a valid IPv4 address",
            Some(ip) if ip.is_unspecified() => "may not be unspecified (0.0.0.0)",
            Some(ip) if ip.is_loopback() => "may not be in the loopback range (127.0.0.0/8)",
            Some(ip) if ip.is_link_local() => "may not be in the link-local range (169.254.0.0/16)",
            Some(ip) if ip.is_multicast() => "may not be in the multicast range (224.0.0.0/4)",
            Some(ip) if holds(POD_CIDR, ip) || holds(SERVICE_CIDR, ip) => {
                "is of the range of this cluster's own pods or services"
            }
            Some(_) => continue,
        };
        errors.push(FieldError::invalid(field, value, why));
    }
}

fn holds((network, prefix): (Ipv4Addr, u8), ip: Ipv4Addr) -> bool {
    let shift = 32 - u32::from(prefix);
    u32::from(network) >> shift == u32::from(ip) >> shift
}

fn validate_ports(service: &Value, errors: &mut Vec<FieldError>) {
    let ports = meta::list(service, "/spec/ports");
    let headless = meta::text(service, "/spec/clusterIP") == Some("None");
    if ports.is_empty() && kind(service) != "ExternalName" && !headless {
        errors.push(FieldError::required("spec.ports", ""));
    }
    let mut seen_names = BTreeSet::new();
    let mut seen_numbers = BTreeSet::new();
    let mut seen_node_ports = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let place = format!("spec.ports[{index}]");
        let at = |name: &str| format!("{place}.{name}");
        validate_port(port, ports.len() > 1, &place, errors);
        let name = meta::text(port, "/name").unwrap_or_default();
        if !name.is_empty() && !seen_names.insert(name) {
            errors.push(FieldError::duplicate(at("name"), &name.into()));
        }
        let (number, protocol) = (port["port"].as_i64(), meta::text(port, "/protocol"));
        if !seen_numbers.insert((number, protocol)) {
            let shown = json!({"port": number, "protocol": protocol});
            errors.push(FieldError::duplicate(place.clone(), &shown));
        }
        let node_port = port["nodePort"].as_i64().filter(|number| *number != 0);
        if let Some(number) = node_port
            && !seen_node_ports.insert((number, protocol))
        {
            errors.push(FieldError::duplicate(at("nodePort"), &number.into()));
        }
        if node_port.is_some() && !has_node_ports(service) && kind(service) == "ClusterIP" {
            let why = "may not be used when `type` is 'ClusterIP'";
            errors.push(FieldError::forbidden(at("nodePort"), why));
        }
    }
}

fn validate_port(port: &Value, is_one_of_many: bool, field: &str, errors: &mut Vec<FieldError>) {
    let at = |name: &str| format!("{field}.{name}");
    let name = meta::text(port, "/name").unwrap_or_default();
    if is_one_of_many || !name.is_empty() {
        names::require_label(&at("name"), Some(name), errors);
    }
    let number = port["port"].as_i64().unwrap_or(0);
    names::check_port_number(&at("port"), number, errors);
    match &port["targetPort"] {
        Value::Number(number) => {
            let number = number.as_i64().unwrap_or(0);
            names::check_port_number(&at("targetPort"), number, errors);
        }
        Value::String(name) => names::check_port_name(&at("targetPort"), name, errors),
        _ => {}
    }
    one_of(port, "protocol", field, &["SCTP", "TCP", "UDP"], errors);
}

pub(in crate::apiserver::strategy) fn validate_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let (before, after) = (
        meta::text(old, "/spec/clusterIP"),
        meta::text(new, "/spec/clusterIP"),
    );
    match (before, after) {
        (Some(before), Some(after)) if before != after && !before.is_empty() => {
            vec![FieldError::invalid(
                "spec.clusterIPs[0]",
                &json!([after]),
                "may not change once set",
            )]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spec: Value, expect: &[&str]) {
        let mut service = json!({"spec": spec});
        super::super::default(&mut service);
        let errors: Vec<_> = validate(&service).iter().map(ToString::to_string).collect();
        assert_eq!(errors, expect, "{spec}");
    }

    #[test]
    fn ports() {
        check(json!({"ports": [{"port": 80}]}), &[]);
        check(json!({}), &["spec.ports: Required value"]);
        check(json!({"clusterIP": "None"}), &[]);
        check(
            json!({"ports": [{"port": 0}]}),
            &[
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
            ],
        );
        check(
            json!({"ports": [{"port": 80}, {"port": 81, "name": "b"}]}),
            &["spec.ports[0].name: Required value"],
        );
        check(
            json!({"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "a"}]}),
            &[
                "spec.ports[1].name: Duplicate value: \"a\"",
                "spec.ports[1]: Duplicate value: {\"port\":80,\"protocol\":\"TCP\"}",
            ],
        );
        check(
            json!({"ports": [{"port": 80, "targetPort": "UPPER"}]}),
            &[
                "spec.ports[0].targetPort: Invalid value: \"UPPER\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
            ],
        );
    }

    #[test]
    fn external_addresses_are_not_the_clusters_own() {
        let with = |ip: &str| json!({"ports": [{"port": 80}], "externalIPs": [ip]});
        check(with("192.168.0.1"), &[]);
        for (ip, why) in [
            ("::1", "must be a valid IPv4 address"),
            ("0.0.0.0", "may not be unspecified (0.0.0.0)"),
            (
                "127.0.0.1",
                "may not be in the loopback range (127.0.0.0/8)",
            ),
            (
                "10.96.0.1",
                "is of the range of this cluster's own pods or services",
            ),
            (
                "10.244.255.1",
                "is of the range of this cluster's own pods or services",
            ),
        ] {
            let expect = format!("spec.externalIPs[0]: Invalid value: \"{ip}\": {why}");
            check(with(ip), &[&expect]);
        }
    }

    #[test]
    fn addresses() {
        check(
            json!({"type": "LoadBalancer", "clusterIP": "None", "ports": [{"port": 80}]}),
            &[
                "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for LoadBalancer services",
            ],
        );
        check(
            json!({"type": "ExternalName"}),
            &["spec.externalName: Required value"],
        );
        check(
            json!({"type": "Other", "ports": [{"port": 80}]}),
            &[
                "spec.type: Unsupported value: \"Other\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
            ],
        );
    }
}
